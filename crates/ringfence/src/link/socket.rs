//! Filters of single sockets.

use std::os::fd::{AsFd, BorrowedFd};

use ringfence_sys as sys;
use rustix::io::Errno;

use super::{Held, Link, attach_cause, failed};
use crate::error::{Cause, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "socket";

/// A socket whose packets the program shortens or drops.
#[derive(Clone, Copy, Debug)]
pub struct SocketFilter<'a> {
    socket: BorrowedFd<'a>,
}

impl<'a> SocketFilter<'a> {
    /// This socket. The link keeps a descriptor of its own: the filter goes with the link, or with the last descriptor of the
    /// socket.
    pub fn new(socket: &'a impl AsFd) -> Self {
        SocketFilter { socket: socket.as_fd() }
    }
}

impl sealed::Sealed for SocketFilter<'_> {}

impl Hook for SocketFilter<'_> {
    fn attach(&self, program: &Program) -> Result<Link> {
        let fail = |errno| {
            let cause = match errno {
                Errno::NOTSOCK => Cause::invalid("the descriptor is no socket's").errno(errno),
                Errno::INVAL => Cause::invalid("the program is no socket filter").errno(errno),
                Errno::NOMEM => {
                    Cause::invalid("the program does not fit into the socket's memory (net.core.optmem_max)")
                        .errno(errno)
                }
                _ => attach_cause(errno),
            };
            failed(program, HOOK, "of the caller", cause)
        };
        let own = rustix::io::fcntl_dupfd_cloexec(self.socket, 3).map_err(fail)?;
        sys::socket_attach(own.as_fd(), program.as_fd()).map_err(fail)?;
        Ok(Link::new(program.name(), HOOK, "of the caller", Held::Socket(own)))
    }
}

pub(super) fn detach(socket: BorrowedFd<'_>) -> sys::Result<()> {
    sys::socket_detach(socket)
}
