//! What processes hold: their descriptors, as `/proc` shows them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ringfence_sys::{self as sys, LinkFd, TaskFdKind};

use super::{Holder, Id, Machine, list};
use crate::error::{Cause, Error, Kind, Result};

/// What was found.
#[derive(Default)]
pub(super) struct Processes {
    pub(super) holders: Vec<(Id, Holder)>,
    /// A process in each mount namespace, by the namespace's number; ours first.
    pub(super) mounts: Vec<(u64, u32)>,
    /// The same for network namespaces.
    pub(super) networks: Vec<(u64, u32)>,
    /// Processes that could not be looked into.
    pub(super) closed: usize,
    /// Open iterators, which keep their program and do not say which.
    iterators: usize,
}

impl Processes {
    pub(super) fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.closed > 0 {
            let what = "could not be looked into: what they hold may seem to have no owner (CAP_SYS_PTRACE)";
            let processes = if self.closed == 1 { "process" } else { "processes" };
            notices.push(format!("{} {processes} {what}", self.closed));
        }
        if self.iterators > 0 {
            notices.push(format!("{} iterators are open: the kernel does not say of which program", self.iterators));
        }
        notices
    }
}

/// Looks at every process.
///
/// # Errors
/// proc is not mounted: everything would seem to have no owner.
pub(super) fn scan(machine: &Machine) -> Result<Processes> {
    let mut found = Processes::default();
    let own = std::process::id();
    if !Path::new("/proc/self").exists() {
        let why = "the processes that hold them are found in proc, and it is not mounted";
        let cause = Cause::new(Kind::Io, why).action("mount it: `mount -t proc proc /proc`");
        return Err(Error::system("looking for owners", cause));
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Ours first: where a namespace is ours, it is named as we see it.
    pids.sort_unstable_by_key(|pid| (*pid != own, *pid));
    for pid in pids {
        look(pid, machine, &mut found);
    }
    Ok(found)
}

fn look(pid: u32, machine: &Machine, found: &mut Processes) {
    let dir = format!("/proc/{pid}");
    let space = |kind: &str, into: &mut Vec<(u64, u32)>| {
        if let Some(number) = namespace(Path::new(&format!("{dir}/ns/{kind}")))
            && !into.iter().any(|(known, _)| *known == number)
        {
            into.push((number, pid));
        }
    };
    space("mnt", &mut found.mounts);
    space("net", &mut found.networks);
    let descriptors = match std::fs::read_dir(format!("{dir}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) => {
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            found.closed += usize::from(denied && Path::new(&dir).exists());
            return;
        }
    };
    let mut command = None;
    for descriptor in descriptors.flatten() {
        let kind = match rustix::fs::readlink(descriptor.path(), Vec::new()) {
            Ok(kind) => kind,
            // The list may be read where what is in it may not. A process that has ended says so too
            // (proc_fd_access_allowed of fs/proc/base.c).
            Err(sys::Errno::ACCESS | sys::Errno::PERM) => {
                found.closed += usize::from(Path::new(&dir).exists());
                return;
            }
            Err(_) => continue,
        };
        let Some(kind) = kind.to_str().ok().and_then(|kind| kind.strip_prefix("anon_inode:")) else { continue };
        let Some(number) = descriptor.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let (id, event) = match kind {
            "bpf-map" | "bpf-prog" | "btf" => {
                let text = std::fs::read_to_string(format!("{dir}/fdinfo/{number}")).unwrap_or_default();
                (id_in(&list::fields(&text)), None)
            }
            "bpf_link" | "bpf-link" => match sys::descriptor_of(pid, number) {
                Ok(link) => (id_of(link), None),
                Err(sys::Errno::PERM) => {
                    found.closed += 1;
                    return;
                }
                Err(_) => continue,
            },
            "[perf_event]" => event(pid, number, machine),
            "bpf_iter" => {
                found.iterators += 1;
                continue;
            }
            _ => continue,
        };
        let Some(id) = id else { continue };
        let command = command.get_or_insert_with(|| self::command(pid)).clone();
        found.holders.push((id, Holder::Process { pid, command, descriptor: number, event }));
    }
}

/// The object behind a descriptor. A link tells its id itself and its `fdinfo` is left alone: of a kprobe.multi link without
/// cookies some kernels read them all the same, and halt (`bpf_kprobe_multi_show_fdinfo`; seen with 6.18.15).
pub(super) fn id_of(fd: OwnedFd) -> Option<Id> {
    match LinkFd::try_from(fd.try_clone().ok()?) {
        Ok(link) => Some(Id::Link(link.info().ok()?.id)),
        Err(_) => id_in(&list::fdinfo(fd.as_fd())),
    }
}

/// The object that `fdinfo` speaks of.
fn id_in(fields: &BTreeMap<String, String>) -> Option<Id> {
    let number = |name: &str| fields.get(name)?.parse().ok();
    let program = || number("prog_id").map(Id::Program);
    let map = || number("map_id").map(Id::Map);
    program().or_else(map).or_else(|| number("btf_id").map(Id::Btf))
}

/// The program that a perf event runs. The kernel tells it also where a link put it there: then the link is what counts.
fn event(pid: u32, descriptor: u32, machine: &Machine) -> (Option<Id>, Option<(&'static str, String)>) {
    let Ok(found) = sys::task_fd_query(pid, descriptor) else { return (None, None) };
    if machine.links.iter().any(|link| link.info.program_id == found.program_id) {
        return (None, None);
    }
    let place = |offset: u64| if offset == 0 { found.name.clone() } else { format!("{}+{offset:#x}", found.name) };
    let kernel = || if found.name.is_empty() { format!("{:#x}", found.address) } else { place(found.offset) };
    let user = || format!("{}:{:#x}", found.name, found.offset);
    let event = match found.kind {
        TaskFdKind::RawTracepoint => ("raw_tracepoint", found.name.clone()),
        TaskFdKind::Tracepoint => ("tracepoint", found.name.clone()),
        TaskFdKind::Kprobe => ("kprobe", kernel()),
        TaskFdKind::Kretprobe => ("kretprobe", kernel()),
        TaskFdKind::Uprobe => ("uprobe", user()),
        TaskFdKind::Uretprobe => ("uretprobe", user()),
        TaskFdKind::Other(_) => ("perf_event", found.name.clone()),
    };
    (Some(Id::Program(found.program_id)), Some(event))
}

/// Name of a process's command; empty: it is gone.
pub(super) fn command(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Number of the namespace behind a file of `/proc/PID/ns`.
pub(super) fn namespace(path: &Path) -> Option<u64> {
    let text = rustix::fs::readlink(path, Vec::new()).ok()?;
    text.to_str().ok()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// A mount of a process's mount namespace.
pub(super) struct Mount {
    /// `major:minor`: the same for every mount of one file system.
    pub(super) device: String,
    /// Which directory of the file system it shows.
    pub(super) root: String,
    /// Where.
    pub(super) at: String,
}

/// Mounts of file systems of this kind.
pub(super) fn mounts(pid: u32, kind: &str) -> Vec<Mount> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        if source.split(' ').next() != Some(kind) {
            return None;
        }
        let mut fields = place.split(' ').skip(2);
        let mut next = || fields.next().map(unescape);
        Some(Mount { device: next()?, root: next()?, at: next()? })
    };
    text.lines().filter_map(mount).collect()
}

/// Blanks, line breaks and backslashes are written as `\040` in `mountinfo` (`mangle_path` of fs/seq_file.c).
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_by_their_ids() {
        assert_eq!(id_in(&list::fields("prog_type:\t6\nprog_id:\t3\n")), Some(Id::Program(3)));
        assert_eq!(id_in(&list::fields("pos:\t0\n")), None);
    }

    #[test]
    fn paths_of_mounts_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c\"), r"/a b\c\");
    }
}
