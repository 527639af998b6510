//! Which of the sockets of a group (SO_REUSEPORT) gets a connection or packet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ringfence_sys as sys;
use rustix::io::Errno;

use super::{Held, Link, Placed, attach_cause, failed};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "socket group";
const TARGET: &str = "of the caller";

/// A group of sockets with SO_REUSEPORT, by one of them.
#[derive(Clone, Copy, Debug)]
pub struct ReusePort<'a> {
    socket: BorrowedFd<'a>,
}

impl<'a> ReusePort<'a> {
    /// The group of this socket. The link keeps a descriptor of it.
    pub fn new(socket: &'a impl AsFd) -> Self {
        ReusePort { socket: socket.as_fd() }
    }
}

impl sealed::Sealed for ReusePort<'_> {}

fn cause(errno: Errno) -> Cause {
    match errno {
        Errno::NOTSOCK => Cause::invalid("the descriptor is no socket's").errno(errno),
        Errno::INVAL => Cause::invalid("the program is not for groups of sockets, or the socket is in none")
            .action("set SO_REUSEPORT before it is bound")
            .errno(errno),
        Errno::NOMEM => {
            Cause::new(Kind::Io, "the program does not fit into the socket's memory (net.core.optmem_max)").errno(errno)
        }
        _ => attach_cause(errno),
    }
}

impl Hook for ReusePort<'_> {
    fn attach(&self, program: &Program) -> Result<Link> {
        let fail = |errno| failed(program, HOOK, TARGET, cause(errno));
        let own = rustix::io::fcntl_dupfd_cloexec(self.socket, 3).map_err(fail)?;
        sys::reuseport_attach(own.as_fd(), program.as_fd()).map_err(fail)?;
        Ok(Link::new(program.name(), HOOK, TARGET, Held::Placed(Box::new(Group(own)))))
    }
}

#[derive(Debug)]
struct Group(OwnedFd);

impl Placed for Group {
    fn take_off(&self) -> Result<(), Cause> {
        match sys::reuseport_detach(self.0.as_fd()) {
            // Kernels before 5.3 cannot take it off: it goes with the group.
            Ok(()) | Err(Errno::NOENT | Errno::NOPROTOOPT) => Ok(()),
            Err(errno) => Err(cause(errno)),
        }
    }

    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause> {
        match old {
            // The kernel does not tell which program is there.
            Some(_) => Err(Cause::new(Kind::Unsupported, "the kernel replaces it without a look at the old one")
                .action("use `update`")),
            None => sys::reuseport_attach(self.0.as_fd(), new.as_fd()).map_err(cause),
        }
    }
}
