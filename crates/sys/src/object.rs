//! What concerns programs, maps, links and BTF alike: pins, ids, tokens, statistics.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ringfence_uapi::Command;
use rustix::io::Errno;

use crate::Result;
use crate::attr::{EnableStatsAttr, IdAttr, ObjAttr, Plain, TaskFdQueryAttr, TokenCreateAttr};
use crate::call::{address, address_mut, bpf, bpf_fd, length, text};
use crate::fd::{BtfFd, LinkFd, MapFd, ProgramFd, TokenFd};

fn path_text(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

/// `BPF_OBJ_PIN`: gives a program, map or link a name in a bpffs, which keeps it.
///
/// # Errors
/// What the kernel says: `EPERM` also when the place is in no bpffs.
pub fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let path = path_text(path)?;
    let mut attr = ObjAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: fd.as_raw_fd(), ..ObjAttr::ZERO };
    // SAFETY: the path ends with a zero byte and is only read.
    unsafe { bpf(Command::OBJ_PIN, &mut attr) }.map(drop)
}

/// `BPF_OBJ_GET`: what is pinned there, whatever it is. `file_flags`: `BPF_F_RDONLY`, `BPF_F_WRONLY`, 0.
///
/// # Errors
/// What the kernel says.
pub fn object_get(path: &Path, file_flags: u32) -> Result<OwnedFd> {
    let path = path_text(path)?;
    let mut attr = ObjAttr { pathname: address(path.as_bytes_with_nul()), file_flags, ..ObjAttr::ZERO };
    // SAFETY: the path ends with a zero byte and is only read.
    unsafe { bpf_fd(Command::OBJ_GET, &mut attr) }
}

/// What has ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the four kinds of the kernel")]
pub enum Ids {
    Program,
    Map,
    Btf,
    Link,
}

impl Ids {
    /// `BPF_*_GET_NEXT_ID`: the lowest id above `id`; `None`: there is none.
    ///
    /// # Errors
    /// `EPERM`: without CAP_SYS_ADMIN.
    pub fn after(self, id: u32) -> Result<Option<u32>> {
        let command = match self {
            Ids::Program => Command::PROG_GET_NEXT_ID,
            Ids::Map => Command::MAP_GET_NEXT_ID,
            Ids::Btf => Command::BTF_GET_NEXT_ID,
            Ids::Link => Command::LINK_GET_NEXT_ID,
        };
        let mut attr = IdAttr { start_id: id, ..IdAttr::ZERO };
        // SAFETY: no addresses.
        match unsafe { bpf(command, &mut attr) } {
            Ok(_) => Ok(Some(attr.next_id)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

fn open(command: Command, id: u32, open_flags: u32) -> Result<OwnedFd> {
    let mut attr = IdAttr { start_id: id, open_flags, ..IdAttr::ZERO };
    // SAFETY: no addresses.
    unsafe { bpf_fd(command, &mut attr) }
}

/// `BPF_PROG_GET_FD_BY_ID`.
///
/// # Errors
/// `ENOENT`: no such program; `EPERM`: without CAP_SYS_ADMIN.
pub fn open_program(id: u32) -> Result<ProgramFd> {
    open(Command::PROG_GET_FD_BY_ID, id, 0).map(ProgramFd::new)
}

/// `BPF_MAP_GET_FD_BY_ID`. `open_flags`: `BPF_F_RDONLY`, `BPF_F_WRONLY`, 0.
///
/// # Errors
/// `ENOENT`: no such map; `EPERM`: without CAP_SYS_ADMIN.
pub fn open_map(id: u32, open_flags: u32) -> Result<MapFd> {
    MapFd::new(open(Command::MAP_GET_FD_BY_ID, id, open_flags)?)
}

/// `BPF_BTF_GET_FD_BY_ID`.
///
/// # Errors
/// `ENOENT`: no such BTF; `EPERM`: without CAP_SYS_ADMIN.
pub fn open_btf(id: u32) -> Result<BtfFd> {
    open(Command::BTF_GET_FD_BY_ID, id, 0).map(BtfFd::new)
}

/// `BPF_LINK_GET_FD_BY_ID`.
///
/// # Errors
/// `ENOENT`: no such link; `EPERM`: without CAP_SYS_ADMIN.
pub fn open_link(id: u32) -> Result<LinkFd> {
    open(Command::LINK_GET_FD_BY_ID, id, 0).map(LinkFd::new)
}

/// `BPF_TOKEN_CREATE`: the rights that this bpffs delegates.
///
/// # Errors
/// What the kernel says.
pub fn token_create(bpffs: BorrowedFd<'_>) -> Result<TokenFd> {
    let mut attr = TokenCreateAttr { flags: 0, bpffs_fd: bpffs.as_raw_fd() };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Command::TOKEN_CREATE, &mut attr) }.map(TokenFd::new)
}

/// `BPF_ENABLE_STATS`: the kernel counts and times every run of every program while this is held.
///
/// # Errors
/// What the kernel says.
pub fn enable_run_time_stats() -> Result<OwnedFd> {
    // BPF_STATS_RUN_TIME is 0.
    let mut attr = EnableStatsAttr { type_: 0 };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Command::ENABLE_STATS, &mut attr) }
}

/// What runs a program at a descriptor of some process: a perf event, or a raw tracepoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskFd {
    /// The program.
    pub program_id: u32,
    /// On what.
    pub kind: TaskFdKind,
    /// Tracepoint, function (empty: by address) or file.
    pub name: String,
    /// Offset in the function or file.
    pub offset: u64,
    /// Address of a kprobe; 0: none, or not allowed to know.
    pub address: u64,
}

/// `enum bpf_task_fd_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum TaskFdKind {
    RawTracepoint,
    Tracepoint,
    Kprobe,
    Kretprobe,
    Uprobe,
    Uretprobe,
    Other(u32),
}

/// `BPF_TASK_FD_QUERY`: the program at a descriptor of a process. `fd` is a number in that process.
///
/// # Errors
/// `ENOENT`: no such process, or there is no program; `ENOTSUPP` (524), `EOPNOTSUPP`: the descriptor is of another kind, or
/// a perf event of a kind for which the kernel does not tell.
pub fn task_fd_query(pid: u32, fd: u32) -> Result<TaskFd> {
    let mut name = [0u8; 512];
    let (buf, buf_len) = (address_mut(&mut name), length(name.len())?);
    let mut attr = TaskFdQueryAttr { pid, fd, buf_len, buf, ..TaskFdQueryAttr::ZERO };
    // SAFETY: `name` has room for `buf_len` bytes.
    unsafe { bpf(Command::TASK_FD_QUERY, &mut attr)? };
    let kind = match attr.fd_type {
        0 => TaskFdKind::RawTracepoint,
        1 => TaskFdKind::Tracepoint,
        2 => TaskFdKind::Kprobe,
        3 => TaskFdKind::Kretprobe,
        4 => TaskFdKind::Uprobe,
        5 => TaskFdKind::Uretprobe,
        other => TaskFdKind::Other(other),
    };
    let (program_id, offset, address) = (attr.prog_id, attr.probe_offset, attr.probe_addr);
    Ok(TaskFd { program_id, kind, name: text(&name), offset, address })
}
