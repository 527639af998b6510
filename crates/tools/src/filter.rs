//! Whose events a tool takes: decided in the kernel (`bpf/filter.h`), set before the programs load.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ringfence::Settings;

use crate::error::{Error, Result};

/// Bytes of a thread's name with the zero at its end (`TASK_COMM_LEN`).
const COMM_LEN: usize = 16;
/// Directories below the root of the control groups that are looked at for a container.
const MOST_GROUPS: usize = 100_000;

/// Whose events are taken: those to which all that is set applies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// A process, with all of its threads.
    pub pid: Option<u32>,
    /// The user by whom it runs.
    pub uid: Option<u32>,
    /// Name of the thread.
    pub comm: Option<String>,
    /// A control group, with all below it.
    pub cgroup: Option<Cgroup>,
}

/// A control group of cgroup2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: u64,
    level: u32,
}

impl Filter {
    /// Puts the filter into the settings of an object that includes `filter.h`.
    ///
    /// # Errors
    /// The process is not there; the name is too long.
    pub fn settings(&self, mut settings: Settings) -> Result<Settings> {
        if let Some(pid) = self.pid {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                return Err(Error::NoProcess { pid });
            }
            settings = settings.global("filter_pid", pid);
        }
        if let Some(uid) = self.uid {
            settings = settings.global("filter_by_uid", true).global("filter_uid", uid);
        }
        if let Some(name) = &self.comm {
            let mut bytes = [0; COMM_LEN];
            let place = bytes.get_mut(..name.len()).filter(|_| name.len() < COMM_LEN && !name.is_empty());
            place.ok_or_else(|| Error::LongName { name: name.clone() })?.copy_from_slice(name.as_bytes());
            settings = settings.global("filter_comm", bytes);
        }
        if let Some(cgroup) = &self.cgroup {
            settings = settings.global("filter_cgroup", cgroup.id).global("filter_cgroup_level", cgroup.level);
        }
        Ok(settings)
    }

    /// Processes that it takes now. A process one of whose threads has the name is one of them.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = match (self.pid, &self.cgroup) {
            (Some(pid), _) => vec![pid],
            (None, Some(cgroup)) => cgroup.processes(),
            (None, None) => numbers("/proc"),
        };
        if let (Some(_), Some(cgroup)) = (self.pid, &self.cgroup) {
            let within = cgroup.processes();
            found.retain(|pid| within.contains(pid));
        }
        found.retain(|pid| self.uid.is_none_or(|uid| user(*pid) == Some(uid)));
        found.retain(|pid| self.comm.as_ref().is_none_or(|comm| has_thread(*pid, comm)));
        found
    }

    /// Nothing is left out.
    pub(crate) fn takes_all(&self) -> bool {
        *self == Filter::default()
    }
}

/// Directories whose names are numbers.
fn numbers(path: &str) -> Vec<u32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The user by whom a process runs, as `bpf_get_current_uid_gid` gives it.
fn user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
}

fn has_thread(pid: u32, name: &str) -> bool {
    let is = |thread: u32| {
        fs::read(format!("/proc/{pid}/task/{thread}/comm")).is_ok_and(|comm| comm.trim_ascii_end() == name.as_bytes())
    };
    numbers(&format!("/proc/{pid}/task")).into_iter().any(is)
}

impl Cgroup {
    /// By its directory, or by its path below the root of the control groups (`system.slice/ssh.service`).
    ///
    /// # Errors
    /// It is not there, or no control group.
    pub fn at(path: impl AsRef<Path>) -> Result<Cgroup> {
        let path = path.as_ref();
        let fail = |why: String| Error::NoCgroup { path: path.to_owned(), why };
        let root =
            groups().ok_or_else(|| fail("no cgroup2 is mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup)".into()))?;
        let below = || root.join(path.strip_prefix("/").unwrap_or(path));
        let inside = |path: PathBuf| path.canonicalize().ok().filter(|path| path.starts_with(&root));
        let found = inside(path.to_owned()).or_else(|| inside(below()));
        let found = found.ok_or_else(|| fail(format!("there is no such directory in {}", root.display())))?;
        let meta = fs::metadata(&found).map_err(|error| fail(error.to_string()))?;
        if !meta.is_dir() {
            return Err(fail("it is no directory".into()));
        }
        let level = found.strip_prefix(&root).map_or(0, |below| below.components().count());
        // The number of a control group is that of its directory (`cgroup_id`, `kernfs_ino`).
        Ok(Cgroup { id: meta.ino(), level: u32::try_from(level).unwrap_or(u32::MAX), path: found })
    }

    /// That of a container: the directory whose name holds the container's number, or the first characters of it.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn of_container(id: &str) -> Result<Cgroup> {
        let none = || Error::NoContainer { id: id.to_owned() };
        let (root, mut found) = (groups().ok_or_else(none)?, Vec::new());
        let (mut todo, mut looked_at) = (vec![root.clone()], 0);
        while let Some(directory) = todo.pop()
            && looked_at < MOST_GROUPS
        {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                looked_at += 1;
                // `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, or the number alone.
                let name = entry.file_name().to_string_lossy().into_owned();
                let stem = name.strip_suffix(".scope").unwrap_or(&name);
                let number = stem.rsplit('-').next().unwrap_or(stem);
                if !id.is_empty() && number.starts_with(id) {
                    found.push(entry.path());
                } else {
                    todo.push(entry.path());
                }
            }
        }
        match found.as_slice() {
            [] => Err(none()),
            [one] => Cgroup::at(one),
            many => {
                let which = many.iter().take(5).map(|path| path.display().to_string()).collect();
                Err(Error::ManyContainers { id: id.to_owned(), which })
            }
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Processes in it, and in those below it.
    pub fn processes(&self) -> Vec<u32> {
        let (mut todo, mut found) = (vec![self.path.clone()], Vec::new());
        while let Some(directory) = todo.pop() {
            // Not that of a group of threads: its processes are in the group above.
            let here = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            // 0: of another namespace.
            found.extend(here.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
            let below = fs::read_dir(directory).into_iter().flatten().flatten();
            todo.extend(
                below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        found
    }
}

/// Where cgroup2 is mounted.
pub(crate) fn groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut words| {
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_or_are_refused() {
        let filter = |comm: &str| Filter { comm: Some(comm.to_owned()), ..Filter::default() };
        assert!(filter("a-name-of-15-by").settings(Settings::new()).is_ok());
        for wrong in ["a-name-of-16-byt", ""] {
            assert!(matches!(filter(wrong).settings(Settings::new()), Err(Error::LongName { .. })), "{wrong}");
        }
    }

    #[test]
    fn groups_are_found_by_either_path() {
        let Some(root) = groups() else { return println!("skipped: cgroup2 is not mounted") };
        let by_root = Cgroup::at(&root).expect("the root");
        assert_eq!((by_root.level, by_root.id), (0, fs::metadata(&root).expect("there").ino()));
        // As `/proc/PID/cgroup` names it.
        assert_eq!(Cgroup::at("/").expect("the root"), by_root);
        assert!(matches!(Cgroup::at("no/such/group"), Err(Error::NoCgroup { .. })));
        assert!(matches!(Cgroup::of_container("feedbeef"), Err(Error::NoContainer { .. })));
    }
}
