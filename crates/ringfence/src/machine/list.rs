//! Objects by id. What goes away between two calls is left out: that is no error.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringfence_btf::TypeId;
use ringfence_sys::{self as sys, Errno, Ids, ProgramFd, ProgramInfo};
use rustix::time::{ClockId, clock_gettime};

use super::{Btf, Link, Map, Program, words};
use crate::error::{Cause, Error, Kind, Result};

/// Ids of one kind, each opened and looked at.
struct Objects<F> {
    kind: Ids,
    /// The next one; the first is asked for beforehand, so that a missing right is told before anything is listed.
    next: Option<u32>,
    look: F,
}

impl<T, F: FnMut(u32) -> sys::Result<T>> Iterator for Objects<F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            let id = self.next?;
            let found = (self.look)(id);
            match self.kind.after(id) {
                Ok(next) => self.next = next,
                Err(errno) => {
                    self.next = None;
                    return Some(Err(refused(self.kind, errno)));
                }
            }
            match found {
                Ok(found) => return Some(Ok(found)),
                // A link that is just being made, or taken away, says EAGAIN (bpf_link_by_id of kernel/bpf/syscall.c).
                Err(Errno::NOENT | Errno::AGAIN) => {}
                Err(errno) => return Some(Err(refused(self.kind, errno))),
            }
        }
    }
}

fn objects<T>(kind: Ids, look: impl FnMut(u32) -> sys::Result<T>) -> Result<impl Iterator<Item = Result<T>>> {
    let next = kind.after(0).map_err(|errno| refused(kind, errno))?;
    Ok(Objects { kind, next, look })
}

fn refused(kind: Ids, errno: Errno) -> Error {
    let what = match kind {
        Ids::Program => "listing the kernel's programs",
        Ids::Map => "listing the kernel's maps",
        Ids::Link => "listing the kernel's links",
        Ids::Btf => "listing the kernel's BTF",
    };
    let cause = match errno {
        Errno::PERM | Errno::ACCESS => {
            let held = sys::capabilities().is_ok_and(|held| held.contains(sys::CapabilitySet::SYS_ADMIN));
            let why = match held {
                true => "this process has CAP_SYS_ADMIN only inside of a container or user namespace",
                false => "this process lacks CAP_SYS_ADMIN",
            };
            Cause::new(Kind::Permission, why).errno(errno).action("run it as root of the machine")
        }
        Errno::INVAL => Cause::new(Kind::Unsupported, "this kernel does not list them").errno(errno),
        _ => crate::explain::plain(errno),
    };
    Error::system(what, cause)
}

/// Every program of the kernel.
///
/// # Errors
/// The process may not list them (CAP_SYS_ADMIN).
pub fn programs() -> Result<impl Iterator<Item = Result<Program>>> {
    let boot = boot_time();
    let mut names = Names::default();
    objects(Ids::Program, move |id| {
        let program = sys::open_program(id)?;
        let info = program.info()?;
        let maps = if info.map_count == 0 { Vec::new() } else { program.map_ids()? };
        let memory = fdinfo(program.as_fd()).get("memlock").and_then(|bytes| bytes.parse().ok());
        let name = names.of(&program, &info);
        Ok(Program { loaded: boot + Duration::from_nanos(info.load_time_ns), name, maps, memory, info })
    })
}

/// Bytes of a name that the kernel keeps (`BPF_OBJ_NAME_LEN`, with a zero behind them).
const KERNEL_NAME: usize = 15;

/// Whole names of programs, from the types that they were loaded with (bpftool, `get_prog_full_name`).
#[derive(Default)]
struct Names {
    /// By id; programs of one object share their types.
    types: BTreeMap<u32, Option<ringfence_btf::Btf>>,
}

impl Names {
    fn of(&mut self, program: &ProgramFd, info: &ProgramInfo) -> String {
        let whole = || {
            let types = self.types.entry(info.btf_id).or_insert_with(|| {
                let bytes = sys::open_btf(info.btf_id).and_then(|btf| btf.bytes()).ok()?;
                ringfence_btf::Btf::parse(Arc::new(bytes)).ok()
            });
            let entry = TypeId(program.entry_type().ok()??);
            let name = types.as_ref()?.get(entry).ok()?.name;
            // A function of another name: whoever loaded it chose the name.
            name.starts_with(&info.name).then(|| name.to_owned())
        };
        let cut = info.name.len() == KERNEL_NAME && info.btf_id != 0;
        cut.then(whole).flatten().unwrap_or_else(|| info.name.clone())
    }
}

/// Every map of the kernel.
///
/// # Errors
/// The process may not list them (CAP_SYS_ADMIN).
pub fn maps() -> Result<impl Iterator<Item = Result<Map>>> {
    objects(Ids::Map, |id| {
        let map = sys::open_map(id, sys::flags::BPF_F_RDONLY)?;
        let fields = fdinfo(map.as_fd());
        let memory = fields.get("memlock").and_then(|bytes| bytes.parse().ok());
        let frozen = fields.get("frozen").is_some_and(|frozen| frozen == "1");
        Ok(Map { info: map.info()?, memory, frozen })
    })
}

/// Every link of the kernel. Places are said as far as the link itself tells them; [`Machine::read`](super::Machine::read) knows
/// the names of cgroups, devices and namespaces as well.
///
/// # Errors
/// The process may not list them (CAP_SYS_ADMIN), or the kernel has no links (5.8).
pub fn links() -> Result<impl Iterator<Item = Result<Link>>> {
    objects(Ids::Link, |id| {
        let link = sys::open_link(id)?;
        let info = link.info()?;
        let (hook, target) = words::bare(&info, || fdinfo(link.as_fd()));
        Ok(Link { info, hook, target })
    })
}

/// Links as far as the kernel lists them.
pub(super) fn bare_links() -> Result<Vec<Link>> {
    match links() {
        Ok(links) => links.collect(),
        Err(error) if error.kind() == Kind::Unsupported => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All BTF of the kernel: its own, that of modules, and what processes have loaded.
///
/// # Errors
/// The process may not list them (CAP_SYS_ADMIN).
pub fn btfs() -> Result<impl Iterator<Item = Result<Btf>>> {
    objects(Ids::Btf, |id| Ok(Btf { info: sys::open_btf(id)?.info()? }))
}

/// What `/proc/self/fdinfo` says of a descriptor of ours.
pub(super) fn fdinfo(fd: BorrowedFd<'_>) -> BTreeMap<String, String> {
    fields(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default())
}

/// Lines of `fdinfo`: `map_id:\t7`.
pub(super) fn fields(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// When the machine was started, by the wall clock of now.
fn boot_time() -> SystemTime {
    let since = clock_gettime(ClockId::Boottime);
    let since = Duration::try_from(since).unwrap_or_default();
    SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
