//! Iterators: programs that are run for each of the kernel's objects, and write what a reader reads.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create};
use crate::error::{Cause, Error, Result};
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
    map: Option<Map>,
}

impl Iter {
    /// All of the kind that the program's section names.
    pub fn new() -> Self {
        Iter::default()
    }

    /// The entries of this map (`iter/bpf_map_elem`, `iter/bpf_sk_storage_map`, `iter/sockmap`).
    pub fn over_map(map: &Map) -> Self {
        Iter { map: Some(map.clone()) }
    }
}

impl sealed::Sealed for Iter {}

impl Hook for Iter {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = program.section().split_once('/').map_or("", |(_, target)| target);
        // The member `map` of union bpf_iter_link_info; the kernel takes a shorter one than it knows.
        let info = self.map.as_ref().map(|map| map.as_fd().as_raw_fd().to_ne_bytes());
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::TRACE_ITER,
            to: AttachTo::Nothing,
            flags: 0,
            tail: info.as_ref().map_or(LinkTail::None, |info| LinkTail::Iter(info)),
        };
        create(program, HOOK, target, &link, |errno| match errno {
            Errno::BADF if self.map.is_none() => Some(
                Cause::invalid("it goes through the entries of a map, and none is given")
                    .action("use `Iter::over_map`"),
            ),
            Errno::INVAL => Some(Cause::invalid("the map is not of the kind that this iterator goes through")),
            Errno::ACCESS => Some(Cause::invalid("the program reads more of a key or value than the map's have")),
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
