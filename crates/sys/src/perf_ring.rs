//! The ring of a perf event (kernel/events/ring_buffer.c), and the records that BPF programs write to it.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::Result;
use crate::attr::Layout;
use crate::memory::Mapping;
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

/// The ring of one event, for reading.
#[derive(Debug)]
pub struct PerfRing {
    mapping: Mapping,
    page: usize,
    size: usize,
    /// For records that wrap around the end.
    scratch: Vec<u8>,
}

impl PerfRing {
    /// Maps a ring of `pages` pages (a power of two).
    ///
    /// # Errors
    /// `EINVAL`: not a power of two; `EPERM`: more than `perf_event_mlock_kb` and RLIMIT_MEMLOCK allow; what
    /// else mmap(2) says.
    pub fn map(event: BorrowedFd<'_>, pages: usize) -> Result<Self> {
        if !pages.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        let page = rustix::param::page_size();
        let size = pages.checked_mul(page).ok_or(Errno::OVERFLOW)?;
        let mapping = Mapping::shared(event, 0, size.checked_add(page).ok_or(Errno::OVERFLOW)?, true)?;
        Ok(Self { mapping, page, size, scratch: Vec::new() })
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
        let start = self.word(TAIL_OFFSET).load(Ordering::Relaxed);
        let mut seen = Progress { shared: self.word(TAIL_OFFSET), position: start, published: start };
        let mut records = 0;
        loop {
            let end = self.word(HEAD_OFFSET).load(Ordering::Acquire);
            let mut present = usize::try_from(end.wrapping_sub(seen.position)).unwrap_or(usize::MAX);
            let position = seen.position as usize;
            if present > self.size {
                return Err(RingError { position, claimed: present, present: self.size });
            }
            if present == 0 {
                return Ok(Drained { records, emptied: true });
            }
            while present > 0 {
                if records == max {
                    return Ok(Drained { records, emptied: false });
                }
                let place = seen.position as usize & mask;
                let position = seen.position as usize;
                // Records are multiples of 8 bytes (perf_output_begin), so a header never wraps.
                if present < HEADER || !place.is_multiple_of(8) {
                    return Err(RingError { position, claimed: HEADER, present });
                }
                // SAFETY: 8 aligned bytes inside of the ring, which the kernel does not write until the tail
                // has been moved past them.
                let header = unsafe { std::slice::from_raw_parts(data.wrapping_add(place), HEADER) };
                let &[k0, k1, k2, k3, m0, m1, s0, s1] = header else {
                    return Err(RingError { position, claimed: HEADER, present });
                };
                let size = usize::from(u16::from_ne_bytes([s0, s1]));
                if size < HEADER || size > present {
                    return Err(RingError { position, claimed: size, present });
                }
                seen.position = seen.position.wrapping_add(size as u64);
                present -= size;
                records += 1;
                let before_end = (self.size - place).min(size);
                // SAFETY: `before_end` bytes from `place` on are inside of the ring, and the kernel does not
                // write them before the tail is moved, which happens when `each` has returned.
                let first = unsafe { std::slice::from_raw_parts(data.wrapping_add(place), before_end) };
                let whole = if before_end == size {
                    first
                } else {
                    // SAFETY: as above; the rest is at the start of the ring and shorter than it.
                    let second = unsafe { std::slice::from_raw_parts(data, size - before_end) };
                    scratch.clear();
                    scratch.extend_from_slice(first);
                    scratch.extend_from_slice(second);
                    &*scratch
                };
                let record = PerfRecord {
                    kind: u32::from_ne_bytes([k0, k1, k2, k3]),
                    misc: u16::from_ne_bytes([m0, m1]),
                    body: &whole[HEADER..],
                };
                if each(record).is_break() {
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

/// Where the reader stands; tells the kernel at the latest when dropped.
struct Progress<'a> {
    shared: &'a AtomicU64,
    position: u64,
    published: u64,
}

impl Progress<'_> {
    fn publish(&mut self) {
        if self.published != self.position {
            self.shared.store(self.position, Ordering::Release);
            self.published = self.position;
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}
