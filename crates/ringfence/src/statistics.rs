//! Run counts and run times of programs.

use std::os::fd::OwnedFd;

use ringfence_sys as sys;

use crate::error::{Error, Result};

/// While this value lives, the kernel counts the runs of every program on the machine and measures their time (some 20 ns a run).
#[derive(Debug)]
#[must_use = "counting ends when this is dropped"]
pub struct RunTimeStatistics {
    _fd: OwnedFd,
}

/// Turns run statistics on: [`Program::info`](crate::Program::info) has them.
///
/// # Errors
/// The caller lacks CAP_SYS_ADMIN, or the kernel cannot (5.8).
pub fn run_time_statistics() -> Result<RunTimeStatistics> {
    match sys::enable_run_time_stats() {
        Ok(fd) => Ok(RunTimeStatistics { _fd: fd }),
        Err(errno) => Err(Error::system("turning run statistics on (CAP_SYS_ADMIN)", crate::explain::plain(errno))),
    }
}
