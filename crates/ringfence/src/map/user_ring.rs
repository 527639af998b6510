//! Records from user space to programs.

use std::time::{Duration, Instant};

use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;
use sys::UserRecord;
use zerocopy::{Immutable, IntoBytes};

use super::{Map, wrong_view};
use crate::error::{Cause, Kind, Result};

const WRITING: &str = "writing a record";
/// A program may drain without a wake-up (`BPF_RB_NO_WAKEUP`): who waits looks by itself this often.
const LOOK: Duration = Duration::from_millis(100);

/// The writing end of a user ring buffer (`BPF_MAP_TYPE_USER_RINGBUF`, since 6.1): records that programs drain with
/// `bpf_user_ringbuf_drain`. A process has only one for each map.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let mut commands = loaded.map("commands")?.user_ring()?;
/// commands.send(&[1u32, 2])?; // a copy
/// // Or in its place, and waiting for room:
/// if let Some(mut record) = commands.reserve_within(16, Some(Duration::from_secs(1)))? {
///     record.fill(7);
///     record.submit(); // else it is thrown away
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UserRing {
    map: Map,
    ring: sys::UserRing,
    epoll: sys::Epoll,
}

impl UserRing {
    pub(super) fn new(map: &Map) -> Result<UserRing> {
        let step = "mapping its buffer";
        if map.kind() != MapType::USER_RINGBUF {
            return Err(wrong_view(map, "user_ring"));
        }
        let ring = sys::UserRing::map(map.fd()).map_err(|errno| match errno {
            Errno::BUSY => {
                let cause = Cause::new(Kind::Io, "another writer has it: a user ring buffer can only have one");
                map.failed(step, cause.errno(errno))
            }
            _ => map.error(step, errno),
        })?;
        let epoll = sys::Epoll::new().map_err(|errno| map.error(step, errno))?;
        epoll.add_writable(map.borrowed(), 0).map_err(|errno| map.error(step, errno))?;
        Ok(UserRing { map: map.clone(), ring, epoll })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Bytes that were written and that no program has read yet, 8 more for each record.
    pub fn pending(&self) -> usize {
        self.ring.pending()
    }

    /// Room for a record of `len` bytes, which hold what was there before; `None`: there is not as much now. Programs see it in
    /// its place once it is submitted; those behind it have to wait for that.
    ///
    /// # Errors
    /// It is longer than the ring, or than the 16 MiB that a program can read.
    pub fn reserve(&mut self, len: usize) -> Result<Option<UserRecord<'_>>> {
        let longest = self.ring.longest();
        let map = &self.map;
        self.ring.reserve(len).map_err(|errno| {
            let cause = match errno {
                Errno::TOOBIG => {
                    Cause::invalid(format!("a record of {len} bytes is too long: this ring takes {longest}"))
                        .action("make max_entries larger, or the record shorter")
                }
                Errno::BADMSG => {
                    Cause::new(Kind::Io, "its buffer is damaged").action("something else has written to it")
                }
                _ => return map.error(WRITING, errno),
            };
            map.failed(WRITING, cause.errno(errno))
        })
    }

    /// As [`UserRing::reserve`], and waits for programs to make room: at most this long (`None`: without end). `None`: the
    /// time is over.
    ///
    /// # Errors
    /// As [`UserRing::reserve`].
    pub fn reserve_within(&mut self, len: usize, timeout: Option<Duration>) -> Result<Option<UserRecord<'_>>> {
        let end = timeout.and_then(|time| Instant::now().checked_add(time));
        let mut ready = Vec::new();
        loop {
            // Looked at before it is borrowed for good: room only grows, since nobody else writes.
            if self.reserve_is_possible(len) {
                return self.reserve(len);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return self.reserve(len);
            }
            match self.epoll.wait(&mut ready, Some(left.map_or(LOOK, |left| left.min(LOOK)))) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.map.error(WRITING, errno)),
            }
        }
    }

    /// There is room, or it is an error.
    fn reserve_is_possible(&self, len: usize) -> bool {
        let whole = len.saturating_add(8).next_multiple_of(8);
        len > self.ring.longest() || self.ring.size().saturating_sub(self.ring.pending()) >= whole
    }

    /// Writes a record. `false`: there is no room for it now.
    ///
    /// # Errors
    /// As [`UserRing::reserve`].
    pub fn send<T: IntoBytes + Immutable + ?Sized>(&mut self, record: &T) -> Result<bool> {
        let bytes = record.as_bytes();
        let Some(mut room) = self.reserve(bytes.len())? else { return Ok(false) };
        room.copy_from_slice(bytes);
        room.submit();
        Ok(true)
    }
}
