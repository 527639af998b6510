//! Cgroups: their paths by id, and the programs that were attached to them without a link.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ringfence_sys::{self as sys, LinkDetails};
use ringfence_uapi::AttachType;
use sys::AttachTo;

use super::process::mounts;
use super::{At, Attachment, Machine};

/// Most cgroups that are looked at.
const MOST: usize = 100_000;

/// What was found.
#[derive(Default)]
pub(super) struct Cgroups {
    /// Paths below the mount, by id: the number of the directory's inode.
    pub(super) paths: BTreeMap<u64, PathBuf>,
    /// Programs without a link.
    pub(super) attached: Vec<(u32, Attachment)>,
}

/// Hooks of cgroups.
fn hooks() -> impl Iterator<Item = AttachType> {
    let of_cgroups = |(name, hook): &(&str, AttachType)| name.starts_with("CGROUP_") || *hook == AttachType::LSM_CGROUP;
    AttachType::ALL.iter().filter(move |known| of_cgroups(known)).map(|(_, hook)| *hook)
}

pub(super) fn scan(machine: &Machine, notices: &mut Vec<String>) -> Cgroups {
    let mut found = Cgroups::default();
    // The whole tree, not a part of it that is mounted elsewhere.
    let Some(mount) = mounts(std::process::id(), "cgroup2").into_iter().find(|mount| mount.root == "/") else {
        let any = machine.programs.iter().any(|program| program.info.kind.to_string().starts_with("cgroup"));
        if any {
            notices.push("no cgroup2 is mounted here: what is attached to cgroups is not known".to_owned());
        }
        return found;
    };
    let top = PathBuf::from(mount.at);
    let mut left = vec![top.clone()];
    while let Some(dir) = left.pop() {
        let Ok(id) = std::fs::metadata(&dir).map(|meta| meta.ino()) else { continue };
        let below = Path::new("/").join(dir.strip_prefix(&top).unwrap_or(&dir));
        if found.paths.len() == MOST {
            notices.push(format!("only the first {MOST} cgroups were looked at"));
            break;
        }
        query(machine, &dir, id, &below, &mut found.attached);
        found.paths.insert(id, below);
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    found
}

fn query(machine: &Machine, dir: &Path, id: u64, below: &Path, into: &mut Vec<(u32, Attachment)>) {
    let Ok(cgroup) = std::fs::File::open(dir) else { return };
    for hook in hooks() {
        let Ok(queried) = sys::program_query(AttachTo::Fd(cgroup.as_fd()), hook, 0, false) else { continue };
        for program in queried.programs {
            let here = LinkDetails::Cgroup { id, attach_type: hook };
            let linked = machine.links.iter().any(|link| link.info.program_id == program && link.info.details == here);
            if !linked {
                let at = At::Cgroup { path: dir.to_owned(), hook };
                let target = below.display().to_string();
                into.push((program, Attachment { hook: hook.to_string(), target, at }));
            }
        }
    }
}
