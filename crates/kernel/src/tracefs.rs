//! Tracepoints by name.

use ringfence_sys::Errno;

use crate::{Error, read};

/// Where tracefs is, of its own or as a part of debugfs.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The directory in which tracefs is mounted.
pub(crate) fn root() -> Result<&'static str, Error> {
    // A directory of that name is there also when nothing is mounted on it.
    let mounted = PLACES.into_iter().find(|place| match std::fs::metadata(format!("{place}/events")) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    });
    mounted.ok_or(Error::NoTracefs)
}

pub(crate) fn tracepoint_id(category: &str, name: &str) -> Result<u64, Error> {
    let root = root()?;
    let missing = || Error::NoTracepoint {
        category: category.to_owned(),
        name: name.to_owned(),
        events: format!("{root}/events"),
    };
    let one_step = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('/');
    if !one_step(category) || !one_step(name) {
        return Err(missing());
    }
    let path = format!("{root}/events/{category}/{name}/id");
    match read(&path) {
        Ok(text) => text.trim().parse().map_err(|_| missing()),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(missing()),
        Err(cause) => Err(Error::Read {
            path,
            cause,
            hint: "tracepoints are found there: it takes root, or `mount -o remount,mode=755 /sys/kernel/tracing`",
        }),
    }
}
