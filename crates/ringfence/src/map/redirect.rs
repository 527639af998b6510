//! Where XDP programs send packets: devices and CPUs.

use ringfence_uapi::MapType;
use std::os::fd::{AsFd, AsRawFd};

use super::{Map, Update, wrong_view};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::program::Program;

/// What a device map or a CPU map holds at a key, as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Redirect {
    /// The device's number; for a CPU map how many packets may wait.
    pub number: u32,
    /// Id of the program that runs there.
    pub program: Option<u32>,
}

/// A device map (`BPF_MAP_TYPE_DEVMAP`, since 4.14) or hash of devices (`BPF_MAP_TYPE_DEVMAP_HASH`, since 5.4): where
/// `bpf_redirect_map` sends packets. With values of 8 bytes (`struct bpf_devmap_val`, since 5.8) an entry can have a program of
/// the section `xdp/devmap`, which runs as the packet goes out.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let ports = loaded.map("ports")?.devices()?;
/// ports.insert(1, "eth0", None)?;
/// ports.insert(2, "eth1", Some(loaded.program("going_out")?))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Devices(Map);

impl Devices {
    pub(super) fn new(map: &Map) -> Result<Devices> {
        match map.kind() {
            MapType::DEVMAP | MapType::DEVMAP_HASH => Ok(Devices(map.clone())),
            _ => Err(wrong_view(map, "devices")),
        }
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.0
    }

    /// Sends packets with this key to a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// There is no such device; the key is beyond the map's end; the values have no room for a program; the program is not for
    /// this place.
    pub fn insert(&self, key: u32, device: &str, program: Option<&Program>) -> Result<()> {
        let index = Device::Name(device.to_owned()).find().map_err(|cause| self.0.failed(FILLING, cause))?;
        self.insert_index(key, index, program)
    }

    /// As [`Devices::insert`], by the device's number.
    ///
    /// # Errors
    /// As [`Devices::insert`].
    pub fn insert_index(&self, key: u32, index: u32, program: Option<&Program>) -> Result<()> {
        put(&self.0, key, index, program)
    }

    /// What is there; `None`: nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, key: u32) -> Result<Option<Redirect>> {
        get(&self.0, key)
    }

    /// Empties an entry. `false`: it was empty (a device map by index says `true` all the same).
    ///
    /// # Errors
    /// The key is beyond the map's end.
    pub fn remove(&self, key: u32) -> Result<bool> {
        self.0.delete(&key.to_ne_bytes())
    }
}

/// A CPU map (`BPF_MAP_TYPE_CPUMAP`, since 4.15): CPUs on which packets go on. With values of 8 bytes (`struct bpf_cpumap_val`, since
/// 5.9) an entry can have a program of the section `xdp/cpumap`, which runs there first.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let cpus = loaded.map("cpus")?.cpus()?;
/// cpus.insert(0, 512, None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cpus(Map);

impl Cpus {
    pub(super) fn new(map: &Map) -> Result<Cpus> {
        match map.kind() {
            MapType::CPUMAP => Ok(Cpus(map.clone())),
            _ => Err(wrong_view(map, "cpus")),
        }
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.0
    }

    /// Lets packets go on on a CPU; `queue`: how many may wait there.
    ///
    /// # Errors
    /// There is no such CPU; the queue is longer than 16,384; the values have no room for a program; the program is not for this
    /// place.
    pub fn insert(&self, cpu: u32, queue: u32, program: Option<&Program>) -> Result<()> {
        put(&self.0, cpu, queue, program)
    }

    /// What is there; `None`: nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, cpu: u32) -> Result<Option<Redirect>> {
        Ok(get(&self.0, cpu)?.filter(|entry| entry.number != 0))
    }

    /// Empties an entry.
    ///
    /// # Errors
    /// The CPU is beyond the map's end.
    pub fn remove(&self, cpu: u32) -> Result<bool> {
        self.0.delete(&cpu.to_ne_bytes())
    }
}

const FILLING: &str = "filling a slot";

/// `struct bpf_devmap_val` and `struct bpf_cpumap_val` lie alike: a number, then a program's descriptor (0: none), or when read its id.
fn put(map: &Map, key: u32, number: u32, program: Option<&Program>) -> Result<()> {
    let key = key.to_ne_bytes();
    let done = match (map.value_size(), program) {
        (4, None) => map.update(&key, &number.to_ne_bytes(), Update::Any),
        (4, Some(_)) => {
            let why = "its values have 4 bytes, which have no room for a program: declare them with `struct \
                       bpf_devmap_val` or `struct bpf_cpumap_val`";
            return Err(map.invalid(FILLING, why));
        }
        (_, program) => {
            let fd = program.map_or(0, |program| program.as_fd().as_raw_fd());
            map.update(&key, &[number.to_ne_bytes(), fd.to_ne_bytes()].concat(), Update::Any)
        }
    };
    done.map_err(|error| match (&error, error.errno().map(rustix::io::Errno::from_raw_os_error)) {
        (Error::Map { cause, .. }, Some(rustix::io::Errno::INVAL)) => {
            let what = if map.kind() == MapType::CPUMAP { "queue's length" } else { "device" };
            let program = if program.is_some() { ", or the program is not of a section for such maps" } else { "" };
            let why = format!("there is no such {what}{program}");
            map.failed(FILLING, crate::Cause { why, ..(**cause).clone() })
        }
        _ => error,
    })
}

fn get(map: &Map, key: u32) -> Result<Option<Redirect>> {
    let value = map.lookup(&key.to_ne_bytes())?;
    let word = |value: &[u8], at: usize| {
        value.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    Ok(value.map(|value| Redirect { number: word(&value, 0), program: Some(word(&value, 4)).filter(|id| *id != 0) }))
}
