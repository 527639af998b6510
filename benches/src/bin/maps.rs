//! What it costs to read every entry of a map: `maps ROUNDS`. A line for each reading: map, reader, nanoseconds an
//! entry. Readers take turns, in an order that rotates.

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use libbpf_sys as sys;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

const ENTRIES: u32 = 1_000_000;
const MMAPABLE: u32 = 1 << 10;

/// Reads all entries; the sum of keys and values.
type Read = Box<dyn FnMut() -> Result<u64>>;

fn map(kind: MapType, flags: u32) -> Result<MapHandle> {
    let options = sys::bpf_map_create_opts {
        sz: size_of::<sys::bpf_map_create_opts>() as _,
        map_flags: flags,
        ..Default::default()
    };
    let map = MapHandle::create(kind, Some("rf_bench"), 4, 8, ENTRIES, &options)?;
    for first in (0..ENTRIES).step_by(10_000) {
        let keys: Vec<u8> = (first..first + 10_000).flat_map(u32::to_ne_bytes).collect();
        let values: Vec<u8> = (first..first + 10_000).flat_map(|n| u64::from(n).to_ne_bytes()).collect();
        map.update_batch(&keys, &values, 10_000, MapFlags::ANY, MapFlags::ANY)?;
    }
    Ok(map)
}

fn owned(map: &MapHandle) -> Result<OwnedFd> {
    Ok(map.as_fd().try_clone_to_owned()?)
}

fn sum(keys: &[u32], values: &[u64]) -> u64 {
    keys.iter().zip(values).map(|(key, value)| u64::from(*key) + value).sum()
}

/// One system call for everything.
fn one_batch(map: &MapHandle) -> Result<Read> {
    let fd = owned(map)?;
    let (mut keys, mut values) = (vec![0u32; ENTRIES as usize], vec![0u64; ENTRIES as usize]);
    Ok(Box::new(move || {
        let (mut position, mut count) = (0u32, ENTRIES);
        // SAFETY: both buffers have room for `count` entries, and a hash map's position is 4 bytes.
        unsafe {
            sys::bpf_map_lookup_batch(
                fd.as_raw_fd(),
                std::ptr::null_mut(),
                (&raw mut position).cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        Ok(sum(&keys[..count as usize], &values[..count as usize]))
    }))
}

/// The mapped values, as an array of C.
fn mapped(map: &MapHandle) -> Result<Read> {
    let len = ENTRIES as usize * 8;
    // SAFETY: a new mapping that stays until the process ends.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, map.as_fd().as_raw_fd(), 0) };
    ensure!(start != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    Ok(Box::new(move || {
        // SAFETY: mapped above, and nobody writes it here.
        let values = unsafe { std::slice::from_raw_parts(start.cast::<u64>(), ENTRIES as usize) };
        Ok(values.iter().zip(0u64..).map(|(value, key)| std::hint::black_box(*value) + key).sum())
    }))
}

fn ringfence(map: &MapHandle) -> Result<Read> {
    let table = ringfence::Map::from_fd("map", owned(map)?)?.table::<u32, u64>()?;
    Ok(Box::new(move || {
        let mut sum = 0;
        for entry in table.iter()? {
            let (key, value) = entry?;
            sum += u64::from(key) + value;
        }
        Ok(sum)
    }))
}

fn libbpf_rs(map: &MapHandle) -> Result<Read> {
    let map = MapHandle::from_map_id(map.info()?.info.id)?;
    Ok(Box::new(move || {
        let mut sum = 0;
        for key in map.keys() {
            let value = map.lookup(&key, MapFlags::ANY)?.context("gone")?;
            sum += u64::from(u32::from_ne_bytes(key[..].try_into()?)) + u64::from_ne_bytes(value[..].try_into()?);
        }
        Ok(sum)
    }))
}

fn aya_hash(map: &MapHandle) -> Result<Read> {
    let map = aya::maps::Map::HashMap(aya::maps::MapData::from_fd(owned(map)?)?);
    let map: aya::maps::HashMap<_, u32, u64> = map.try_into()?;
    Ok(Box::new(move || {
        let mut sum = 0;
        for entry in map.iter() {
            let (key, value) = entry?;
            sum += u64::from(key) + value;
        }
        Ok(sum)
    }))
}

fn aya_array(map: &MapHandle) -> Result<Read> {
    let map = aya::maps::Map::Array(aya::maps::MapData::from_fd(owned(map)?)?);
    let map: aya::maps::Array<_, u64> = map.try_into()?;
    Ok(Box::new(move || {
        let mut sum = 0;
        for (value, key) in map.iter().zip(0u64..) {
            sum += key + value?;
        }
        Ok(sum)
    }))
}

type Open = fn(&MapHandle) -> Result<Read>;

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).context("usage: maps ROUNDS")?.parse()?;
    let hash: [(&str, Open); 4] =
        [("raw", one_batch), ("ringfence", ringfence), ("libbpf-rs", libbpf_rs), ("aya", aya_hash)];
    let array: [(&str, Open); 4] =
        [("raw", mapped), ("ringfence", ringfence), ("libbpf-rs", libbpf_rs), ("aya", aya_array)];
    let all = u64::from(ENTRIES) * u64::from(ENTRIES - 1);
    for (name, kind, flags, readers) in
        [("hash", MapType::Hash, 0, hash), ("mapped_array", MapType::Array, MMAPABLE, array)]
    {
        let map = map(kind, flags)?;
        let readers = readers.into_iter().map(|(reader, open)| Ok((reader, open(&map)?)));
        let mut readers: Vec<(&str, Read)> = readers.collect::<Result<_>>()?;
        for round in 0..=rounds {
            let count = readers.len();
            for turn in 0..count {
                let (reader, read) = &mut readers[(round + turn) % count];
                let start = Instant::now();
                let sum = read()?;
                let time = start.elapsed();
                ensure!(sum == all, "{reader} read something else from the {name}: {sum}");
                // The first round warms caches, and is not counted.
                if round > 0 {
                    println!("{name} {reader} {}", time.as_nanos() as f64 / f64::from(ENTRIES));
                }
            }
        }
    }
    Ok(())
}
