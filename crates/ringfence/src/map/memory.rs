//! Arrays in memory: values that need no system call.

use ringfence_sys as sys;
use sys::MapMemory;

use super::Map;

impl Map {
    /// The values in memory, for reading; `None`: this map cannot be mapped.
    pub(crate) fn memory(&self) -> Option<&MapMemory> {
        self.0.memory.get_or_init(|| MapMemory::map(self.fd(), false).ok()).as_ref()
    }

    /// The values in memory, for writing; `None`: this map cannot be mapped so (it is frozen, or not mappable at all).
    ///
    /// Apart from the one for reading, because the kernel freezes no map that anybody can write by memory (`map_freeze`).
    pub(super) fn writable_memory(&self) -> Option<&MapMemory> {
        self.0.writable.get_or_init(|| MapMemory::map(self.fd(), true).ok()).as_ref()
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
