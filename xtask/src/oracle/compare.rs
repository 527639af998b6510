//! Two loaders' answers about one object, compared program by program.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a loader's command said.
pub(super) struct Answer {
    /// Exit code; `None`: killed by a signal. 124: it took too long.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

/// What came of one comparison.
#[derive(Default)]
pub(super) struct Outcome {
    /// Programs for which both do the same.
    pub(super) equal: usize,
    /// Equal but for ids of kernel types: libbpf takes those from the running kernel.
    pub(super) equal_but_ids: usize,
    /// Programs that both refuse.
    pub(super) refused: usize,
    pub(super) differences: Vec<Finding>,
}

/// A program for which they do not do the same.
pub(super) struct Finding {
    /// `*`: the object as a whole.
    pub(super) program: String,
    /// In few words, the same for all findings of a kind.
    pub(super) what: &'static str,
    /// What each says.
    pub(super) detail: String,
}

const REFUSED: &str = ".refused";

/// Files by program; those that hold a reason apart.
fn read(dir: &Path) -> Result<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    let (mut programs, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for file in crate::tools::files(dir, "")? {
        let text = std::fs::read_to_string(&file)?;
        let name = crate::tools::name(&file);
        match name.strip_suffix(REFUSED) {
            Some(name) => refused.insert(name.to_string(), text),
            None => programs.insert(name, text),
        };
    }
    Ok((programs, refused))
}

/// Compares the instructions that two loaders wrote. `foreign`: for a kernel that is not the running one.
pub(super) fn instructions(ours: &Path, theirs: &Path, said: &Answer, foreign: bool) -> Result<Outcome> {
    let ((ours, our_reasons), (theirs, their_reasons)) = (read(ours)?, read(theirs)?);
    let names: BTreeSet<&String> =
        ours.keys().chain(theirs.keys()).chain(our_reasons.keys()).chain(their_reasons.keys()).collect();
    let mut outcome = Outcome::default();
    for program in names {
        let mut differ = |what, detail| outcome.differences.push(Finding { program: program.clone(), what, detail });
        let reason = |reasons: &BTreeMap<String, String>| {
            reasons.get(program).or(reasons.get("object")).map(|text| text.trim().to_string())
        };
        match (ours.get(program), theirs.get(program)) {
            (Some(ours), Some(theirs)) if ours == theirs => outcome.equal += 1,
            (Some(ours), Some(theirs)) if foreign && same_but_ids(ours, theirs) => outcome.equal_but_ids += 1,
            (Some(ours), Some(theirs)) => differ("instructions", first_difference(ours, theirs)),
            (Some(_), None) => differ("only ringfence", reason(&their_reasons).unwrap_or_default()),
            (None, Some(_)) => differ("only libbpf", reason(&our_reasons).unwrap_or_else(|| last_line(said))),
            (None, None) => outcome.refused += 1,
        }
    }
    if said.code.is_none_or(|code| code == 101 || code == 124) {
        let detail = format!("exit {:?}: {}", said.code, last_line(said));
        outcome.differences.push(Finding { program: "*".into(), what: "crash", detail });
    }
    Ok(outcome)
}

fn last_line(said: &Answer) -> String {
    said.err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_string()
}

/// An instruction of the text form: everything but the last word, and that.
fn split(line: &str) -> (&str, &str) {
    line.rsplit_once(' ').unwrap_or((line, ""))
}

/// Whether only numbers of kernel types differ: of a kfunc that is called, of a variable whose address is taken.
fn same_but_ids(ours: &str, theirs: &str) -> bool {
    if ours.lines().count() != theirs.lines().count() {
        return false;
    }
    let mut variable = false;
    ours.lines().zip(theirs.lines()).all(|(ours, theirs)| {
        let ((our_head, our_value), (their_head, their_value)) = (split(ours), split(theirs));
        let mut fields = our_head.split(' ');
        let (code, source) = (fields.next(), fields.nth(1));
        let second = std::mem::replace(&mut variable, code == Some("18") && source == Some("3"));
        let id = variable || second || (code == Some("85") && source == Some("2"));
        our_head == their_head && (id || our_value == their_value)
    })
}

fn first_difference(ours: &str, theirs: &str) -> String {
    let (count, their_count) = (ours.lines().count(), theirs.lines().count());
    let at = ours.lines().zip(theirs.lines()).position(|(ours, theirs)| ours != theirs);
    let at = at.unwrap_or(count.min(their_count));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_string();
    format!("at {at}: ringfence `{}`, libbpf `{}`; {count} and {their_count} instructions", line(ours), line(theirs))
}

/// Compares verdicts. libbpf's name for a program's type is not compared.
pub(super) fn verdicts(ours: &Answer, theirs: &Answer) -> Result<Outcome> {
    let their_programs = programs(&theirs.out).with_context(|| format!("oracle verdicts: {}", last_line(theirs)))?;
    let our_programs = programs(&ours.out).unwrap_or_default();
    let mut outcome = Outcome::default();
    let names: BTreeSet<&String> = their_programs.keys().chain(our_programs.keys()).collect();
    for program in names {
        let mut differ = |what, detail| outcome.differences.push(Finding { program: program.clone(), what, detail });
        let is_ok = |verdict: &Value| verdict["verdict"] == "ok";
        match (our_programs.get(program), their_programs.get(program)) {
            (None, _) => differ("only libbpf", format!("exit {:?}: {}", ours.code, last_line(ours))),
            (Some(_), None) => differ("only ringfence", String::new()),
            (Some(ours), Some(theirs)) => match (is_ok(ours), is_ok(theirs)) {
                (true, true) => outcome.equal += 1,
                (false, false) if ours["section"] == theirs["section"] => outcome.refused += 1,
                (false, false) => differ("section", format!("{} and {}", ours["section"], theirs["section"])),
                (true, false) => differ("loads only in ringfence", theirs["reason"].to_string()),
                (false, true) => differ("loads only in libbpf", format!("{}: {}", ours["verdict"], ours["reason"])),
            },
        }
    }
    Ok(outcome)
}

fn programs(out: &str) -> Option<BTreeMap<String, Value>> {
    let answer: Value = serde_json::from_str(out).ok()?;
    let programs = answer["programs"].as_array()?;
    Some(programs.iter().filter_map(|program| Some((program["name"].as_str()?.to_string(), program.clone()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_kernel_types_may_differ_and_nothing_else() {
        let kfunc = |id| format!("bf 6 1 0 0\n85 0 2 0 {id}\n95 0 0 0 0\n");
        let variable = |id| format!("18 1 3 0 {id}\n00 0 0 0 0\n");
        assert!(same_but_ids(&kfunc(7), &kfunc(9)));
        assert!(same_but_ids(&variable(7), &variable(9)));
        assert!(!same_but_ids("85 0 0 0 1\n", "85 0 0 0 2\n"), "a helper's number is not an id");
        assert!(!same_but_ids("85 0 2 1 7\n", "85 0 2 0 7\n"), "the module's place is not an id");
        assert!(!same_but_ids("b7 0 0 0 1\n", "b7 0 0 0 2\n"));
        assert!(!same_but_ids("95 0 0 0 0\n", "95 0 0 0 0\n95 0 0 0 0\n"));
    }

    #[test]
    fn verdicts_are_compared_by_program() {
        let answer = |verdicts: [&str; 2]| {
            let program = |(at, verdict): (usize, &str)| serde_json::json!({ "name": format!("p{at}"), "section": "xdp", "verdict": verdict, "reason": "so" });
            let programs: Vec<Value> = verdicts.into_iter().enumerate().map(program).collect();
            Answer { code: Some(0), out: serde_json::json!({ "programs": programs }).to_string(), err: String::new() }
        };
        let outcome = verdicts(&answer(["ok", "invalid"]), &answer(["ok", "ok"])).unwrap();
        assert_eq!(outcome.equal, 1);
        let found: Vec<_> = outcome.differences.iter().map(|found| (found.program.as_str(), found.what)).collect();
        assert_eq!(found, [("p1", "loads only in libbpf")]);
    }
}
