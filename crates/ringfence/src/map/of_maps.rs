//! Maps that hold maps.

use std::marker::PhantomData;

use ringfence_sys as sys;
use ringfence_uapi::MapType;

use super::table::check_size;
use super::{Map, Plain, wrong_view};
use crate::error::{Cause, Result};

/// An array or a hash of maps (`BPF_MAP_TYPE_ARRAY_OF_MAPS`, `BPF_MAP_TYPE_HASH_OF_MAPS`, since 4.12). Programs find a map by a
/// key and use it; user space can exchange it under them.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let tenants = loaded.map("tenants")?.of_maps::<u32>()?;
/// let counts = tenants.create("counts_7")?; // of the shape that fits
/// counts.table::<u32, u64>()?.insert(&0, &1)?;
/// tenants.insert(&7, &counts)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MapOfMaps<K> {
    map: Map,
    types: PhantomData<fn() -> K>,
}

impl<K: Plain> MapOfMaps<K> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        if !matches!(map.kind(), MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) {
            return Err(wrong_view(map, "of_maps"));
        }
        check_size::<K>(map, "key", map.key_size())?;
        Ok(Self { map: map.clone(), types: PhantomData })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Makes a map of the shape that this one takes. It is not put in yet.
    ///
    /// # Errors
    /// The shape is not known (the kernel does not tell it, so it is only known of maps that were loaded from an object or
    /// made by [`NewMap`](crate::NewMap)), or the kernel refuses.
    pub fn create(&self, name: &str) -> Result<Map> {
        let inner = self.map.inner().ok_or_else(|| {
            let cause = Cause::invalid("the shape of the maps that it takes is not known");
            self.map.failed("making a map for it", cause.action("make one with `NewMap`"))
        })?;
        inner.clone().named(name).create()
    }

    /// Puts a map in, in the place of what was there. The kernel keeps it as long as it is in here.
    ///
    /// # Errors
    /// It has another shape than the ones for which this map was made; this map is full.
    pub fn insert(&self, key: &K, inner: &Map) -> Result<()> {
        self.map.set_map(key.as_bytes(), inner)
    }

    /// The map at a key; `None`: there is none.
    ///
    /// # Errors
    /// Opening a map by its number takes CAP_SYS_ADMIN.
    pub fn get(&self, key: &K) -> Result<Option<Map>> {
        let step = "opening a map that it holds";
        let Some(id) = self.id(key)? else { return Ok(None) };
        let name = format!("{}[{id}]", self.map.name());
        match sys::open_map(id, 0) {
            Ok(fd) => Ok(Some(Map::new(fd, self.map.object(), &name, None))),
            // Exchanged and freed in between: what is there now is looked up by the next call.
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.map.error(step, errno)),
        }
    }

    /// The number of the map at a key.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn id(&self, key: &K) -> Result<Option<u32>> {
        let value = self.map.lookup(key.as_bytes())?;
        Ok(value.and_then(|value| Some(u32::from_ne_bytes(*value.first_chunk()?))))
    }

    /// Takes a map out. `false`: there was none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: &K) -> Result<bool> {
        self.map.delete(key.as_bytes())
    }

    /// Every key with the number of the map that is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ids(&self) -> Result<Vec<(K, u32)>> {
        let mut entries = self.map.entries()?;
        let mut ids = Vec::new();
        while let Some((key, value)) = entries.next()? {
            if let (Ok(key), Some(id)) = (K::read_from_bytes(key), value.first_chunk()) {
                ids.push((key, u32::from_ne_bytes(*id)));
            }
        }
        Ok(ids)
    }
}
