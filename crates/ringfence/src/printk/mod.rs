//! What programs say with `bpf_printk`, and which program said it.
//!
//! The kernel writes all of it into one trace buffer that everybody shares, without the program's name, and who reads
//! `trace_pipe` takes the lines away from others. Since 5.9 every line also passes the tracepoint `bpf_trace:bpf_trace_printk`, so
//! [`Printk`] watches that with a small program of its own: nothing is taken from anybody, nothing is left, and the stack
//! tells which program called. Where that cannot be (an older kernel) it reads `trace_pipe`, and a line belongs to the program that
//! holds a format string that fits.

mod formats;
mod pipe;
mod watch;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ringfence_plan::Plan;

use crate::error::Result;
use crate::loaded::Loaded;
use formats::Formats;
use pipe::TracePipe;
use watch::Watch;

/// What a program has said.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Message<'a> {
    /// Name of the thread in whose context the program ran: whoever was on the CPU.
    pub task: &'a str,
    /// Its thread id; 0 is the idle task.
    pub pid: u32,
    /// The CPU.
    pub cpu: u32,
    /// When, in nanoseconds of the kernel's monotonic clock.
    pub time_ns: u64,
    /// What was said, without the line's end.
    pub text: &'a str,
    /// Who said it.
    pub writer: Writer<'a>,
}

/// Which program has said something.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Writer<'a> {
    /// This one.
    Program(&'a str),
    /// One of these: each holds a format string that fits, and the kernel does not tell more.
    OneOf(Vec<&'a str>),
    /// None of ours.
    Other,
}

/// A reader of what programs say.
///
/// ```no_run
/// use std::time::Duration;
/// use ringfence::printk::{Printk, Writer};
/// # fn show(plan: &ringfence::Plan, loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let mut printk = Printk::open(plan, loaded)?;
/// printk.poll(Some(Duration::from_secs(1)), |message| {
///     if message.writer != Writer::Other {
///         println!("{:?}: {}", message.writer, message.text);
///     }
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Printk {
    way: Way,
    formats: Formats,
}

#[derive(Debug)]
enum Way {
    Watch(Box<Watch>),
    Pipe(TracePipe),
}

impl Printk {
    /// Begins to listen. Open it before the programs are attached: what was said before is not given.
    ///
    /// # Errors
    /// Neither the tracepoint can be watched nor the trace pipe be read.
    pub fn open(plan: &Plan, loaded: &Loaded) -> Result<Printk> {
        let formats = Formats::of(plan);
        match Watch::start(loaded) {
            Ok(watch) => Ok(Printk { way: Way::Watch(Box::new(watch)), formats }),
            Err(_) => Ok(Printk { way: Way::Pipe(TracePipe::open()?), formats }),
        }
    }

    /// Whether any program of the plan can say something at all.
    pub fn needed(plan: &Plan) -> bool {
        !Formats::of(plan).is_empty()
    }

    /// Hands out what was said, and waits for something when there is nothing: until something came, or the time is over (`None`:
    /// without end). Gives how many messages there were, those of other people's programs included.
    ///
    /// # Errors
    /// Reading fails.
    pub fn poll(&mut self, timeout: Option<Duration>, mut each: impl FnMut(Message<'_>)) -> Result<usize> {
        let formats = &self.formats;
        match &mut self.way {
            Way::Watch(watch) => watch.poll(timeout, formats, &mut each),
            Way::Pipe(pipe) => pipe.poll(timeout, formats, &mut each),
        }
    }

    /// Messages lost because nobody read in time, as far as the kernel tells.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn lost(&self) -> Result<u64> {
        match &self.way {
            Way::Watch(watch) => watch.lost(),
            Way::Pipe(pipe) => Ok(pipe.lost()),
        }
    }

    /// The lines are read from `trace_pipe`, which takes them away from other readers.
    pub fn consumes(&self) -> bool {
        matches!(self.way, Way::Pipe(_))
    }
}

/// Becomes readable when something was said.
impl AsFd for Printk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Watch(watch) => watch.as_fd(),
            Way::Pipe(pipe) => pipe.as_fd(),
        }
    }
}
