//! Iterators: programs that are run for each of the kernel's objects, and write what a reader reads.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::map::Map;
use crate::program::Program;

const HOOK: &str = "iterator";

/// The objects through which an iterator goes.
///
/// ```no_run
/// use std::io::Read;
/// use ringfence::hook::{Iter, Output};
/// # fn show(program: &ringfence::Program) -> Result<(), Box<dyn std::error::Error>> {
/// let link = program.attach_to(&Iter::new())?;
/// let mut text = String::new();
/// Output::new(&link)?.read_to_string(&mut text)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Iter {
    over: Over,
}

/// The member of `union bpf_iter_link_info` that is given.
#[derive(Clone, Debug, Default)]
enum Over {
    #[default]
    All,
    Map(Map),
    Task {
        thread: u32,
        process: u32,
    },
    Cgroup {
        path: PathBuf,
        walk: Walk,
    },
}

/// In which order an iterator goes through control groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[non_exhaustive]
pub enum Walk {
    /// This group alone.
    Itself = 1,
    /// A group before those below it.
    Down = 2,
    /// A group after those below it.
    DownLast = 3,
    /// The group, then those above it.
    Up = 4,
    /// The groups right below it alone (after 6.18).
    Children = 5,
}

impl Iter {
    /// All of the kind that the program's section names.
    pub fn new() -> Self {
        Iter::default()
    }

    /// The entries of this map (`iter/bpf_map_elem`, `iter/bpf_sk_storage_map`, `iter/sockmap`).
    pub fn over_map(map: &Map) -> Self {
        Iter { over: Over::Map(map.clone()) }
    }

    /// One thread alone, by its number (`iter/task`, `iter/task_file`, `iter/task_vma`; 6.1).
    pub fn thread(id: u32) -> Self {
        Iter { over: Over::Task { thread: id, process: 0 } }
    }

    /// The threads of one process (`iter/task`, `iter/task_file`, `iter/task_vma`; 6.1).
    pub fn process(id: u32) -> Self {
        Iter { over: Over::Task { thread: 0, process: id } }
    }

    /// Control groups (version 2) from this one on, by its directory (`iter/cgroup`, 6.1).
    pub fn cgroups(path: impl AsRef<Path>, walk: Walk) -> Self {
        Iter { over: Over::Cgroup { path: path.as_ref().to_owned(), walk } }
    }
}

/// `union bpf_iter_link_info`; the kernel takes a shorter one than it knows.
fn info(fields: &[u32]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_ne_bytes()).collect()
}

impl sealed::Sealed for Iter {}

impl Hook for Iter {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = program.section().split_once('/').map_or("", |(_, target)| target);
        let mut directory = None;
        let info = match &self.over {
            Over::All => None,
            Over::Map(map) => Some(info(&[map.as_fd().as_raw_fd().cast_unsigned()])),
            Over::Task { thread, process } => Some(info(&[*thread, *process, 0])),
            Over::Cgroup { path, walk } => {
                let opened = super::cgroup::open(path).map_err(|cause| failed(program, HOOK, target, cause))?;
                let opened = directory.insert(opened);
                // order, cgroup_fd, cgroup_id
                Some(info(&[*walk as u32, opened.as_raw_fd().cast_unsigned(), 0, 0]))
            }
        };
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::TRACE_ITER,
            to: AttachTo::Nothing,
            flags: 0,
            tail: info.as_ref().map_or(LinkTail::None, |info| LinkTail::Iter(info)),
        };
        create(program, HOOK, target, &link, |errno| match (errno, &self.over) {
            (Errno::BADF, Over::All) => Some(
                Cause::invalid("it goes through the entries of a map, and none is given")
                    .action("use `Iter::over_map`"),
            ),
            (Errno::BADF, Over::Cgroup { .. }) => {
                Some(Cause::invalid("the directory is no control group of version 2"))
            }
            (Errno::INVAL, Over::All) => Some(
                Cause::invalid("it goes through control groups, and it is not said which")
                    .action("use `Iter::cgroups`"),
            ),
            (Errno::INVAL, Over::Map(_)) => {
                Some(Cause::invalid("the map is not of the kind that this iterator goes through"))
            }
            (Errno::INVAL | Errno::TOOBIG, Over::Task { .. } | Over::Cgroup { .. }) => Some(
                Cause::new(Kind::Unsupported, "this kernel's iterators take no such choice, or this iterator does not")
                    .action("use a newer kernel (6.1), or choose in the program"),
            ),
            (Errno::SRCH, _) => Some(Cause::new(Kind::Io, "there is no such process or thread")),
            (Errno::ACCESS, Over::Map(_)) => {
                Some(Cause::invalid("the program reads more of a key or value than the map's have"))
            }
            _ => None,
        })
    }
}

/// What an iterator writes: one pass over the kernel's objects, begun when the first byte is read.
#[derive(Debug)]
pub struct Output(File);

impl Output {
    /// Begins a pass. A link can be read as often as one likes.
    ///
    /// # Errors
    /// The link is no iterator's, or the kernel refuses.
    pub fn new(link: &Link) -> Result<Output> {
        let made = link.link_fd().ok_or(Errno::INVAL).and_then(sys::iter_create);
        made.map(|fd| Output(File::from(fd))).map_err(|errno| Error::Link {
            program: link.program().to_owned(),
            hook: link.hook(),
            target: link.target().to_owned(),
            step: "reading it",
            cause: Box::new(match errno {
                Errno::INVAL => Cause::invalid("it is no iterator").errno(errno),
                _ => crate::explain::plain(errno),
            }),
        })
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // EAGAIN: the pass was long, the kernel wants to be asked again (bpf_seq_read).
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}
