//! Memory that programs and user space share, with pointers in it.

use std::sync::Arc;

use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;
use sys::MapMemory;

use super::{Map, Plain, wrong_view};
use crate::error::{Cause, Kind, Result};

const READING: &str = "reading its memory";
const WRITING: &str = "writing its memory";

/// The memory of an arena (`BPF_MAP_TYPE_ARENA`, since 6.9): pages that programs allocate and fill, at the same addresses
/// for them and for user space.
///
/// Programs write at any time, so bytes are copied in and out. A field of 1, 2, 4 or 8 bytes that is aligned is copied in one piece.
/// A page that no program has allocated holds zeros, and is allocated when it is touched.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let arena = loaded.map("arena")?.arena()?;
/// // A pointer that a program has left in a global variable, and what it points to.
/// let head: u64 = loaded.variable("list_head")?.get()?;
/// let value: u32 = arena.get(arena.offset(head)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Arena {
    map: Map,
    memory: Arc<MapMemory>,
}

impl Arena {
    pub(super) fn new(map: &Map) -> Result<Arena> {
        if map.kind() != MapType::ARENA {
            return Err(wrong_view(map, "arena"));
        }
        let Some(memory) = map.memory() else {
            let cause = Cause::new(Kind::Unsupported, "this process cannot map it where its programs expect it")
                .action("give it an address (map_extra) if another process has made it");
            return Err(map.failed("mapping its memory", cause));
        };
        Ok(Arena { map: map.clone(), memory: memory.clone() })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Bytes of address space that it has.
    #[allow(clippy::len_without_is_empty, reason = "an arena has one page at least")]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Address of its first byte: what programs store as a pointer to it.
    pub fn address(&self) -> u64 {
        self.memory.address()
    }

    /// Where in the arena a pointer leads, in bytes from its start.
    ///
    /// # Errors
    /// It leads elsewhere, or is null.
    pub fn offset(&self, pointer: u64) -> Result<usize> {
        let offset = pointer.checked_sub(self.address()).and_then(|offset| usize::try_from(offset).ok());
        offset.filter(|offset| *offset < self.len()).ok_or_else(|| {
            let (start, len) = (self.address(), self.len());
            self.map.invalid(READING, format!("{pointer:#x} leads out of it: it has {len:#x} bytes at {start:#x}"))
        })
    }

    fn error(&self, step: &'static str, errno: Errno) -> crate::Error {
        let cause = match errno {
            Errno::RANGE => Cause::invalid(format!("that is beyond its end: it has {:#x} bytes", self.len())),
            Errno::FAULT => Cause::invalid("no program has allocated that page (BPF_F_SEGV_ON_FAULT)"),
            _ => return self.map.error(step, errno),
        };
        self.map.failed(step, cause.errno(errno))
    }

    /// Copies bytes out, from this offset on.
    ///
    /// # Errors
    /// They are not all inside.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(offset, bytes).map_err(|errno| self.error(READING, errno))
    }

    /// Copies bytes in, from this offset on.
    ///
    /// # Errors
    /// They do not all fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.memory.write(offset, bytes).map_err(|errno| self.error(WRITING, errno))
    }

    /// The value at this offset.
    ///
    /// # Errors
    /// As [`Arena::read`].
    pub fn get<T: Plain>(&self, offset: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes the value at this offset.
    ///
    /// # Errors
    /// As [`Arena::write`].
    pub fn set<T: Plain>(&self, offset: usize, value: &T) -> Result<()> {
        self.write(offset, value.as_bytes())
    }
}
