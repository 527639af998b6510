//! `cargo xtask oracle --verdicts`: on each kernel, in a guest, both loaders load every program of every real object. A
//! program that only one of them loads is a difference, and one that `oracle/verdicts.txt` does not explain is a failure.
//!
//! Answers are kept in target/verdicts, so that a run can ask Ringfence alone, or nobody, and compare again.

mod page;

use super::compare::{self, Answer, Finding};
use super::known::Known;
use super::{Loaders, build};
use crate::tools::{self, KERNELS, cores, files, finish, parallel, root, target};
use crate::vm::guest::{Guest, Job};
use crate::{kernels, objects};
use anyhow::{Context, Result, bail, ensure};
use pico_args::Arguments;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The loaders, by the names of their answers.
const LOADERS: [&str; 2] = ["libbpf", "ringfence"];

/// Both loaders, one after another, for the questions in a file. A question that takes longer than its limit (s) has no answer.
const SCRIPT: &str = "\
while read -r loader object; do
echo \"== $loader $object\"
case $loader in
libbpf) timeout 300 ./oracle verdicts objects/$object 2>/tmp/said;;
ringfence) timeout 300 ./ringfence check --all -o json objects/$object 2>/tmp/said;;
esac
code=$?
echo; echo '-- said'; tail -n 2 /tmp/said | cut -c 1-600; echo \"== exit $code\"
done < questions
";

/// One object on one kernel.
struct Case {
    kernel: &'static str,
    set: &'static str,
    /// `SET/FILE`.
    object: String,
}

impl Case {
    fn kept(&self, loader: &str) -> PathBuf {
        let name = self.object.replace('/', "_");
        target().join("verdicts").join(self.kernel).join(format!("{name}.{loader}"))
    }
}

/// What came of a case.
#[derive(Default)]
struct Outcome {
    both: usize,
    only_libbpf: usize,
    only_ringfence: usize,
    refused: usize,
    /// Of those that both refuse.
    same_errno: usize,
    /// Of those that both refuse: Ringfence does not ask the kernel.
    without_errno: usize,
    differences: Vec<Finding>,
}

pub(super) fn run(mut arguments: Arguments) -> Result<()> {
    let kernel: Option<String> = arguments.opt_value_from_str("--kernel")?;
    let set: Option<String> = arguments.opt_value_from_str("--set")?;
    let object: Option<String> = arguments.opt_value_from_str("--object")?;
    let kept: Option<String> = arguments.opt_value_from_str("--kept")?;
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    let write = arguments.contains("--write");
    finish(arguments)?;
    let all_objects = set.is_none() && object.is_none();
    ensure!(all_objects || !write, "--write is for all objects");
    let asked = match kept.as_deref() {
        None => &LOADERS[..],
        Some("libbpf") => &LOADERS[1..],
        Some("all") => &[],
        Some(other) => bail!("--kept {other}: libbpf or all"),
    };

    let of =
        |list: &Option<String>, name: &str| list.as_ref().is_none_or(|list| list.split(',').any(|one| one == name));
    let mut cases = Vec::new();
    for kernel in KERNELS.iter().copied().filter(|name| of(&kernel, name)) {
        if kernels::btf(kernel).is_err() {
            eprintln!("oracle: SKIPPED kernel {kernel}: not there; `cargo xtask kernels`");
            continue;
        }
        for set in objects::SETS.iter().copied().filter(|name| of(&set, name)) {
            for file in files(&objects::place().join(set), ".o")? {
                cases.push(Case { kernel, set, object: format!("{set}/{}", tools::name(&file)) });
            }
        }
    }
    cases.retain(|case| object.as_ref().is_none_or(|list| list.split(',').any(|one| case.object.contains(one))));
    ensure!(!cases.is_empty(), "nothing to compare; `cargo xtask objects` and `kernels` make the material");
    if !asked.is_empty() {
        ask(&build(ringfence)?, &cases, asked)?;
    }

    let outcomes = cases.iter().map(compare).collect::<Result<Vec<Outcome>>>()?;
    let known = Known::read(&root().join("oracle/verdicts.txt"))?;
    let page = page::Page::new(&cases, &outcomes, &known);
    print!("{}", page.table());
    page.unexplained().for_each(|difference| println!("{difference}"));
    let stale = if all_objects && kernel.is_none() { page.stale() } else { Vec::new() };
    stale.iter().for_each(|row| println!("oracle/verdicts.txt explains what does not occur: {row}"));
    if write {
        ensure!(stale.is_empty(), "take those {} rows out first", stale.len());
        fs::write(root().join("docs/verdicts.md"), page.text())?;
    }
    let unexplained = page.unexplained().count();
    ensure!(unexplained == 0, "{unexplained} differences that oracle/verdicts.txt does not explain");
    Ok(())
}

/// Puts the questions to the kernels, a part of them to a guest, and keeps the answers.
fn ask(loaders: &Loaders, cases: &[Case], asked: &[&str]) -> Result<()> {
    let mut parts: Vec<Vec<&Case>> = Vec::new();
    for kernel in KERNELS {
        let of_kernel: Vec<&Case> = cases.iter().filter(|case| case.kernel == *kernel).collect();
        // With few kernels there would be cores without work.
        let guests = if of_kernel.len() < 50 { 1 } else { cores() };
        for guest in 0..guests {
            parts.push(of_kernel.iter().skip(guest).step_by(guests).copied().collect());
        }
    }
    parts.retain(|part| !part.is_empty());
    for answer in parallel(&parts, |part| ask_guests(loaders, part, asked)) {
        answer?;
    }
    Ok(())
}

/// A guest that dies is followed by another for what is left.
fn ask_guests(loaders: &Loaders, cases: &[&Case], asked: &[&str]) -> Result<()> {
    let start = Instant::now();
    let kernel = cases.first().context("no case")?.kernel;
    let questions = cases.iter().flat_map(|case| asked.iter().map(move |loader| (*loader, *case)));
    let mut questions: Vec<(&str, &Case)> = questions.collect();
    let all = questions.len();
    let dir = tools::Scratch::new("verdicts")?;
    while !questions.is_empty() {
        let lines: Vec<String> = questions.iter().map(|(loader, case)| format!("{loader} {}\n", case.object)).collect();
        let list = dir.path().join("questions");
        fs::write(&list, lines.concat())?;
        let mut carried = vec![
            (list, "/t/questions".to_string()),
            (loaders.libbpf.clone(), "/t/oracle".to_string()),
            (loaders.ringfence.clone(), "/t/ringfence".to_string()),
        ];
        let wanted: BTreeSet<&String> = questions.iter().map(|(_, case)| &case.object).collect();
        carried.extend(wanted.iter().map(|object| (objects::place().join(object), format!("/t/objects/{object}"))));
        let limit = Duration::from_secs(3600);
        let job = Job { script: SCRIPT, files: &carried, modules: &[], memory: 2048, limit };
        let answer = Guest::of(kernel)?.run(&job)?;
        let mut answered = 0;
        for block in blocks(&answer.output).chunks(2) {
            let Some((loader, case)) = questions.get(answered) else { break };
            let Some((said, out)) = read(block) else { break };
            keep(case, loader, said, &out)?;
            answered += 1;
        }
        if let Some((loader, case)) = questions.get(answered) {
            eprintln!("oracle: {kernel} died of {loader} and {}", case.object);
            keep(case, loader, "died", &answer.console)?;
            answered += 1;
        }
        questions.drain(..answered);
    }
    eprintln!("oracle: {kernel}: {all} questions in {} s", start.elapsed().as_secs());
    Ok(())
}

/// A guest's output between the lines that begin with `==`.
fn blocks(output: &str) -> Vec<&str> {
    let first = output.strip_prefix("== ");
    let rest = first.or(output.split_once("\n== ").map(|(_, rest)| rest));
    rest.map_or(Vec::new(), |rest| rest.split("\n== ").collect())
}

/// An answer in a guest's output: exit code, and all that was said.
fn read<'a>(block: &[&'a str]) -> Option<(&'a str, String)> {
    let [answer, end] = block else { return None };
    let code = end.strip_prefix("exit ")?.lines().next()?;
    Some((code, answer.split_once('\n')?.1.to_string()))
}

fn keep(case: &Case, loader: &str, code: &str, said: &str) -> Result<()> {
    let file = case.kept(loader);
    fs::create_dir_all(file.parent().context("no parent")?)?;
    Ok(fs::write(file, format!("{code}\n{said}"))?)
}

/// A kept answer.
fn kept(file: &Path) -> Result<Answer> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: ask first, without --kept", file.display()))?;
    let (code, said) = text.split_once('\n').context("an empty answer")?;
    let (out, err) = said.split_once("\n-- said").unwrap_or(("", said));
    Ok(Answer { code: code.parse().ok(), out: out.to_string(), err: err.to_string() })
}

/// Compares both answers about an object.
fn compare(case: &Case) -> Result<Outcome> {
    let [theirs, ours] = LOADERS.map(|loader| kept(&case.kept(loader)));
    Ok(verdicts(&ours?, &theirs?))
}

fn verdicts(ours: &Answer, theirs: &Answer) -> Outcome {
    let mut outcome = Outcome::default();
    let mut differ = |program: &str, what, detail| {
        outcome.differences.push(Finding { program: program.to_string(), what, detail });
    };
    for (answer, what) in [(theirs, "libbpf ends badly"), (ours, "ringfence ends badly")] {
        match answer.code {
            None => differ("*", what, format!("the machine died: {}", died(&answer.err))),
            // Of a signal, or of the time limit.
            Some(code) if code == 101 || code >= 124 => {
                differ("*", what, format!("exit {code}: {}", compare::last_line(answer)));
            }
            Some(0) if compare::programs(&answer.out).is_none() => {
                differ("*", what, "its answer cannot be read".into())
            }
            Some(_) => {}
        }
    }
    let whole = |answer: &Answer, said: Option<&str>| said.map_or_else(|| compare::last_line(answer), str::to_string);
    let their_object = serde_json::from_str::<serde_json::Value>(&theirs.out).unwrap_or_default();
    let (our_programs, their_programs) = (compare::programs(&ours.out), compare::programs(&theirs.out));
    let (our_programs, their_programs) = (our_programs.unwrap_or_default(), their_programs.unwrap_or_default());
    let names: BTreeSet<&String> = our_programs.keys().chain(their_programs.keys()).collect();
    for program in names {
        let (our, their) = (our_programs.get(program), their_programs.get(program));
        let is_ok = |verdict: Option<&serde_json::Value>| verdict.is_some_and(|verdict| verdict["verdict"] == "ok");
        let mut differ = |what, detail| {
            outcome.differences.push(Finding { program: program.clone(), what, detail });
        };
        match (is_ok(our), is_ok(their)) {
            (true, true) => outcome.both += 1,
            (true, false) => {
                let said = their.map_or(&their_object, |their| their);
                differ(
                    "loads only in ringfence",
                    format!("errno {}: {}", said["errno"], whole(theirs, said["reason"].as_str())),
                );
                outcome.only_ringfence += 1;
            }
            (false, true) => {
                let said = our.map_or_else(
                    || compare::last_line(ours),
                    |our| format!("{} (errno {}): {}", our["verdict"], our["errno"], our["reason"]),
                );
                differ("loads only in libbpf", said);
                outcome.only_libbpf += 1;
            }
            (false, false) => {
                outcome.refused += 1;
                let errno = |said: Option<&serde_json::Value>| said.and_then(|said| said["errno"].as_i64());
                match (errno(our), errno(their).or(their_object["errno"].as_i64())) {
                    (None, _) => outcome.without_errno += 1,
                    (Some(our), their) => outcome.same_errno += usize::from(Some(our) == their),
                }
            }
        }
    }
    outcome
}

/// Of what a dying kernel says, what names the fault.
fn died(console: &str) -> String {
    const FAULTS: [&str; 5] = ["BUG: ", "Oops: ", "RIP: ", "Kernel panic", "WARNING: "];
    let lines = console.lines().filter_map(|line| FAULTS.iter().find_map(|fault| Some(&line[line.find(fault)?..])));
    let lines: Vec<&str> = lines.collect();
    if lines.is_empty() { "its time was over".to_string() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdicts: &[(&str, i32)]) -> Answer {
        let program = |(at, (verdict, errno)): (usize, &(&str, i32))| serde_json::json!({ "name": format!("p{at}"), "verdict": verdict, "errno": errno, "reason": "so" });
        let programs: Vec<_> = verdicts.iter().enumerate().map(program).collect();
        Answer { code: Some(0), out: serde_json::json!({ "programs": programs }).to_string(), err: String::new() }
    }

    #[test]
    fn programs_are_counted() {
        let ours = answer(&[("ok", 0), ("ok", 0), ("refused", 22), ("invalid", 22), ("refused", 7)]);
        let theirs = answer(&[("ok", 0), ("refused", 1), ("ok", 0), ("refused", 22), ("refused", 22)]);
        let outcome = verdicts(&ours, &theirs);
        let counts = [outcome.both, outcome.only_ringfence, outcome.only_libbpf, outcome.refused, outcome.same_errno];
        assert_eq!(counts, [1, 1, 1, 2, 1]);
        let found: Vec<_> = outcome.differences.iter().map(|found| (found.what, found.detail.as_str())).collect();
        let libbpf = "\"refused\" (errno 22): \"so\"";
        assert_eq!(found, [("loads only in ringfence", "errno 1: so"), ("loads only in libbpf", libbpf)]);
    }

    #[test]
    fn a_dead_machine_is_named() {
        let console = "[ 1.2] noise\n[ 1.3] BUG: kernel NULL pointer dereference\n[ 1.4] RIP: 0010:bpf+0x1\n";
        let dead = Answer { code: None, out: String::new(), err: console.to_string() };
        let outcome = verdicts(&dead, &answer(&[("ok", 0)]));
        assert_eq!(outcome.only_libbpf, 1);
        let said = &outcome.differences[0].detail;
        assert_eq!(said, "the machine died: BUG: kernel NULL pointer dereference; RIP: 0010:bpf+0x1");
    }

    #[test]
    fn answers_are_read_from_a_guests_output() {
        let output = "== libbpf a.o\n{}\n\n-- said\nhm\n== exit 0\n== ringfence a.o\n{";
        let answers: Vec<_> = blocks(output).chunks(2).map(read).collect();
        assert_eq!(answers, [Some(("0", "{}\n\n-- said\nhm".to_string())), None]);
    }
}
