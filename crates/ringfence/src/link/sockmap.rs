//! Sockets in a socket map: what they receive (`sk_skb`) and send (`sk_msg`) goes through programs.

use std::os::fd::AsFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::{AttachType, ProgramType};
use rustix::io::Errno;
use sys::{AttachTo, LinkCreate, LinkTail};

use super::{Held, Link, Placed, attach_cause, create, failed, lacks_hook, not_there};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::map::Map;
use crate::program::Program;

const HOOK: &str = "socket map";

/// A socket map or socket hash: every socket in it, now and later.
///
/// A map has one program of each kind. Sockets keep the programs that the map had when they were put in: another program, or
/// none, is for those that come later. By a link where the kernel has them (6.10); before that the program is taken off by a call
/// when the link is dropped, and in any case goes with the map.
#[derive(Clone, Debug)]
pub struct SocketMap {
    map: Map,
    attach_type: Option<AttachType>,
}

impl SocketMap {
    /// The program's section says what it does: `sk_skb/stream_parser`, `sk_skb/stream_verdict`, `sk_skb/verdict`, `sk_msg`.
    pub fn new(map: &Map) -> Self {
        SocketMap { map: map.clone(), attach_type: None }
    }

    /// As this, for programs whose section does not say (`sk_skb`).
    pub fn at(mut self, attach_type: AttachType) -> Self {
        self.attach_type = Some(attach_type);
        self
    }
}

impl sealed::Sealed for SocketMap {}

fn explain(errno: Errno) -> Option<Cause> {
    let cause = match errno {
        Errno::INVAL | Errno::OPNOTSUPP => {
            Cause::invalid("the map is no socket map, or the program is not for one of its kind")
        }
        Errno::BUSY => Cause::new(Kind::Io, "the map has such a program already, or the other kind of verdict"),
        _ => return None,
    };
    Some(cause.errno(errno))
}

fn said(errno: Errno) -> Cause {
    explain(errno).unwrap_or_else(|| attach_cause(errno))
}

impl Hook for SocketMap {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.map.name();
        let fail = |cause| failed(program, HOOK, target, cause);
        let attach_type = match (self.attach_type, program.attach_type()) {
            (Some(given), _) => given,
            (None, AttachType(0)) if program.kind() == ProgramType::SK_SKB => {
                let cause = Cause::invalid(format!("the section `{}` does not say what it does", program.section()));
                return Err(fail(cause.action("give the attach type: `SocketMap::at`")));
            }
            // The kernel did not want to know it at load time (5.10: `sk_msg`).
            (None, AttachType(0)) => AttachType::SK_MSG_VERDICT,
            (None, known) => known,
        };
        let to = AttachTo::Fd(self.map.as_fd());
        if program.kernel().has(Feature::SockmapLink) {
            let link = LinkCreate { program: program.as_fd(), attach_type, to, flags: 0, tail: LinkTail::None };
            return create(program, HOOK, target, &link, explain);
        }
        // The call replaces silently what is there; where it can be asked (5.18), ask first.
        if sys::program_query(to, attach_type, 0, false).is_ok_and(|found| !found.programs.is_empty()) {
            return Err(fail(said(Errno::BUSY)));
        }
        sys::program_attach(to, program.as_fd(), attach_type, 0, None).map_err(|errno| {
            let unknown = lacks_hook(program.kernel(), attach_type).filter(|_| errno == Errno::INVAL);
            fail(unknown.map_or_else(|| said(errno), |cause| cause.errno(errno)))
        })?;
        let placed = Attached { map: self.map.clone(), attach_type, program: program.clone() };
        Ok(Link::new(program.name(), HOOK, target, Held::Placed(Box::new(placed))))
    }
}

#[derive(Debug)]
struct Attached {
    map: Map,
    attach_type: AttachType,
    program: Program,
}

impl Placed for Attached {
    fn take_off(&self) -> Result<(), Cause> {
        let to = AttachTo::Fd(self.map.as_fd());
        match sys::program_detach(to, Some(self.program.as_fd()), self.attach_type) {
            // Another one is there instead, or none.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(said(errno)),
        }
    }

    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause> {
        if old.is_some_and(|old| !old.is(&self.program)) {
            return Err(not_there(old));
        }
        let to = AttachTo::Fd(self.map.as_fd());
        sys::program_attach(to, new.as_fd(), self.attach_type, 0, None).map_err(said)?;
        self.program = new.clone();
        Ok(())
    }
}
