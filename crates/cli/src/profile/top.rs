//! The hottest functions while it is measured, on a terminal.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};
use ringfence_tools::profile::{Hot, Profile};
use ringfence_tools::symbols::base;

use super::Running;
use super::report::{clock, percent, place, time};
use crate::exit::Failure;
use crate::live::Live;
use crate::tool::failure;

/// Columns of a terminal from which on lines of source are shown.
const WITH_LINES: u16 = 110;
/// From here on files and lines have room for all of their names.
const WIDE: u16 = 160;

/// What is looked at: all since the start.
pub struct Top<'a> {
    running: &'a mut Running,
    by_total: bool,
    profile: Profile,
}

impl<'a> Top<'a> {
    pub fn new(running: &'a mut Running) -> Result<Top<'a>, Failure> {
        let profile = running.profiler.so_far().map_err(failure)?;
        Ok(Top { running, by_total: false, profile })
    }
}

impl Live for Top<'_> {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        self.running.work(time)
    }

    fn update(&mut self) -> Result<(), Failure> {
        self.profile = self.running.profiler.so_far().map_err(failure)?;
        Ok(())
    }

    fn head(&self) -> String {
        let summary = &self.profile.summary;
        format!(
            "{:.0} s; {}; {} counted, {} idle; lost {}",
            summary.time.as_secs_f64(),
            clock(summary),
            summary.taken,
            summary.idle,
            summary.lost(),
        )
    }

    fn keys(&self) -> &'static str {
        "s by self   t by total"
    }

    fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('t') => self.by_total = true,
            KeyCode::Char('s') => self.by_total = false,
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut hot = self.profile.hottest();
        if self.by_total {
            hot.sort_by_key(|hot| std::cmp::Reverse(hot.total));
        }
        if hot.is_empty() {
            frame.render_widget(Line::from("nothing seen yet").dim(), area);
            return;
        }
        let is_time = self.profile.is_time();
        let height = usize::from(area.height.saturating_sub(1));
        // The function is what one looks for: on a narrow terminal the line gives way to it.
        let lines = area.width >= WITH_LINES;
        let rows = hot.iter().take(height).map(|hot| row(hot, is_time, lines));
        let room = if area.width >= WIDE { 24 } else { 14 };
        let (numbers, places) = ([6, 6, 8].map(Constraint::Length), [room; 2].map(Constraint::Max));
        let places = places.into_iter().take(if lines { 2 } else { 1 });
        let widths = numbers.into_iter().chain(places).chain([Constraint::Fill(1)]);
        let unit = if is_time { "TIME" } else { "SAMPLES" };
        let heads = ["SELF", "TOTAL", unit, "IN"].into_iter().chain(lines.then_some("LINE")).chain(["FUNCTION"]);
        let head = Row::new(heads).style(Style::new().bold());
        frame.render_widget(Table::new(rows, widths).header(head), area);
    }
}

fn row(hot: &Hot, is_time: bool, lines: bool) -> Row<'static> {
    let own = if is_time { time(hot.own) } else { hot.own.to_string() };
    let style = if hot.kernel { Style::new().yellow() } else { Style::new() };
    let cells = [
        Cell::from(percent(hot.own_share)),
        Cell::from(percent(hot.total_share)),
        Cell::from(own),
        Cell::from(base(&hot.symbol.module).to_owned()),
    ];
    let line = lines.then(|| Cell::from(place(&hot.symbol)));
    Row::new(cells.into_iter().chain(line).chain([Cell::from(hot.symbol.function.to_string()).style(style)]))
}
