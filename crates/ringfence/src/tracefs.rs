//! The kernel's tracing files: numbers of tracepoints, and the trace pipe.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Cause, Kind};

/// Where the file system usually is.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A directory of tracing files.
///
/// Where it is mounted nowhere, a mount is made that only this value sees and that is gone with it: nothing has to be mounted for a
/// tracepoint to be found, and nothing is left.
#[derive(Debug)]
pub(crate) struct TraceFs {
    dir: OwnedFd,
}

impl TraceFs {
    pub(crate) fn open() -> Result<TraceFs, Cause> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        for place in PLACES {
            if let Ok(dir) = rustix::fs::open(place, flags, Mode::empty())
                && rustix::fs::accessat(&dir, "events", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty())
                    .is_ok()
            {
                return Ok(TraceFs { dir });
            }
        }
        Self::own_mount().map(|dir| TraceFs { dir }).map_err(|errno| {
            let kind = if errno == rustix::io::Errno::PERM { Kind::Permission } else { Kind::Unsupported };
            Cause::new(kind, "the tracing file system is not mounted")
                .errno(errno)
                .action("mount it: `mount -t tracefs tracefs /sys/kernel/tracing`")
        })
    }

    fn own_mount() -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    pub(crate) fn file(&self, path: impl AsRef<Path>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.dir, path.as_ref(), flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Number of a tracepoint, as perf_event_open(2) takes it.
    pub(crate) fn tracepoint(&self, category: &str, name: &str) -> Result<u64, Cause> {
        let plain = |text: &str| !text.is_empty() && !text.contains(['/', '\0']) && !text.starts_with('.');
        if !plain(category) || !plain(name) {
            return Err(Cause::invalid("that is no tracepoint's name").action("name it as CATEGORY/NAME"));
        }
        let path = format!("events/{category}/{name}/id");
        let mut text = String::new();
        match self.file(&path, OFlags::RDONLY) {
            Ok(file) => std::fs::File::from(file).read_to_string(&mut text).ok(),
            Err(rustix::io::Errno::NOENT) => return Err(self.missing(category, name)),
            Err(errno) => {
                return Err(
                    crate::explain::plain(errno).action("reading tracing files takes root or CAP_DAC_READ_SEARCH")
                );
            }
        };
        text.trim().parse().map_err(|_| Cause::new(Kind::Io, format!("{path} holds no number")))
    }

    fn missing(&self, category: &str, name: &str) -> Cause {
        let own = self.names(&format!("events/{category}"));
        let near = if own.is_empty() {
            let categories = self.names("events");
            crate::near::nearest(category, categories.iter().map(String::as_str))
                .iter()
                .map(|near| format!("{near}/{name}"))
                .collect()
        } else {
            let near = crate::near::nearest(name, own.iter().map(String::as_str));
            near.iter().map(|near| format!("{category}/{near}")).collect::<Vec<_>>()
        };
        let cause = Cause::new(Kind::Unsupported, "this kernel has no such tracepoint").errno(rustix::io::Errno::NOENT);
        match near.is_empty() {
            true => cause.action(format!("those that it has are under {}/events", PLACES[0])),
            false => cause.action(format!("it has {}", near.join(", "))),
        }
    }

    /// Names of all tracepoints, without their categories.
    pub(crate) fn all_tracepoints(&self) -> Vec<String> {
        self.names("events").iter().flat_map(|category| self.names(&format!("events/{category}"))).collect()
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(dir) = self.file(dir, OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = rustix::fs::Dir::read_from(&dir) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}
