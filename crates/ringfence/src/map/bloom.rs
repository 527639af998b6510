//! Sets that say "perhaps" or "no".

use std::marker::PhantomData;

use ringfence_uapi::MapType;
use rustix::io::Errno;

use super::table::check_size;
use super::{Map, Plain, Update, wrong_view};
use crate::error::Result;

/// A bloom filter (`BPF_MAP_TYPE_BLOOM_FILTER`, since 5.16): values are put in and never taken out, and a value that was not put
/// in is nearly always known not to be there.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let seen = loaded.map("seen")?.bloom::<u32>()?;
/// seen.insert(&7)?;
/// assert!(seen.may_contain(&7)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bloom<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain> Bloom<V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        if map.kind() != MapType::BLOOM_FILTER {
            return Err(wrong_view(map, "bloom"));
        }
        check_size::<V>(map, "value", map.value_size())?;
        Ok(Self { map: map.clone(), types: PhantomData })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Puts a value in.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn insert(&self, value: &V) -> Result<()> {
        self.map.update(&[], value.as_bytes(), Update::Any)
    }

    /// `false`: it was never put in. `true`: it was, or by chance looks like values that were.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn may_contain(&self, value: &V) -> Result<bool> {
        // The kernel reads the value from where it would write one (`map_lookup_elem` of kernel/bpf/syscall.c).
        let mut value = *value;
        match self.map.fd().lookup(&[], value.as_mut_bytes(), 0) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.map.error("looking for a value", errno)),
        }
    }
}
