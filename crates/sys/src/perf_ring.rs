//! The ring of a perf event (kernel/events/ring_buffer.c), and the records that BPF programs write to it.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::Result;
use crate::attr::Layout;
use crate::memory::{Exclusive, Mapping, Ring};
use crate::progress::Progress;
use crate::ring::{Drained, RingError};

/// `data_head`, `data_tail` of `struct perf_event_mmap_page`.
const HEAD_OFFSET: usize = 1024;
const TAIL_OFFSET: usize = 1032;
#[doc(hidden)]
pub(crate) const PAGE_LAYOUT: Layout = Layout {
    root: "perf_event_mmap_page",
    path: "",
    base: 0,
    fields: &[("data_head", HEAD_OFFSET, 8), ("data_tail", TAIL_OFFSET, 8)],
};
/// `struct perf_event_header`.
const HEADER: usize = 8;

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct PerfRecord<'a> {
    /// `PERF_RECORD_*`.
    pub kind: u32,
    /// `PERF_RECORD_MISC_*`.
    pub misc: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> PerfRecord<'a> {
    /// Records were lost.
    pub const LOST: u32 = 2;
    /// A sample.
    pub const SAMPLE: u32 = 9;

    /// What a program gave to `bpf_perf_event_output`, on an event with `PERF_SAMPLE_RAW` alone. The kernel pads
    /// it with up to 7 bytes.
    pub fn raw(&self) -> Option<&'a [u8]> {
        if self.kind != Self::SAMPLE {
            return None;
        }
        let (len, rest) = self.body.split_first_chunk::<4>()?;
        rest.get(..u32::from_ne_bytes(*len) as usize)
    }

    /// How many records were lost here.
    pub fn lost(&self) -> Option<u64> {
        if self.kind != Self::LOST {
            return None;
        }
        // An id, then the number.
        self.body.get(8..)?.first_chunk().map(|count| u64::from_ne_bytes(*count))
    }
}

/// The ring of one event, for reading. A process has only one reader of it at a time.
#[derive(Debug)]
pub struct PerfRing {
    mapping: Mapping,
    page: usize,
    size: usize,
    /// For records that wrap around the end.
    scratch: Vec<u8>,
    _only: Exclusive,
}

impl PerfRing {
    /// Maps a ring of `pages` pages (a power of two).
    ///
    /// # Errors
    /// `EINVAL`: not a power of two, or no event; `EBUSY`: this process has a reader of it; `EPERM`: more than `perf_event_mlock_kb` and RLIMIT_MEMLOCK allow; what
    /// else mmap(2) says.
    pub fn map(event: BorrowedFd<'_>, pages: usize) -> Result<Self> {
        if !pages.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        let page = rustix::param::page_size();
        let size = pages.checked_mul(page).ok_or(Errno::OVERFLOW)?;
        let only = Exclusive::take(Ring::Event(crate::perf::perf_event_id(event)?))?;
        let mapping = Mapping::shared(event, 0, size.checked_add(page).ok_or(Errno::OVERFLOW)?, true)?;
        Ok(Self { mapping, page, size, scratch: Vec::new(), _only: only })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self` lives, and every access to the word is atomic.
        unsafe { AtomicU64::from_ptr(self.mapping.at(offset).cast()) }
    }

    /// Bytes of data that it can hold.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that are not yet consumed.
    pub fn pending(&self) -> u64 {
        let tail = self.word(TAIL_OFFSET).load(Ordering::Relaxed);
        self.word(HEAD_OFFSET).load(Ordering::Acquire).wrapping_sub(tail)
    }

    /// Hands out at most `max` records, in their order. `each` may end it; the record for which it does so
    /// counts as consumed, also when it panics. A record that wraps around is copied first.
    ///
    /// Room is given back to the kernel in steps of an eighth of the ring and at the end.
    ///
    /// # Errors
    /// A header that points out of what was produced; nothing can be read from then on.
    pub fn drain(
        &mut self,
        max: usize,
        mut each: impl FnMut(PerfRecord<'_>) -> ControlFlow<()>,
    ) -> Result<Drained, RingError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.drain_with(max, &mut scratch, &mut each);
        self.scratch = scratch;
        result
    }

    fn drain_with(
        &self,
        max: usize,
        scratch: &mut Vec<u8>,
        each: &mut impl FnMut(PerfRecord<'_>) -> ControlFlow<()>,
    ) -> Result<Drained, RingError> {
        let data = self.mapping.at(self.page);
        let (mask, step_back) = (self.size - 1, self.size as u64 / 8);
        let tail = self.word(TAIL_OFFSET);
        let mut seen = Progress::new(tail.load(Ordering::Relaxed), |at| tail.store(at, Ordering::Release));
        let mut records = 0;
        loop {
            let end = self.word(HEAD_OFFSET).load(Ordering::Acquire);
            let mut present = usize::try_from(end.wrapping_sub(seen.position)).unwrap_or(usize::MAX);
            let broken = |position: u64, claimed, present| RingError { position: position as usize, claimed, present };
            // Records begin at multiples of 8 (perf_output_begin): the start is checked here, and each record adds such.
            if present > self.size || !seen.position.is_multiple_of(8) {
                return Err(broken(seen.position, present, self.size));
            }
            if present == 0 {
                return Ok(Drained { records, emptied: true });
            }
            while present > 0 {
                if records == max {
                    return Ok(Drained { records, emptied: false });
                }
                let place = seen.position as usize & mask;
                let at = data.wrapping_add(place);
                // SAFETY: `struct perf_event_header`, 8 aligned bytes inside of the ring, whose size is a multiple of
                // 8; the kernel does not write them until the tail has been moved past them.
                let (kind, misc, size) = unsafe {
                    (at.cast::<u32>().read(), at.add(4).cast::<u16>().read(), at.add(6).cast::<u16>().read())
                };
                let size = usize::from(size);
                if size < HEADER || size > present || !size.is_multiple_of(8) {
                    return Err(broken(seen.position, size, present));
                }
                seen.position = seen.position.wrapping_add(size as u64);
                present -= size;
                records += 1;
                let body = if place + size <= self.size {
                    // SAFETY: `size` bytes from `place` on are inside of the ring, and the kernel does not write
                    // them before the tail is moved, which happens when `each` has returned.
                    unsafe { std::slice::from_raw_parts(at.wrapping_add(HEADER), size - HEADER) }
                } else {
                    // SAFETY: as above, for the part up to the ring's end and the rest at its start.
                    let (first, second) = unsafe {
                        let first = self.size - place;
                        (
                            std::slice::from_raw_parts(at.wrapping_add(HEADER), first - HEADER),
                            std::slice::from_raw_parts(data, size - first),
                        )
                    };
                    join(first, second, scratch)
                };
                if each(PerfRecord { kind, misc, body }).is_break() {
                    return Ok(Drained { records, emptied: false });
                }
                if seen.position.wrapping_sub(seen.published) >= step_back {
                    seen.publish();
                }
            }
            seen.publish();
        }
    }
}

#[cold]
fn join<'a>(first: &[u8], second: &[u8], into: &'a mut Vec<u8>) -> &'a [u8] {
    into.clear();
    into.extend_from_slice(first);
    into.extend_from_slice(second);
    into
}
