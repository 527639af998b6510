//! A tool's display on a terminal: a line at the top, the tool's own drawing, the keys at the bottom; drawn anew each second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::Line;
use ratatui::{DefaultTerminal, Frame};

use crate::exit::Failure;
use crate::tool::Until;

/// How often what is shown is read anew.
const EVERY: Duration = Duration::from_secs(1);

/// A tool while it works.
pub trait Live {
    /// Works for at most this long: reads events, counts.
    fn work(&mut self, time: Duration) -> Result<(), Failure>;
    /// Reads anew what is drawn. Not called while the display is stopped.
    fn update(&mut self) -> Result<(), Failure>;
    /// The line at the top: how long, how much, what was lost.
    fn head(&self) -> String;
    /// The tool's own keys: `s by self   t by total`.
    fn keys(&self) -> &'static str;
    /// One of them was pressed.
    fn key(&mut self, key: KeyCode);
    /// Everything between.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect);
}

/// Whether somebody looks: stdout and stdin are a terminal.
pub fn wanted() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Works and shows until `q`, Ctrl-C or the end. The terminal is as before afterwards, also after an error or a panic.
pub fn run(tool: &mut impl Live, until: &Until) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init()?;
    let done = show(&mut terminal, tool, until);
    ratatui::restore();
    done
}

fn show(terminal: &mut DefaultTerminal, tool: &mut impl Live, until: &Until) -> Result<(), Failure> {
    let (mut next, mut stopped) = (Instant::now(), false);
    while let Some(time) = until.turn() {
        let mut anew = Instant::now() >= next;
        if anew {
            next = Instant::now() + EVERY;
            if !stopped {
                tool.update()?;
            }
        }
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Release => continue,
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    // The terminal sends no signal while it is ours.
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char(' ') => stopped = !stopped,
                    other => tool.key(other),
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            anew = true;
        }
        if anew {
            terminal.draw(|frame| draw(frame, tool, stopped))?;
        }
        tool.work(time)?;
    }
    Ok(())
}

fn draw(frame: &mut Frame<'_>, tool: &impl Live, stopped: bool) {
    let [head, body, keys] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let state = if stopped { "display stopped; " } else { "" };
    frame.render_widget(Line::from(format!("{state}{}", tool.head())), head);
    tool.draw(frame, body);
    let own = tool.keys();
    let gap = if own.is_empty() { "" } else { "   " };
    frame.render_widget(Line::from(format!("q ends   {own}{gap}space stops the display")).dim(), keys);
}
