//! `cargo xtask vm`: programs on other kernels, each in a small virtual machine that boots in two seconds without
//! hardware virtualisation.

mod guest;
mod initrd;

use crate::kernels;
use crate::tools::{self, bytes, cargo, parallel};
use anyhow::{Context, Result, ensure};
use guest::{Guest, Job};
use pico_args::Arguments;
use std::path::PathBuf;

/// Shows that the command works on a kernel: typed events of real file opens, as JSON.
const SMOKE: &str = "\
echo 'while :; do cat /proc/version > /dev/null; usleep 20000; done' > /tmp/opener
setsid sh /tmp/opener &
set -e
./ringfence check opens >&2
./ringfence run opens --for 3s -o json > /tmp/events
grep -m 3 /proc/version /tmp/events || { head -5 /tmp/events; echo 'no event of /proc/version'; exit 1; }
";

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let wanted: Option<String> = arguments.opt_value_from_str("--kernel")?;
    let package: Option<String> = arguments.opt_value_from_str("--package")?;
    let modules: Option<String> = arguments.opt_value_from_str("--modules")?;
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    let filter: Vec<String> = tools::names(arguments)?;

    let kernels: Vec<&str> = match &wanted {
        None => kernels::present().collect(),
        Some(list) => list.split(',').collect(),
    };
    ensure!(!kernels.is_empty(), "no kernels; `cargo xtask kernels` fetches them");
    let programs = match &package {
        None => vec![(tools::ringfence(ringfence)?, SMOKE.to_string())],
        Some(package) => test_binaries(package)?
            .into_iter()
            .map(|binary| {
                let script = format!("RUST_TEST_THREADS=1 exec ./{} {}", tools::name(&binary), filter.join(" "));
                (binary, script)
            })
            .collect(),
    };
    let modules: Vec<&str> = modules.iter().flat_map(|list| list.split(',')).collect();
    let runs: Vec<(&str, &(PathBuf, String))> =
        kernels.iter().flat_map(|kernel| programs.iter().map(move |program| (*kernel, program))).collect();
    let failures: Vec<String> = parallel(&runs, |(kernel, (program, script))| {
        let job = Job { script, files: &[program], modules: &modules };
        let name = format!("{kernel} {}", tools::name(program));
        match Guest::of(kernel).and_then(|guest| guest.run(&job)) {
            Ok(answer) if answer.code == 0 => {
                eprintln!("vm: {name}: passed in {:.1} s\n{}", answer.time.as_secs_f64(), answer.output.trim_end());
                None
            }
            Ok(answer) => Some(format!("{name}: exit {}\n{}", answer.code, answer.output)),
            Err(error) => Some(format!("{name}: {error:#}")),
        }
    })
    .into_iter()
    .flatten()
    .collect();
    failures.iter().for_each(|failure| eprintln!("vm: {failure}"));
    ensure!(failures.is_empty(), "{} of {} machines failed", failures.len(), runs.len());
    Ok(())
}

/// The test programs of a package.
fn test_binaries(package: &str) -> Result<Vec<PathBuf>> {
    let mut build = cargo(["test", "--no-run", "--locked", "--message-format=json", "--package", package]);
    let messages = bytes(&mut build)?;
    let messages = String::from_utf8_lossy(&messages);
    let binary = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| test).map(PathBuf::from)
    };
    let binaries: Vec<PathBuf> = messages.lines().filter_map(binary).collect();
    ensure!(!binaries.is_empty(), "{package} has no tests");
    binaries.iter().map(|path| path.canonicalize().with_context(|| path.display().to_string())).collect()
}
