//! What the kernel tells of a map, program, link or BTF (`BPF_OBJ_GET_INFO_BY_FD`).

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ringfence_uapi::{AttachType, Command, Insn, LinkType, MapType, ProgramType};
use rustix::io::Errno;

use crate::Result;
use crate::attr::{
    InfoAttr, InfoCgroup, InfoDevice, InfoIter, InfoKprobeMulti, InfoNetfilter, InfoNetns, InfoPerfEvent,
    InfoPerfEventEvent, InfoPerfKprobe, InfoPerfTracepoint, InfoPerfUprobe, InfoRawTracepoint, InfoSockmap,
    InfoStructOps, InfoTracing, InfoUprobeMulti, InfoXdp, Joined, LinkInfoHead, Plain, RawBtfInfo, RawMapInfo,
    RawProgInfo,
};
use crate::call::{address_mut, bpf, length, text};
use crate::fd::{BtfFd, LinkFd, ProgramFd};

/// Fills `info` and says how many bytes of it this kernel knows.
///
/// # Safety
/// `fd` must be of the kind to which `info` belongs, and addresses in `info` must be valid for writes of
/// the lengths beside them.
unsafe fn get_info<T: Plain>(fd: BorrowedFd<'_>, info: &mut T) -> Result<usize> {
    let mut attr = InfoAttr {
        bpf_fd: fd.as_raw_fd(),
        info_len: length(size_of::<T>())?,
        info: address_mut(std::slice::from_mut(info)),
    };
    // SAFETY: `info` has room for `info_len` bytes; the rest is what the caller promises.
    unsafe { bpf(Command::OBJ_GET_INFO_BY_FD, &mut attr)? };
    Ok(attr.info_len as usize)
}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapInfo {
    /// What it is.
    pub kind: MapType,
    /// Id.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Name.
    pub name: String,
    /// Device to which it is offloaded, 0: none.
    pub ifindex: u32,
    /// BTF, 0: none.
    pub btf_id: u32,
    /// Type of a key.
    pub btf_key: u32,
    /// Type of a value.
    pub btf_value: u32,
    /// struct_ops: type of the value in the kernel's BTF.
    pub btf_vmlinux_value: u32,
    /// Meaning depends on the kind.
    pub map_extra: u64,
}

/// Of a map, or whatever `fd` is: maps' information has no addresses in it, and what is not a map is
/// refused by everything that uses the sizes.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<MapInfo> {
    let mut raw = RawMapInfo::ZERO;
    // SAFETY: all zero but for what the kernel writes: no addresses, and all lengths are 0, for any kind.
    unsafe { get_info(fd, &mut raw)? };
    Ok(MapInfo {
        kind: MapType(raw.type_),
        id: raw.id,
        key_size: raw.key_size,
        value_size: raw.value_size,
        max_entries: raw.max_entries,
        flags: raw.map_flags,
        name: text(&raw.name),
        ifindex: raw.ifindex,
        btf_id: raw.btf_id,
        btf_key: raw.btf_key_type_id,
        btf_value: raw.btf_value_type_id,
        btf_vmlinux_value: raw.btf_vmlinux_value_type_id,
        map_extra: raw.map_extra,
    })
}

/// A program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramInfo {
    /// What it is.
    pub kind: ProgramType,
    /// Id.
    pub id: u32,
    /// First 8 bytes of a hash of its instructions.
    pub tag: [u8; 8],
    /// Name.
    pub name: String,
    /// Bytes of machine code, 0: interpreted, or not allowed to know.
    pub jited_len: u32,
    /// Bytes of instructions as the kernel has rewritten them.
    pub xlated_len: u32,
    /// When it was loaded, in nanoseconds since boot.
    pub load_time_ns: u64,
    /// Who loaded it.
    pub created_by_uid: u32,
    /// Number of maps that it uses.
    pub map_count: u32,
    /// Its licence allows GPL-only helpers.
    pub gpl_compatible: bool,
    /// Device to which it is bound, 0: none.
    pub ifindex: u32,
    /// BTF, 0: none.
    pub btf_id: u32,
    /// Time in it, while statistics were on.
    pub run_time_ns: u64,
    /// Runs, while statistics were on.
    pub run_count: u64,
    /// Runs that were left out because it was running on that CPU; `None`: this kernel does not say (5.12).
    pub recursion_misses: Option<u64>,
    /// Instructions that the verifier went through; `None`: this kernel does not say (5.16).
    pub verified_insns: Option<u32>,
    /// BTF of its target, 0: none.
    pub attach_btf_object: u32,
    /// Its target in that BTF, 0: none.
    pub attach_btf_id: u32,
}

impl ProgramFd {
    /// All that the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<ProgramInfo> {
        let mut raw = RawProgInfo::ZERO;
        // SAFETY: it is a program; no addresses, all lengths 0.
        let known = unsafe { get_info(self.as_fd(), &mut raw)? };
        // A C bit-field starts at the low bit on little-endian machines and at the high one on others.
        let gpl_bit = if cfg!(target_endian = "little") { 1 } else { 1 << 31 };
        Ok(ProgramInfo {
            kind: ProgramType(raw.type_),
            id: raw.id,
            tag: raw.tag,
            name: text(&raw.name),
            jited_len: raw.jited_prog_len,
            xlated_len: raw.xlated_prog_len,
            load_time_ns: raw.load_time,
            created_by_uid: raw.created_by_uid,
            map_count: raw.nr_map_ids,
            gpl_compatible: raw._gpl_compatible & gpl_bit != 0,
            ifindex: raw.ifindex,
            btf_id: raw.btf_id,
            run_time_ns: raw.run_time_ns,
            run_count: raw.run_cnt,
            recursion_misses: (known > offset_of!(RawProgInfo, recursion_misses)).then_some(raw.recursion_misses),
            verified_insns: (known > offset_of!(RawProgInfo, verified_insns)).then_some(raw.verified_insns),
            attach_btf_object: raw.attach_btf_obj_id,
            attach_btf_id: raw.attach_btf_id,
        })
    }

    /// Ids of the maps that it uses.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn map_ids(&self) -> Result<Vec<u32>> {
        let mut ids = vec![0u32; self.info()?.map_count as usize];
        let mut raw =
            RawProgInfo { nr_map_ids: length(ids.len())?, map_ids: address_mut(&mut ids), ..RawProgInfo::ZERO };
        // SAFETY: it is a program; `ids` has room for `nr_map_ids` numbers, all other lengths are 0.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        ids.truncate(raw.nr_map_ids as usize);
        Ok(ids)
    }

    /// The type of its first function, the one by which it is entered, in the BTF that it was loaded with.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn entry_type(&self) -> Result<Option<u32>> {
        // `struct bpf_func_info`: instruction, type.
        let mut function = [0u32; 2];
        let mut raw = RawProgInfo {
            nr_func_info: 1,
            func_info_rec_size: length(size_of_val(&function))?,
            func_info: address_mut(&mut function),
            ..RawProgInfo::ZERO
        };
        // SAFETY: it is a program; `function` has room for one record of that size, all other lengths are 0.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        Ok((raw.nr_func_info > 0).then_some(function[1]))
    }

    /// Where its machine code lies in the kernel: address and bytes of each function. None: it is interpreted, or the
    /// process may not know (kernel.kptr_restrict, CAP_SYSLOG).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn machine_code(&self) -> Result<Vec<(u64, u32)>> {
        let mut counts = RawProgInfo::ZERO;
        // SAFETY: it is a program; no addresses, all lengths 0.
        unsafe { get_info(self.as_fd(), &mut counts)? };
        let mut addresses = vec![0u64; counts.nr_jited_ksyms as usize];
        let mut lengths = vec![0u32; counts.nr_jited_func_lens as usize];
        let mut raw = RawProgInfo {
            nr_jited_ksyms: length(addresses.len())?,
            jited_ksyms: address_mut(&mut addresses),
            nr_jited_func_lens: length(lengths.len())?,
            jited_func_lens: address_mut(&mut lengths),
            ..RawProgInfo::ZERO
        };
        // SAFETY: it is a program; both lists have room for as many numbers as the fields beside them say.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        Ok(addresses.into_iter().zip(lengths).filter(|(address, _)| *address != 0).collect())
    }

    /// Its instructions as the kernel has rewritten them; none: not allowed to know.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn translated(&self) -> Result<Vec<Insn>> {
        let mut bytes = vec![0u8; self.info()?.xlated_len as usize];
        let mut raw = RawProgInfo {
            xlated_prog_len: length(bytes.len())?,
            xlated_prog_insns: address_mut(&mut bytes),
            ..RawProgInfo::ZERO
        };
        // SAFETY: it is a program; `bytes` has room for `xlated_prog_len` bytes, all other lengths are 0.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        if raw.xlated_prog_insns == 0 {
            return Ok(Vec::new());
        }
        let (slots, _) = bytes.as_chunks::<{ Insn::SIZE }>();
        Ok(slots.iter().map(|slot| Insn::from_bytes(*slot, cfg!(target_endian = "big"))).collect())
    }
}

/// Loaded BTF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BtfInfo {
    /// Id.
    pub id: u32,
    /// Bytes of it.
    pub size: u32,
    /// `vmlinux`, a module's name, or empty for what a process has loaded; `None`: this kernel does not say
    /// (5.11).
    pub name: Option<String>,
    /// The kernel's own or a module's.
    pub kernel: bool,
}

impl BtfFd {
    /// All that the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<BtfInfo> {
        let mut name = [0u8; 128];
        let mut raw = RawBtfInfo { name: address_mut(&mut name), name_len: length(name.len())?, ..RawBtfInfo::ZERO };
        // SAFETY: it is BTF; `name` has room for `name_len` bytes.
        match unsafe { get_info(self.as_fd(), &mut raw) } {
            Ok(_) => {
                let (id, size, kernel) = (raw.id, raw.btf_size, raw.kernel_btf != 0);
                Ok(BtfInfo { id, size, name: Some(text(&name)), kernel })
            }
            // Kernels before 5.11 know no name here, and refuse the address of one.
            Err(Errno::TOOBIG) => {
                let mut raw = RawBtfInfo::ZERO;
                // SAFETY: it is BTF; no addresses.
                unsafe { get_info(self.as_fd(), &mut raw)? };
                Ok(BtfInfo { id: raw.id, size: raw.btf_size, name: None, kernel: false })
            }
            Err(errno) => Err(errno),
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut raw = RawBtfInfo::ZERO;
        // SAFETY: it is BTF; no addresses.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        let mut bytes = vec![0u8; raw.btf_size as usize];
        let mut raw = RawBtfInfo { btf: address_mut(&mut bytes), btf_size: length(bytes.len())?, ..RawBtfInfo::ZERO };
        // SAFETY: it is BTF; `bytes` has room for `btf_size` bytes.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        Ok(bytes)
    }
}

/// A link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// What it is.
    pub kind: LinkType,
    /// Id.
    pub id: u32,
    /// Its program, 0 for struct_ops.
    pub program_id: u32,
    /// Where it goes.
    pub details: LinkDetails,
}

/// Where a link goes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields of `struct bpf_link_info`")]
#[non_exhaustive]
pub enum LinkDetails {
    RawTracepoint {
        name: String,
        cookie: u64,
    },
    Tracing {
        attach_type: AttachType,
        target_object: u32,
        target_btf_id: u32,
        cookie: u64,
    },
    Cgroup {
        id: u64,
        attach_type: AttachType,
    },
    Iter {
        target: String,
    },
    Netns {
        inode: u32,
        attach_type: AttachType,
    },
    Xdp {
        ifindex: u32,
    },
    PerfEvent(PerfLinkDetails),
    KprobeMulti {
        count: u32,
        flags: u32,
        missed: u64,
    },
    StructOps {
        map_id: u32,
    },
    Netfilter {
        family: u32,
        hook: u32,
        priority: i32,
        flags: u32,
    },
    Tcx {
        ifindex: u32,
        attach_type: AttachType,
    },
    UprobeMulti {
        path: String,
        count: u32,
        flags: u32,
        pid: u32,
    },
    Netkit {
        ifindex: u32,
        attach_type: AttachType,
    },
    Sockmap {
        map_id: u32,
        attach_type: AttachType,
    },
    /// A kind that this code does not know the details of.
    Other,
}

/// On which event a perf_event link is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields of `struct bpf_link_info`")]
pub enum PerfLinkDetails {
    Uprobe {
        ret: bool,
        path: String,
        offset: u32,
        cookie: u64,
    },
    Kprobe {
        ret: bool,
        function: String,
        offset: u32,
        address: u64,
        missed: u64,
        cookie: u64,
    },
    Tracepoint {
        name: String,
        cookie: u64,
    },
    Event {
        kind: u32,
        config: u64,
        cookie: u64,
    },
    /// This kernel does not say (6.6).
    Unknown,
}

/// `PATH_MAX`: no name in a link's information is longer.
const NAME_ROOM: usize = 4096;

impl LinkFd {
    fn part<T: Plain>(&self) -> Result<T> {
        let mut raw = Joined::<LinkInfoHead, T>::ZERO;
        // SAFETY: it is a link; no addresses.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        Ok(raw.tail)
    }

    /// # Safety
    /// `tail` must be that of this link's kind, with addresses valid for the lengths beside them.
    unsafe fn fill<T: Plain>(&self, tail: T) -> Result<T> {
        let mut raw = Joined { head: LinkInfoHead::ZERO, tail };
        // SAFETY: it is a link; the rest is what the caller promises.
        unsafe { get_info(self.as_fd(), &mut raw)? };
        Ok(raw.tail)
    }

    /// All that the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<LinkInfo> {
        let mut head = LinkInfoHead::ZERO;
        // SAFETY: it is a link; no addresses.
        unsafe { get_info(self.as_fd(), &mut head)? };
        let kind = LinkType(head.type_);
        Ok(LinkInfo { kind, id: head.id, program_id: head.prog_id, details: self.details(kind)? })
    }

    /// Where a link to many places is: addresses of kernel functions (0 where the process may not know them), offsets in
    /// the file; none for other links.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn places(&self) -> Result<Vec<u64>> {
        let list = |count: u32| vec![0u64; count as usize];
        match self.info()?.details {
            LinkDetails::KprobeMulti { count, .. } => {
                let mut places = list(count);
                let (addrs, count) = (address_mut(&mut places), length(places.len())?);
                // SAFETY: of this kind; `places` has room for `count` numbers.
                unsafe { self.fill(InfoKprobeMulti { addrs, count, ..InfoKprobeMulti::ZERO })? };
                Ok(places)
            }
            LinkDetails::UprobeMulti { count, .. } => {
                let mut places = list(count);
                let (offsets, count) = (address_mut(&mut places), length(places.len())?);
                // SAFETY: of this kind; `places` has room for `count` numbers, the path has no room.
                unsafe { self.fill(InfoUprobeMulti { offsets, count, ..InfoUprobeMulti::ZERO })? };
                Ok(places)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn details(&self, kind: LinkType) -> Result<LinkDetails> {
        let mut name = vec![0u8; NAME_ROOM];
        let (room, len) = (address_mut(&mut name), NAME_ROOM as u32);
        Ok(match kind {
            LinkType::RAW_TRACEPOINT => {
                let empty = InfoRawTracepoint { tp_name: room, tp_name_len: len, ..InfoRawTracepoint::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes.
                let raw = unsafe { self.fill(empty)? };
                LinkDetails::RawTracepoint { name: text(&name), cookie: raw.cookie }
            }
            LinkType::TRACING => {
                let raw: InfoTracing = self.part()?;
                LinkDetails::Tracing {
                    attach_type: AttachType(raw.attach_type),
                    target_object: raw.target_obj_id,
                    target_btf_id: raw.target_btf_id,
                    cookie: raw.cookie,
                }
            }
            LinkType::CGROUP => {
                let raw: InfoCgroup = self.part()?;
                LinkDetails::Cgroup { id: raw.cgroup_id, attach_type: AttachType(raw.attach_type) }
            }
            LinkType::ITER => {
                let empty = InfoIter { target_name: room, target_name_len: len, ..InfoIter::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes.
                unsafe { self.fill(empty)? };
                LinkDetails::Iter { target: text(&name) }
            }
            LinkType::NETNS => {
                let raw: InfoNetns = self.part()?;
                LinkDetails::Netns { inode: raw.netns_ino, attach_type: AttachType(raw.attach_type) }
            }
            LinkType::XDP => LinkDetails::Xdp { ifindex: self.part::<InfoXdp>()?.ifindex },
            LinkType::PERF_EVENT => LinkDetails::PerfEvent(self.perf_details()?),
            LinkType::KPROBE_MULTI => {
                let raw: InfoKprobeMulti = self.part()?;
                LinkDetails::KprobeMulti { count: raw.count, flags: raw.flags, missed: raw.missed }
            }
            LinkType::STRUCT_OPS => LinkDetails::StructOps { map_id: self.part::<InfoStructOps>()?.map_id },
            LinkType::NETFILTER => {
                let raw: InfoNetfilter = self.part()?;
                let (family, hook, priority, flags) = (raw.pf, raw.hooknum, raw.priority, raw.flags);
                LinkDetails::Netfilter { family, hook, priority, flags }
            }
            LinkType::TCX => {
                let raw: InfoDevice = self.part()?;
                LinkDetails::Tcx { ifindex: raw.ifindex, attach_type: AttachType(raw.attach_type) }
            }
            LinkType::UPROBE_MULTI => {
                let empty = InfoUprobeMulti { path: room, path_size: len, ..InfoUprobeMulti::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes, `count` is 0.
                let raw = unsafe { self.fill(empty)? };
                LinkDetails::UprobeMulti { path: text(&name), count: raw.count, flags: raw.flags, pid: raw.pid }
            }
            LinkType::NETKIT => {
                let raw: InfoDevice = self.part()?;
                LinkDetails::Netkit { ifindex: raw.ifindex, attach_type: AttachType(raw.attach_type) }
            }
            LinkType::SOCKMAP => {
                let raw: InfoSockmap = self.part()?;
                LinkDetails::Sockmap { map_id: raw.map_id, attach_type: AttachType(raw.attach_type) }
            }
            _ => LinkDetails::Other,
        })
    }

    fn perf_details(&self) -> Result<PerfLinkDetails> {
        // enum bpf_perf_event_type
        const UPROBE: u32 = 1;
        const URETPROBE: u32 = 2;
        const KPROBE: u32 = 3;
        const KRETPROBE: u32 = 4;
        const TRACEPOINT: u32 = 5;
        const EVENT: u32 = 6;

        let event: InfoPerfEvent = self.part()?;
        let mut name = vec![0u8; NAME_ROOM];
        let (room, len) = (address_mut(&mut name), NAME_ROOM as u32);
        let join = InfoPerfEvent::ZERO;
        Ok(match event.type_ {
            UPROBE | URETPROBE => {
                let tail = InfoPerfUprobe { file_name: room, name_len: len, ..InfoPerfUprobe::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes.
                let raw = unsafe { self.fill(Joined { head: join, tail })?.tail };
                let ret = event.type_ == URETPROBE;
                PerfLinkDetails::Uprobe { ret, path: text(&name), offset: raw.offset, cookie: raw.cookie }
            }
            KPROBE | KRETPROBE => {
                let tail = InfoPerfKprobe { func_name: room, name_len: len, ..InfoPerfKprobe::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes.
                let raw = unsafe { self.fill(Joined { head: join, tail })?.tail };
                PerfLinkDetails::Kprobe {
                    ret: event.type_ == KRETPROBE,
                    function: text(&name),
                    offset: raw.offset,
                    address: raw.addr,
                    missed: raw.missed,
                    cookie: raw.cookie,
                }
            }
            TRACEPOINT => {
                let tail = InfoPerfTracepoint { tp_name: room, name_len: len, ..InfoPerfTracepoint::ZERO };
                // SAFETY: of this kind; `name` has room for `len` bytes.
                let raw = unsafe { self.fill(Joined { head: join, tail })?.tail };
                PerfLinkDetails::Tracepoint { name: text(&name), cookie: raw.cookie }
            }
            EVENT => {
                let raw = self.part::<Joined<InfoPerfEvent, InfoPerfEventEvent>>()?.tail;
                PerfLinkDetails::Event { kind: raw.type_, config: raw.config, cookie: raw.cookie }
            }
            _ => PerfLinkDetails::Unknown,
        })
    }
}
