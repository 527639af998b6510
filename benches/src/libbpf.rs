//! libbpf's reader of ring buffers, as C calls it.

use crate::first_word;
use anyhow::{Result, ensure};
use libbpf_sys as sys;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

struct State {
    count: u32,
    sum: u64,
}

unsafe extern "C" fn record(state: *mut c_void, data: *mut c_void, size: sys::size_t) -> c_int {
    // SAFETY: libbpf hands back the pointer that `Ring::open` gave it, to the state that the ring owns; `data` is a
    // record of `size` bytes for as long as this call runs.
    let (state, data) =
        unsafe { (&mut *state.cast::<State>(), std::slice::from_raw_parts(data.cast::<u8>(), size as usize)) };
    state.count += 1;
    state.sum += first_word(data);
    0
}

/// A reader of one ring.
pub struct Ring {
    reader: NonNull<sys::ring_buffer>,
    state: NonNull<State>,
}

impl Ring {
    /// Reads that ring, and adds up the records' first words.
    pub fn open(ring: BorrowedFd<'_>) -> Result<Ring> {
        let state = NonNull::from(Box::leak(Box::new(State { count: 0, sum: 0 })));
        // SAFETY: the callback has the right signature, the state outlives the reader.
        let reader =
            unsafe { sys::ring_buffer__new(ring.as_raw_fd(), Some(record), state.as_ptr().cast(), ptr::null()) };
        ensure!(!reader.is_null(), "ring_buffer__new: {}", std::io::Error::last_os_error());
        Ok(Ring { reader: NonNull::new(reader).expect("checked"), state })
    }

    /// Hands out what is there.
    pub fn consume(&mut self) -> Result<()> {
        // SAFETY: the reader is open.
        let count = unsafe { sys::ring_buffer__consume(self.reader.as_ptr()) };
        ensure!(count >= 0, "ring_buffer__consume: {count}");
        Ok(())
    }

    /// Begins to count anew.
    pub fn reset(&mut self) {
        // SAFETY: only `record` uses the state, during `consume`.
        let state = unsafe { self.state.as_mut() };
        (state.count, state.sum) = (0, 0);
    }

    /// Records since [`Ring::reset`].
    pub fn count(&self) -> u32 {
        // SAFETY: as in `reset`.
        unsafe { self.state.as_ref() }.count
    }

    /// Sum since [`Ring::reset`].
    pub fn sum(&self) -> u64 {
        // SAFETY: as in `reset`.
        unsafe { self.state.as_ref() }.sum
    }
}
