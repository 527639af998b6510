//! What the processes of a control group do: sockets, packets, devices, sysctls.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::error::{Cause, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "cgroup";

/// A control group (version 2), with all below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroup {
    path: PathBuf,
    attach_type: Option<AttachType>,
}

impl Cgroup {
    /// By its directory: `/sys/fs/cgroup/system.slice`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Cgroup { path: path.as_ref().to_owned(), attach_type: None }
    }

    /// At this hook of the group, for programs whose section does not say (`cgroup/skb`).
    pub fn at(mut self, attach_type: AttachType) -> Self {
        self.attach_type = Some(attach_type);
        self
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
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: self.attach_type.unwrap_or(program.attach_type()),
            to: AttachTo::Fd(directory.as_fd()),
            flags: 0,
            tail: LinkTail::None,
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::BADF => Some(
                Cause::invalid("the directory is no control group of version 2")
                    .action("`mount | grep cgroup2` shows where they are"),
            ),
            Errno::PERM => Some(Cause::new(
                crate::error::Kind::Permission,
                "the kernel does not let this process attach it, or a program above excludes others",
            )),
            Errno::INVAL => Some(Cause::invalid(
                "the program is not for this hook of a group, or the kernel has no links for groups (5.7)",
            )),
            _ => None,
        })
    }
}
