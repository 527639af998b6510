//! The table while it is measured, on a terminal.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};
use ringfence_tools::profile::{Hot, Profile, Profiler};

use super::failure;
use super::report::{clock, percent, place, time};
use super::target::{Kind, Target};
use crate::exit::Failure;
use crate::live;
use ringfence_tools::symbols::base;

/// What is looked at.
pub struct View<'a> {
    profiler: &'a mut Profiler,
    profile: Profile,
    by_total: bool,
}

/// Whether somebody looks, and what goes to stdout is the table.
pub fn wanted(targets: &[Target]) -> bool {
    targets.iter().any(|target| target.file.is_none() && target.kind == Kind::Table) && live::possible()
}

impl View<'_> {
    pub fn of(profiler: &mut Profiler) -> Result<View<'_>, Failure> {
        let profile = profiler.so_far().map_err(failure)?;
        Ok(View { profiler, profile, by_total: false })
    }
}

impl live::View for View<'_> {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        self.profiler.run(time).map_err(failure)
    }

    fn refresh(&mut self) -> Result<(), Failure> {
        self.profile = self.profiler.so_far().map_err(failure)?;
        Ok(())
    }

    fn draw(&self, frame: &mut Frame<'_>, stopped: bool) {
        draw(frame, self, stopped);
    }

    fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('t') => self.by_total = true,
            KeyCode::Char('s') => self.by_total = false,
            _ => {}
        }
    }
}

fn draw(frame: &mut Frame<'_>, view: &View<'_>, stopped: bool) {
    let [head, table, keys] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let summary = &view.profile.summary;
    let state = if stopped { "; display stopped" } else { "" };
    let line = format!(
        "{:.0} s; {}; {} counted, {} idle; lost {}{state}",
        summary.time.as_secs_f64(),
        clock(summary),
        summary.taken,
        summary.idle,
        summary.lost(),
    );
    frame.render_widget(Line::from(line), head);
    frame.render_widget(Line::from("q ends   s by self   t by total   space stops the display").dim(), keys);

    let mut hot = view.profile.hottest();
    if view.by_total {
        hot.sort_by_key(|hot| std::cmp::Reverse(hot.total));
    }
    if hot.is_empty() {
        frame.render_widget(Line::from("nothing seen yet").dim(), table);
        return;
    }
    let is_time = view.profile.is_time();
    let height = usize::from(table.height.saturating_sub(1));
    let rows = hot.iter().take(height).map(|hot| row(hot, is_time));
    let widths = [
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Max(14),
        Constraint::Max(14),
        Constraint::Fill(1),
    ];
    let unit = if is_time { "TIME" } else { "SAMPLES" };
    let head = Row::new(["SELF", "TOTAL", unit, "IN", "LINE", "FUNCTION"]).style(Style::new().bold());
    frame.render_widget(Table::new(rows, widths).header(head), table);
}

fn row(hot: &Hot, is_time: bool) -> Row<'static> {
    let own = if is_time { time(hot.own) } else { hot.own.to_string() };
    let style = if hot.kernel { Style::new().yellow() } else { Style::new() };
    Row::new([
        Cell::from(percent(hot.own_share)),
        Cell::from(percent(hot.total_share)),
        Cell::from(own),
        Cell::from(base(&hot.symbol.module).to_owned()),
        Cell::from(place(&hot.symbol)),
        Cell::from(hot.symbol.function.to_string()).style(style),
    ])
}
