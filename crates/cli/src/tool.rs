//! What the built-in tools share: when they end, and their errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};
use crate::run::{failure as library_failure, stop_flag};

/// The longest time between Ctrl-C and the end.
const TICK: Duration = Duration::from_millis(250);

/// When a tool ends: at Ctrl-C, SIGTERM, or after its time.
pub struct Until {
    stop: Arc<AtomicBool>,
    /// Since when the time counts.
    started: Instant,
    time: Option<Duration>,
}

impl Until {
    /// From now on a signal is a request to end. `time`: that of `--for`.
    pub fn new(time: Option<Duration>) -> Result<Until, Failure> {
        Ok(Until { stop: stop_flag()?, started: Instant::now(), time })
    }

    /// The time begins now.
    pub fn start(&mut self) {
        self.started = Instant::now();
    }

    /// How long the tool may work before it asks again; `None`: it is to end.
    pub fn turn(&self) -> Option<Duration> {
        let left = self.time.map_or(TICK, |time| time.saturating_sub(self.started.elapsed()).min(TICK));
        (!self.stop.load(Ordering::Relaxed) && !left.is_zero()).then_some(left)
    }

    /// In words: `Ctrl-C ends`, `for 5.0 s`.
    pub fn words(&self) -> String {
        self.time.map_or("Ctrl-C ends".to_owned(), |time| format!("for {:.1} s", time.as_secs_f64()))
    }
}

/// A tool's error as the command's.
pub fn failure(error: ringfence_tools::Error) -> Failure {
    use ringfence_tools::Error;
    match &error {
        Error::Library(error) => library_failure(error),
        Error::MayNotRead { .. } => Failure::new(Exit::Permission, error),
        Error::LongName { .. } | Error::Spec { .. } => Failure::usage(error),
        _ => Failure::new(Exit::Error, error),
    }
}
