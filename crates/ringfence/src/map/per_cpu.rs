//! A typed view of maps that keep a value for each CPU.

use std::fmt;
use std::marker::PhantomData;

use super::table::{Plain, check_size};
use super::{Entries, Map, Update, wrong_view};
use crate::error::Result;

/// Keys and values of a per-CPU hash, LRU hash or array.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let packets = loaded.map("packets")?.per_cpu::<u32, u64>()?;
/// let total: u64 = packets.get(&0)?.iter().flat_map(|values| values.iter()).sum();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PerCpuTable<K, V> {
    map: Map,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for PerCpuTable<K, V> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), types: PhantomData }
    }
}

/// One key's values, one for each possible CPU in the order of their numbers.
#[derive(Clone)]
pub struct PerCpuValues<V> {
    bytes: Vec<u8>,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain + fmt::Debug> fmt::Debug for PerCpuValues<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The kernel rounds each CPU's value up to 8 bytes (`bpf_percpu_hash_copy` of `kernel/bpf/hashtab.c`).
fn stride<V>() -> usize {
    size_of::<V>().next_multiple_of(8)
}

impl<V: Plain> PerCpuValues<V> {
    /// The values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = V> + '_ {
        self.bytes
            .chunks_exact(stride::<V>())
            .map(|value| V::read_from_prefix(value).map_or(V::new_zeroed(), |(v, _)| v))
    }

    /// The value of this CPU; `None`: there can be no such CPU.
    pub fn get(&self, cpu: usize) -> Option<V> {
        self.iter().nth(cpu)
    }

    /// Number of CPUs that can ever be there.
    pub fn len(&self) -> usize {
        self.bytes.len() / stride::<V>()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<K: Plain, V: Plain> PerCpuTable<K, V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        if !map.is_per_cpu() {
            return Err(wrong_view(map, "per_cpu"));
        }
        check_size::<K>(map, "key", map.key_size())?;
        check_size::<V>(map, "value", map.value_size())?;
        Ok(Self { map: map.clone(), types: PhantomData })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The values of a key; `None`: there is no such key.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, key: &K) -> Result<Option<PerCpuValues<V>>> {
        Ok(self.map.lookup(key.as_bytes())?.map(|bytes| PerCpuValues { bytes, types: PhantomData }))
    }

    /// Writes the values of a key, one for each possible CPU.
    ///
    /// # Errors
    /// There are more or fewer values than possible CPUs; the map is full; the kernel refuses.
    pub fn insert(&self, key: &K, values: &[V]) -> Result<()> {
        self.update(key, values, Update::Any)
    }

    /// As [`PerCpuTable::insert`], on a condition.
    ///
    /// # Errors
    /// The key is there, or not, against `update`; as [`PerCpuTable::insert`].
    pub fn update(&self, key: &K, values: &[V], update: Update) -> Result<()> {
        let cpus = self.map.value_bytes()? / stride::<V>().max(1);
        if values.len() != cpus {
            let why = format!("{} values are given, but there can be {cpus} CPUs", values.len());
            return Err(self.map.invalid("writing a key", why));
        }
        self.map.update(key.as_bytes(), &lay_out(values), update)
    }

    /// Takes an entry out and gives its values.
    ///
    /// # Errors
    /// The kernel cannot do that for this kind of map, or refuses.
    pub fn take(&self, key: &K) -> Result<Option<PerCpuValues<V>>> {
        Ok(self.map.take(key.as_bytes())?.map(|bytes| PerCpuValues { bytes, types: PhantomData }))
    }

    /// Writes the same value for every CPU.
    ///
    /// # Errors
    /// The map is full; the kernel refuses.
    pub fn fill(&self, key: &K, value: &V) -> Result<()> {
        let cpus = self.map.value_bytes()? / stride::<V>().max(1);
        self.insert(key, &vec![*value; cpus])
    }

    /// Takes an entry out. `false`: it was not there.
    ///
    /// # Errors
    /// Arrays keep their entries; the kernel refuses.
    pub fn remove(&self, key: &K) -> Result<bool> {
        self.map.delete(key.as_bytes())
    }

    /// Every entry: see [`Entries`] for what is promised while programs write.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(K, PerCpuValues<V>)>> + use<K, V>> {
        Ok(Self::typed(self.map.entries()?))
    }

    /// As [`PerCpuTable::iter`], and takes the entries out: see [`Map::drain`].
    ///
    /// # Errors
    /// Arrays keep their entries; the kernel refuses.
    pub fn drain(&self) -> Result<impl Iterator<Item = Result<(K, PerCpuValues<V>)>> + use<K, V>> {
        Ok(Self::typed(self.map.drain()?))
    }

    fn typed(mut entries: Entries) -> impl Iterator<Item = Result<(K, PerCpuValues<V>)>> + use<K, V> {
        std::iter::from_fn(move || match entries.next() {
            Ok(Some((key, value))) => {
                let key = K::read_from_bytes(key).ok()?;
                Some(Ok((key, PerCpuValues { bytes: value.to_vec(), types: PhantomData })))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

fn lay_out<V: Plain>(values: &[V]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * stride::<V>()];
    for (value, place) in values.iter().zip(bytes.chunks_exact_mut(stride::<V>())) {
        place[..size_of::<V>()].copy_from_slice(value.as_bytes());
    }
    bytes
}
