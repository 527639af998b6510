//! Pins: every bpffs that some process has mounted, walked.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ringfence_sys as sys;

use super::process::{id_of, mounts};
use super::{Holder, Id};

/// `BPF_FS_MAGIC`
const MAGIC: u64 = 0xcafe_4a11;
/// Most files that are looked at; more are said to be left out.
const MOST: usize = 200_000;
/// Deepest directory.
const DEEPEST: usize = 32;

/// Walks every bpffs once, in the namespace of the first process that has it.
pub(super) fn scan(namespaces: &[(u64, u32)], notices: &mut Vec<String>) -> Vec<(Id, Holder)> {
    let own = std::process::id();
    let mut all = Vec::new();
    for (_, pid) in namespaces {
        all.extend(mounts(*pid, "bpf").into_iter().map(|mount| (*pid, mount)));
    }
    // Whole file systems before parts of them that are mounted elsewhere.
    all.sort_by_key(|(_, mount)| mount.root != "/");
    let mut walk = Walk { whole: BTreeSet::new(), seen: BTreeSet::new(), found: Vec::new(), left_out: false };
    for (pid, mount) in all {
        if walk.whole.contains(&mount.device) {
            continue;
        }
        let process = (pid != own).then_some(pid);
        if walk.mount(process, Path::new(&mount.at)) && mount.root == "/" {
            walk.whole.insert(mount.device);
        }
    }
    if walk.left_out {
        notices.push(format!("only the first {MOST} pins were looked at, down to {DEEPEST} directories"));
    }
    walk.found
}

struct Walk {
    /// File systems that were walked from their root.
    whole: BTreeSet<String>,
    /// Files that were seen: device and number.
    seen: BTreeSet<(u64, u64)>,
    found: Vec<(Id, Holder)>,
    left_out: bool,
}

impl Walk {
    /// Whether there is a bpffs: another mount may hide it.
    fn mount(&mut self, process: Option<u32>, at: &Path) -> bool {
        let top = reachable(process, at);
        // Some architectures have a signed field here.
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "a magic number of 32 bits")]
        let is_bpffs = rustix::fs::statfs(&top).is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == MAGIC);
        if !is_bpffs {
            return false;
        }
        let mut left = vec![(at.to_owned(), 0)];
        while let Some((dir, depth)) = left.pop() {
            let Ok(entries) = std::fs::read_dir(reachable(process, &dir)) else { continue };
            for entry in entries.flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let path = dir.join(entry.file_name());
                if !self.seen.insert((meta.dev(), meta.ino())) {
                    continue;
                }
                if meta.is_dir() && depth < DEEPEST {
                    left.push((path, depth + 1));
                } else if meta.is_file() && self.seen.len() < MOST {
                    let id = pinned(&reachable(process, &path));
                    self.found.extend(id.map(|id| (id, Holder::Pin { path, process })));
                } else {
                    self.left_out |= meta.is_dir() || meta.is_file();
                }
            }
        }
        true
    }
}

/// The path by which we reach what a process sees under this one.
pub(super) fn reachable(process: Option<u32>, path: &Path) -> PathBuf {
    match process {
        None => path.to_owned(),
        Some(pid) => PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path)),
    }
}

/// What is pinned there.
pub(super) fn pinned(path: &Path) -> Option<Id> {
    id_of(sys::object_get(path, 0).ok()?)
}
