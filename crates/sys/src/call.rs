//! The system calls themselves.

use std::os::fd::{FromRawFd, OwnedFd};

use ringfence_uapi::Command;
use rustix::io::Errno;

use crate::Result;
use crate::attr::Plain;

/// bpf(2).
///
/// # Safety
/// Addresses in `attr` must be valid for what `command` reads and writes through them, with the sizes
/// that stand beside them in `attr` or that belong to the file descriptors in it.
pub(crate) unsafe fn bpf<T: Plain>(command: Command, attr: &mut T) -> Result<u32> {
    // A structure longer than a kernel knows is fine as long as the rest is zero (bpf_check_uarg_tail_zero).
    // SAFETY: `attr` is valid for reads and writes of its size; the rest is what the caller promises.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command.0 as libc::c_ulong, std::ptr::from_mut(attr), size_of::<T>()) };
    check(result)
}

/// bpf(2) for a command that gives back a new file descriptor.
///
/// # Safety
/// As [`bpf`], and `command` must be one that gives back a new file descriptor.
pub(crate) unsafe fn bpf_fd<T: Plain>(command: Command, attr: &mut T) -> Result<OwnedFd> {
    // SAFETY: passed on.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) })
}

/// What a system call returned, as a `Result`.
pub(crate) fn check(result: libc::c_long) -> Result<u32> {
    if result < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        return Err(Errno::from_raw_os_error(errno));
    }
    // File descriptors and counts fit in 31 bits.
    u32::try_from(result).map_err(|_| Errno::OVERFLOW)
}

/// Address of what a slice holds; null when it is empty, because some commands refuse any other.
pub(crate) fn address<T>(slice: &[T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_ptr().expose_provenance() as u64 }
}

/// As [`address`], for what the kernel writes.
pub(crate) fn address_mut<T>(slice: &mut [T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_mut_ptr().expose_provenance() as u64 }
}

/// Length for a 32-bit field.
pub(crate) fn length(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| Errno::TOOBIG)
}

/// A name for the kernel: at most 15 bytes and none of them zero.
pub(crate) fn object_name(name: &str) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    if name.len() >= bytes.len() || name.contains('\0') {
        return Err(Errno::NAMETOOLONG);
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

/// A text that the kernel wrote into a field, up to the first zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
