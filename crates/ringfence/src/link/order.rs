//! Order among the programs of one place: tcx, netkit (`kernel/bpf/mprog.c`), control groups.

use std::os::fd::AsFd;
use std::sync::Arc;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkFd, LinkTail, Relative};

use super::Link;
use crate::error::{Cause, Kind};
use crate::program::Program;

/// One of the programs that are at a place already: before or after it another one can be put.
#[derive(Clone, Debug)]
pub struct Neighbour(Which);

#[derive(Clone, Debug)]
enum Which {
    Program(Program),
    ProgramId(u32),
    Link(Arc<LinkFd>),
    LinkId(u32),
    /// It is held without a link of the kernel's.
    Unknown,
}

impl Neighbour {
    /// The program of this id.
    pub fn program_id(id: u32) -> Self {
        Neighbour(Which::ProgramId(id))
    }

    /// The link of this id.
    pub fn link_id(id: u32) -> Self {
        Neighbour(Which::LinkId(id))
    }
}

impl From<&Program> for Neighbour {
    fn from(program: &Program) -> Self {
        Neighbour(Which::Program(program.clone()))
    }
}

impl From<&Link> for Neighbour {
    fn from(link: &Link) -> Self {
        let own = link.link_fd().and_then(|link| link.try_clone().ok());
        Neighbour(own.map_or(Which::Unknown, |link| Which::Link(Arc::new(link))))
    }
}

#[derive(Clone, Debug, Default)]
enum Position {
    #[default]
    Last,
    First,
    Before(Neighbour),
    After(Neighbour),
}

/// Where in the list, and of which revision the list must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    position: Position,
    revision: u64,
}

impl Order {
    pub(super) fn first(&mut self) {
        self.position = Position::First;
    }

    pub(super) fn last(&mut self) {
        self.position = Position::Last;
    }

    pub(super) fn before(&mut self, neighbour: Neighbour) {
        self.position = Position::Before(neighbour);
    }

    pub(super) fn after(&mut self, neighbour: Neighbour) {
        self.position = Position::After(neighbour);
    }

    pub(super) fn revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    pub(super) fn is_first(&self) -> bool {
        matches!(self.position, Position::First)
    }

    /// It says more than first or last.
    pub(super) fn is_exact(&self) -> bool {
        self.revision != 0 || matches!(self.position, Position::Before(_) | Position::After(_))
    }

    /// Flags and the rest of a link that is put there.
    pub(super) fn ask(&self) -> Result<(u32, LinkTail<'_>), Cause> {
        let (side, neighbour) = match &self.position {
            Position::Last => (0, None),
            Position::First => (sys::flags::BPF_F_BEFORE, None),
            Position::Before(neighbour) => (sys::flags::BPF_F_BEFORE, Some(neighbour)),
            Position::After(neighbour) => (sys::flags::BPF_F_AFTER, Some(neighbour)),
        };
        let (by, to) = match neighbour.map(|neighbour| &neighbour.0) {
            None => (0, None),
            Some(Which::Program(program)) => (0, Some(Relative::Fd(program.as_fd()))),
            Some(Which::ProgramId(id)) => (0, Some(Relative::Id(*id))),
            Some(Which::Link(link)) => (sys::flags::BPF_F_LINK, Some(Relative::Fd(link.as_fd()))),
            Some(Which::LinkId(id)) => (sys::flags::BPF_F_LINK, Some(Relative::Id(*id))),
            Some(Which::Unknown) => {
                return Err(Cause::invalid("the neighbour is held without a link of the kernel's"));
            }
        };
        Ok((side | by, LinkTail::Relative { to, expected_revision: self.revision }))
    }

    /// What the kernel means by an error number of the list.
    pub(super) fn explain(&self, errno: Errno) -> Option<Cause> {
        match errno {
            Errno::NOENT | Errno::BUSY if self.is_exact() => Some(
                Cause::invalid("the neighbour is not among the programs of this place, or not by that link")
                    .action("`list` of the hook shows what is there"),
            ),
            Errno::STALE => Some(
                Cause::new(Kind::Io, format!("the list is no longer at revision {}", self.revision))
                    .action("look at it again and decide again"),
            ),
            Errno::RANGE => Some(Cause::new(Kind::Io, "64 programs are there already")),
            _ => None,
        }
    }
}

/// The programs of a place, in the order in which they run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Listed {
    /// Changes whenever the list does.
    pub revision: u64,
    /// Id of each program and of its link; 0: it was attached without one, or the kernel does not tell.
    pub programs: Vec<(u32, u32)>,
}

impl Listed {
    /// `links`: those of devices alone are told.
    pub(super) fn of(place: AttachTo<'_>, hook: AttachType, links: bool) -> Result<Listed, Cause> {
        let found = sys::program_query(place, hook, 0, links).map_err(crate::explain::plain)?;
        let links = found.links.into_iter().chain(std::iter::repeat(0));
        Ok(Listed { revision: found.revision, programs: found.programs.into_iter().zip(links).collect() })
    }
}
