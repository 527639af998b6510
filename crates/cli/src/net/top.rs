//! Rates of devices and the flows with the most bytes, on a terminal.

use std::collections::HashMap;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use ringfence_tools::net::{Flow, Traffic};

use super::Running;
use super::report::{cost, flow_row, gone};
use crate::exit::Failure;
use crate::live::Live;
use crate::output::bytes;
use crate::tool::failure;

/// What is looked at.
pub struct Top<'a> {
    running: &'a mut Running,
    now: Traffic,
    /// What there was when it was drawn before.
    before: Traffic,
    by_rate: bool,
}

impl<'a> Top<'a> {
    pub fn new(running: &'a mut Running) -> Result<Top<'a>, Failure> {
        let now = running.watch.so_far().map_err(failure)?;
        Ok(Top { running, before: now.clone(), now, by_rate: true })
    }

    fn seconds(&self) -> f64 {
        self.now.time.saturating_sub(self.before.time).as_secs_f64().max(1e-9)
    }

    /// Flows with their bytes a second.
    fn flows(&self) -> Vec<(&Flow, f64)> {
        let key = |flow: &Flow| (flow.device.clone(), flow.protocol.clone(), flow.vlan, ends(flow));
        let before: HashMap<_, u64> = self.before.flows.iter().map(|flow| (key(flow), flow.all_bytes())).collect();
        let rate = |flow: &Flow| {
            let before = before.get(&key(flow)).copied().unwrap_or(0);
            flow.all_bytes().saturating_sub(before) as f64 / self.seconds()
        };
        let mut all: Vec<_> = self.now.flows.iter().map(|flow| (flow, rate(flow))).collect();
        if self.by_rate {
            all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        }
        all
    }
}

fn ends(flow: &Flow) -> (String, String) {
    (flow.from.to_string(), flow.to.to_string())
}

impl Live for Top<'_> {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        self.running.work(time)
    }

    fn update(&mut self) -> Result<(), Failure> {
        let now = self.running.watch.so_far().map_err(failure)?;
        self.before = std::mem::replace(&mut self.now, now);
        Ok(())
    }

    fn head(&self) -> String {
        let traffic = &self.now;
        let gone = gone(traffic).map(|gone| format!("; {gone}")).unwrap_or_default();
        format!(
            "{:.0} s; {} flows, {} pushed out; {} sent again; lost {}{gone}",
            traffic.time.as_secs_f64(),
            traffic.flows.len(),
            traffic.flows_pushed_out,
            traffic.retransmits,
            traffic.lost.sum(),
        )
    }

    fn keys(&self) -> &'static str {
        "r flows by rate   b by bytes"
    }

    fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('r') => self.by_rate = true,
            KeyCode::Char('b') => self.by_rate = false,
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let places = u16::try_from(self.now.places.len() + 1).unwrap_or(u16::MAX);
        // Flows have at least half of the screen.
        let [own, top, _, bottom] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(places.min(area.height / 2)),
            Constraint::Length(1),
            Constraint::Fill(1),
        ])
        .areas(area);
        frame.render_widget(Line::from(format!("own cost: {}", cost(&self.now))), own);
        let rows = self.now.places.iter().zip(&self.before.places).map(|(now, before)| {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / self.seconds();
            Row::new([
                now.device.clone(),
                now.direction.to_string(),
                format!("{:.0}", rate(now.packets, before.packets)),
                bytes(rate(now.bytes, before.bytes) as u64),
                now.packets.to_string(),
                bytes(now.bytes),
                now.own.dropped.to_string(),
            ])
        });
        let widths = [
            Constraint::Max(15),
            Constraint::Length(5),
            Constraint::Length(10),
            Constraint::Length(9),
            Constraint::Length(11),
            Constraint::Length(8),
            Constraint::Length(8),
        ];
        let head = ["DEVICE", "WHERE", "PACKETS/S", "BYTES/S", "PACKETS", "BYTES", "DROPPED"];
        frame.render_widget(Table::new(rows, widths).header(Row::new(head).style(Style::new().bold())), top);

        let flows = self.flows();
        if flows.is_empty() {
            frame.render_widget(Line::from("no packets yet").dim(), bottom);
            return;
        }
        let height = usize::from(bottom.height.saturating_sub(1));
        let rows = flows.into_iter().take(height).map(|(flow, rate)| {
            let [protocol, from, to, _, _, there, back, _, notes] = flow_row(flow);
            Row::new([protocol, from, to, bytes(rate as u64), there, back, notes])
        });
        let widths = [
            Constraint::Length(6),
            Constraint::Fill(3),
            Constraint::Fill(3),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Fill(1),
        ];
        let head = ["PROTO", "FROM", "TO", "BYTES/S", "THERE", "BACK", "NOTES"];
        frame.render_widget(Table::new(rows, widths).header(Row::new(head).style(Style::new().bold())), bottom);
    }
}
