//! Filters of single sockets.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Result;
use crate::call::check;

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: both options take an int (sk_setsockopt), which is read and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(libc::c_long::from(result)).map(drop)
}

/// `SO_ATTACH_BPF`: every packet that the socket receives goes through the program first.
///
/// # Errors
/// `ENOTSOCK`: it is no socket; `EINVAL`: the program is no socket filter; what else the kernel says.
pub fn socket_attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    set(socket, libc::SO_ATTACH_BPF, program.as_raw_fd())
}

/// `SO_DETACH_BPF`.
///
/// # Errors
/// `ENOENT`: it has no filter; what else the kernel says.
pub fn socket_detach(socket: BorrowedFd<'_>) -> Result<()> {
    set(socket, libc::SO_DETACH_BPF, 0)
}
