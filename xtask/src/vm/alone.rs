//! `cargo xtask vm --static`: the command as one static file, in guests that hold nothing else.

use super::guest::{Answer, Guest, Job};
use super::initrd::Initrd;
use super::report::{self, Report};
use crate::kernels;
use crate::tools::{self, Scratch, command, parallel, root};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use std::path::{Path, PathBuf};

/// What the guest's first program is made of.
const INIT: &str = "xtask/src/vm/init.c";
/// An object that the command reads as a file.
const OBJECT: &str = "bpf/opens.bpf.o";
const OLDEST_AND_NEWEST: [&str; 2] = ["5.10", "7.3"];

/// A program of the job, and how it ends.
struct Run {
    name: &'static str,
    /// Lines of the job before it, and the one that ends it.
    lines: &'static str,
    exit: i32,
    /// What it says, among other things.
    says: &'static [&'static str],
}

/// From a machine with nothing mounted to one where programs run.
const RUNS: &[Run] = &[
    Run {
        name: "no-sysfs",
        lines: "run no-sysfs /ringfence check opens",
        exit: 1,
        says: &["`mount -t sysfs sysfs /sys`"],
    },
    Run {
        name: "no-proc",
        lines: "run no-proc /ringfence list programs",
        exit: 1,
        says: &["`mount -t proc proc /proc`"],
    },
    Run {
        name: "check",
        lines: "mount sysfs /sys\nrun check /ringfence check opens.bpf.o",
        exit: 0,
        says: &["tracepoint/syscalls/sys_enter_openat", "ok"],
    },
    Run {
        name: "list",
        lines: "mount proc /proc\nstart run /ringfence run opens --for 8s -o json\nrun list /ringfence list programs",
        exit: 0,
        says: &["ringfence[", "tracepoint"],
    },
    Run { name: "run", lines: "wait", exit: 0, says: &["\"/hello\""] },
    Run { name: "nothing-left", lines: "run nothing-left /ringfence list links", exit: 0, says: &["holds no links"] },
];

pub(super) fn run(mut arguments: Arguments) -> Result<()> {
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    tools::finish(arguments)?;
    let ringfence = tools::ringfence(ringfence)?;
    is_static(&ringfence)?;
    let scratch = Scratch::new("static")?;
    let init = scratch.path().join("init");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_string());
    tools::run(command(&clang, ["-static", "-O1", INIT, "-o"]).arg(&init))?;

    let mut initrd = Initrd::default();
    (0..3).for_each(|port| initrd.serial(port));
    initrd.copy(&init, "/init")?;
    // Thirty megabytes of debug information less to unpack.
    let stripped = scratch.path().join("ringfence");
    tools::run(command("strip", ["--strip-debug", "-o"]).arg(&stripped).arg(&ringfence))?;
    initrd.copy(&stripped, "/ringfence")?;
    initrd.copy(&root().join(OBJECT), "/opens.bpf.o")?;
    initrd.file("/hello", 0o644, b"");
    let lines: Vec<&str> = RUNS.iter().map(|run| run.lines).collect();
    initrd.file("/job", 0o644, lines.join("\n").as_bytes());
    let initrd = initrd.finish();

    let (kernels, missing): (Vec<&str>, Vec<&str>) =
        OLDEST_AND_NEWEST.iter().partition(|series| kernels::btf(series).is_ok());
    missing.iter().for_each(|series| eprintln!("vm: SKIPPED kernel {series}: not there; `cargo xtask kernels`"));
    let reports = parallel(&kernels, |kernel| {
        let answer = Guest::of(kernel).and_then(|guest| guest.run_from(&initrd, Job::MEMORY, Job::LIMIT));
        Report::new(kernel, answer.and_then(judge))
    });
    report::print(&reports);
    let failures: usize = reports.iter().map(Report::failures).sum();
    ensure!(failures == 0, "{failures} failures");
    Ok(())
}

/// One file, without an interpreter or libraries.
fn is_static(program: &Path) -> Result<()> {
    let headers = tools::text(command("readelf", ["--program-headers", "--dynamic", "--wide"]).arg(program))?;
    let needs = headers.lines().find(|line| line.contains("INTERP") || line.contains("(NEEDED)"));
    ensure!(needs.is_none(), "{} is not static:{}", program.display(), needs.unwrap_or_default());
    Ok(())
}

/// What was said, with each program's end replaced by how far it is from what is wanted.
fn judge(answer: Answer) -> Result<Answer> {
    let mut output = String::new();
    for Run { name, exit, says, .. } in RUNS {
        let end = format!("\n== {name} exit ");
        let said = answer.output.split_once(&format!("== {name}\n")).map(|(_, rest)| rest);
        let (said, rest) = said
            .and_then(|said| said.split_once(&end))
            .with_context(|| format!("{name} did not end: {}", answer.output))?;
        let ended = rest.split(' ').next() == Some(&exit.to_string());
        let missing = says.iter().find(|text| !said.contains(**text));
        let good = i32::from(!ended || missing.is_some());
        let why = missing.map_or_else(String::new, |text| format!("\nit does not say {text}"));
        output += &format!("== {name}\n{said}{why}{end}{good} in 0 s\n");
    }
    Ok(Answer { output, ..answer })
}
