//! Typed views of maps with one value a key, and of queues.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringfence_uapi::MapType;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Entries, Map, Update};
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
}

impl LpmKey<[u8; 16]> {
    /// A network, or with 128 bits an address to look up.
    pub fn v6(address: Ipv6Addr, prefix: u32) -> Self {
        Self::new(prefix, address.octets())
    }
}

/// Keys and values of a hash, LRU hash, array, LPM trie or another map with one value a key.
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
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), types: PhantomData }
    }
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        check_size::<K>(map, "key", map.key_size())?;
        check_size::<V>(map, "value", map.value_size())?;
        if map.is_per_cpu() {
            return Err(map.invalid(OPENING, "it has a value for each CPU: open it with `per_cpu`"));
        }
        if map.kind() == MapType::RINGBUF || map.kind() == MapType::PERF_EVENT_ARRAY {
            return Err(map.invalid(OPENING, "it holds events: read them with `events`"));
        }
        Ok(Self { map: map.clone(), types: PhantomData })
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
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        Ok(self.map.lookup_into(key.as_bytes(), value_bytes(&mut value))?.then_some(value))
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
        self.map.update(key.as_bytes(), value.as_bytes(), update)
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
        Ok(TableEntries { entries: self.map.entries()?, types: PhantomData })
    }
}

/// A value as the bytes that the kernel writes.
fn value_bytes<V: Plain>(value: &mut V) -> &mut [u8] {
    value.as_mut_bytes()
}

/// Iterator over a [`Table`].
#[derive(Debug)]
pub struct TableEntries<K, V> {
    entries: Entries,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain, V: Plain> Iterator for TableEntries<K, V> {
    type Item = Result<(K, V)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.next() {
            Ok(Some((key, value))) => {
                // The sizes were compared when the view was opened.
                let (Ok(key), Ok((value, _))) = (K::read_from_bytes(key), V::read_from_prefix(value)) else {
                    return None;
                };
                Some(Ok((key, value)))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
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
        check_size::<V>(map, "value", map.value_size())?;
        if map.key_size() != 0 {
            return Err(map.invalid(OPENING, format!("a map of the kind {} is no queue", map.kind())));
        }
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
