//! Infrared receivers: a program decodes the pulses that a remote control sends (`lirc_mode2`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::AttachTo;

use super::{Held, Link, Placed, attach_cause, failed};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "infrared device";

/// An infrared receiver: many programs may be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Infrared {
    path: PathBuf,
}

impl Infrared {
    /// By its file: `/dev/lirc0`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Infrared { path: path.as_ref().to_owned() }
    }
}

impl sealed::Sealed for Infrared {}

fn cause(errno: Errno) -> Cause {
    match errno {
        Errno::INVAL => Cause::invalid("the file is no infrared receiver of raw pulses, or this kernel runs no programs there (CONFIG_BPF_LIRC_MODE2)")
            .errno(errno),
        Errno::TOOBIG => Cause::new(Kind::Io, "64 programs are there already").errno(errno),
        _ => attach_cause(errno),
    }
}

impl Hook for Infrared {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.path.display().to_string();
        let fail = |errno| failed(program, HOOK, &target, cause(errno));
        let device = rustix::fs::open(&self.path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(program, HOOK, &target, crate::explain::plain(errno)))?;
        sys::program_attach(AttachTo::Fd(device.as_fd()), program.as_fd(), AttachType::LIRC_MODE2, 0, None)
            .map_err(fail)?;
        let placed = Receiver { device, program: program.clone() };
        Ok(Link::new(program.name(), HOOK, &target, Held::Placed(Box::new(placed))))
    }
}

#[derive(Debug)]
struct Receiver {
    device: OwnedFd,
    program: Program,
}

impl Placed for Receiver {
    fn take_off(&self) -> Result<(), Cause> {
        let to = AttachTo::Fd(self.device.as_fd());
        match sys::program_detach(to, Some(self.program.as_fd()), AttachType::LIRC_MODE2) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(errno) => Err(cause(errno)),
        }
    }

    fn replace(&mut self, _: &Program, _: Option<&Program>) -> Result<(), Cause> {
        let why = "programs cannot be replaced here: attach the new one beside it";
        Err(Cause::new(Kind::Unsupported, why))
    }
}
