//! `cargo xtask bench profile`: what sampling costs, beside perf and bcc on the same load.

use super::{median, page};
use crate::tools::{self, Scratch, bytes, command, have, root};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How long each run samples, and how often a second.
const SECONDS: f64 = 20.0;
const FREQUENCY: &str = "99";

/// bcc's tool, as Debian and others call it.
const BCC: &[&str] = &["profile-bpfcc", "/usr/share/bcc/tools/profile"];

/// The load; gone with the value.
struct Load(Vec<Child>);

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn measure(rounds: usize, ringfence: Option<PathBuf>) -> Result<String> {
    let ringfence = tools::ringfence(ringfence)?;
    let scratch = Scratch::new("bench-profile")?;
    let mix = scratch.path().join("mix");
    let mut gcc = command("gcc", ["-O1", "-g", "-fno-omit-frame-pointer", "-o"]);
    bytes(gcc.arg(&mix).arg(root().join("crates/tools/tests/programs/mix.c")))?;
    let start = |_| Command::new(&mix).stdin(Stdio::null()).spawn().context("the load");
    let _load = Load((0..tools::cores()).map(start).collect::<Result<_>>()?);

    let json = scratch.path().join("ringfence.json");
    let mut ours = command(&ringfence.to_string_lossy(), ["profile", "-F", FREQUENCY, "--for"]);
    ours.arg(format!("{SECONDS}s")).arg("-o").arg(&json);
    let mut perf = command("perf", ["record", "-q", "-F", FREQUENCY, "-a", "-g", "-o"]);
    perf.arg(scratch.path().join("perf.data")).args(["--", "sleep", &SECONDS.to_string()]);

    let (mut sampling, mut kernel, mut each) = (Vec::new(), Vec::new(), Vec::new());
    let bcc = BCC.iter().copied().find(|name| have(name));
    let mut bcc_profile = command(bcc.unwrap_or(BCC[0]), ["-F", FREQUENCY, "-f", &SECONDS.to_string()]);
    let bcc = bcc.filter(|_| works(&mut bcc_profile));
    let (mut whole, mut theirs, mut of_bcc) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        whole.push(cpu_seconds(&ours)?);
        let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
        let number = |name: &str| said["summary"][name].as_f64().with_context(|| format!("no {name}"));
        sampling.push(number("own_cpu_ns")? / 1e9);
        kernel.push(number("in_kernel_ns")? / 1e9);
        each.push(number("in_kernel_ns")? / number("in_kernel_runs")? / 1e3);
        if have("perf") {
            theirs.push(cpu_seconds(&perf)?);
        }
        if bcc.is_some() {
            of_bcc.push(cpu_seconds(&bcc_profile)?);
        }
    }
    let percent = |seconds: Vec<f64>| format!("{:.3}%", 100.0 * median(seconds) / SECONDS);
    let mut out = format!(
        "## Sampling stacks\n\n`cargo xtask bench profile --write`; {}; {rounds} rounds of {SECONDS} s at {FREQUENCY} Hz on every CPU, each \
         kept busy by a program with frame pointers. CPU time as a share of one CPU, medians. `while it samples` is what the \
         target of 0.1% is for; the whole command also loads the programs and looks up names. perf writes samples to a \
         file, and looks up names later.\n\n| | CPU |\n|---|--:|\n",
        page::machine()?
    );
    writeln!(out, "| ringfence profile, user space, while it samples | {} |", percent(sampling))?;
    writeln!(out, "| ringfence profile, in the kernel | {} ({:.1} us a sample) |", percent(kernel), median(each))?;
    writeln!(out, "| ringfence profile, the whole command | {} |", percent(whole))?;
    match theirs.is_empty() {
        true => eprintln!("bench: MISSING perf (linux-perf)"),
        false => writeln!(out, "| perf record -g, the whole command | {} |", percent(theirs))?,
    }
    match of_bcc.is_empty() {
        true => eprintln!("bench: MISSING bcc's profile (bpfcc-tools), or it does not run here"),
        false => writeln!(out, "| bcc's profile, the whole command | {} |", percent(of_bcc))?,
    }
    Ok(out)
}

/// bcc compiles its program when it starts, and needs the kernel's headers for that.
fn works(profile: &mut Command) -> bool {
    let mut short = Command::new(profile.get_program());
    short.args(["-F", FREQUENCY, "-f", "1"]).output().is_ok_and(|output| output.status.success())
}

/// User and system time of a command and its children, in seconds: bash has it to the millisecond.
fn cpu_seconds(measured: &Command) -> Result<f64> {
    let mut bash = command("bash", ["-c", "TIMEFORMAT='%U %S'; time \"$@\" >/dev/null 2>&1", "bash"]);
    let output = bash.arg(measured.get_program()).args(measured.get_args()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{:?} failed: {said}", measured.get_program());
    said.split_whitespace().map(|number| Ok(number.parse::<f64>()?)).sum()
}
