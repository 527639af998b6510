//! Every entry of a map, by the quickest way that the kernel has for its kind.

use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;

use super::{Map, no_batch};
use crate::error::Result;

/// Bytes of keys and values that one batch asks for. Measured: from here on a larger one gains nothing.
const BUDGET: usize = 4 << 20;
/// Bytes that are copied out of memory at once.
const NEAR: usize = 32 << 10;
/// A batch of a hash map must have room for one whole bucket: begin with at least this many.
const FEWEST: usize = 64;
/// Empty batches in a row before the walk goes on key by key: the kernel found its place deleted again and again.
const PATIENCE: u32 = 16;

/// Every entry of a map: keys and values by bytes, lent one after another.
///
/// It always ends, also while programs write all the time, and it never holds them up. What is in the map from the start
/// to the end of the walk is given at least once; what comes or goes meanwhile may be given or not. By kind:
///
/// - Arrays that are memory-mapped (`BPF_F_MMAPABLE`) are read from memory, without system calls.
/// - Hash maps are read in batches, bucket by bucket. The buckets are passed once, in order, so the walk ends, and an entry that stays is given
///   exactly once.
/// - Other kinds are read in batches or key by key. Where a program deletes the very key at which the walk stands, the kernel goes back
///   to the first key: then entries come twice, and the walk ends after as many as the map can hold.
///
/// ```no_run
/// # fn show(map: &ringfence::Map) -> Result<(), ringfence::Error> {
/// let mut entries = map.entries()?;
/// while let Some((key, value)) = entries.next()? {
///     println!("{key:?} {value:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Entries {
    map: Map,
    way: Way,
    /// Entries are taken out.
    take: bool,
    key_size: usize,
    value_bytes: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Entries in the buffers, and those of them that were given.
    count: usize,
    given: usize,
    /// The most that are still given, where the kernel may go back.
    left: Option<usize>,
    calls: u64,
}

#[derive(Debug)]
enum Way {
    /// From memory: the next index.
    Memory(usize),
    Batch {
        position: sys::BatchPosition,
        empty: u32,
    },
    /// Key by key: `None` before the first.
    Keys(Option<Vec<u8>>),
    Done,
}

impl Entries {
    pub(super) fn new(map: &Map, take: bool) -> Result<Entries> {
        let (key_size, value_bytes) = (map.key_size() as usize, map.value_bytes()?);
        if key_size == 0 || value_bytes == 0 {
            return Err(map.invalid(
                "reading its entries",
                format!("maps of the kind {} have no keys to go through", map.kind()),
            ));
        }
        if take && matches!(map.kind(), MapType::ARRAY | MapType::PERCPU_ARRAY) {
            return Err(map.invalid("taking its entries out", "arrays keep their entries"));
        }
        let way = match map.kind() {
            MapType::ARRAY if map.memory().is_some() => Way::Memory(0),
            // What these hold is put in by file descriptor, and many slots are empty.
            MapType::PROG_ARRAY | MapType::PERF_EVENT_ARRAY | MapType::CGROUP_ARRAY => Way::Keys(None),
            _ => Way::Batch { position: map.fd().batch_start(), empty: 0 },
        };
        let most = (map.max_entries() as usize).max(1);
        let hashed = matches!(
            map.kind(),
            MapType::HASH | MapType::LRU_HASH | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH | MapType::HASH_OF_MAPS
        );
        // From memory nothing is saved by a large step, and a small one stays in the cache.
        let budget = if matches!(way, Way::Memory(_)) { NEAR } else { BUDGET };
        let room = (budget / (key_size + value_bytes)).max(FEWEST).min(most);
        Ok(Entries {
            map: map.clone(),
            way,
            take,
            key_size,
            value_bytes,
            keys: vec![0; room * key_size],
            values: vec![0; room * value_bytes],
            count: 0,
            given: 0,
            left: (!hashed).then_some(most),
            calls: 0,
        })
    }

    /// The next entry: its key, and its value (for a per-CPU map all CPUs' values, each rounded up to 8 bytes).
    ///
    /// # Errors
    /// The kernel refuses. After an error there are no more entries.
    #[allow(clippy::should_implement_trait, reason = "it lends")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.given == self.count && !self.fill()? {
            return Ok(None);
        }
        let at = self.given;
        self.given += 1;
        let key = &self.keys[at * self.key_size..][..self.key_size];
        let value = &self.values[at * self.value_bytes..][..self.value_bytes];
        Ok(Some((key, value)))
    }

    /// System calls made so far.
    pub fn system_calls(&self) -> u64 {
        self.calls
    }

    /// Brings the next entries; `false`: there are none.
    #[cold]
    fn fill(&mut self) -> Result<bool> {
        (self.count, self.given) = (0, 0);
        loop {
            let result = match &self.way {
                Way::Done => return Ok(false),
                Way::Memory(_) => self.memory(),
                Way::Batch { .. } => self.batch(),
                Way::Keys(_) => self.by_key(),
            };
            if let Err(errno) = result {
                self.way = Way::Done;
                return Err(self.map.error("reading its entries", errno));
            }
            if let Some(left) = &mut self.left {
                self.count = self.count.min(*left);
                *left -= self.count;
                if *left == 0 {
                    self.way = Way::Done;
                }
            }
            if self.count > 0 {
                return Ok(true);
            }
        }
    }

    fn memory(&mut self) -> sys::Result<()> {
        let Way::Memory(first) = self.way else { return Ok(()) };
        let most = self.map.max_entries() as usize;
        let room = self.keys.len() / self.key_size;
        let count = room.min(most - first);
        self.map.copy_values(first, count, &mut self.values)?;
        for (index, key) in (first as u32..).zip(self.keys.chunks_exact_mut(4).take(count)) {
            key.copy_from_slice(&index.to_ne_bytes());
        }
        self.count = count;
        self.way = if first + count == most { Way::Done } else { Way::Memory(first + count) };
        Ok(())
    }

    fn batch(&mut self) -> sys::Result<()> {
        let Way::Batch { position, empty } = &mut self.way else { return Ok(()) };
        self.calls += 1;
        let fd = self.map.fd();
        let batch = if self.take { sys::MapFd::lookup_and_delete_batch } else { sys::MapFd::lookup_batch };
        match batch(fd, position, &mut self.keys, &mut self.values, 0) {
            Ok(batch) => {
                self.count = batch.count;
                *empty = if batch.count == 0 { *empty + 1 } else { 0 };
                if batch.last {
                    self.way = Way::Done;
                } else if *empty > PATIENCE {
                    self.way = Way::Keys(None);
                }
                Ok(())
            }
            // A bucket with more entries than there is room for: it stays where it is.
            Err(Errno::NOSPC) => {
                let room = self.keys.len() / self.key_size * 2;
                self.keys.resize(room * self.key_size, 0);
                self.values.resize(room * self.value_bytes, 0);
                Ok(())
            }
            Err(errno) if no_batch(errno) => {
                self.way = Way::Keys(None);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    /// As many as there is room for, two system calls each.
    fn by_key(&mut self) -> sys::Result<()> {
        let Way::Keys(at) = &mut self.way else { return Ok(()) };
        let fd = self.map.fd();
        let room = (self.keys.len() / self.key_size).min(self.left.unwrap_or(usize::MAX)).min(FEWEST);
        let mut steps = 0;
        while self.count < room {
            let mut next = vec![0; self.key_size];
            self.calls += 2;
            steps += 1;
            if steps > self.map.max_entries() as usize || !fd.next_key(at.as_deref(), &mut next)? {
                self.way = Way::Done;
                return Ok(());
            }
            let value = &mut self.values[self.count * self.value_bytes..][..self.value_bytes];
            let read = match self.take {
                false => fd.lookup(&next, value, 0),
                true => take(fd, &next, value),
            };
            match read {
                Ok(()) => {
                    self.keys[self.count * self.key_size..][..self.key_size].copy_from_slice(&next);
                    self.count += 1;
                }
                // Gone meanwhile, or an empty slot.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            // What was taken is no place to go on from: the first that is left is the next.
            *at = (!self.take).then_some(next);
        }
        Ok(())
    }
}

/// One entry in one step, or in two where the kernel has none for this kind of map.
fn take(fd: &sys::MapFd, key: &[u8], value: &mut [u8]) -> sys::Result<()> {
    match fd.lookup_and_delete(key, value, 0) {
        Err(errno) if no_batch(errno) => fd.lookup(key, value, 0).and_then(|()| fd.delete(key)),
        result => result,
    }
}
