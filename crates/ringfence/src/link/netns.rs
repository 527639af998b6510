//! Hooks of a network namespace: socket lookup (`sk_lookup`), flow dissection.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringfence_sys as sys;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "network namespace";

/// A network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetNamespace {
    path: PathBuf,
}

impl NetNamespace {
    /// By its file: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        NetNamespace { path: path.as_ref().to_owned() }
    }

    /// That of the calling thread.
    pub fn own() -> Self {
        NetNamespace::new("/proc/thread-self/ns/net")
    }
}

impl sealed::Sealed for NetNamespace {}

impl Hook for NetNamespace {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.path.display().to_string();
        let file = rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(program, HOOK, &target, crate::explain::plain(errno)))?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: program.attach_type(),
            to: AttachTo::Fd(file.as_fd()),
            flags: 0,
            tail: LinkTail::None,
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::INVAL => Some(Cause::invalid("the file is no network namespace, or the program is not for one")),
            Errno::EXIST | Errno::TOOBIG => {
                Some(Cause::new(Kind::Io, "as many programs as the kernel allows are there already"))
            }
            _ => None,
        })
    }
}
