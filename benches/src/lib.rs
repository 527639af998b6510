//! What the measured programs share.

pub mod bare;
pub mod libbpf;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Loads each object named on the command line, keeps it loaded, and prints one line for it: nanoseconds from opening
/// the file to the last program loaded, nanoseconds that `load` says were the kernel's share (0: not known), and the
/// process's largest memory so far in kB.
pub fn load_each<L>(mut load: impl FnMut(&Path) -> Result<(L, Duration)>) -> Result<()> {
    let objects: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut loaded = Vec::new();
    let mut lines = String::new();
    for object in &objects {
        let start = Instant::now();
        let (owner, floor) = load(object).with_context(|| object.display().to_string())?;
        let time = start.elapsed();
        loaded.push(owner);
        lines += &format!("{} {} {}\n", time.as_nanos(), floor.as_nanos(), peak_kb()?);
    }
    print!("{lines}");
    Ok(())
}

/// The largest resident memory that this process has had, in kB.
pub fn peak_kb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What every reader does with a record: enough that it cannot be left out, and the same for all.
#[inline]
pub fn first_word(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}
