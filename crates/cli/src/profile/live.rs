//! The table while it is measured, on a terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};
use ringfence_tools::profile::{Hot, Profile, Profiler};

use super::report::{clock, percent, place, time};
use super::target::{Kind, Target};
use super::{TICK, failure};
use crate::exit::Failure;
use ringfence_tools::symbols::base;

/// How often the table is drawn anew: as often as the kernel's counts are read.
const EVERY: Duration = Duration::from_secs(1);

/// What is looked at.
struct View {
    by_total: bool,
    stopped: bool,
    profile: Profile,
}

/// Whether somebody looks: stdout and stdin are a terminal, and what goes there is the table.
pub fn wanted(targets: &[Target]) -> bool {
    let table = targets.iter().any(|target| target.file.is_none() && target.kind == Kind::Table);
    table && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Measures until `q`, Ctrl-C or the end of the time, and shows what was seen so far. The terminal is as before afterwards.
pub fn run(profiler: &mut Profiler, time: Option<Duration>, stop: &AtomicBool) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init()?;
    let done = show(&mut terminal, profiler, time, stop);
    ratatui::restore();
    done
}

fn show(
    terminal: &mut DefaultTerminal,
    profiler: &mut Profiler,
    time: Option<Duration>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut view = View { by_total: false, stopped: false, profile: profiler.so_far().map_err(failure)? };
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let left = time.map(|all| all.saturating_sub(profiler.elapsed()));
        if left == Some(Duration::ZERO) {
            break;
        }
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            if !view.stopped {
                view.profile = profiler.so_far().map_err(failure)?;
            }
            terminal.draw(|frame| draw(frame, &view))?;
        }
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    // The terminal sends no signal while it is ours.
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char('t') => view.by_total = true,
                    KeyCode::Char('s') => view.by_total = false,
                    KeyCode::Char(' ') => view.stopped = !view.stopped,
                    _ => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            terminal.draw(|frame| draw(frame, &view))?;
        }
        profiler.run(left.map_or(TICK, |left| left.min(TICK))).map_err(failure)?;
    }
    Ok(())
}

fn draw(frame: &mut ratatui::Frame<'_>, view: &View) {
    let [head, table, keys] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let summary = &view.profile.summary;
    let state = if view.stopped { "; display stopped" } else { "" };
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
