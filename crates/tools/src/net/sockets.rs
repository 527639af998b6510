//! Sockets of the processes that a filter takes: marked, so that the kernel knows whose packet it is (`bpf/sockets.h`).

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ringfence::hook::Cgroup;
use ringfence::{Link, Loaded, Storage};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::error::{Error, Result};
use crate::filter::{Filter, groups};

/// Marks sockets from now on, and those that are there. Gives how many of these there are.
pub(super) fn mark(loaded: &Loaded, owned: &Storage<u32>, filter: &Filter) -> Result<(Link, usize)> {
    let root = groups().ok_or_else(|| Error::NoCgroup {
        path: PathBuf::from("/sys/fs/cgroup"),
        why: "sockets are found by it, and none is mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup)".to_owned(),
    })?;
    // First those that come: a socket that is made meanwhile is marked twice.
    let link = loaded.program("on_socket")?.attach_to(&Cgroup::new(root))?;
    let mut known = HashSet::new();
    for pid in filter.processes() {
        mark_held(owned, pid, &mut known)?;
    }
    Ok((link, known.len()))
}

/// Marks what a process holds.
fn mark_held(owned: &Storage<u32>, pid: u32, known: &mut HashSet<PathBuf>) -> Result<()> {
    let directory = format!("/proc/{pid}/fd");
    let denied = || Error::MayNotRead { path: PathBuf::from(&directory), how: "give it CAP_SYS_PTRACE".to_owned() };
    // Processes end, and close what they hold, at any time.
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(denied()),
        entries => entries.into_iter().flatten().flatten(),
    };
    for entry in entries {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if !target.to_string_lossy().starts_with("socket:") || known.contains(&target) {
            continue;
        }
        match taken(pid, &entry.path()) {
            Ok(socket) => {
                owned.insert(&socket, &1)?;
                known.insert(target);
            }
            Err(Errno::PERM) => return Err(denied()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// A descriptor of another process.
fn taken(pid: u32, entry: &Path) -> std::result::Result<OwnedFd, Errno> {
    let number = entry.file_name().and_then(|name| name.to_str()?.parse().ok()).ok_or(Errno::BADF)?;
    let process = ringfence::pidfd(pid).map_err(|_| Errno::SRCH)?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty())
}
