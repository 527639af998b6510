//! What a tool shows on a terminal while it measures: the turn of work, keys and drawing that all tools share.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};

use crate::exit::Failure;

/// The longest time between a key, or Ctrl-C, and what it does.
pub const TICK: Duration = Duration::from_millis(250);
/// How often the screen is drawn anew.
const EVERY: Duration = Duration::from_secs(1);

/// A tool that shows what it does.
pub trait View {
    /// Measures for about this long.
    fn work(&mut self, time: Duration) -> Result<(), Failure>;
    /// From now on what was measured until now is shown.
    fn refresh(&mut self) -> Result<(), Failure>;
    /// Draws what is shown. `stopped`: the user wants no refresh, and is to see that.
    fn draw(&self, frame: &mut Frame<'_>, stopped: bool);
    /// A key that is neither `q`, Escape, Ctrl-C nor space.
    fn key(&mut self, key: KeyCode);
}

/// Whether somebody looks: both ends are a terminal.
pub fn possible() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Works and shows until `q`, Ctrl-C or the end of the time. The terminal is as before afterwards.
pub fn run(view: &mut impl View, time: Option<Duration>, stop: &AtomicBool) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init()?;
    let done = show(&mut terminal, view, time, stop);
    ratatui::restore();
    done
}

/// The same without a screen: until Ctrl-C or the end of the time.
pub fn unseen(
    time: Option<Duration>,
    stop: &AtomicBool,
    mut work: impl FnMut(Duration) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed)
        && let Some(tick) = tick(time, started)
    {
        work(tick)?;
    }
    Ok(())
}

/// The next turn's length; `None` at the end.
fn tick(time: Option<Duration>, started: Instant) -> Option<Duration> {
    let left = time.map_or(TICK, |all| all.saturating_sub(started.elapsed()).min(TICK));
    (!left.is_zero()).then_some(left)
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut impl View,
    time: Option<Duration>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (mut next, mut stopped) = (started, false);
    while !stop.load(Ordering::Relaxed)
        && let Some(tick) = tick(time, started)
    {
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            if !stopped {
                view.refresh()?;
            }
            terminal.draw(|frame| view.draw(frame, stopped))?;
        }
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    // The terminal sends no signal while it is ours.
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char(' ') => stopped = !stopped,
                    other => view.key(other),
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            terminal.draw(|frame| view.draw(frame, stopped))?;
        }
        view.work(tick)?;
    }
    Ok(())
}
