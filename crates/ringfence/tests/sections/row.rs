//! A row of the table, and what can come of it.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ringfence::hook::Hook;
use ringfence::{Error, Kernel, Kind, Link, Loaded, Program, Settings};

use crate::common::object;

/// A section name, and how its program is made to run.
pub(crate) struct Row {
    pub(crate) section: &'static str,
    /// `tests/c/OBJECT.bpf.c` has its program, by the name `on_` and the section's.
    object: &'static str,
    /// Other programs of the object to load with it.
    with: &'static [&'static str],
    fire: Fire,
}

/// Attaches the program and does what makes it run.
pub(crate) type Fire = fn(&Run) -> Result<(), Stop>;

/// What came of a row: a word, and the reason behind it.
pub(crate) enum Outcome {
    /// It ran: the map says so.
    Fired,
    /// It is attached, and cannot be made to run here.
    Attached(String),
    /// The kernel does not have it, or not on this machine.
    Lacks(String),
    /// It should have gone well.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Fired => write!(f, "fired\t"),
            Outcome::Attached(why) => write!(f, "attached\t{why}"),
            Outcome::Lacks(why) => write!(f, "lacks\t{why}"),
            Outcome::Failed(why) => write!(f, "failed\t{}", why.replace(['\n', '\t'], " ")),
        }
    }
}

/// Why a row ends before its program has run.
pub(crate) enum Stop {
    Error(Box<Error>),
    Attached(String),
    Lacks(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error.into())
    }
}

impl Row {
    pub(crate) const fn new(object: &'static str, section: &'static str, fire: Fire) -> Row {
        Row { section, object, with: &[], fire }
    }

    /// Loads these programs of the object too.
    pub(crate) const fn with(self, programs: &'static [&'static str]) -> Row {
        Row { with: programs, ..self }
    }

    fn program(&self) -> String {
        format!("on_{}", self.section.replace(['/', '.'], "_"))
    }

    pub(crate) fn try_it(&self) -> Outcome {
        catch_unwind(AssertUnwindSafe(|| self.outcome())).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Outcome::Failed(text.unwrap_or_else(|| "panic".to_owned()))
        })
    }

    fn outcome(&self) -> Outcome {
        let run = match self.load() {
            Ok(run) => run,
            Err(error) => return of_error(&error),
        };
        match (self.fire)(&run) {
            Ok(()) => {}
            Err(Stop::Error(error)) => return of_error(&error),
            Err(Stop::Attached(why)) => return Outcome::Attached(why),
            Err(Stop::Lacks(why)) => return Outcome::Lacks(why),
        }
        match run.wait() {
            true => Outcome::Fired,
            false => Outcome::Failed("it is attached and did not run".to_owned()),
        }
    }

    fn load(&self) -> Result<Run, Error> {
        // Its types are read once.
        static KERNEL: LazyLock<Kernel> = LazyLock::new(Kernel::running);
        let (name, kernel) = (self.program(), KERNEL.clone());
        let settings = Settings::new().only(self.with.iter().copied().chain([name.as_str()]));
        let plan = ringfence::plan(&object(self.object), &kernel, &settings)?;
        let loaded = ringfence::load(&plan, &kernel)?;
        Ok(Run { links: RefCell::default(), name, loaded })
    }
}

/// The library tells whose fault a failure is.
fn of_error(error: &Error) -> Outcome {
    match error.kind() {
        Kind::Unsupported => Outcome::Lacks(error.reason()),
        _ => Outcome::Failed(error.to_string()),
    }
}

/// A row's program, loaded.
pub(crate) struct Run {
    // Before `loaded`: dropped first.
    links: RefCell<Vec<Link>>,
    pub(crate) loaded: Loaded,
    name: String,
}

impl Run {
    pub(crate) fn program(&self) -> &Program {
        self.loaded.program(&self.name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where the section says, until the row is over.
    pub(crate) fn attach(&self) -> Result<(), Stop> {
        self.keep(self.program().attach()?);
        Ok(())
    }

    /// To this place, until the row is over.
    pub(crate) fn attach_to(&self, hook: &impl Hook) -> Result<(), Stop> {
        self.keep(self.program().attach_to(hook)?);
        Ok(())
    }

    pub(crate) fn keep(&self, link: Link) {
        self.links.borrow_mut().push(link);
    }

    /// How often it has run.
    pub(crate) fn runs(&self) -> u64 {
        self.loaded.variable("runs").and_then(|runs| runs.get()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Until it has run; whether it has.
    pub(crate) fn wait(&self) -> bool {
        let start = Instant::now();
        while self.runs() == 0 {
            if start.elapsed() > Duration::from_secs(3) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
