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
    /// Programs that libbpf refuses for the sake of another, and does the same for when it is more lenient.
    pub(super) equal_if_lenient: usize,
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

/// What a loader wrote.
#[derive(Default)]
struct Written {
    /// Instructions by program.
    programs: BTreeMap<String, String>,
    /// Reasons by program.
    refused: BTreeMap<String, String>,
    /// Instructions when the rest of the object does not matter.
    lenient: BTreeMap<String, String>,
}

impl Written {
    fn read(dir: &Path) -> Result<Written> {
        let mut written = Written::default();
        for file in crate::tools::files(dir, "")? {
            let text = std::fs::read_to_string(&file)?;
            let name = crate::tools::name(&file);
            let (place, name) = match name.rsplit_once('.') {
                Some((name, "refused")) => (&mut written.refused, name),
                Some((name, "lenient")) => (&mut written.lenient, name),
                _ => (&mut written.programs, name.as_str()),
            };
            place.insert(name.to_string(), text);
        }
        Ok(written)
    }
}

/// Compares the instructions that two loaders wrote.
pub(super) fn instructions(ours: &Path, theirs: &Path, said: &Answer) -> Result<Outcome> {
    let (ours, theirs) = (Written::read(ours)?.programs, Written::read(theirs)?);
    let names: BTreeSet<&String> = ours.keys().chain(theirs.programs.keys()).chain(theirs.refused.keys()).collect();
    let mut outcome = Outcome::default();
    for program in names {
        let mut differ = |what, detail| outcome.differences.push(Finding { program: program.clone(), what, detail });
        let reason =
            || theirs.refused.get(program).or(theirs.refused.get("object")).map(|text| text.trim().to_string());
        match (ours.get(program), theirs.programs.get(program)) {
            (Some(ours), Some(theirs)) if ours == theirs => outcome.equal += 1,
            (Some(ours), Some(theirs)) => differ("instructions", first_difference(ours, theirs)),
            (Some(ours), None) if theirs.lenient.get(program) == Some(ours) => outcome.equal_if_lenient += 1,
            (Some(_), None) => differ("only ringfence", reason().unwrap_or_default()),
            (None, Some(_)) => differ("only libbpf", problem(said, program)),
            (None, None) => outcome.refused += 1,
        }
    }
    if said.code.is_none_or(|code| code == 101 || code == 124) {
        let detail = format!("exit {:?}: {}", said.code, last_line(said));
        outcome.differences.push(Finding { program: "*".into(), what: "crash", detail });
    }
    Ok(outcome)
}

/// Why Ringfence refuses a program: `problem` of `inspect -o json`.
fn problem(said: &Answer, program: &str) -> String {
    let problem =
        programs(&said.out).and_then(|programs| Some(programs.get(program)?["problem"].as_str()?.to_string()));
    problem.unwrap_or_else(|| last_line(said))
}

pub(super) fn last_line(said: &Answer) -> String {
    said.err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_string()
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

pub(super) fn programs(out: &str) -> Option<BTreeMap<String, Value>> {
    let answer: Value = serde_json::from_str(out).ok()?;
    let programs = answer["programs"].as_array()?;
    Some(programs.iter().filter_map(|program| Some((program["name"].as_str()?.to_string(), program.clone()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_compared_by_program() {
        let scratch = crate::tools::Scratch::new("compare").unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| scratch.path().join(name));
        let write = |dir: &Path, files: &[(&str, &str)]| {
            std::fs::create_dir(dir).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(dir.join(name), text).unwrap());
        };
        write(&ours, &[("same", "1"), ("other", "1\n2"), ("extra", "1"), ("spared", "1")]);
        let refused =
            [("extra.refused", "no"), ("both.refused", "no"), ("spared.refused", "no"), ("spared.lenient", "1")];
        write(&theirs, &[&[("same", "1"), ("other", "1\n3"), ("missing", "1")], refused.as_slice()].concat());
        let said = Answer {
            code: Some(0),
            out: r#"{"programs":[{"name":"missing","problem":"why"}]}"#.into(),
            err: String::new(),
        };
        let outcome = instructions(&ours, &theirs, &said).unwrap();
        assert_eq!((outcome.equal, outcome.equal_if_lenient, outcome.refused), (1, 1, 1));
        let found: Vec<_> = outcome.differences.iter().map(|found| (found.what, found.detail.as_str())).collect();
        let instructions = "at 1: ringfence `2`, libbpf `3`; 2 and 2 instructions";
        assert_eq!(found, [("only ringfence", "no"), ("only libbpf", "why"), ("instructions", instructions)]);
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
