//! Typed views of maps with one value a key, and of queues.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringfence_sys::MapMemory;
use ringfence_uapi::MapType;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Entries, Map, Update, wrong_view};
use crate::error::Result;

/// A type whose values are nothing but their bytes: no padding, no pointers, any bytes are a value.
///
/// Every type that derives zerocopy's traits is one:
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Key {
///     pid: u32,
///     uid: u32,
/// }
/// fn is_plain<T: ringfence::Plain>() {}
/// is_plain::<Key>();
/// is_plain::<[u64; 4]>();
/// ```
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Plain for T {}

pub(super) const OPENING: &str = "opening a typed view";

/// Compares a type with a side of the map.
pub(super) fn check_size<T>(map: &Map, side: &str, size: u32) -> Result<()> {
    let (name, own) = (std::any::type_name::<T>(), size_of::<T>());
    if own == size as usize {
        return Ok(());
    }
    Err(map.invalid(OPENING, format!("its {side} has {size} bytes, but {name} has {own}")))
}

/// A key of a longest-prefix-match trie: an address and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C, packed)]
pub struct LpmKey<A: Unaligned> {
    /// Bits that count, in the byte order of the machine.
    prefix: zerocopy::native_endian::U32,
    /// The address, in network byte order.
    address: A,
}

impl<A: Unaligned + Copy> LpmKey<A> {
    /// A key by bytes.
    pub fn new(prefix: u32, address: A) -> Self {
        Self { prefix: prefix.into(), address }
    }

    /// Bits that count.
    pub fn prefix(&self) -> u32 {
        self.prefix.get()
    }

    /// The address.
    pub fn address(&self) -> A {
        self.address
    }
}

impl LpmKey<[u8; 4]> {
    /// A network, or with 32 bits an address to look up.
    pub fn v4(address: Ipv4Addr, prefix: u32) -> Self {
        Self::new(prefix, address.octets())
    }

    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        self.address.into()
    }
}

/// An address to look up.
impl From<Ipv4Addr> for LpmKey<[u8; 4]> {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address, 32)
    }
}

impl fmt::Display for LpmKey<[u8; 4]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip(), self.prefix())
    }
}

impl LpmKey<[u8; 16]> {
    /// A network, or with 128 bits an address to look up.
    pub fn v6(address: Ipv6Addr, prefix: u32) -> Self {
        Self::new(prefix, address.octets())
    }

    /// The address.
    pub fn ip(&self) -> Ipv6Addr {
        self.address.into()
    }
}

/// An address to look up.
impl From<Ipv6Addr> for LpmKey<[u8; 16]> {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address, 128)
    }
}

impl fmt::Display for LpmKey<[u8; 16]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip(), self.prefix())
    }
}

/// Keys and values of a hash, LRU hash, array, LPM trie or another map with one value a key.
///
/// An array that can be mapped into memory (`BPF_F_MMAPABLE`, since 5.5) is read and written there, without system calls.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let counts = loaded.map("counts")?.table::<u32, u64>()?;
/// counts.insert(&7, &1)?;
/// for entry in counts.iter()? {
///     let (pid, count) = entry?;
///     println!("{pid} {count}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Table<K, V> {
    map: Map,
    memory: Option<Arc<MapMemory>>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), memory: self.memory.clone(), types: PhantomData }
    }
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        let other = matches!(
            map.kind(),
            MapType::RINGBUF
                | MapType::USER_RINGBUF
                | MapType::PERF_EVENT_ARRAY
                | MapType::ARENA
                | MapType::BLOOM_FILTER
                | MapType::QUEUE
                | MapType::STACK
        );
        if map.is_per_cpu() || other {
            return Err(wrong_view(map, "table"));
        }
        check_size::<K>(map, "key", map.key_size())?;
        check_size::<V>(map, "value", map.value_size())?;
        let memory = (map.kind() == MapType::ARRAY).then(|| map.memory().cloned()).flatten();
        Ok(Self { map: map.clone(), memory, types: PhantomData })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The value of a key; `None`: there is no such key. The value is the kernel's copy of one moment, but a program that
    /// writes it at the same time may have written a part of it.
    ///
    /// # Errors
    /// The kernel refuses.
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        if let Some(memory) = &self.memory {
            let most = self.map.max_entries() as usize;
            return Ok(index(key).filter(|index| *index < most).and_then(|index| load(memory, index)));
        }
        let mut value = V::new_zeroed();
        Ok(self.map.lookup_into(key.as_bytes(), value.as_mut_bytes())?.then_some(value))
    }

    /// As [`Table::get`], while the `bpf_spin_lock` in the value is held: no program that holds it is seen half-way.
    ///
    /// # Errors
    /// The values have no such lock in their type; the kernel refuses.
    pub fn get_locked(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        Ok(self.map.lookup_locked(key.as_bytes(), value.as_mut_bytes())?.then_some(value))
    }

    /// Writes the value of a key.
    ///
    /// # Errors
    /// The map is full, or the kernel refuses.
    pub fn insert(&self, key: &K, value: &V) -> Result<()> {
        self.update(key, value, Update::Any)
    }

    /// Writes the value of a key on a condition.
    ///
    /// # Errors
    /// The key is there, or not, against `update`; the map is full; the kernel refuses.
    pub fn update(&self, key: &K, value: &V, update: Update) -> Result<()> {
        if let (Some(memory), Some(index)) = (&self.memory, index(key))
            && update != Update::New
            && index < self.map.max_entries() as usize
            && let Some(Ok(())) = self.map.write_memory(index * memory.stride(), value.as_bytes())
        {
            return Ok(());
        }
        // What cannot be done in memory is explained by the kernel.
        self.map.update(key.as_bytes(), value.as_bytes(), update)
    }

    /// As [`Table::update`], while the `bpf_spin_lock` in the value is held.
    ///
    /// # Errors
    /// The values have no such lock in their type; as [`Table::update`].
    pub fn update_locked(&self, key: &K, value: &V, update: Update) -> Result<()> {
        self.map.update_locked(key.as_bytes(), value.as_bytes(), update)
    }

    /// Takes an entry out. `false`: it was not there.
    ///
    /// # Errors
    /// Arrays keep their entries; the kernel refuses.
    pub fn remove(&self, key: &K) -> Result<bool> {
        self.map.delete(key.as_bytes())
    }

    /// Takes an entry out and gives its value.
    ///
    /// # Errors
    /// The kernel cannot do that for this kind of map, or refuses.
    pub fn take(&self, key: &K) -> Result<Option<V>> {
        Ok(self.map.take(key.as_bytes())?.and_then(|value| V::read_from_bytes(&value).ok()))
    }

    /// Writes many entries, in few system calls.
    ///
    /// # Errors
    /// As [`Table::insert`]; those before the one that failed are written.
    pub fn insert_all(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            keys.extend_from_slice(key.as_bytes());
            values.extend_from_slice(value.as_bytes());
        }
        if keys.is_empty() { Ok(()) } else { self.map.update_many(&keys, &values, Update::Any) }
    }

    /// Every entry: see [`Entries`] for what is promised while programs write.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn iter(&self) -> Result<TableEntries<K, V>> {
        Ok(TableEntries(match &self.memory {
            // The kernel takes no keys of another size for arrays; `index` is for the types.
            Some(memory) if size_of::<K>() == 4 => {
                Source::Memory { memory: memory.clone(), next: 0, end: self.map.max_entries(), types: PhantomData }
            }
            _ => Source::Kernel(self.map.entries()?),
        }))
    }

    /// As [`Table::iter`], and takes the entries out: see [`Map::drain`].
    ///
    /// # Errors
    /// Arrays keep their entries; the kernel refuses.
    pub fn drain(&self) -> Result<TableEntries<K, V>> {
        Ok(TableEntries(Source::Kernel(self.map.drain()?)))
    }
}

/// An array's key.
#[inline]
fn index<K: Plain>(key: &K) -> Option<usize> {
    key.as_bytes().first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize)
}

/// The value at this place of a mapped array: words of 8 bytes from the start of the memory on, as many as the value takes.
#[inline(always)]
fn load<V: Plain>(memory: &MapMemory, index: usize) -> Option<V> {
    let mut value = V::new_zeroed();
    memory.words().read(index * size_of::<V>().div_ceil(8), value.as_mut_bytes()).then_some(value)
}

/// Iterator over a [`Table`].
#[derive(Debug)]
pub struct TableEntries<K, V>(Source<K, V>);

#[derive(Debug)]
enum Source<K, V> {
    Memory { memory: Arc<MapMemory>, next: u32, end: u32, types: PhantomData<fn() -> (K, V)> },
    Kernel(Entries),
}

impl<K: Plain, V: Plain> Iterator for TableEntries<K, V> {
    type Item = Result<(K, V)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Memory { memory, next, end, .. } => {
                let now = *next;
                if now == *end {
                    return None;
                }
                *next = now + 1;
                let key = K::read_from_bytes(&now.to_ne_bytes()).ok()?;
                Some(Ok((key, load(memory, now as usize)?)))
            }
            Source::Kernel(entries) => match entries.next() {
                Ok(Some((key, value))) => {
                    // The sizes were compared when the view was opened.
                    let (Ok(key), Ok((value, _))) = (K::read_from_bytes(key), V::read_from_prefix(value)) else {
                        return None;
                    };
                    Some(Ok((key, value)))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
        }
    }
}

/// A queue (first in, first out) or a stack (last in, first out).
#[derive(Clone, Debug)]
pub struct Queue<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain> Queue<V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        if !matches!(map.kind(), MapType::QUEUE | MapType::STACK) {
            return Err(wrong_view(map, "queue"));
        }
        check_size::<V>(map, "value", map.value_size())?;
        Ok(Self { map: map.clone(), types: PhantomData })
    }

    /// Puts a value in.
    ///
    /// # Errors
    /// It is full.
    pub fn push(&self, value: &V) -> Result<()> {
        self.map.update(&[], value.as_bytes(), Update::Any)
    }

    /// Takes the next value out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pop(&self) -> Result<Option<V>> {
        Ok(self.map.take(&[])?.and_then(|value| V::read_from_bytes(&value).ok()))
    }

    /// The next value, which stays.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn peek(&self) -> Result<Option<V>> {
        Ok(self.map.lookup(&[])?.and_then(|value| V::read_from_bytes(&value).ok()))
    }
}
