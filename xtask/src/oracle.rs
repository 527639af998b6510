//! `cargo xtask oracle`: every real object through Ringfence and through libbpf. Final instructions are compared for
//! the running kernel and for the BTF of others, verdicts on the running kernel. Every difference is printed, and one
//! that `oracle/known.txt` does not explain is a failure. An explanation of nothing is named, and refused by `--write`.

mod compare;
mod known;
mod report;
mod verdicts;

use crate::tools::{self, cargo, command, files, finish, parallel, root, target};
use crate::{kernels, objects};
use anyhow::{Result, ensure};
use compare::{Answer, Outcome};
use pico_args::Arguments;
use std::fs;
use std::path::{Path, PathBuf};

/// The running kernel, in tables and options.
const HERE: &str = "here";
/// Sets whose programs are also loaded. The self-tests hold many programs that shall not load.
const LOADED: &[&str] = &["libbpf-tools", "xdp-tools"];
/// No answer takes this long (s); one that does is a difference.
const LIMIT: &str = "60";

/// Runs a command, its second argument on, with the first one in the place of the kernel's types.
const PRETEND: &str = "mount --bind \"$0\" /sys/kernel/btf/vmlinux && exec \"$@\"";

/// Both loaders, built.
struct Loaders {
    ringfence: PathBuf,
    libbpf: PathBuf,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    Instructions,
    Verdicts,
}

/// One object for one kernel.
struct Case {
    question: Question,
    set: &'static str,
    /// `SET/FILE`.
    object: String,
    kernel: &'static str,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.contains("--verdicts") {
        return verdicts::run(arguments);
    }
    let set: Option<String> = arguments.opt_value_from_str("--set")?;
    let object: Option<String> = arguments.opt_value_from_str("--object")?;
    let kernel: Option<String> = arguments.opt_value_from_str("--kernel")?;
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    let write = arguments.contains("--write");
    finish(arguments)?;
    let whole = set.is_none() && object.is_none() && kernel.is_none();
    ensure!(whole || !write, "--write is for a whole run");

    let mut cases = cases()?;
    cases.retain(|case| set.as_ref().is_none_or(|set| case.set == set));
    cases.retain(|case| object.as_ref().is_none_or(|object| case.object.contains(object)));
    cases.retain(|case| kernel.as_ref().is_none_or(|kernel| case.kernel == kernel));
    ensure!(!cases.is_empty(), "nothing to compare; `cargo xtask objects` and `kernels` make the material");

    let loaders = build(ringfence)?;
    eprintln!("oracle: {} comparisons", cases.len());
    let outcomes = parallel(&cases, |case| ask(&loaders, case));
    let outcomes = outcomes.into_iter().collect::<Result<Vec<Outcome>>>()?;
    let known = known::Known::read(&root().join("oracle/known.txt"))?;
    let report = report::Report::new(&cases, &outcomes, &known);
    print!("{}", report.table());
    for difference in report.unexplained() {
        println!("{difference}");
    }
    let stale = if whole { report.stale() } else { Vec::new() };
    // Another kernel has other symbols: only who writes the page must have the table right.
    for row in &stale {
        println!("oracle/known.txt explains what does not occur here: {row}");
    }
    if write {
        ensure!(stale.is_empty(), "take those {} rows out first", stale.len());
        fs::write(root().join("docs/oracle.md"), report.page())?;
    }
    let unexplained = report.unexplained().count();
    ensure!(unexplained == 0, "{unexplained} differences that oracle/known.txt does not explain");
    Ok(())
}

/// Everything that there is to compare.
fn cases() -> Result<Vec<Case>> {
    let kernels: Vec<&'static str> = std::iter::once(HERE).chain(kernels::present()).collect();
    let mut cases = Vec::new();
    for set in objects::SETS.iter().copied() {
        let found = files(&objects::place().join(set), ".o")?;
        if found.is_empty() {
            eprintln!("oracle: MISSING {set}: no objects; `cargo xtask objects` makes them");
        }
        for file in found {
            let object = format!("{set}/{}", tools::name(&file));
            let case = |question, kernel| Case { question, set, object: object.clone(), kernel };
            cases.extend(kernels.iter().map(|kernel| case(Question::Instructions, *kernel)));
            if LOADED.contains(&set) {
                cases.push(case(Question::Verdicts, HERE));
            }
        }
    }
    Ok(cases)
}

fn build(ringfence: Option<PathBuf>) -> Result<Loaders> {
    let place = target().join("oracle");
    let mut oracle = cargo(["build", "--quiet", "--release", "--locked", "--manifest-path", "oracle/Cargo.toml"]);
    tools::run(oracle.arg("--target-dir").arg(&place))?;
    Ok(Loaders { ringfence: tools::ringfence(ringfence)?, libbpf: place.join("release/oracle") })
}

/// Asks both loaders and compares.
fn ask(loaders: &Loaders, case: &Case) -> Result<Outcome> {
    let object = objects::place().join(&case.object);
    match case.question {
        Question::Verdicts => {
            let ours = answer(&loaders.ringfence, &["check", "-o", "json"], &[&object])?;
            let theirs = answer(&loaders.libbpf, &["verdicts"], &[&object])?;
            compare::verdicts(&ours, &theirs)
        }
        Question::Instructions => {
            let dir = tools::Scratch::new("oracle")?;
            let [ours, theirs] = ["ringfence", "libbpf"].map(|name| dir.path().join(name));
            fs::create_dir(&ours)?;
            fs::create_dir(&theirs)?;
            let btf = if case.kernel == HERE { None } else { Some(kernels::btf(case.kernel)?) };
            let inspect = ["inspect", "-o", "json"].map(Path::new);
            let inspect = [&inspect[..], &[object.as_path(), Path::new("--instructions"), ours.as_path()]].concat();
            let (said, kernel) = match &btf {
                None => (answer(&loaders.ringfence, &[], &inspect)?, Vec::new()),
                // Like libbpf, it takes the file for the running kernel's types: mounted over them, for this process alone.
                Some(btf) => {
                    let pretend = [loaders.ringfence.as_path()].into_iter().chain(inspect.iter().copied());
                    let command: Vec<&Path> = [btf.as_path()].into_iter().chain(pretend).collect();
                    let said = answer(Path::new("unshare"), &["--mount", "sh", "-c", PRETEND], &command)?;
                    (said, vec![Path::new("--kernel-btf"), btf.as_path()])
                }
            };
            answer(&loaders.libbpf, &["instructions"], &[&kernel[..], &[&theirs, &object]].concat())?;
            compare::instructions(&ours, &theirs, &said)
        }
    }
}

/// Runs a loader under the time limit. Its exit code is part of the answer, not a failure of the comparison.
fn answer(program: &Path, words: &[&str], paths: &[&Path]) -> Result<Answer> {
    let mut command = command("timeout", [LIMIT]);
    let output = command.arg(program).args(words).args(paths).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}
