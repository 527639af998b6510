//! Maps: creation and access by bytes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use ringfence_uapi::{Command, MapType};
use rustix::io::Errno;

use crate::attr::{BatchAttr, ElemAttr, MapCreateAttr, Plain};
use crate::call::{address, address_mut, bpf, bpf_fd, length, object_name};
use crate::fd::MapFd;
use crate::info::{MapInfo, map_info};
use crate::{Result, flags};

/// Number of CPUs that can ever be there (`/sys/devices/system/cpu/possible`): the number of values in an
/// entry of a per-CPU map. Asked once.
///
/// # Errors
/// The file cannot be read (sysfs is not mounted); `EINVAL`: it says something that this cannot read.
pub fn possible_cpus() -> Result<u32> {
    static COUNT: OnceLock<Result<u32>> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        cpu_list_len(&text).filter(|count| *count > 0).ok_or(Errno::INVAL)
    })
}

/// Number of CPUs in a list like `0-3,6`.
fn cpu_list_len(text: &str) -> Option<u32> {
    text.trim().split(',').try_fold(0u32, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// What a map is, as the kernel has told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapShape {
    /// What it is.
    pub kind: MapType,
    /// Its id.
    pub id: u32,
    /// Bytes of a key; 0: it has none.
    pub key_size: u32,
    /// Bytes of one value.
    pub value_size: u32,
    /// Most entries; bytes of a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Meaning depends on the kind.
    pub map_extra: u64,
}

impl MapShape {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let MapInfo { kind, id, key_size, value_size, max_entries, flags, map_extra, .. } = map_info(fd)?;
        Ok(Self { kind, id, key_size, value_size, max_entries, flags, map_extra })
    }

    /// An entry has one value for each possible CPU.
    pub fn is_per_cpu(&self) -> bool {
        matches!(
            self.kind,
            MapType::PERCPU_HASH | MapType::PERCPU_ARRAY | MapType::LRU_PERCPU_HASH | MapType::PERCPU_CGROUP_STORAGE
        )
    }

    /// Bytes from one value to the next, in a per-CPU entry and in a memory-mapped array.
    pub fn value_stride(&self) -> usize {
        (self.value_size as usize).next_multiple_of(8)
    }

    /// Bytes that one lookup or update moves: for a per-CPU map all CPUs' values, each rounded up to 8
    /// bytes (`bpf_map_value_size` of kernel/bpf/syscall.c).
    ///
    /// # Errors
    /// `EOPNOTSUPP`: a kind of map newer than this code, whose values might be larger than they say;
    /// for a per-CPU map the errors of [`possible_cpus`].
    pub fn value_bytes(&self) -> Result<usize> {
        if self.kind.enumerator().is_none() {
            return Err(Errno::OPNOTSUPP);
        }
        if !self.is_per_cpu() {
            return Ok(self.value_size as usize);
        }
        self.value_stride().checked_mul(possible_cpus()? as usize).ok_or(Errno::OVERFLOW)
    }
}

/// Types of a map's key and value, in BTF that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// The BTF.
    pub btf: BorrowedFd<'a>,
    /// Type of a key, 0: none.
    pub key: u32,
    /// Type of a value, 0: none.
    pub value: u32,
}

/// What `BPF_MAP_CREATE` takes. Start from [`MapCreate::new`].
#[derive(Clone, Copy, Debug)]
pub struct MapCreate<'a> {
    /// What it is.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`; the flags that announce a field of this structure are added by themselves.
    pub flags: u32,
    /// Its name: at most 15 bytes; empty: none.
    pub name: &'a str,
    /// A map shaped like the maps that it will hold.
    pub inner: Option<BorrowedFd<'a>>,
    /// Memory node.
    pub numa_node: Option<u32>,
    /// Device to which it is offloaded, 0: none.
    pub ifindex: u32,
    /// Types of key and value.
    pub btf: Option<MapBtf<'a>>,
    /// struct_ops: type of the value in the kernel's BTF.
    pub btf_vmlinux_value: u32,
    /// struct_ops of a module: its BTF.
    pub value_type_btf: Option<BorrowedFd<'a>>,
    /// Meaning depends on the kind.
    pub map_extra: u64,
    /// Rights by a token.
    pub token: Option<BorrowedFd<'a>>,
}

impl MapCreate<'_> {
    /// A map with these sizes and nothing else.
    pub fn new(kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        Self {
            kind,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            name: "",
            inner: None,
            numa_node: None,
            ifindex: 0,
            btf: None,
            btf_vmlinux_value: 0,
            value_type_btf: None,
            map_extra: 0,
            token: None,
        }
    }
}

/// `BPF_MAP_CREATE`.
///
/// # Errors
/// What the kernel says; `ENAMETOOLONG`: the name is longer than 15 bytes.
pub fn map_create(create: &MapCreate<'_>) -> Result<MapFd> {
    let mut attr = MapCreateAttr {
        map_type: create.kind.0,
        key_size: create.key_size,
        value_size: create.value_size,
        max_entries: create.max_entries,
        map_flags: create.flags,
        map_name: object_name(create.name)?,
        map_ifindex: create.ifindex,
        btf_vmlinux_value_type_id: create.btf_vmlinux_value,
        map_extra: create.map_extra,
        ..MapCreateAttr::ZERO
    };
    if let Some(inner) = create.inner {
        attr.inner_map_fd = inner.as_raw_fd();
    }
    if let Some(node) = create.numa_node {
        attr.numa_node = node;
        attr.map_flags |= flags::BPF_F_NUMA_NODE;
    }
    if let Some(types) = create.btf {
        attr.btf_fd = types.btf.as_raw_fd();
        attr.btf_key_type_id = types.key;
        attr.btf_value_type_id = types.value;
    }
    if let Some(btf) = create.value_type_btf {
        attr.value_type_btf_obj_fd = btf.as_raw_fd();
        attr.map_flags |= flags::BPF_F_VTYPE_BTF_OBJ_FD;
    }
    if let Some(token) = create.token {
        attr.map_token_fd = token.as_raw_fd();
        attr.map_flags |= flags::BPF_F_TOKEN_FD;
    }
    // SAFETY: no addresses.
    MapFd::new(unsafe { bpf_fd(Command::MAP_CREATE, &mut attr)? })
}

/// Where a walk by batches stands.
#[derive(Clone, Debug)]
pub struct BatchPosition {
    /// The kernel's mark: for most kinds the last key, for hash maps the number of a bucket.
    mark: Vec<u8>,
    started: bool,
}

/// What a batch brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Entries that were written into the buffers.
    pub count: usize,
    /// There are no more.
    pub last: bool,
}

/// A batch that failed, perhaps half-way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchError {
    /// Why.
    pub errno: Errno,
    /// Entries that were done before.
    pub done: usize,
}

/// Wrong length of a key or value: something that the kernel itself never says of maps.
const WRONG_LENGTH: Errno = Errno::MSGSIZE;

/// Access by bytes. Keys and values must be as long as [`MapShape::key_size`] and
/// [`MapShape::value_bytes`] say, else `EMSGSIZE` without a question to the kernel.
impl MapFd {
    fn elem(&self, key: &[u8]) -> Result<ElemAttr> {
        if key.len() != self.shape().key_size as usize {
            return Err(WRONG_LENGTH);
        }
        Ok(ElemAttr { map_fd: self.as_fd().as_raw_fd(), key: address(key), ..ElemAttr::ZERO })
    }

    fn elem_with(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<ElemAttr> {
        if value.len() != self.shape().value_bytes()? {
            return Err(WRONG_LENGTH);
        }
        Ok(ElemAttr { value: address_mut(value), flags, ..self.elem(key)? })
    }

    /// Copies the value of `key`. For queues, stacks and bloom filters, which have no keys, `key` is empty
    /// (a bloom filter reads `value`).
    ///
    /// # Errors
    /// `ENOENT`: no such key; what else the kernel says.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        let mut attr = self.elem_with(key, value, flags)?;
        // SAFETY: the key is as long as the map's, the value as long as the kernel will write.
        unsafe { bpf(Command::MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
    }

    /// Copies the value of `key` and takes the entry out.
    ///
    /// # Errors
    /// As [`MapFd::lookup`].
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        let mut attr = self.elem_with(key, value, flags)?;
        // SAFETY: as in `lookup`.
        unsafe { bpf(Command::MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) }.map(drop)
    }

    /// Writes the value of `key`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        if value.len() != self.shape().value_bytes()? {
            return Err(WRONG_LENGTH);
        }
        let mut attr = ElemAttr { value: address(value), flags, ..self.elem(key)? };
        // SAFETY: key and value are as long as the kernel will read.
        unsafe { bpf(Command::MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Puts a descriptor (program, map, event, socket, cgroup) into a map that holds such.
    ///
    /// # Errors
    /// `EMSGSIZE`: its values are neither 4 nor 8 bytes; what the kernel says.
    pub fn update_fd(&self, key: &[u8], fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
        let number = fd.as_raw_fd();
        match self.shape().value_size {
            4 => self.update(key, &number.to_ne_bytes(), flags),
            8 => self.update(key, &i64::from(number).to_ne_bytes(), flags),
            _ => Err(WRONG_LENGTH),
        }
    }

    /// Takes an entry out.
    ///
    /// # Errors
    /// `ENOENT`: no such key; what else the kernel says.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        let mut attr = self.elem(key)?;
        // SAFETY: the key is as long as the kernel will read.
        unsafe { bpf(Command::MAP_DELETE_ELEM, &mut attr) }.map(drop)
    }

    /// Writes the key after `key` (`None`: the first one) to `next`; `false`: there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool> {
        let mut attr = match key {
            Some(key) => self.elem(key)?,
            None => ElemAttr { map_fd: self.as_fd().as_raw_fd(), ..ElemAttr::ZERO },
        };
        if next.len() != self.shape().key_size as usize {
            return Err(WRONG_LENGTH);
        }
        attr.value = address_mut(next);
        // SAFETY: both keys are as long as the kernel will read and write.
        match unsafe { bpf(Command::MAP_GET_NEXT_KEY, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// From now on user space cannot write it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn freeze(&self) -> Result<()> {
        let mut attr = ElemAttr { map_fd: self.as_fd().as_raw_fd(), ..ElemAttr::ZERO };
        // SAFETY: no addresses.
        unsafe { bpf(Command::MAP_FREEZE, &mut attr) }.map(drop)
    }

    /// All that the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<MapInfo> {
        map_info(self.as_fd())
    }

    /// The start of a walk by [`MapFd::lookup_batch`].
    pub fn batch_start(&self) -> BatchPosition {
        // The kernel writes a key or, for hash maps, 4 bytes (__htab_map_lookup_and_delete_batch); there is
        // room for more in case that a later kind needs it.
        BatchPosition { mark: vec![0; (self.shape().key_size as usize).max(64)], started: false }
    }

    /// Number of entries for which the buffers have room; both must have room for the same number.
    fn batch_count(&self, keys: usize, values: Option<usize>) -> Result<usize> {
        let key_size = self.shape().key_size as usize;
        let count = keys.checked_div(key_size).ok_or(WRONG_LENGTH)?;
        let fits = match values {
            Some(values) => Some(values) == self.shape().value_bytes()?.checked_mul(count),
            None => true,
        };
        if fits && count.checked_mul(key_size) == Some(keys) { Ok(count) } else { Err(WRONG_LENGTH) }
    }

    fn walk(
        &self,
        command: Command,
        position: &mut BatchPosition,
        keys: &mut [u8],
        values: &mut [u8],
        elem_flags: u64,
    ) -> Result<Batch> {
        let room = self.batch_count(keys.len(), Some(values.len()))?;
        if position.mark.len() < self.shape().key_size as usize {
            return Err(WRONG_LENGTH);
        }
        let mark = address_mut(&mut position.mark);
        let mut attr = BatchAttr {
            in_batch: if position.started { mark } else { 0 },
            out_batch: mark,
            keys: address_mut(keys),
            values: address_mut(values),
            count: length(room)?,
            map_fd: self.as_fd().as_raw_fd(),
            elem_flags,
            flags: 0,
        };
        // SAFETY: the buffers have room for `count` keys and values, the mark for a key and for a bucket's
        // number. The kernel reads the old mark before it writes the new one.
        let last = match unsafe { bpf(command, &mut attr) } {
            Ok(_) => false,
            Err(Errno::NOENT) => true,
            // Up to 6.14: entries were deleted again and again under the walk (generic_map_lookup_batch); those that
            // were copied before are there, and it can go on.
            Err(Errno::INTR) => false,
            Err(errno) => return Err(errno),
        };
        position.started = true;
        Ok(Batch { count: (attr.count as usize).min(room), last })
    }

    /// Copies as many entries as the buffers have room for.
    ///
    /// # Errors
    /// `ENOSPC`: a hash bucket holds more entries than there is room for (the position has not moved: try
    /// again with more room); 524 (`ENOTSUPP`): this kind of map has no batches; what else the kernel says.
    pub fn lookup_batch(
        &self,
        position: &mut BatchPosition,
        keys: &mut [u8],
        values: &mut [u8],
        elem_flags: u64,
    ) -> Result<Batch> {
        self.walk(Command::MAP_LOOKUP_BATCH, position, keys, values, elem_flags)
    }

    /// As [`MapFd::lookup_batch`], and takes the entries out.
    ///
    /// # Errors
    /// As [`MapFd::lookup_batch`].
    pub fn lookup_and_delete_batch(
        &self,
        position: &mut BatchPosition,
        keys: &mut [u8],
        values: &mut [u8],
        elem_flags: u64,
    ) -> Result<Batch> {
        self.walk(Command::MAP_LOOKUP_AND_DELETE_BATCH, position, keys, values, elem_flags)
    }

    /// Writes many entries.
    ///
    /// # Errors
    /// What the kernel says, and how many entries it did.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], elem_flags: u64) -> Result<(), BatchError> {
        let count = self.batch_count(keys.len(), Some(values.len())).map_err(BatchError::early)?;
        self.change(Command::MAP_UPDATE_BATCH, keys, address(values), count, elem_flags)
    }

    /// Takes many entries out.
    ///
    /// # Errors
    /// What the kernel says, and how many entries it did.
    pub fn delete_batch(&self, keys: &[u8], elem_flags: u64) -> Result<(), BatchError> {
        let count = self.batch_count(keys.len(), None).map_err(BatchError::early)?;
        self.change(Command::MAP_DELETE_BATCH, keys, 0, count, elem_flags)
    }

    fn change(
        &self,
        command: Command,
        keys: &[u8],
        values: u64,
        count: usize,
        elem_flags: u64,
    ) -> Result<(), BatchError> {
        let mut attr = BatchAttr {
            keys: address(keys),
            values,
            count: length(count).map_err(BatchError::early)?,
            map_fd: self.as_fd().as_raw_fd(),
            elem_flags,
            ..BatchAttr::ZERO
        };
        // SAFETY: `keys` and, where there are any, `values` hold `count` entries (checked by the callers).
        match unsafe { bpf(command, &mut attr) } {
            Ok(_) => Ok(()),
            Err(errno) => {
                // Where the kernel refuses at once it leaves the count as it was given.
                let done = if (attr.count as usize) < count { attr.count as usize } else { 0 };
                Err(BatchError { errno, done })
            }
        }
    }
}

impl BatchError {
    fn early(errno: Errno) -> Self {
        Self { errno, done: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::cpu_list_len;

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list_len("0\n"), Some(1));
        assert_eq!(cpu_list_len("0-1\n"), Some(2));
        assert_eq!(cpu_list_len("0-3,6,8-9\n"), Some(7));
        assert_eq!(cpu_list_len(""), None);
        assert_eq!(cpu_list_len("3-1"), None);
        assert_eq!(cpu_list_len("0-4294967295"), None);
    }
}
