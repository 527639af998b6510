//! File descriptors that say what they are.
//!
//! `BPF_OBJ_GET_INFO_BY_FD` reads and writes a structure that depends on what the descriptor is, with
//! addresses in it. So those calls only take descriptors whose kind is certain.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::Result;
use crate::map::MapShape;

/// What `/proc/self/fd/N` says of a descriptor: `anon_inode:bpf-map`.
fn kind_of(fd: BorrowedFd<'_>) -> Result<String> {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(link.to_string_lossy().into_owned())
}

macro_rules! typed_fd {
    ($(#[$doc:meta])* $name:ident, $($kind:literal)|+) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(OwnedFd);

        impl $name {
            /// For descriptors that the kernel has just made for a command that makes nothing else.
            pub(crate) fn new(fd: OwnedFd) -> Self {
                Self(fd)
            }

            /// Another descriptor of the same thing.
            ///
            /// # Errors
            /// No descriptors left.
            pub fn try_clone(&self) -> Result<Self> {
                Ok(Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 3)?))
            }
        }

        impl TryFrom<OwnedFd> for $name {
            type Error = Errno;

            /// Takes a descriptor that came from elsewhere (a pin, another process), after a look at
            /// `/proc/self/fd`. `EBADF`: it is something else.
            fn try_from(fd: OwnedFd) -> Result<Self> {
                match kind_of(fd.as_fd())?.as_str() {
                    $(concat!("anon_inode:", $kind))|+ => Ok(Self(fd)),
                    _ => Err(Errno::BADF),
                }
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl From<$name> for OwnedFd {
            fn from(fd: $name) -> OwnedFd {
                fd.0
            }
        }
    };
}

typed_fd! {
    /// A loaded program.
    ProgramFd, "bpf-prog"
}
typed_fd! {
    /// A link: it keeps a program attached.
    LinkFd, "bpf_link" | "bpf-link"
}
typed_fd! {
    /// Loaded BTF, ours or the kernel's.
    BtfFd, "btf"
}
typed_fd! {
    /// A token: rights that a bpffs delegates.
    TokenFd, "bpf-token"
}

/// A map, and the sizes that the kernel itself has told of it.
#[derive(Debug)]
pub struct MapFd {
    fd: OwnedFd,
    shape: MapShape,
}

impl MapFd {
    /// For descriptors that the kernel has just made for a command that makes nothing else.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        let shape = MapShape::of(fd.as_fd())?;
        Ok(Self { fd, shape })
    }

    /// Its kind and sizes.
    pub fn shape(&self) -> &MapShape {
        &self.shape
    }

    /// Another descriptor of the same map.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)?, shape: self.shape })
    }
}

impl TryFrom<OwnedFd> for MapFd {
    type Error = Errno;

    /// Takes a descriptor that came from elsewhere. `EBADF`: it is no map.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        if kind_of(fd.as_fd())? != "anon_inode:bpf-map" {
            return Err(Errno::BADF);
        }
        Self::new(fd)
    }
}

impl AsFd for MapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<MapFd> for OwnedFd {
    fn from(fd: MapFd) -> OwnedFd {
        fd.fd
    }
}
