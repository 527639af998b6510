//! What --count-by, --sort and --latency have, while it is collected, on a terminal.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::Stylize;
use ratatui::text::Line;

use super::{Running, summary};
use crate::exit::Failure;
use crate::live::Live;
use crate::output::Format;
use crate::tool::failure;

/// What is looked at: all since the start.
pub struct Display<'a> {
    running: &'a mut Running,
    text: String,
    head: String,
    /// Lines that are above the screen.
    above: usize,
}

impl<'a> Display<'a> {
    pub fn new(running: &'a mut Running) -> Display<'a> {
        Display { running, text: String::new(), head: String::new(), above: 0 }
    }
}

impl Live for Display<'_> {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        self.running.work(time)
    }

    fn update(&mut self) -> Result<(), Failure> {
        let seen = self.running.tracer.seen().map_err(failure)?;
        let reached: u64 = seen.iter().map(|seen| seen.reached).sum();
        let sent: u64 = seen.iter().map(|seen| seen.sent).sum();
        let time = self.running.tracer.elapsed().as_secs_f64();
        self.head = format!("{time:.0} s; {reached} events, {sent} counted; lost: {}", summary::lost(&seen));
        self.text = match self.running.latency {
            true => summary::latency(&self.running.tracer, Format::Table)?,
            false => self.running.rows.so_far(),
        };
        Ok(())
    }

    fn head(&self) -> String {
        self.head.clone()
    }

    fn keys(&self) -> &'static str {
        "up, down scroll"
    }

    fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Up => self.above = self.above.saturating_sub(1),
            KeyCode::Down => self.above = self.above.saturating_add(1).min(self.text.lines().count().saturating_sub(1)),
            KeyCode::Home => self.above = 0,
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        if self.text.is_empty() {
            frame.render_widget(Line::from("nothing seen yet").dim(), area);
            return;
        }
        let lines = self.text.lines().skip(self.above).take(area.height.into());
        for (line, y) in lines.zip(area.y..) {
            frame.render_widget(Line::from(line), Rect { y, height: 1, ..area });
        }
    }
}
