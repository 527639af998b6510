//! What the tests of the command share: building C, running the command, and counting what the kernel holds.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod scrape;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One test at a time may load something: ids are compared before and after.
pub fn alone() -> File {
    let lock = File::create(std::env::temp_dir().join("ringfence-tests.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    lock
}

/// The command.
pub fn ringfence() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
    command.stdin(Stdio::null());
    command
}

/// Runs the command to its end, which must come within a minute.
pub fn ringfence_with<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Output {
    let child = ringfence().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    child.wait_with_output().expect("its output")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `done`, for at most ten seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited ten seconds for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compiles a C source of the tree (`bpf/examples/NAME.bpf.c`, or `crates/cli/tests/c/NAME.bpf.c`).
pub fn compile(name: &str, dir: &Path) -> PathBuf {
    let places = [root().join("bpf/examples"), root().join("crates/cli/tests/c")];
    let source = places.iter().map(|dir| dir.join(format!("{name}.bpf.c"))).find(|path| path.exists());
    compile_source(&source.expect("a C source of that name"), dir)
}

/// Compiles any C source for BPF.
pub fn compile_source(source: &Path, dir: &Path) -> PathBuf {
    let stem = source.file_stem().expect("a file name").to_string_lossy().into_owned();
    let object = dir.join(format!("{stem}.o"));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86" };
    let done = Command::new("clang-19")
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-c"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .args(["-idirafter", &format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH)])
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status()
        .expect("clang-19 is installed (cargo xtask setup)");
    assert!(done.success(), "{} does not compile", source.display());
    object
}

/// Ids of every program, map, link and BTF object that the kernel holds.
pub fn held() -> BTreeSet<(&'static str, u32)> {
    use ringfence_sys::Ids;
    let mut held = BTreeSet::new();
    for (name, kind) in [("program", Ids::Program), ("map", Ids::Map), ("link", Ids::Link), ("btf", Ids::Btf)] {
        let mut id = 0;
        while let Ok(Some(next)) = kind.after(id) {
            held.insert((name, next));
            id = next;
        }
    }
    held
}

/// Waits until the kernel holds nothing that it did not hold before: some things are freed after a grace period.
pub fn assert_nothing_left(before: &BTreeSet<(&'static str, u32)>) {
    let mut left = Vec::new();
    for _ in 0..150 {
        left = held().difference(before).copied().collect();
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("left in the kernel: {left:?}");
}

/// Sends a signal by the number.
pub fn signal(child: &Child, name: &str) {
    // The shell has one built in; `kill` is not on every machine.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().expect("sh");
    assert!(status.success());
}
