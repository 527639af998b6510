//! `cargo xtask bench trace`: what an event costs whom it is about, the kernel, and whoever reads it; beside other tracers on the same calls.

use super::{median, page};
use crate::tools::{self, Scratch, bytes, command, have, text};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Calls of one run, and of one that is stopped at each of them.
const CALLS: u32 = 500_000;
const CALLS_STOPPED: u32 = 20_000;

/// Opens what is not there, so many times; says how many nanoseconds a call took.
const LOAD: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct timespec start, end;
	long calls = atol(argv[1]);

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long i = 0; i < calls; i++)
		open("/no/such/file", O_RDONLY);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls);
	return 0;
}
"#;

/// What is measured: name, and arguments of `ringfence trace`.
const CASES: &[(&str, &[&str])] = &[
    ("`ringfence trace`, a table", &["--comm", "calls"]),
    ("`ringfence trace -o json`", &["--comm", "calls", "-o", "json"]),
    ("`ringfence trace --where 'ret >= 0'`", &["--comm", "calls", "--where", "ret >= 0"]),
    ("`ringfence trace --count-by filename,ret`", &["--comm", "calls", "--count-by", "filename,ret"]),
    ("`ringfence trace --latency`", &["--comm", "calls", "--latency"]),
    ("`ringfence trace`, of another program", &["--comm", "nobody"]),
];

/// What others are called with.
const OTHERS: &[(&str, &str, &[&str], u32)] = &[
    ("`perf trace`", "perf", &["trace", "-o", "/dev/null", "-e", "openat"], CALLS_STOPPED),
    ("`strace`", "strace", &["-o", "/dev/null", "-e", "trace=openat"], CALLS_STOPPED),
];

/// What one run came to.
#[derive(Default)]
struct Readings {
    added_ns: Vec<f64>,
    kernel_ns: Vec<f64>,
    cpu_seconds: Vec<f64>,
    lost: Vec<f64>,
}

pub(super) fn measure(rounds: usize, ringfence: Option<PathBuf>) -> Result<String> {
    let ringfence = tools::ringfence(ringfence)?;
    let scratch = Scratch::new("bench-trace")?;
    let (source, load) = (scratch.path().join("calls.c"), scratch.path().join("calls"));
    std::fs::write(&source, LOAD)?;
    bytes(command("gcc", ["-O2", "-o"]).arg(&load).arg(&source))?;
    let run = |calls: u32| -> Result<f64> {
        Ok(text(command(&load.to_string_lossy(), [calls.to_string()]).stdin(Stdio::null()))?.parse()?)
    };
    run(CALLS_STOPPED)?;

    let mut ours: Vec<Readings> = CASES.iter().map(|_| Readings::default()).collect();
    let others: Vec<_> = OTHERS.iter().filter(|(_, program, ..)| have(program)).collect();
    let mut theirs: Vec<Vec<f64>> = vec![Vec::new(); others.len()];
    let mut bare = Vec::new();
    for _ in 0..rounds {
        let alone = run(CALLS)?;
        bare.push(alone);
        for ((_, arguments), readings) in CASES.iter().zip(&mut ours) {
            one(&ringfence, arguments, alone, &run, readings)?;
        }
        for ((_, program, arguments, calls), readings) in others.iter().zip(&mut theirs) {
            let mut other = command(program, *arguments);
            let took = text(other.arg(&load).arg(calls.to_string()).stdin(Stdio::null()).stderr(Stdio::null()))?;
            readings.push(took.parse::<f64>()? - alone);
        }
    }
    let mut out = format!(
        "## Watching system calls\n\n`cargo xtask bench trace --write`; {}; {rounds} rounds, in turn; {CALLS} calls of open(2) on a file \
         that is not there, with their text and their return, watched by tracepoints at both ends; output to /dev/null. Alone a call \
         takes {:.0} ns. `in the kernel`: both programs of one call, as the kernel measures them. `CPU`: of the tool while it reads. \
         Medians.\n\n| | added to a call | in the kernel | CPU for a million | lost |\n|---|--:|--:|--:|--:|\n",
        page::machine()?,
        median(bare),
    );
    for ((name, _), Readings { added_ns, kernel_ns, cpu_seconds, lost }) in CASES.iter().zip(ours) {
        let (added, kernel, lost) = (median(added_ns), median(kernel_ns), 100.0 * median(lost));
        writeln!(out, "| {name} | {added:.0} ns | {kernel:.0} ns | {:.2} s | {lost:.1}% |", median(cpu_seconds))?;
    }
    for ((name, ..), added) in others.iter().zip(theirs) {
        writeln!(out, "| {name} | {:.0} ns | | | |", median(added))?;
    }
    for (name, ..) in OTHERS.iter().filter(|(_, program, ..)| !have(program)) {
        eprintln!("bench: MISSING {name}");
    }
    Ok(out)
}

/// One run while the tool watches.
fn one(
    ringfence: &Path,
    arguments: &[&str],
    alone: f64,
    run: &impl Fn(u32) -> Result<f64>,
    into: &mut Readings,
) -> Result<()> {
    let mut tool = command(&ringfence.to_string_lossy(), ["trace", "syscalls:openat"]);
    tool.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut tool = tool.spawn().context("ringfence")?;
    let mut notes = BufReader::new(tool.stderr.take().context("no stderr")?);
    let mut said = String::new();
    while !said.lines().any(|line| line.starts_with("trace: ")) {
        ensure!(notes.read_line(&mut said)? > 0, "ringfence ended: {said}");
    }
    let took = run(CALLS);
    bytes(&mut command("kill", ["-INT", &tool.id().to_string()]))?;
    notes.read_to_string(&mut said)?;
    ensure!(tool.wait()?.success(), "ringfence failed: {said}");
    let before = |words: &str| -> Result<f64> {
        let (front, _) = said.split_once(words).with_context(|| format!("no `{words}` in {said}"))?;
        let number = front.rsplit([' ', '(']).next().unwrap_or_default();
        number.parse().with_context(|| format!("`{number}` in front of `{words}`"))
    };
    into.added_ns.push(took? - alone);
    into.kernel_ns.push(before(" ms in the kernel")? * 1e6 / f64::from(CALLS));
    into.cpu_seconds.push(before(" ms CPU")? * 1e3 / f64::from(CALLS));
    into.lost.push(before(" without room in the buffer").unwrap_or(0.0) / f64::from(CALLS));
    Ok(())
}
