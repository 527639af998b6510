//! What the processes of a control group do: sockets, packets, devices, sysctls.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::order::{Listed, Neighbour, Order};
use super::{Link, create, failed};
use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "cgroup";

/// A control group (version 2), with all below it.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
    attach_type: Option<AttachType>,
    order: Order,
}

impl Cgroup {
    /// By its directory: `/sys/fs/cgroup/system.slice`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Cgroup { path: path.as_ref().to_owned(), attach_type: None, order: Order::default() }
    }

    /// At this hook of the group, for programs whose section does not say (`cgroup/skb`).
    pub fn at(mut self, attach_type: AttachType) -> Self {
        self.attach_type = Some(attach_type);
        self
    }

    /// Before all programs that are there (6.17). Without such a word it is after them.
    pub fn first(mut self) -> Self {
        self.order.first();
        self
    }

    /// Right before this program or link (6.17).
    pub fn before(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.before(neighbour.into());
        self
    }

    /// Right after this program or link (6.17).
    pub fn after(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.after(neighbour.into());
        self
    }

    /// Only while the list is at this revision (6.17).
    pub fn revision(mut self, revision: u64) -> Self {
        self.order.revision(revision);
        self
    }

    /// The programs of a hook of this group alone, without those of the groups above. Kernels do not tell their links; before 6.17
    /// the revision is 0.
    ///
    /// # Errors
    /// There is no such group, or it has no such hook.
    pub fn list(&self, hook: AttachType) -> Result<Listed> {
        let listed = open(&self.path).and_then(|directory| Listed::of(AttachTo::Fd(directory.as_fd()), hook, false));
        listed.map_err(|cause| Error::system(&format!("listing the programs of group {}", self.path.display()), cause))
    }
}

/// The directory of a group.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Cause> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        crate::explain::plain(errno)
            .action("the groups are directories under the mount of cgroup2 (`mount -t cgroup2`)")
    })
}

impl sealed::Sealed for Cgroup {}

impl Hook for Cgroup {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.path.display().to_string();
        let directory = open(&self.path).map_err(|cause| failed(program, HOOK, &target, cause))?;
        // Kernels before 6.17 know no order.
        let ordered = self.order.is_first() || self.order.is_exact();
        let (flags, tail) = if ordered { self.order.ask() } else { Ok((0, LinkTail::None)) }
            .map_err(|cause| failed(program, HOOK, &target, cause))?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: self.attach_type.unwrap_or(program.attach_type()),
            to: AttachTo::Fd(directory.as_fd()),
            flags,
            tail,
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::BADF => Some(
                Cause::invalid("the directory is no control group of version 2")
                    .action("`mount | grep cgroup2` shows where they are"),
            ),
            Errno::PERM => Some(Cause::new(
                Kind::Permission,
                "the kernel does not let this process attach it, or a program above excludes others",
            )),
            Errno::INVAL if ordered && program.kernel().has(Feature::CgroupOrder) => Some(
                Cause::invalid("the neighbour is not among the programs of this group, or was attached by a link")
                    .action("name a neighbour with a link by its link"),
            ),
            Errno::INVAL | Errno::TOOBIG if ordered => Some(
                Cause::new(Kind::Unsupported, "this kernel knows no order of a group's programs (6.17)")
                    .action("attach them in the order in which they shall run"),
            ),
            Errno::INVAL => Some(Cause::invalid(
                "the program is not for this hook of a group, or the kernel has no links for groups (5.7)",
            )),
            _ => self.order.explain(errno),
        })
    }
}
