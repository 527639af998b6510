//! The BPF ring buffer, on the consumer's side (kernel/bpf/ringbuf.c).

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use ringfence_uapi::MapType;
use rustix::io::Errno;

use crate::Result;
use crate::fd::MapFd;
use crate::memory::{Exclusive, Mapping, Ring};
use crate::progress::Progress;

/// The record is reserved and not yet submitted.
pub(crate) const BUSY: u32 = 1 << 31;
/// The record was thrown away by its producer.
pub(crate) const DISCARD: u32 = 1 << 30;
/// Bytes before each record.
pub(crate) const HEADER: usize = 8;
/// New records overwrite old ones: a ring without a consumer's position.
const F_RB_OVERWRITE: u32 = 1 << 19;

/// A ring or one of its records is not as the kernel writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingError {
    /// Position, in bytes since the ring was made.
    pub position: usize,
    /// Bytes that the record claims to have, its header included.
    pub claimed: usize,
    /// Bytes that are there.
    pub present: usize,
}

/// What a drain did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Drained {
    /// Records that were handed out.
    pub records: usize,
    /// Nothing was left at the end: whoever waits for the descriptor now will be woken. Else there may be more.
    pub emptied: bool,
}

/// The consumer of a ring buffer. A process has only one at a time, and two processes would take each other's records.
#[derive(Debug)]
pub struct RingConsumer {
    /// One page that we write: our position.
    consumer: Mapping,
    /// One page with the producers' position, then all data twice in a row, so that every record is in one piece.
    producer: Mapping,
    page: usize,
    size: usize,
    _only: Exclusive,
}

impl RingConsumer {
    /// Maps the ring.
    ///
    /// # Errors
    /// `EINVAL`: it is no ring buffer, or one that overwrites; `EBUSY`: this process has a consumer of it; what
    /// else mmap(2) says.
    pub fn map(ring: &MapFd) -> Result<Self> {
        let shape = ring.shape();
        if shape.kind != MapType::RINGBUF || shape.flags & F_RB_OVERWRITE != 0 {
            return Err(Errno::INVAL);
        }
        let page = rustix::param::page_size();
        let size = shape.max_entries as usize;
        let len = size.checked_mul(2).and_then(|twice| twice.checked_add(page)).ok_or(Errno::OVERFLOW)?;
        // The kernel takes no other sizes (ringbuf_map_alloc); `drain` relies on it.
        if !size.is_power_of_two() || size < page {
            return Err(Errno::INVAL);
        }
        let only = Exclusive::take(Ring::Map(shape.id))?;
        let consumer = Mapping::shared(ring.as_fd(), 0, page, true)?;
        let producer = Mapping::shared(ring.as_fd(), page as u64, len, false)?;
        Ok(Self { consumer, producer, page, size, _only: only })
    }

    fn consumer_position(&self) -> &AtomicUsize {
        // SAFETY: the page is mapped and writable as long as `self` lives; every access to it is atomic.
        unsafe { AtomicUsize::from_ptr(self.consumer.at(0).cast()) }
    }

    fn producer_position(&self) -> &AtomicUsize {
        // SAFETY: the page is mapped as long as `self` lives; it is only loaded from here.
        unsafe { AtomicUsize::from_ptr(self.producer.at(0).cast()) }
    }

    /// Bytes of data that it can hold.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that are reserved or submitted and not yet consumed.
    pub fn pending(&self) -> usize {
        let consumer = self.consumer_position().load(Ordering::Acquire);
        self.producer_position().load(Ordering::Acquire).wrapping_sub(consumer)
    }

    /// Hands out at most `max` records, in their order, each as it lies in the ring. `each` may end it; the
    /// record for which it does so counts as consumed, also when it panics. Records that were discarded count
    /// towards `max` and are not handed out.
    ///
    /// Room is given back to the producers in steps of an eighth of the ring and at the end.
    ///
    /// # Errors
    /// A header that points out of what was produced; nothing can be read from then on.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<Drained, RingError> {
        let data = self.producer.at(self.page);
        let (mask, step_back) = (self.size - 1, self.size / 8);
        let consumer = self.consumer_position();
        let mut seen = Progress::new(consumer.load(Ordering::Relaxed), |at| consumer.store(at, Ordering::Release));
        let (mut records, mut left) = (0, max);
        loop {
            let end = self.producer_position().load(Ordering::Acquire);
            let mut present = end.wrapping_sub(seen.position);
            // Every record begins at a multiple of 8: the start is checked here, and each record adds such.
            if present > self.size || !seen.position.is_multiple_of(8) {
                return Err(RingError { position: seen.position, claimed: present, present: self.size });
            }
            while present > 0 {
                if left == 0 {
                    return Ok(Drained { records, emptied: false });
                }
                let at = data.wrapping_add(seen.position & mask);
                // SAFETY: inside of the ring (masked) and aligned (a multiple of 8, checked above).
                let header = unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::Acquire);
                if header & BUSY != 0 {
                    break;
                }
                let len = (header & !(BUSY | DISCARD)) as usize;
                let whole = (len + HEADER).next_multiple_of(8);
                if whole > present {
                    return Err(RingError { position: seen.position, claimed: whole, present });
                }
                // Before `each`, so that a panic in it does not bring the same record again.
                seen.position = seen.position.wrapping_add(whole);
                present -= whole;
                left -= 1;
                if header & DISCARD == 0 {
                    records += 1;
                    // SAFETY: `whole` bytes from a place in the ring, at most the ring's size, lie in the double
                    // mapping. The kernel does not write them until the position has been published, and it is
                    // not while `each` borrows them.
                    let record = unsafe { std::slice::from_raw_parts(at.wrapping_add(HEADER), len) };
                    if each(record).is_break() {
                        return Ok(Drained { records, emptied: false });
                    }
                }
                if seen.position.wrapping_sub(seen.published) >= step_back {
                    seen.publish();
                }
            }
            // The kernel wakes a waiter only when it submits the record at which the consumer stands
            // (bpf_ringbuf_commit). So publish first, and then look once more whether something came before the
            // kernel could see that; the fence keeps the look from going ahead of the publication.
            seen.publish();
            fence(Ordering::SeqCst);
            if !self.ready_at(seen.position) {
                return Ok(Drained { records, emptied: true });
            }
        }
    }

    /// A submitted record begins at this position.
    fn ready_at(&self, position: usize) -> bool {
        if self.producer_position().load(Ordering::Acquire) == position {
            return false;
        }
        let at = self.producer.at(self.page + (position & (self.size - 1)));
        // SAFETY: as in `drain`.
        unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::Acquire) & BUSY == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> usize {
        rustix::param::page_size()
    }

    /// A ring of one page made of a file, in which anything can be written.
    fn ring(id: u32, consumer: usize, producer: usize, words: &[(usize, u32)]) -> RingConsumer {
        let page = page();
        let file = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4 * page as u64).unwrap();
        let write = |at: usize, bytes: &[u8]| assert_eq!(rustix::io::pwrite(&file, bytes, at as u64), Ok(bytes.len()));
        write(0, &consumer.to_ne_bytes());
        write(page, &producer.to_ne_bytes());
        for (at, word) in words {
            // The data twice in a row, as the kernel maps it.
            write(2 * page + at % page, &word.to_ne_bytes());
            write(3 * page + at % page, &word.to_ne_bytes());
        }
        RingConsumer {
            consumer: Mapping::shared(file.as_fd(), 0, page, true).unwrap(),
            producer: Mapping::shared(file.as_fd(), page as u64, 3 * page, false).unwrap(),
            page,
            size: page,
            _only: Exclusive::take(Ring::Map(u32::MAX - id)).unwrap(),
        }
    }

    fn drain(ring: &mut RingConsumer) -> (Result<Drained, RingError>, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let result = ring.drain(usize::MAX, |record| {
            records.push(record.to_vec());
            ControlFlow::Continue(())
        });
        (result, records)
    }

    #[test]
    fn discarded_and_busy_records() {
        let words = [(0, 4), (8, 0x11), (16, DISCARD | 8), (32, 1), (40, 0x22), (48, BUSY | 8)];
        let mut ring = ring(0, 0, 64, &words);
        let (result, records) = drain(&mut ring);
        // The busy one will wake who waits, for the consumer stands at it.
        assert_eq!(result, Ok(Drained { records: 2, emptied: true }));
        assert_eq!(records, [vec![0x11, 0, 0, 0], vec![0x22]]);
        assert_eq!(ring.pending(), 16);
    }

    #[test]
    fn a_record_over_the_end_is_in_one_piece() {
        // Header and 8 bytes before the end, 16 behind it.
        let end = page();
        let start = 4 * end - 16;
        let mut ring = ring(1, start, start + 32, &[(end - 16, 20), (end - 8, 0xa), (end, 0xb), (end + 8, 0xc)]);
        let (result, records) = drain(&mut ring);
        assert_eq!(result, Ok(Drained { records: 1, emptied: true }));
        assert_eq!((records[0].len(), records[0][0], records[0][8], records[0][16]), (20, 0xa, 0xb, 0xc));
        assert_eq!(ring.pending(), 0);
    }

    #[test]
    fn what_the_kernel_never_writes() {
        // A record longer than what was produced; then nothing is consumed.
        let mut long = ring(2, 0, 16, &[(0, 9)]);
        let (result, records) = drain(&mut long);
        assert_eq!(result, Err(RingError { position: 0, claimed: 24, present: 16 }));
        assert_eq!((records.len(), long.pending()), (0, 16));
        let mut longest = ring(3, 0, page(), &[(0, !(BUSY | DISCARD))]);
        assert!(drain(&mut longest).0.is_err());
        // Positions that are further apart than the ring is long, or the wrong way round.
        assert!(drain(&mut ring(4, 0, page() + 8, &[])).0.is_err());
        assert!(drain(&mut ring(5, 64, 0, &[])).0.is_err());
        // Not at a multiple of 8.
        assert!(drain(&mut ring(6, 3, 64, &[])).0.is_err());
    }
}
