//! Memory that the kernel shares with this process.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ringfence_uapi::MapType;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::fd::MapFd;
use crate::{Result, flags};

/// Pages of a descriptor, mapped as long as this lives.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to no thread; what is done to the memory is up to the owner of this.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself gives no access but by `start`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Shared with the kernel; for writing too, or read-only.
    pub(crate) fn shared(fd: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> Result<Self> {
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        Self::new(fd, offset, len, access, MapFlags::SHARED, std::ptr::null_mut())
    }

    /// A private read-only view of a file.
    pub(crate) fn private(fd: BorrowedFd<'_>, len: usize) -> Result<Self> {
        Self::new(fd, 0, len, ProtFlags::READ, MapFlags::PRIVATE, std::ptr::null_mut())
    }

    fn new(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        access: ProtFlags,
        map_flags: MapFlags,
        at: *mut c_void,
    ) -> Result<Self> {
        // SAFETY: either the kernel chooses the address, or MAP_FIXED_NOREPLACE is among the flags, so no
        // mapping of anyone else's is touched.
        let start = unsafe { rustix::mm::mmap(at, len, access, map_flags, fd, offset)? };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the byte at `offset`, which must lie inside.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.len);
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that was made, and nobody can use it any more. Failure would only leave
        // it mapped.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// What can be consumed by one reader only, as long as this lives and as far as this process goes.
///
/// Records are lent to callers where they lie. A second reader of the same ring would give their room back to the
/// kernel under the first one's hands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
pub(crate) enum Ring {
    /// By the map's id.
    Map(u32),
    /// By the event's id.
    Event(u64),
}

static CONSUMED: Mutex<BTreeSet<Ring>> = Mutex::new(BTreeSet::new());

/// The right to consume a ring.
#[derive(Debug)]
pub(crate) struct Exclusive(Ring);

impl Exclusive {
    /// `EBUSY`: this process has a reader of it.
    pub(crate) fn take(ring: Ring) -> Result<Self> {
        let mut consumed = CONSUMED.lock().unwrap_or_else(PoisonError::into_inner);
        if consumed.insert(ring.clone()) { Ok(Self(ring)) } else { Err(Errno::BUSY) }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        CONSUMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// process_vm_readv(2) or process_vm_writev(2).
type CopyCall = unsafe extern "C" fn(
    libc::pid_t,
    *const libc::iovec,
    libc::c_ulong,
    *const libc::iovec,
    libc::c_ulong,
    libc::c_ulong,
) -> isize;

/// Values of a memory-mapped array (`BPF_F_MMAPABLE`) or the pages of an arena.
///
/// Programs write it at any time, so bytes are only ever copied. A field of 1, 2, 4 or 8 bytes that is
/// aligned in the map is copied in one piece, provided that a read or write begins at a multiple of its size.
#[derive(Debug)]
pub struct MapMemory {
    mapping: Mapping,
    /// Bytes that belong to values.
    len: usize,
    stride: usize,
    writable: bool,
    /// Touching a page that no program has allocated ends the process (`BPF_F_SEGV_ON_FAULT`).
    deadly: bool,
}

impl MapMemory {
    /// Maps all values of a map.
    ///
    /// # Errors
    /// `EINVAL`: it is not memory-mappable; `EPERM`: for writing, and it is frozen or read-only for user
    /// space; what else mmap(2) says.
    pub fn map(map: &MapFd, writable: bool) -> Result<Self> {
        let shape = map.shape();
        let page = rustix::param::page_size();
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let count = shape.max_entries as usize;
        match shape.kind {
            MapType::ARRAY if shape.flags & flags::BPF_F_MMAPABLE != 0 => {
                let stride = shape.value_stride();
                let len = stride.checked_mul(count).ok_or(Errno::OVERFLOW)?;
                let pages = len.checked_next_multiple_of(page).ok_or(Errno::OVERFLOW)?;
                let mapping = Mapping::shared(map.as_fd(), 0, pages, writable)?;
                Ok(Self { mapping, len, stride, writable, deadly: false })
            }
            MapType::ARENA => {
                let len = page.checked_mul(count).ok_or(Errno::OVERFLOW)?;
                let fixed = shape.map_extra != 0;
                let map_flags = if fixed { MapFlags::SHARED | MapFlags::FIXED_NOREPLACE } else { MapFlags::SHARED };
                let at = std::ptr::without_provenance_mut(usize::try_from(shape.map_extra).unwrap_or(0));
                let mapping = Mapping::new(map.as_fd(), 0, len, access, map_flags, at)?;
                let deadly = shape.flags & flags::BPF_F_SEGV_ON_FAULT != 0;
                Ok(Self { mapping, len, stride: page, writable, deadly })
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Bytes of all values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes from one value to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Address of the first byte in this process: an arena's programs hold such addresses.
    pub fn address(&self) -> u64 {
        self.mapping.at(0).addr() as u64
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Errno::RANGE),
        }
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// `ERANGE`: they are not all inside; `EFAULT`: no program has allocated the page, in an arena where only programs do.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        if self.deadly {
            return self.ask_kernel(offset, bytes.as_mut_ptr(), bytes.len(), libc::process_vm_readv);
        }
        let mut from = self.mapping.at(offset);
        let mut rest = bytes;
        if piece(from, rest.len()) == 8 {
            let (words, tail) = rest.as_chunks_mut::<8>();
            for word in words {
                // SAFETY: as below; whoever is aligned to 8 is so 8 bytes on.
                *word = unsafe { AtomicU64::from_ptr(from.cast()).load(Ordering::Relaxed) }.to_ne_bytes();
                from = from.wrapping_add(8);
            }
            rest = tail;
        }
        while !rest.is_empty() {
            let step = piece(from, rest.len());
            // SAFETY: `from` is inside of the mapping with `step` bytes behind it (checked above) and aligned
            // to `step`. All access by this process is atomic; that of programs is the kernel's affair.
            unsafe {
                match step {
                    8 => rest[..8]
                        .copy_from_slice(&AtomicU64::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                    4 => rest[..4]
                        .copy_from_slice(&AtomicU32::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                    _ => rest[0] = AtomicU8::from_ptr(from).load(Ordering::Relaxed),
                }
            }
            from = from.wrapping_add(step);
            rest = &mut rest[step..];
        }
        Ok(())
    }

    /// Lets the kernel copy between the mapping and `bytes`: what would be a signal here is an error there.
    fn ask_kernel(&self, offset: usize, bytes: *mut u8, len: usize, call: CopyCall) -> Result<()> {
        let own = libc::iovec { iov_base: bytes.cast(), iov_len: len };
        let there = libc::iovec { iov_base: self.mapping.at(offset).cast(), iov_len: len };
        // SAFETY: getpid has no conditions.
        let process = unsafe { libc::getpid() };
        // SAFETY: `bytes` has `len` bytes (both callers), which only process_vm_readv writes, and `read` gives it a mutable slice's
        // address. The other side is inside of the mapping (checked by the callers), which no reference points into.
        let done = unsafe { call(process, &own, 1, &there, 1, 0) };
        match usize::try_from(done) {
            Ok(done) if done == len => Ok(()),
            // The pages before the missing one were copied.
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::FAULT)),
        }
    }

    /// The values as words of 8 bytes, each of which is read in one piece: [`MapMemory::stride`] is a multiple of 8. None where
    /// touching them could end the process.
    #[inline]
    pub fn words(&self) -> Words<'_> {
        let len = if self.deadly { 0 } else { self.len };
        // SAFETY: `len` is a multiple of 8 (`map`), and as many bytes are mapped and readable as long as `self` is borrowed;
        // a page is aligned. Everybody in this process reads and writes by atomics; `Words` only loads, so that
        // the mapping may be read-only.
        Words(unsafe { std::slice::from_raw_parts(self.mapping.at(0).cast(), len / 8) })
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// `ERANGE`: they do not all fit; `EPERM`: mapped for reading alone; `EFAULT`: as in [`MapMemory::read`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        if !self.writable {
            return Err(Errno::PERM);
        }
        if self.deadly {
            return self.ask_kernel(offset, bytes.as_ptr().cast_mut(), bytes.len(), libc::process_vm_writev);
        }
        let mut to = self.mapping.at(offset);
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = piece(to, rest.len());
            let (now, later) = rest.split_at(step);
            // SAFETY: as in `read`, and the mapping is writable.
            unsafe {
                match now {
                    [a, b, c, d, e, f, g, h] => AtomicU64::from_ptr(to.cast())
                        .store(u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), Ordering::Relaxed),
                    [a, b, c, d] => {
                        AtomicU32::from_ptr(to.cast()).store(u32::from_ne_bytes([*a, *b, *c, *d]), Ordering::Relaxed)
                    }
                    _ => AtomicU8::from_ptr(to).store(now[0], Ordering::Relaxed),
                }
            }
            to = to.wrapping_add(step);
            rest = later;
        }
        Ok(())
    }
}

/// Words that programs may change at any time.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(&'a [AtomicU64]);

impl Words<'_> {
    /// Copies values out, beginning at this word: as many bytes as `value` is long. `false`: they are not all inside.
    #[inline(always)]
    pub fn read(&self, first: usize, value: &mut [u8]) -> bool {
        let end = first.checked_add(value.len().div_ceil(8));
        let Some(words) = end.and_then(|end| self.0.get(first..end)) else { return false };
        for (bytes, word) in value.chunks_mut(8).zip(words) {
            let word = word.load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        true
    }
}

/// Bytes that can be copied at once.
fn piece(at: *mut u8, left: usize) -> usize {
    if left >= 8 && at.addr().is_multiple_of(8) {
        8
    } else if left >= 4 && at.addr().is_multiple_of(4) {
        4
    } else {
        1
    }
}
