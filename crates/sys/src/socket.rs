//! Options of single sockets: programs as filters or as choosers of one of a group.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Result;
use crate::call::check;

fn set(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: the options here take an int (sk_setsockopt, netlink_setsockopt), which is read and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
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
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, program.as_raw_fd())
}

/// `SO_DETACH_BPF`.
///
/// # Errors
/// `ENOENT`: it has no filter; what else the kernel says.
pub fn socket_detach(socket: BorrowedFd<'_>) -> Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_DETACH_BPF, 0)
}

/// `SO_ATTACH_REUSEPORT_EBPF`: the program chooses which socket of the group gets a connection or packet.
///
/// # Errors
/// `ENOTSOCK`: it is no socket; `EINVAL`: the program is of another type, or the socket is in no group; what else the
/// kernel says.
pub fn reuseport_attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF, program.as_raw_fd())
}

/// `SO_DETACH_REUSEPORT_BPF`.
///
/// # Errors
/// `ENOENT`: the group has no program; what else the kernel says.
pub fn reuseport_detach(socket: BorrowedFd<'_>) -> Result<()> {
    // include/uapi/asm-generic/socket.h; libc does not have it for every target.
    const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;
    set(socket, libc::SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
}

/// Turns an option of a netlink socket on.
pub(crate) fn set_netlink(socket: BorrowedFd<'_>, option: libc::c_int) -> Result<()> {
    set(socket, libc::SOL_NETLINK, option, 1)
}
