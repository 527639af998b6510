//! `cargo xtask test`: everything that CI runs, in order, to the first failure.

use crate::tools::{Scratch, cargo, finish, run as execute};
use crate::{api, bpf, kernels, mutate, objects, oracle, setup, uapi, vm};
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::process::Command;
use std::time::Instant;

/// What a step runs.
enum Work {
    /// Another verb, with its arguments.
    Verb(fn(Arguments) -> Result<()>, &'static [&'static str]),
    /// This cargo; it sees the test material.
    Cargo(&'static [&'static str]),
    /// The same, with the C programs of the library's tests compiled before: a compiler that a test starts holds, until
    /// it runs, the links of all tests beside it, and what they took off still fires.
    Tests(&'static [&'static str]),
}

/// A step of the run.
struct Step {
    name: &'static str,
    work: Work,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", work: Work::Cargo(&["fmt", "--all", "--check"]) },
    Step { name: "setup", work: Work::Verb(setup::run, &[]) },
    Step {
        name: "clippy",
        work: Work::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Step { name: "kernels", work: Work::Verb(kernels::run, &[]) },
    Step { name: "objects", work: Work::Verb(objects::run, &[]) },
    Step { name: "uapi", work: Work::Verb(uapi::run, &["--check"]) },
    Step { name: "bpf", work: Work::Verb(bpf::run, &["--check"]) },
    Step { name: "tests", work: Work::Tests(&["test", "--workspace", "--locked", "--no-fail-fast"]) },
    Step { name: "doc", work: Work::Cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]) },
    Step { name: "api", work: Work::Verb(api::run, &[]) },
    Step { name: "static", work: Work::Verb(vm::run, &["--static"]) },
    Step { name: "oracle", work: Work::Verb(oracle::run, &[]) },
    Step {
        name: "verdicts",
        work: Work::Verb(oracle::run, &["--verdicts", "--kernel", "5.10,7.3", "--set", "libbpf-tools,xdp-tools"]),
    },
    Step { name: "mutate", work: Work::Verb(mutate::run, &[]) },
    Step { name: "vm", work: Work::Verb(vm::run, &[]) },
];

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.contains("--list") {
        STEPS.iter().for_each(|step| println!("{}", step.name));
        return Ok(());
    }
    let only: Option<String> = arguments.opt_value_from_str("--only")?;
    finish(arguments)?;
    let only: Option<Vec<&str>> = only.as_deref().map(|names| names.split(',').collect());
    if let Some(unknown) = only.iter().flatten().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        bail!("there is no step {unknown}; `--list` names them");
    }
    let mut times = Vec::new();
    for step in STEPS.iter().filter(|step| only.as_ref().is_none_or(|only| only.contains(&step.name))) {
        eprintln!("\n== {}", step.name);
        let start = Instant::now();
        match &step.work {
            Work::Verb(verb, arguments) => verb(Arguments::from_vec(arguments.iter().map(Into::into).collect())),
            Work::Cargo(arguments) => execute(with_material(&mut cargo(*arguments))),
            Work::Tests(arguments) => tests(arguments),
        }
        .with_context(|| format!("step {} (alone: `cargo xtask test --only {0}`)", step.name))?;
        times.push((step.name, start.elapsed()));
    }
    eprintln!();
    for (name, time) in &times {
        eprintln!("{name:>10} {:6.1} s", time.as_secs_f64());
    }
    println!("xtask: {} passed, 0 failed", times.len());
    Ok(())
}

fn tests(arguments: &[&str]) -> Result<()> {
    let scratch = Scratch::new("tests")?;
    vm::objects("ringfence", scratch.path())?;
    let mut cargo = cargo(arguments);
    execute(with_material(&mut cargo).env("RINGFENCE_TEST_OBJECTS", scratch.path().join("objects")))
}

/// Tells tests where the objects, kernels and programs are. A broken link in the documentation is an error.
pub(crate) fn with_material(command: &mut Command) -> &mut Command {
    let material = [
        ("RINGFENCE_OBJECTS", objects::place()),
        ("RINGFENCE_KERNELS", kernels::place()),
        ("RINGFENCE_GO_BINARY", "/usr/bin/gron".into()),
        ("RINGFENCE_PROMETHEUS", setup::unpacked("prometheus")),
    ];
    command.envs(material).env("RUSTDOCFLAGS", "-D warnings")
}
