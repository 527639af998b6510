//! `cargo xtask bench rest`: what it costs that a tool is there while nothing happens that it tells of.

use super::{compile, page};
use crate::tools::{self, Scratch, command};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// From the start to the first look: loading, and what a first second brings.
const SETTLE: Duration = Duration::from_secs(5);
/// Between the two looks.
const TIME: Duration = Duration::from_secs(30);
const PROGRAMS: usize = 10;
/// What they are attached to.
const CALLS: [&str; PROGRAMS] =
    ["openat", "close", "read", "write", "execve", "connect", "bind", "unlinkat", "renameat2", "kill"];

/// A tool; ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one process holds and takes.
struct Cost {
    /// Anonymous memory, kB.
    anonymous: u64,
    /// The most that was ever resident, with its code, kB.
    peak: u64,
    /// CPU time meanwhile, as a share of one CPU.
    cpu: f64,
}

pub(super) fn measure(ringfence: Option<PathBuf>) -> Result<String> {
    let ringfence = tools::ringfence(ringfence)?.to_string_lossy().into_owned();
    let scratch = Scratch::new("bench-rest")?;
    let object = scratch.path().join("ten.bpf.o");
    compile(&source(scratch.path())?, &object)?;
    let object = object.to_string_lossy().into_owned();
    let sleeper = Running(command("sleep", ["600"]).stdin(Stdio::null()).spawn()?);
    let pid = sleeper.0.id().to_string();
    let tools: &[(&str, &[&str])] = &[
        ("`run`, ten programs on system calls of a process that makes none", &["run", &object, "--set", "target=1"]),
        ("`profile --pid` of a process that sleeps", &["profile", "--pid", &pid, "-o", "folded"]),
        (
            "`trace` of two system calls of a process that sleeps (1 MB of its peak: the buffer of 512 KiB, mapped twice)",
            &["trace", "syscalls:openat", "syscalls:read", "--pid", &pid],
        ),
        ("`net` on the loopback, without packets", &["net", "--dev", "lo", "--interval", "1h"]),
    ];
    let mut out = format!(
        "## At rest\n\n`cargo xtask bench rest --write`; {}; over {} s, {} s after the start, nothing printed. CPU as a share of one CPU. \
         Targets with ten programs: anonymous memory 6 MB, peak 10 MB, CPU 0.05%.\n\n\
         | | anonymous memory | peak, with code | CPU |\n|---|--:|--:|--:|\n",
        page::machine()?,
        TIME.as_secs(),
        SETTLE.as_secs(),
    );
    for (name, arguments) in tools {
        let mut tool = command(&ringfence, *arguments);
        let running = Running(tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let cost = cost(running.0.id()).with_context(|| (*name).to_string())?;
        let (anonymous, peak) = (cost.anonymous as f64 / 1e3, cost.peak as f64 / 1e3);
        writeln!(out, "| {name} | {anonymous:.1} MB | {peak:.1} MB | {:.3}% |", 100.0 * cost.cpu)?;
    }
    Ok(out)
}

/// Ten programs with one ring buffer.
fn source(directory: &Path) -> Result<PathBuf> {
    let mut text = String::from(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nconst volatile int target = 0;\n\
         struct event { int pid; int call; char comm[16]; };\n\
         struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); __type(value, struct event); } events SEC(\".maps\");\n\
         static int tell(int call) {\n\
         int pid = bpf_get_current_pid_tgid() >> 32; struct event *event;\n\
         if (pid != target) return 0;\n\
         event = bpf_ringbuf_reserve(&events, sizeof(*event), 0); if (!event) return 0;\n\
         event->pid = pid; event->call = call; bpf_get_current_comm(event->comm, sizeof(event->comm));\n\
         bpf_ringbuf_submit(event, 0); return 0; }\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n",
    );
    for (number, call) in CALLS.iter().enumerate() {
        writeln!(
            text,
            "SEC(\"tracepoint/syscalls/sys_enter_{call}\") int on_{call}(void *ctx) {{ return tell({number}); }}"
        )?;
    }
    let file = directory.join("ten.bpf.c");
    fs::write(&file, text)?;
    Ok(file)
}

fn cost(pid: u32) -> Result<Cost> {
    std::thread::sleep(SETTLE);
    let before = cpu_ns(pid)?;
    std::thread::sleep(TIME);
    let cpu = (cpu_ns(pid)? - before) as f64 / TIME.as_nanos() as f64;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it has ended")?;
    let number = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim_start_matches(':').split_whitespace().next().context("no number")?.parse()?)
    };
    Ok(Cost { anonymous: number("RssAnon")?, peak: number("VmHWM")?, cpu })
}

/// CPU time of all threads of a process, to the nanosecond.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("it has ended")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().context("no time")?.parse::<u64>()?;
    }
    ensure!(sum > 0, "the kernel does not tell of CPU time (CONFIG_SCHED_INFO)");
    Ok(sum)
}
