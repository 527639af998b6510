//! The user ring buffer, on the producer's side (kernel/bpf/ringbuf.c): user space writes, programs drain.

use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use ringfence_uapi::MapType;
use rustix::io::Errno;

use crate::Result;
use crate::fd::MapFd;
use crate::memory::{Exclusive, Mapping, Ring};
use crate::ring::{BUSY, DISCARD, HEADER};

/// The longest record that a program can read (`DYNPTR_MAX_SIZE`): a longer one would block the ring for good,
/// since every drain ends at it.
const LONGEST: usize = (1 << 24) - 1;

/// The producer of a user ring buffer. A process has only one at a time; two processes would write over each other.
#[derive(Debug)]
pub struct UserRing {
    /// One page that only the kernel writes: how far programs have read.
    consumer: Mapping,
    /// One page with our position, then all data twice in a row, so that every record is in one piece.
    producer: Mapping,
    page: usize,
    size: usize,
    _only: Exclusive,
}

/// Room for a record, where programs will read it. Thrown away unless it is submitted.
#[derive(Debug)]
pub struct UserRecord<'a> {
    ring: &'a UserRing,
    /// Of its header, from the start of the data.
    offset: usize,
    len: usize,
    flags: u32,
}

impl UserRing {
    /// Maps the ring.
    ///
    /// # Errors
    /// `EINVAL`: it is no user ring buffer; `EBUSY`: this process has a producer of it; what else mmap(2) says.
    pub fn map(ring: &MapFd) -> Result<Self> {
        let shape = ring.shape();
        if shape.kind != MapType::USER_RINGBUF {
            return Err(Errno::INVAL);
        }
        let page = rustix::param::page_size();
        let size = shape.max_entries as usize;
        let len = size.checked_mul(2).and_then(|twice| twice.checked_add(page)).ok_or(Errno::OVERFLOW)?;
        // The kernel takes no other sizes (ringbuf_map_alloc); the masks below rely on it.
        if !size.is_power_of_two() || size < page {
            return Err(Errno::INVAL);
        }
        let only = Exclusive::take(Ring::Map(shape.id))?;
        let consumer = Mapping::shared(ring.as_fd(), 0, page, false)?;
        let producer = Mapping::shared(ring.as_fd(), page as u64, len, true)?;
        Ok(Self { consumer, producer, page, size, _only: only })
    }

    fn consumer_position(&self) -> &AtomicUsize {
        // SAFETY: the page is mapped as long as `self` lives; it is only loaded from here.
        unsafe { AtomicUsize::from_ptr(self.consumer.at(0).cast()) }
    }

    fn producer_position(&self) -> &AtomicUsize {
        // SAFETY: the page is mapped and writable as long as `self` lives; every access to it is atomic.
        unsafe { AtomicUsize::from_ptr(self.producer.at(0).cast()) }
    }

    /// The header of the record at this offset, which is a multiple of 8 less than the ring's size.
    fn header(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: inside of the mapped data and aligned; every access to headers is atomic.
        unsafe { AtomicU32::from_ptr(self.producer.at(self.page + (offset & (self.size - 1) & !7)).cast()) }
    }

    /// Bytes of data that it can hold, headers of 8 bytes included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The longest record that it takes.
    pub fn longest(&self) -> usize {
        (self.size - HEADER).min(LONGEST)
    }

    /// Bytes that were written and that no program has read yet.
    pub fn pending(&self) -> usize {
        let consumer = self.consumer_position().load(Ordering::Acquire);
        self.producer_position().load(Ordering::Acquire).wrapping_sub(consumer)
    }

    /// Room for a record of `len` bytes, which hold what was there before; `None`: there is not as much now.
    ///
    /// # Errors
    /// `E2BIG`: longer than [`UserRing::longest`]; `EBADMSG`: somebody else has written nonsense into the ring.
    pub fn reserve(&mut self, len: usize) -> Result<Option<UserRecord<'_>>> {
        if len > self.longest() {
            return Err(Errno::TOOBIG);
        }
        let whole = (len + HEADER).next_multiple_of(8);
        let position = self.producer_position().load(Ordering::Acquire);
        let used = position.wrapping_sub(self.consumer_position().load(Ordering::Acquire));
        if used > self.size || !position.is_multiple_of(8) {
            return Err(Errno::BADMSG);
        }
        if self.size - used < whole {
            return Ok(None);
        }
        let offset = position & (self.size - 1);
        // The header first: programs look at it as soon as the position is past it (__bpf_user_ringbuf_peek).
        self.header(offset).store(len as u32 | BUSY, Ordering::Relaxed);
        self.producer_position().store(position.wrapping_add(whole), Ordering::Release);
        Ok(Some(UserRecord { ring: self, offset, len, flags: DISCARD }))
    }
}

impl UserRecord<'_> {
    /// Hands it over to the programs.
    pub fn submit(mut self) {
        self.flags = 0;
    }

    fn start(&self) -> *mut u8 {
        self.ring.producer.at(self.ring.page + self.offset + HEADER)
    }
}

impl Deref for UserRecord<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as below.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for UserRecord<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: header and record are at most the ring's size (checked by `reserve`) and begin in the first half of the
        // double mapping, which is mapped and writable as long as the ring is borrowed. The kernel neither reads nor writes
        // the record while its header is busy, which it is until this is dropped, and no other record of this
        // process lies there: the ring's positions say so, and they only move on.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for UserRecord<'_> {
    fn drop(&mut self) {
        // Whoever sees the header without the busy bit sees the record.
        self.ring.header(self.offset).store(self.len as u32 | self.flags, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of one page made of a file, in which anything can be written.
    fn ring(id: u32, consumer: usize, producer: usize) -> UserRing {
        let page = rustix::param::page_size();
        let file = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4 * page as u64).unwrap();
        for (at, position) in [(0, consumer), (page, producer)] {
            assert_eq!(rustix::io::pwrite(&file, &position.to_ne_bytes(), at as u64), Ok(8));
        }
        UserRing {
            consumer: Mapping::shared(file.as_fd(), 0, page, false).unwrap(),
            producer: Mapping::shared(file.as_fd(), page as u64, 3 * page, true).unwrap(),
            page,
            size: page,
            _only: Exclusive::take(Ring::Map(u32::MAX / 2 - id)).unwrap(),
        }
    }

    #[test]
    fn headers_say_what_became_of_a_record() {
        let mut ring = ring(0, 0, 0);
        let mut record = ring.reserve(5).unwrap().unwrap();
        record.copy_from_slice(b"hello");
        assert_eq!(record.ring.header(0).load(Ordering::Relaxed), 5 | BUSY);
        record.submit();
        drop(ring.reserve(1).unwrap().unwrap());
        let headers = [0, 16].map(|at| ring.header(at).load(Ordering::Relaxed));
        assert_eq!((headers, ring.pending()), ([5, 1 | DISCARD], 32));
        let longest = ring.longest();
        assert_eq!(ring.reserve(longest + 1).unwrap_err(), Errno::TOOBIG);
        assert_eq!(ring.reserve(usize::MAX).unwrap_err(), Errno::TOOBIG);
        assert!(ring.reserve(longest).unwrap().is_none(), "there is not as much room now");
    }

    #[test]
    fn positions_that_the_kernel_never_writes() {
        let page = rustix::param::page_size();
        assert_eq!(ring(1, 0, page + 8).reserve(1).unwrap_err(), Errno::BADMSG);
        assert_eq!(ring(2, 16, 8).reserve(1).unwrap_err(), Errno::BADMSG);
        assert_eq!(ring(3, 0, 4).reserve(1).unwrap_err(), Errno::BADMSG);
        // The longest record fills it, at whatever place it begins.
        let mut whole = ring(4, 5 * page + 64, 5 * page + 64);
        let longest = whole.longest();
        whole.reserve(longest).unwrap().unwrap().fill(1);
        assert!(whole.reserve(0).unwrap().is_none());
    }
}
