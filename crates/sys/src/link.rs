//! Attaching: links, the older attach calls, raw tracepoints, iterators.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ringfence_uapi::{AttachType, Command};
use rustix::io::Errno;

use crate::attr::{
    AttachAttr, IterCreateAttr, Joined, LinkDetachAttr, LinkHead, LinkIter, LinkKprobeMulti, LinkNetfilter,
    LinkPerfEvent, LinkRelative, LinkTracing, LinkTracingMulti, LinkUpdateAttr, LinkUprobeMulti, Plain, QueryAttr,
    RawTracepointAttr,
};
use crate::call::{address, address_mut, bpf, bpf_fd, length};
use crate::fd::LinkFd;
use crate::{Result, flags};

/// To what something is attached.
#[derive(Clone, Copy, Debug, Default)]
pub enum AttachTo<'a> {
    /// The program or the rest of the call says it.
    #[default]
    Nothing,
    /// A cgroup, a network namespace, an event, a map, another program.
    Fd(BorrowedFd<'a>),
    /// A network device, by its index.
    Device(u32),
}

impl AttachTo<'_> {
    fn number(self) -> i32 {
        match self {
            AttachTo::Nothing => 0,
            AttachTo::Fd(fd) => fd.as_raw_fd(),
            AttachTo::Device(index) => index.cast_signed(),
        }
    }
}

/// Beside which other one it goes (tcx, netkit, cgroup). Which side is a flag: `BPF_F_BEFORE`, `BPF_F_AFTER`,
/// `BPF_F_REPLACE`.
#[derive(Clone, Copy, Debug)]
pub enum Relative<'a> {
    /// A program or (with `BPF_F_LINK`) a link.
    Fd(BorrowedFd<'a>),
    /// A program or (with `BPF_F_LINK`) a link, by id; the flag `BPF_F_ID` is added by itself.
    Id(u32),
}

impl Relative<'_> {
    fn number_and_flag(relative: Option<Relative<'_>>) -> (i32, u32) {
        match relative {
            None => (0, 0),
            Some(Relative::Fd(fd)) => (fd.as_raw_fd(), 0),
            Some(Relative::Id(id)) => (id.cast_signed(), flags::BPF_F_ID),
        }
    }
}

/// Kernel functions to attach to at once.
#[derive(Clone, Copy, Debug)]
pub enum Multi<'a> {
    /// By name.
    Symbols(&'a [&'a CStr]),
    /// By address.
    Addresses(&'a [u64]),
}

impl Multi<'_> {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Multi::Symbols(names) => names.len(),
            Multi::Addresses(places) => places.len(),
        }
    }
}

/// The part of `BPF_LINK_CREATE` that depends on the kind of link.
#[derive(Clone, Copy, Debug, Default)]
pub enum LinkTail<'a> {
    /// Nothing more to say.
    #[default]
    None,
    /// On an event.
    PerfEvent {
        /// What `bpf_get_attach_cookie` gives.
        cookie: u64,
    },
    /// On many kernel functions.
    KprobeMulti {
        /// Which.
        functions: Multi<'a>,
        /// One for each, or none.
        cookies: &'a [u64],
        /// `BPF_F_KPROBE_MULTI_RETURN`.
        flags: u32,
    },
    /// On many places of a program in user space.
    UprobeMulti {
        /// The binary.
        path: &'a CStr,
        /// The places.
        offsets: &'a [u64],
        /// Offset of a reference counter for each, or none.
        ref_ctr_offsets: &'a [u64],
        /// One for each, or none.
        cookies: &'a [u64],
        /// `BPF_F_UPROBE_MULTI_RETURN`.
        flags: u32,
        /// One process; 0: all.
        pid: u32,
    },
    /// fentry and its kin, freplace.
    Tracing {
        /// Function of the target program; 0: as at load time.
        btf_id: u32,
        /// What `bpf_get_attach_cookie` gives.
        cookie: u64,
    },
    /// fentry and its kin on many kernel functions.
    TracingMulti {
        /// Their types in the kernel's BTF.
        ids: &'a [u32],
        /// One for each, or none.
        cookies: &'a [u64],
    },
    /// Netfilter hook.
    Netfilter {
        /// Protocol family.
        family: u32,
        /// Hook number.
        hook: u32,
        /// Order among the hooks.
        priority: i32,
        /// `BPF_F_NETFILTER_IP_DEFRAG`.
        flags: u32,
    },
    /// tcx, netkit, cgroup: place in a list.
    Relative {
        /// Beside which.
        to: Option<Relative<'a>>,
        /// The list must be at this revision; 0: any.
        expected_revision: u64,
    },
    /// `union bpf_iter_link_info`, as bytes.
    Iter(&'a [u8]),
}

/// What `BPF_LINK_CREATE` takes.
#[derive(Clone, Copy, Debug)]
pub struct LinkCreate<'a> {
    /// The program; for struct_ops the map.
    pub program: BorrowedFd<'a>,
    /// Hook.
    pub attach_type: AttachType,
    /// To what.
    pub to: AttachTo<'a>,
    /// Depends on the kind.
    pub flags: u32,
    /// Depends on the kind.
    pub tail: LinkTail<'a>,
}

/// `BPF_LINK_CREATE`.
///
/// # Errors
/// What the kernel says; `EMSGSIZE`: cookies or counters are not as many as places.
pub fn link_create(create: &LinkCreate<'_>) -> Result<LinkFd> {
    let mut head = LinkHead {
        prog_fd: create.program.as_raw_fd(),
        target_fd: create.to.number(),
        attach_type: create.attach_type.0,
        flags: create.flags,
    };
    match create.tail {
        LinkTail::None => submit(&mut head),
        LinkTail::PerfEvent { cookie } => submit_with(head, LinkPerfEvent { bpf_cookie: cookie }),
        LinkTail::KprobeMulti { functions, cookies, flags } => {
            let (names, addrs): (Vec<u64>, u64) = match functions {
                Multi::Symbols(names) => (names.iter().map(|name| address(name.to_bytes_with_nul())).collect(), 0),
                Multi::Addresses(places) => (Vec::new(), address(places)),
            };
            let count = functions.count();
            same_count(count, cookies)?;
            let (syms, cookies) = (address(&names), address(cookies));
            submit_with(head, LinkKprobeMulti { flags, cnt: length(count)?, syms, addrs, cookies })
        }
        LinkTail::UprobeMulti { path, offsets, ref_ctr_offsets, cookies, flags, pid } => {
            same_count(offsets.len(), cookies)?;
            same_count(offsets.len(), ref_ctr_offsets)?;
            let tail = LinkUprobeMulti {
                path: address(path.to_bytes_with_nul()),
                offsets: address(offsets),
                ref_ctr_offsets: address(ref_ctr_offsets),
                cookies: address(cookies),
                cnt: length(offsets.len())?,
                flags,
                pid,
                _pad: 0,
            };
            submit_with(head, tail)
        }
        LinkTail::Tracing { btf_id, cookie } => {
            submit_with(head, LinkTracing { target_btf_id: btf_id, _pad: 0, cookie })
        }
        LinkTail::TracingMulti { ids, cookies } => {
            same_count(ids.len(), cookies)?;
            let (cnt, ids, cookies) = (length(ids.len())?, address(ids), address(cookies));
            submit_with(head, LinkTracingMulti { ids, cookies, cnt, _pad: 0 })
        }
        LinkTail::Netfilter { family, hook, priority, flags } => {
            submit_with(head, LinkNetfilter { pf: family, hooknum: hook, priority, flags })
        }
        LinkTail::Relative { to, expected_revision } => {
            let (relative_fd, flag) = Relative::number_and_flag(to);
            head.flags |= flag;
            submit_with(head, LinkRelative { relative_fd, _pad: 0, expected_revision })
        }
        LinkTail::Iter(info) => {
            submit_with(head, LinkIter { iter_info: address(info), iter_info_len: length(info.len())?, _pad: 0 })
        }
    }
}

fn same_count(count: usize, others: &[u64]) -> Result<()> {
    if others.is_empty() || others.len() == count { Ok(()) } else { Err(Errno::MSGSIZE) }
}

fn submit_with<T: Plain>(head: LinkHead, tail: T) -> Result<LinkFd> {
    submit(&mut Joined { head, tail })
}

/// For [`link_create`] alone: every address is that of a slice that it borrows, with the length beside it.
fn submit<T: Plain>(attr: &mut T) -> Result<LinkFd> {
    // SAFETY: BPF_LINK_CREATE only reads through addresses, whatever kind of link the kernel takes them for;
    // reading what is not mapped gives EFAULT.
    Ok(LinkFd::new(unsafe { bpf_fd(Command::LINK_CREATE, attr)? }))
}

/// `BPF_LINK_UPDATE`: another program in the place of the present one, atomically.
///
/// # Errors
/// What the kernel says; `EPERM`: `expected` is given and is not the present one.
pub fn link_update(link: &LinkFd, program: BorrowedFd<'_>, expected: Option<BorrowedFd<'_>>) -> Result<()> {
    update(link, program, expected)
}

/// `BPF_LINK_UPDATE` of a struct_ops link: another map in the place of the present one.
///
/// # Errors
/// What the kernel says.
pub fn link_update_map(link: &LinkFd, map: BorrowedFd<'_>, expected: Option<BorrowedFd<'_>>) -> Result<()> {
    update(link, map, expected)
}

fn update(link: &LinkFd, new: BorrowedFd<'_>, expected: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: link.as_fd().as_raw_fd(),
        new_prog_fd: new.as_raw_fd(),
        flags: if expected.is_some() { flags::BPF_F_REPLACE } else { 0 },
        old_prog_fd: expected.map_or(0, |old| old.as_raw_fd()),
    };
    // SAFETY: no addresses.
    unsafe { bpf(Command::LINK_UPDATE, &mut attr) }.map(drop)
}

/// `BPF_LINK_DETACH`: takes the program off and leaves the link as a shell.
///
/// # Errors
/// What the kernel says.
pub fn link_detach(link: &LinkFd) -> Result<()> {
    let mut attr = LinkDetachAttr { link_fd: link.as_fd().as_raw_fd() };
    // SAFETY: no addresses.
    unsafe { bpf(Command::LINK_DETACH, &mut attr) }.map(drop)
}

/// `BPF_RAW_TRACEPOINT_OPEN`. Without a name: for programs that say their target at load time (tp_btf,
/// fentry, lsm) on kernels before links of their own.
///
/// # Errors
/// What the kernel says.
pub fn raw_tracepoint_open(name: Option<&CStr>, program: BorrowedFd<'_>, cookie: u64) -> Result<LinkFd> {
    let mut attr = RawTracepointAttr {
        name: name.map_or(0, |name| address(name.to_bytes_with_nul())),
        prog_fd: program.as_raw_fd(),
        _pad: 0,
        cookie,
    };
    // SAFETY: the name ends with a zero byte and is only read.
    Ok(LinkFd::new(unsafe { bpf_fd(Command::RAW_TRACEPOINT_OPEN, &mut attr)? }))
}

/// `BPF_ITER_CREATE`: a descriptor to read what the iterator writes.
///
/// # Errors
/// What the kernel says.
pub fn iter_create(link: &LinkFd) -> Result<OwnedFd> {
    let mut attr = IterCreateAttr { link_fd: link.as_fd().as_raw_fd(), flags: 0 };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Command::ITER_CREATE, &mut attr) }
}

/// `BPF_PROG_ATTACH`. What it attaches stays until it is detached or its target is gone.
///
/// # Errors
/// What the kernel says.
pub fn program_attach(
    to: AttachTo<'_>,
    program: BorrowedFd<'_>,
    attach_type: AttachType,
    attach_flags: u32,
    replace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: to.number(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: attach_type.0,
        attach_flags,
        replace_bpf_fd: replace.map_or(0, |fd| fd.as_raw_fd()),
        ..AttachAttr::ZERO
    };
    // SAFETY: no addresses.
    unsafe { bpf(Command::PROG_ATTACH, &mut attr) }.map(drop)
}

/// `BPF_PROG_DETACH`.
///
/// # Errors
/// What the kernel says.
pub fn program_detach(to: AttachTo<'_>, program: Option<BorrowedFd<'_>>, attach_type: AttachType) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: to.number(),
        attach_bpf_fd: program.map_or(0, |fd| fd.as_raw_fd()),
        attach_type: attach_type.0,
        ..AttachAttr::ZERO
    };
    // SAFETY: no addresses.
    unsafe { bpf(Command::PROG_DETACH, &mut attr) }.map(drop)
}

/// What is attached to a place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queried {
    /// Ids of the programs, in the order in which they run.
    pub programs: Vec<u32>,
    /// Ids of their links, 0 for one without; empty where it was not asked.
    pub links: Vec<u32>,
    /// Flags of the place.
    pub attach_flags: u32,
    /// Revision of the list (tcx, netkit), else 0.
    pub revision: u64,
}

/// `BPF_PROG_QUERY`. `links`: ask for the links too (tcx and netkit alone).
///
/// # Errors
/// What the kernel says.
pub fn program_query(to: AttachTo<'_>, attach_type: AttachType, query_flags: u32, links: bool) -> Result<Queried> {
    let mut room = 64;
    loop {
        let mut programs = vec![0u32; room];
        let mut link_ids = vec![0u32; if links { room } else { 0 }];
        let mut attr = QueryAttr {
            target_fd: to.number(),
            attach_type: attach_type.0,
            query_flags,
            prog_ids: address_mut(&mut programs),
            link_ids: address_mut(&mut link_ids),
            prog_cnt: length(room)?,
            ..QueryAttr::ZERO
        };
        // SAFETY: each list has room for `prog_cnt` numbers.
        match unsafe { bpf(Command::PROG_QUERY, &mut attr) } {
            // The list may have grown since the kernel told how long it is.
            Err(Errno::NOSPC) => room = (attr.prog_cnt as usize).max(room).saturating_mul(2),
            Err(errno) => return Err(errno),
            Ok(_) => {
                let count = (attr.prog_cnt as usize).min(room);
                programs.truncate(count);
                link_ids.truncate(count);
                let (attach_flags, revision) = (attr.attach_flags, attr.revision);
                return Ok(Queried { programs, links: link_ids, attach_flags, revision });
            }
        }
    }
}
