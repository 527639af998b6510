//! A ring buffer read as directly as can be: what every library is measured against.
//!
//! It does what `Documentation/bpf/ringbuf.rst` asks of a reader and no more: no waiting, no error handling.

use anyhow::{Result, ensure};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// A mapped ring.
pub struct Bare {
    consumer: NonNull<AtomicU64>,
    producer: NonNull<AtomicU64>,
    data: NonNull<u8>,
    mask: usize,
}

fn map(ring: BorrowedFd<'_>, size: usize, protection: i32, offset: usize) -> Result<NonNull<u8>> {
    // SAFETY: a new shared mapping at a place that the kernel chooses; nothing else lives there.
    let place = unsafe {
        libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, ring.as_raw_fd(), offset as libc::off_t)
    };
    ensure!(place != libc::MAP_FAILED, "mmap of the ring: {}", std::io::Error::last_os_error());
    Ok(NonNull::new(place.cast()).expect("mmap gives no null"))
}

impl Bare {
    /// Maps a ring of `size` bytes. Stays mapped until the process ends.
    pub fn open(ring: BorrowedFd<'_>, size: usize) -> Result<Bare> {
        // SAFETY: no memory is involved.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let consumer = map(ring, page, libc::PROT_READ | libc::PROT_WRITE, 0)?.cast();
        // The data follows the producer's page twice, so that no record is in two pieces.
        let producer = map(ring, page + 2 * size, libc::PROT_READ, page)?;
        // SAFETY: the mapping is that large.
        let data = unsafe { producer.add(page) };
        Ok(Bare { consumer, producer: producer.cast(), data, mask: size - 1 })
    }

    /// Hands out every record that is there.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) {
        // SAFETY: both positions are in pages that stay mapped; the kernel, too, takes them as atomic words.
        let (consumer, producer) = unsafe { (self.consumer.as_ref(), self.producer.as_ref()) };
        let mut at = consumer.load(Ordering::Relaxed);
        let end = producer.load(Ordering::Acquire);
        while at < end {
            // SAFETY: a position that the kernel has passed, within the ring; headers are aligned to 8 bytes.
            let header = unsafe { self.data.add(at as usize & self.mask) };
            // SAFETY: as above; the kernel clears the busy bit with release semantics.
            let length = unsafe { header.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if length & BUSY != 0 {
                return;
            }
            let size = (length & !DISCARDED) as usize;
            if length & DISCARDED == 0 {
                // SAFETY: a committed record of that size follows its header, in one piece thanks to the second mapping.
                each(unsafe { std::slice::from_raw_parts(header.add(HEADER).as_ptr(), size) });
            }
            at += (size + HEADER).next_multiple_of(8) as u64;
            consumer.store(at, Ordering::Release);
        }
    }
}
