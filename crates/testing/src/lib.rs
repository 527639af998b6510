//! What the tests of all rooms share: C sources compiled for BPF, and the material that `cargo xtask test` names. What
//! is missing is said with the name of the test, which then does nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The sets of objects that `cargo xtask objects` makes.
pub const SETS: &[&str] = &["libbpf-tools", "xdp-tools", "selftests"];

/// Compiles a source for BPF, with debugging information if it is C; `None` when there is no clang. `flags` come last.
///
/// # Panics
/// The source does not compile.
pub fn compile(source: &Path, flags: &[&str]) -> Option<Vec<u8>> {
    let version = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).status();
    let there = |name: &&str| version(name).is_ok_and(|status| status.success());
    let Some(clang) = ["clang-19", "clang-20", "clang"].into_iter().find(there) else {
        skipped("clang-19 is not installed");
        return None;
    };
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-O2", "-Wno-visibility", "-c", "-o", "-"]).arg(source);
    if source.extension().is_some_and(|extension| extension == "c") {
        command.arg("-g");
    }
    let output = command.args(flags).output().expect("clang runs");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// The objects of one of the [`SETS`] in the directory that `RINGFENCE_OBJECTS` names; none where they are missing.
///
/// # Panics
/// There is no such directory.
pub fn objects(set: &str) -> Vec<PathBuf> {
    let Some(root) = directory("RINGFENCE_OBJECTS") else { return Vec::new() };
    let mut found = list(&root.join(set));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    if found.is_empty() {
        skipped(&format!("RINGFENCE_OBJECTS has no {set}"));
    }
    found
}

/// The objects of all [`SETS`].
///
/// # Panics
/// As [`objects`].
pub fn all_objects() -> Vec<PathBuf> {
    SETS.iter().flat_map(|set| objects(set)).collect()
}

/// The kernels in the directory that `RINGFENCE_KERNELS` names: release, and the file of its types; none where they are
/// missing.
///
/// # Panics
/// There is no such directory.
pub fn kernels() -> Vec<(String, PathBuf)> {
    let Some(root) = directory("RINGFENCE_KERNELS") else { return Vec::new() };
    let release = |dir: &Path| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found: Vec<_> = list(&root).into_iter().map(|dir| (release(&dir), dir.join("btf"))).collect();
    found.retain(|(_, btf)| btf.exists());
    if found.is_empty() {
        skipped("RINGFENCE_KERNELS has no kernel");
    }
    found
}

fn directory(variable: &str) -> Option<PathBuf> {
    let Some(found) = std::env::var_os(variable).map(PathBuf::from) else {
        skipped(&format!("{variable} is not set"));
        return None;
    };
    assert!(found.is_dir(), "{variable}={} is no directory", found.display());
    Some(found)
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    found.sort();
    found
}

fn skipped(why: &str) {
    println!("skipped: {why} ({})", std::thread::current().name().unwrap_or("?"));
}

/// Time that this thread has spent on a processor: what work costs, however busy the machine is. Zero where the kernel
/// does not count it (`CONFIG_SCHED_INFO`).
pub fn worked() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
