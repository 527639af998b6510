//! Arrays in memory: values that need no system call.

use std::sync::{Arc, PoisonError};

use ringfence_sys as sys;
use ringfence_uapi::MapType;
use sys::MapMemory;

use super::Map;

impl Map {
    /// The values in memory, for reading; an arena's memory, for both. `None`: this map cannot be mapped.
    pub(crate) fn memory(&self) -> Option<&Arc<MapMemory>> {
        let memory = || MapMemory::map(self.fd(), self.kind() == MapType::ARENA).ok().map(Arc::new);
        self.0.memory.get_or_init(memory).as_ref()
    }

    /// Maps an arena for good: its address is fixed when it is first mapped, and nothing else may come to lie there.
    pub(crate) fn hold_memory(&self) -> sys::Result<&MapMemory> {
        let memory = Arc::new(MapMemory::map(self.fd(), true)?);
        self.0.memory.get_or_init(|| Some(memory)).as_deref().ok_or(sys::Errno::BUSY)
    }

    /// Writes values in memory; `None`: this map cannot be mapped for writing (it is frozen, or not mappable at all).
    ///
    /// Apart from the mapping for reading, because the kernel freezes no map that anybody can write by memory (`map_freeze`).
    pub(super) fn write_memory(&self, offset: usize, bytes: &[u8]) -> Option<sys::Result<()>> {
        if self.kind() == MapType::ARENA {
            return self.memory().map(|memory| memory.write(offset, bytes));
        }
        let known = |known: &Option<Option<MapMemory>>| {
            known.as_ref().map(|memory| memory.as_ref().map(|memory| memory.write(offset, bytes)))
        };
        if let Some(done) = known(&self.0.writable.read().unwrap_or_else(PoisonError::into_inner)) {
            return done;
        }
        let mut writable = self.0.writable.write().unwrap_or_else(PoisonError::into_inner);
        writable.get_or_insert_with(|| MapMemory::map(self.fd(), true).ok());
        known(&writable).flatten()
    }

    /// Gives up the mapping for writing, so that the map can be frozen.
    pub(super) fn unmap_writable(&self) {
        *self.0.writable.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Copies the values of `count` indexes from `first` on into `values`, one after another without gaps.
    pub(super) fn copy_values(&self, first: usize, count: usize, values: &mut [u8]) -> sys::Result<()> {
        let memory = self.memory().ok_or(sys::Errno::OPNOTSUPP)?;
        let (size, stride) = (self.value_size() as usize, memory.stride());
        if size == stride {
            return memory.read(first * stride, &mut values[..count * size]);
        }
        let places = values.chunks_exact_mut(size).take(count);
        places.zip(first..).try_for_each(|(place, index)| memory.read(index * stride, place))
    }
}
