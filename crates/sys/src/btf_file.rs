//! BTF that the kernel shows as files.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Result;
use crate::memory::Mapping;

/// Bytes with an owner of any kind.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// `SYSFS_MAGIC` of `include/uapi/linux/magic.h`.
const SYSFS_MAGIC: u64 = 0x6265_6572;

struct MappedFile(Mapping);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the pages are mapped as long as `self` lives, and are those of the kernel's own BTF, which
        // nobody ever writes (btf_sysfs_vmlinux_mmap refuses all but private read-only mappings).
        unsafe { std::slice::from_raw_parts(self.0.at(0), self.0.len()) }
    }
}

/// What `/sys/kernel/btf/NAME` holds: `vmlinux`, or the part that a module adds. Mapped where the kernel
/// can do that (6.16, `vmlinux` alone), else read.
///
/// # Errors
/// `ENOENT`: no such file; `EINVAL`: this is no name.
pub fn kernel_btf(name: &str) -> Result<Bytes> {
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(Errno::INVAL);
    }
    let path = format!("/sys/kernel/btf/{name}");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let len = usize::try_from(rustix::fs::fstat(&file)?.st_size).map_err(|_| Errno::OVERFLOW)?;
    // Another file system, mounted over this place, might let its files change under the mapping.
    let is_sysfs = rustix::fs::fstatfs(&file)?.f_type as u64 == SYSFS_MAGIC;
    if is_sysfs
        && len > 0
        && let Ok(mapping) = Mapping::private(file.as_fd(), len)
    {
        return Ok(Arc::new(MappedFile(mapping)));
    }
    let mut bytes = Vec::with_capacity(len);
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(Arc::new(bytes))
}
