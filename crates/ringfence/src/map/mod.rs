//! Maps: data that programs and user space share.
//!
//! A [`Map`] is access by bytes, for any kind. The views on it are typed and made after their types were compared with what
//! the kernel says of the map, so a wrong size is found when it is opened.
//!
//! Maps are cheap to clone: clones are the same map, which the kernel keeps until the last of them is gone and no program
//! uses it.

mod arena;
mod bloom;
mod entries;
mod kinds;
mod memory;
mod new;
mod of_maps;
mod per_cpu;
mod redirect;
mod storage;
mod table;
mod user_ring;
mod variable;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use ringfence_btf::{Btf, TypeId};
use ringfence_sys as sys;
use ringfence_uapi::{MapType, ProgramType};
use rustix::io::Errno;
use sys::{MapFd, MapMemory};

pub use arena::Arena;
pub use bloom::Bloom;
pub use entries::Entries;
pub use new::NewMap;
pub use of_maps::MapOfMaps;
pub use per_cpu::{PerCpuTable, PerCpuValues};
pub use redirect::{Cpus, Devices, Redirect};
pub use storage::{Storage, pidfd, pidfd_of_thread};
pub use table::{LpmKey, Plain, Queue, Table, TableEntries};
pub use user_ring::UserRing;
pub use variable::Variable;

use crate::error::{Cause, Error, Kind, Result};
use crate::program::Program;

/// What an update does where the key is there already, or is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Update {
    /// Writes in both cases.
    #[default]
    Any,
    /// Only makes new entries.
    New,
    /// Only writes entries that are there.
    Existing,
}

impl Update {
    fn flags(self) -> u64 {
        match self {
            Update::Any => sys::flags::BPF_ANY,
            Update::New => sys::flags::BPF_NOEXIST,
            Update::Existing => sys::flags::BPF_EXIST,
        }
    }
}

/// Types of a map's keys and values, in its object's BTF.
#[derive(Clone, Debug)]
pub(crate) struct MapTypes {
    pub(crate) btf: Btf,
    pub(crate) key: TypeId,
    pub(crate) value: TypeId,
}

/// A map that the kernel holds: access by bytes, and the views that fit its kind.
///
/// | kind | since | what for | here |
/// |---|---|---|---|
/// | `HASH`, `PERCPU_HASH` | 3.19, 4.6 | values by any key; for each CPU its own | [`Map::table`], [`Map::per_cpu`] |
/// | `LRU_HASH`, `LRU_PERCPU_HASH` | 4.10 | the same, and when full the longest unused goes | [`Map::table`], [`Map::per_cpu`] |
/// | `ARRAY`, `PERCPU_ARRAY` | 3.19, 4.6 | values by number, all there from the start; global variables | [`Map::table`], [`Map::per_cpu`], [`Loaded::variable`](crate::Loaded::variable) |
/// | `LPM_TRIE` | 4.11 | networks: the longest prefix that matches | [`Map::table`] with [`LpmKey`] |
/// | `QUEUE`, `STACK` | 4.20 | first in first out, last in first out | [`Map::queue`] |
/// | `BLOOM_FILTER` | 5.16 | was this seen before: perhaps, or no | [`Map::bloom`] |
/// | `RINGBUF` | 5.8 | events to user space, in order | [`Loaded::events`](crate::Loaded::events) |
/// | `PERF_EVENT_ARRAY` | 4.3 | events to user space, a buffer a CPU; counters for programs | [`Loaded::events`](crate::Loaded::events), [`Map::set_counter`] |
/// | `USER_RINGBUF` | 6.1 | records from user space to programs | [`Map::user_ring`] |
/// | `ARENA` | 6.9 | shared memory with pointers in it | [`Map::arena`] |
/// | `SK_STORAGE`, `INODE_STORAGE`, `TASK_STORAGE`, `CGRP_STORAGE` | 5.2, 5.10, 5.11, 6.2 | values that hang on a socket, file, process, control group | [`Map::storage`] |
/// | `CGROUP_STORAGE`, `PERCPU_CGROUP_STORAGE` | 4.19, 4.20 | a value for each control group to which the program is attached | [`Map::table`], [`Map::per_cpu`] |
/// | `ARRAY_OF_MAPS`, `HASH_OF_MAPS` | 4.12 | maps that can be exchanged under programs | [`Map::of_maps`] |
/// | `PROG_ARRAY` | 4.2 | programs for tail calls | [`Map::set_program`] |
/// | `DEVMAP`, `DEVMAP_HASH` | 4.14, 5.4 | devices for XDP to send to | [`Map::devices`] |
/// | `CPUMAP` | 4.15 | CPUs for XDP to go on with | [`Map::cpus`] |
/// | `XSKMAP` | 4.18 | AF_XDP sockets | [`Map::set_fd`] |
/// | `SOCKMAP`, `SOCKHASH` | 4.14, 4.18 | sockets that send to each other | [`Map::set_fd`], [`SocketMap`](crate::hook::SocketMap) |
/// | `REUSEPORT_SOCKARRAY` | 4.19 | sockets of a group to choose from | [`Map::set_fd`] |
/// | `CGROUP_ARRAY` | 4.8 | control groups to compare with | [`Map::set_fd`] |
/// | `STACK_TRACE` | 4.6 | call stacks by number | [`Map::table`] with `[u64; DEPTH]` |
/// | `STRUCT_OPS` | 5.6 | tables of programs that the kernel calls | [`Loaded::register`](crate::Loaded::register) |
///
/// A kernel that lacks a kind: [`Kind::Unsupported`], when the map is made.
#[derive(Clone)]
pub struct Map(Arc<Inner>);

struct Inner {
    fd: MapFd,
    /// Empty where it belongs to none.
    object: String,
    name: String,
    types: Option<MapTypes>,
    /// Shape of the maps that it holds.
    inner: Option<NewMap>,
    memory: OnceLock<Option<Arc<MapMemory>>>,
    /// `None`: not tried yet.
    writable: RwLock<Option<Option<MapMemory>>>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind, id) = (self.name(), self.kind(), self.id());
        write!(f, "Map({name}, {kind}, id {id})")
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl Map {
    pub(crate) fn new(fd: MapFd, object: &str, name: &str, types: Option<MapTypes>) -> Map {
        Map::whole(fd, object, name, types, None)
    }

    /// As [`Map::new`], with what maps it holds.
    pub(crate) fn whole(fd: MapFd, object: &str, name: &str, types: Option<MapTypes>, inner: Option<NewMap>) -> Map {
        let (object, name) = (object.to_owned(), name.to_owned());
        let (memory, writable) = (OnceLock::new(), RwLock::new(None));
        Map(Arc::new(Inner { fd, object, name, types, inner, memory, writable }))
    }

    /// Shape of the maps that it holds.
    pub(crate) fn inner(&self) -> Option<&NewMap> {
        self.0.inner.as_ref()
    }

    pub(crate) fn object(&self) -> &str {
        &self.0.object
    }

    fn borrowed(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(crate) fn fd(&self) -> &MapFd {
        &self.0.fd
    }

    pub(crate) fn types(&self) -> Option<&MapTypes> {
        self.0.types.as_ref()
    }

    /// Makes a map that no object declares. With flags and the like: [`NewMap`].
    ///
    /// ```no_run
    /// use ringfence::{Map, MapType, Update};
    ///
    /// let map = Map::create("counts", MapType::HASH, 4, 8, 1024)?;
    /// map.update(&7u32.to_ne_bytes(), &1u64.to_ne_bytes(), Update::Any)?;
    /// assert_eq!(map.lookup(&7u32.to_ne_bytes())?, Some(1u64.to_ne_bytes().to_vec()));
    /// # Ok::<(), ringfence::Error>(())
    /// ```
    ///
    /// # Errors
    /// The kernel refuses it: its kind, its sizes, or the process's rights.
    pub fn create(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Result<Map> {
        NewMap::new(name, kind, key_size, value_size, max_entries).create()
    }

    /// Opens a map that is pinned in a bpffs.
    ///
    /// # Errors
    /// There is nothing at the path, or no map, or no right to it.
    pub fn open_pinned(path: impl AsRef<Path>) -> Result<Map> {
        let path = path.as_ref();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let fail = |errno| Error::map("", &name, "opening its pin", pin_cause(errno, path));
        let fd = sys::object_get(path, 0).and_then(MapFd::try_from).map_err(fail)?;
        Ok(Map::new(fd, "", &name, None))
    }

    /// Takes a map's file descriptor that came from elsewhere.
    ///
    /// # Errors
    /// It is no map's.
    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Map> {
        let fd = MapFd::try_from(fd)
            .map_err(|errno| Error::map("", name, "taking its file descriptor", crate::explain::plain(errno)))?;
        Ok(Map::new(fd, "", name, None))
    }

    /// Name in the object.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is.
    pub fn kind(&self) -> MapType {
        self.0.fd.shape().kind
    }

    /// Number by which the kernel knows it.
    pub fn id(&self) -> u32 {
        self.0.fd.shape().id
    }

    /// Bytes of a key; 0: it has none.
    pub fn key_size(&self) -> u32 {
        self.0.fd.shape().key_size
    }

    /// Bytes of one value; of one CPU's where there is one for each.
    pub fn value_size(&self) -> u32 {
        self.0.fd.shape().value_size
    }

    /// Most entries; bytes of a ring buffer.
    pub fn max_entries(&self) -> u32 {
        self.0.fd.shape().max_entries
    }

    /// `BPF_F_*`.
    pub fn flags(&self) -> u32 {
        self.0.fd.shape().flags
    }

    /// An entry has a value for each possible CPU.
    pub fn is_per_cpu(&self) -> bool {
        self.0.fd.shape().is_per_cpu()
    }

    /// The types of its keys and values, where the object says: `(BTF, key, value)`.
    pub fn btf_types(&self) -> Option<(&Btf, TypeId, TypeId)> {
        self.types().map(|types| (&types.btf, types.key, types.value))
    }

    /// All that the kernel tells of it now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn info(&self) -> Result<sys::MapInfo> {
        self.0.fd.info().map_err(|errno| self.error("asking about it", errno))
    }

    pub(crate) fn failed(&self, step: &'static str, cause: Cause) -> Error {
        Error::map(&self.0.object, self.name(), step, cause)
    }

    pub(crate) fn error(&self, step: &'static str, errno: Errno) -> Error {
        self.failed(step, self.explain(errno))
    }

    pub(crate) fn invalid(&self, step: &'static str, why: impl Into<String>) -> Error {
        self.failed(step, Cause::invalid(why))
    }

    /// What the kernel's answers mean for maps (`kernel/bpf/syscall.c`, and `map_*_elem` of the kinds).
    fn explain(&self, errno: Errno) -> Cause {
        let max = self.max_entries();
        let cause = match errno {
            Errno::TOOBIG => {
                Cause::new(Kind::Invalid, format!("it is full, or the key is beyond its end (max_entries is {max})"))
                    .action("make max_entries larger, or take entries out")
            }
            Errno::EXIST => Cause::invalid("the key is there already"),
            Errno::NOENT => Cause::invalid("the key is not there"),
            Errno::MSGSIZE => Cause::invalid(format!(
                "a key must have {} bytes and a value {}",
                self.key_size(),
                self.fd().shape().value_bytes().unwrap_or(self.value_size() as usize)
            )),
            Errno::PERM if self.frozen() => Cause::invalid("it is frozen: user space cannot write it any more")
                .action("write it before it is loaded"),
            Errno::PERM => Cause::new(Kind::Permission, "the map's flags or this process's rights do not allow it"),
            Errno::OPNOTSUPP | crate::explain::ENOTSUPP => {
                Cause::new(Kind::Unsupported, format!("maps of the kind {} cannot do that on this kernel", self.kind()))
            }
            Errno::INVAL => {
                Cause::invalid(format!("maps of the kind {} do not take that key, value or flag", self.kind()))
            }
            Errno::BUSY => Cause::new(Kind::Io, "a program holds the entry at this moment").action("try again"),
            _ => return crate::explain::plain(errno),
        };
        cause.errno(errno)
    }

    /// As [`Map::error`], where the key may be at fault.
    fn key_error(&self, step: &'static str, errno: Errno, key: &[u8]) -> Error {
        let most = self.key_size().saturating_sub(4) * 8;
        match key.first_chunk().map(|prefix| u32::from_ne_bytes(*prefix)) {
            Some(prefix) if errno == Errno::INVAL && self.kind() == MapType::LPM_TRIE && prefix > most => {
                let why = format!("a prefix of {prefix} bits is too long: its addresses have {most}");
                self.failed(step, Cause::invalid(why).errno(errno))
            }
            _ => self.error(step, errno),
        }
    }

    fn frozen(&self) -> bool {
        self.told("frozen") == Some(1)
    }

    /// Type of the programs to which a program array belongs since the first one that uses it was loaded
    /// (`bpf_prog_map_compatible` of kernel/bpf/core.c).
    pub(crate) fn owner(&self) -> Option<ProgramType> {
        self.told("owner_prog_type").map(ProgramType)
    }

    /// What only /proc tells (`bpf_map_show_fdinfo`).
    fn told(&self, name: &str) -> Option<u32> {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fdinfo/{}", self.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")?.parse().ok())
    }

    /// Bytes of all that a lookup gives: one value, or all CPUs' values.
    pub(crate) fn value_bytes(&self) -> Result<usize> {
        self.0.fd.shape().value_bytes().map_err(|errno| self.error("reading its sizes", errno))
    }

    /// The value of a key; `None`: there is no such key. For a per-CPU map: all CPUs' values, each rounded up to 8 bytes.
    ///
    /// # Errors
    /// The key has another length than the map's keys, or the kernel refuses.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_bytes()?];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// As [`Map::lookup`], into a buffer of exactly the value's length. `false`: there is no such key.
    ///
    /// # Errors
    /// As [`Map::lookup`].
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        found(self.0.fd.lookup(key, value, 0)).map_err(|errno| self.error("looking up a key", errno))
    }

    /// Writes the value of a key.
    ///
    /// # Errors
    /// The map is full; the key is there, or not, against `update`; key or value have another length than the map's.
    pub fn update(&self, key: &[u8], value: &[u8], update: Update) -> Result<()> {
        self.0.fd.update(key, value, update.flags()).map_err(|errno| self.key_error("writing a key", errno, key))
    }

    /// As [`Map::lookup_into`], while the `bpf_spin_lock` in the value is held: no program that holds it is seen half-way. The lock itself
    /// reads as zero.
    ///
    /// # Errors
    /// The values have no such lock in their type; as [`Map::lookup`].
    pub fn lookup_locked(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        found(self.0.fd.lookup(key, value, sys::flags::BPF_F_LOCK))
            .map_err(|errno| self.locked("looking up a key with its lock", errno))
    }

    /// As [`Map::update`], while the `bpf_spin_lock` in the value is held. The lock itself is not written.
    ///
    /// # Errors
    /// The values have no such lock in their type; as [`Map::update`].
    pub fn update_locked(&self, key: &[u8], value: &[u8], update: Update) -> Result<()> {
        self.0
            .fd
            .update(key, value, update.flags() | sys::flags::BPF_F_LOCK)
            .map_err(|errno| self.locked("writing a key with its lock", errno))
    }

    fn locked(&self, step: &'static str, errno: Errno) -> Error {
        if errno != Errno::INVAL {
            return self.error(step, errno);
        }
        let cause = Cause::invalid("its values have no lock").errno(errno);
        self.failed(step, cause.action("put a `struct bpf_spin_lock` into the value's type"))
    }

    /// Takes an entry out. `false`: it was not there.
    ///
    /// # Errors
    /// The kind of map keeps its entries (arrays), or the kernel refuses.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        found(self.0.fd.delete(key)).map_err(|errno| self.key_error("deleting a key", errno, key))
    }

    /// Takes an entry out and gives its value, in one step. `None`: it was not there.
    ///
    /// # Errors
    /// The kernel cannot do it for this kind of map (hash maps: since 5.14), or refuses.
    pub fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_bytes()?];
        let taken = found(self.0.fd.lookup_and_delete(key, &mut value, 0));
        Ok(taken.map_err(|errno| self.error("taking a key out", errno))?.then_some(value))
    }

    /// Writes many entries: keys one after another, and values in the same order. One system call where the kernel
    /// has batches for this kind of map, one an entry otherwise.
    ///
    /// # Errors
    /// As [`Map::update`]; entries before the one that failed are written.
    pub fn update_many(&self, keys: &[u8], values: &[u8], update: Update) -> Result<()> {
        let step = "writing many keys";
        match self.0.fd.update_batch(keys, values, update.flags()) {
            Ok(()) => Ok(()),
            Err(error) if no_batch(error.errno) => {
                let (key_size, value_size) = (self.key_size() as usize, self.value_bytes()?);
                if key_size == 0 || value_size == 0 {
                    return Err(self.error(step, error.errno));
                }
                let pairs = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
                pairs.into_iter().try_for_each(|(key, value)| self.update(key, value, update))
            }
            Err(error) => Err(self.error(step, error.errno)),
        }
    }

    /// Takes many entries out: keys one after another. Those that are not there are passed over.
    ///
    /// # Errors
    /// As [`Map::delete`].
    pub fn delete_many(&self, keys: &[u8]) -> Result<()> {
        let mut left = keys;
        let key_size = self.key_size() as usize;
        while !left.is_empty() {
            match self.0.fd.delete_batch(left, 0) {
                Ok(()) => return Ok(()),
                // The batch ends at a key that is not there.
                Err(error) if error.errno == Errno::NOENT => {
                    left = left.get((error.done + 1) * key_size..).unwrap_or_default();
                }
                Err(error) if no_batch(error.errno) => {
                    return left.chunks_exact(key_size.max(1)).try_for_each(|key| self.delete(key).map(drop));
                }
                Err(error) => return Err(self.error("deleting many keys", error.errno)),
            }
        }
        Ok(())
    }

    /// Every entry, by bytes: see [`Entries`] for what is promised while programs write.
    ///
    /// # Errors
    /// The map has no keys, or values that cannot be read.
    pub fn entries(&self) -> Result<Entries> {
        Entries::new(self, false)
    }

    /// As [`Map::entries`], and takes the entries out.
    ///
    /// What a program writes meanwhile is either given or stays. Where the kernel cannot do both in one step (before 5.6, and for kinds
    /// without batches before 5.14), what is written to an entry between the two steps is lost.
    ///
    /// # Errors
    /// The map has no keys, keeps its entries (arrays), or has values that cannot be read.
    pub fn drain(&self) -> Result<Entries> {
        Entries::new(self, true)
    }

    /// Compares members of a type of yours with those of the map's value type in the object's BTF: `(path, offset in bytes)`. The size alone
    /// is compared by [`Map::table`] and its like. Where the object has no types, nothing is compared.
    ///
    /// ```no_run
    /// use std::mem::offset_of;
    /// #[repr(C)]
    /// struct Traffic {
    ///     packets: u64,
    ///     bytes: u64,
    /// }
    /// # fn show(map: &ringfence::Map) -> Result<(), ringfence::Error> {
    /// map.check_value(&[("packets", offset_of!(Traffic, packets)), ("bytes", offset_of!(Traffic, bytes))])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A member is missing there, or is elsewhere.
    pub fn check_value(&self, members: &[(&str, usize)]) -> Result<()> {
        self.check("value", self.types().map(|types| types.value), members)
    }

    /// The same for the map's key type.
    ///
    /// # Errors
    /// As [`Map::check_value`].
    pub fn check_key(&self, members: &[(&str, usize)]) -> Result<()> {
        self.check("key", self.types().map(|types| types.key), members)
    }

    fn check(&self, side: &str, ty: Option<TypeId>, members: &[(&str, usize)]) -> Result<()> {
        let step = "comparing its types";
        let Some((types, ty)) = self.types().zip(ty.filter(|ty| *ty != TypeId::VOID)) else { return Ok(()) };
        for (path, offset) in members {
            let field = types.btf.find_member(ty, path);
            let field =
                field.map_err(|error| self.invalid(step, format!("its {side} has no member `{path}`: {error}")))?;
            if field.bit_offset != *offset as u64 * 8 {
                let there = field.bit_offset / 8;
                return Err(self.invalid(step, format!("`{path}` of its {side} is at byte {there}, not {offset}")));
            }
        }
        Ok(())
    }

    /// A typed view, one value a key.
    ///
    /// # Errors
    /// The types' sizes are not those of the map, or maps of this kind have another view.
    pub fn table<K: Plain, V: Plain>(&self) -> Result<Table<K, V>> {
        Table::new(self)
    }

    /// A typed view of a per-CPU map.
    ///
    /// # Errors
    /// The types' sizes are not those of the map, or the map has but one value a key.
    pub fn per_cpu<K: Plain, V: Plain>(&self) -> Result<PerCpuTable<K, V>> {
        PerCpuTable::new(self)
    }

    /// A typed view of a queue or stack.
    ///
    /// # Errors
    /// The type's size is not that of the map's values, or the map is none.
    pub fn queue<V: Plain>(&self) -> Result<Queue<V>> {
        Queue::new(self)
    }

    /// A typed view of a bloom filter.
    ///
    /// # Errors
    /// As [`Map::queue`].
    pub fn bloom<V: Plain>(&self) -> Result<Bloom<V>> {
        Bloom::new(self)
    }

    /// A typed view of values that hang on tasks, sockets, files or control groups.
    ///
    /// # Errors
    /// As [`Map::queue`].
    pub fn storage<V: Plain>(&self) -> Result<Storage<V>> {
        Storage::new(self)
    }

    /// A typed view of a map of maps.
    ///
    /// # Errors
    /// The key's size is not that of the map's keys, or the map is none.
    pub fn of_maps<K: Plain>(&self) -> Result<MapOfMaps<K>> {
        MapOfMaps::new(self)
    }

    /// The devices of a device map.
    ///
    /// # Errors
    /// The map is none.
    pub fn devices(&self) -> Result<Devices> {
        Devices::new(self)
    }

    /// The CPUs of a CPU map.
    ///
    /// # Errors
    /// The map is none.
    pub fn cpus(&self) -> Result<Cpus> {
        Cpus::new(self)
    }

    /// The writing end of a user ring buffer.
    ///
    /// # Errors
    /// The map is none, or this process has its writing end already.
    pub fn user_ring(&self) -> Result<UserRing> {
        UserRing::new(self)
    }

    /// The memory of an arena.
    ///
    /// # Errors
    /// The map is none, or this process cannot map it where its programs expect it.
    pub fn arena(&self) -> Result<Arena> {
        Arena::new(self)
    }

    /// Puts a counter of perf_event_open(2) into a perf event array: all that happens on the CPU of this number, from now on.
    /// Programs read it with `bpf_perf_event_read_value`. `kind` is `PERF_TYPE_*`, `config` which of its events.
    ///
    /// # Errors
    /// The map is none; this machine has no such event, or no such CPU; the process has not the right.
    pub fn set_counter(&self, cpu: u32, kind: u32, config: u64) -> Result<()> {
        let open = sys::PerfOpen {
            cpu: Some(cpu),
            sampling: sys::Sampling::Never,
            ..sys::PerfOpen::new(sys::PerfTarget::Counter { kind, config })
        };
        let event = sys::perf_event_open(&open)
            .map_err(|errno| self.failed("opening a counter", crate::perf::perf_cause(errno)))?;
        // The map keeps it (`perf_event_fd_array_get_ptr`).
        self.set_fd(&cpu.to_ne_bytes(), event.as_fd())
    }

    /// Puts a program into a program array, for tail calls.
    ///
    /// # Errors
    /// The map is none, or the program is not of the type of those that the array holds.
    pub fn set_program(&self, index: u32, program: &Program) -> Result<()> {
        self.set_fd(&index.to_ne_bytes(), program.as_fd())
    }

    /// Puts a map into a map-in-map.
    ///
    /// # Errors
    /// The map is none, or `inner` has another shape than what it was made for.
    pub fn set_map(&self, key: &[u8], inner: &Map) -> Result<()> {
        self.set_fd(key, inner.as_fd())
    }

    /// Puts something else that is known by its file descriptor into a map that holds such: a socket (socket maps and hashes, groups of
    /// sockets, AF_XDP sockets), a control group by its directory, a perf event.
    ///
    /// # Errors
    /// The map does not take it.
    pub fn set_fd(&self, key: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
        // In any other map the number of the descriptor would become a value.
        if !kinds::holds_descriptors(self.kind()) {
            let cause = Cause::invalid(format!("maps of the kind {} hold no file descriptors", self.kind()));
            return Err(self.failed("filling a slot", cause.action(kinds::view(self.kind()))));
        }
        self.0.fd.update_fd(key, fd, 0).map_err(|errno| {
            let cause = match errno {
                Errno::INVAL if self.kind() == MapType::PROG_ARRAY => Cause::invalid(
                    "the program is not of the type, or not made like those, that the array holds already",
                )
                .errno(errno),
                Errno::INVAL | Errno::BADF | Errno::NOTSOCK | Errno::OPNOTSUPP | crate::explain::ENOTSUPP => {
                    Cause::invalid(match self.kind() {
                        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
                            "what is put in is no map, or has not the shape that the map was made for"
                        }
                        MapType::CGROUP_ARRAY => "what is put in is no control group's directory",
                        MapType::XSKMAP => "what is put in is no AF_XDP socket with its memory registered",
                        MapType::SOCKMAP | MapType::SOCKHASH | MapType::REUSEPORT_SOCKARRAY => {
                            "what is put in is no socket, or none in a state in which the map takes it"
                        }
                        MapType::PERF_EVENT_ARRAY => "what is put in is no perf event, or none that programs can read",
                        MapType::PROG_ARRAY => "what is put in is no program",
                        _ => "what is put in is not what maps of this kind hold",
                    })
                    .errno(errno)
                }
                _ => self.explain(errno),
            };
            self.failed("filling a slot", cause)
        })
    }

    /// From now on user space cannot write it; programs still can unless it is read-only to them.
    ///
    /// # Errors
    /// The kernel refuses: somebody has it mapped for writing, or it is frozen already.
    pub fn freeze(&self) -> Result<()> {
        self.unmap_writable();
        self.0.fd.freeze().map_err(|errno| {
            let cause = match errno {
                Errno::BUSY | Errno::PERM if self.frozen() => Cause::invalid("it is frozen already").errno(errno),
                Errno::BUSY => {
                    Cause::new(Kind::Io, "somebody has it mapped for writing, or writes it at this moment").errno(errno)
                }
                crate::explain::ENOTSUPP => Cause::new(
                    Kind::Unsupported,
                    format!(
                        "maps of the kind {}, or with locks, timers or pointers in their values, cannot be frozen",
                        self.kind()
                    ),
                )
                .errno(errno),
                _ => self.explain(errno),
            };
            self.failed("freezing it", cause)
        })
    }

    /// Pins it: it stays in the kernel, under this path of a bpffs, until the file is removed.
    ///
    /// # Errors
    /// The path is taken or is in no bpffs.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        sys::object_pin(self.as_fd(), path).map_err(|errno| self.failed("pinning it", pin_cause(errno, path)))
    }
}

/// A view that does not fit the map's kind.
fn wrong_view(map: &Map, view: &str) -> Error {
    let cause = Cause::invalid(format!("`{view}` is not for maps of the kind {}", map.kind()));
    map.failed(table::OPENING, cause.action(kinds::view(map.kind())))
}

/// `true`: done; `false`: there was no such key.
fn found(result: sys::Result<()>) -> sys::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The kernel has no batches for this kind of map (`BPF_DO_BATCH` of `kernel/bpf/syscall.c`: ENOTSUPP), or none at all (5.5 and
/// earlier: EINVAL for an unknown command).
pub(crate) fn no_batch(errno: Errno) -> bool {
    errno == crate::explain::ENOTSUPP || errno == Errno::OPNOTSUPP || errno == Errno::INVAL
}

/// What goes wrong with pins.
pub(crate) fn pin_cause(errno: Errno, path: &Path) -> Cause {
    let shown = path.display();
    let cause = match errno {
        Errno::EXIST => Cause::invalid(format!("{shown} exists already")).action("remove it, or take another path"),
        Errno::NOENT => Cause::invalid(format!("{shown} or a directory above it does not exist")),
        Errno::PERM | Errno::ACCESS => {
            Cause::new(Kind::Permission, format!("no right to {shown}, or it is in no bpffs"))
                .action("mount one: `mount -t bpf bpf /sys/fs/bpf`")
        }
        Errno::INVAL => Cause::invalid(format!("{shown} is in no bpffs, or its name holds a dot"))
            .action("mount one: `mount -t bpf bpf /sys/fs/bpf`"),
        Errno::BADF => Cause::invalid(format!("what is pinned at {shown} is of another kind")),
        _ => return crate::explain::plain(errno),
    };
    cause.errno(errno)
}
