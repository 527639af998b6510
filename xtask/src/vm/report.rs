//! What test programs said in a guest, and a table of all guests.

use super::guest::Answer;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What came of a test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Pass,
    Fail,
    /// It wants something that the kernel, or the guest, does not have.
    Skip(String),
}

/// A cell of the table of sections: a word, and the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cell {
    pub(super) word: String,
    pub(super) why: String,
}

/// One guest.
#[derive(Default)]
pub(super) struct Report {
    pub(super) kernel: String,
    /// By `PROGRAM::TEST`.
    tests: BTreeMap<String, Verdict>,
    /// In the order in which they were tried.
    sections: Vec<(String, Cell)>,
    /// For the reader: why something failed.
    said: Vec<String>,
    /// Seconds that each program took.
    times: Vec<(String, u32)>,
}

impl Report {
    pub(super) fn new(kernel: &str, answer: Result<Answer>) -> Report {
        let mut report = Report { kernel: kernel.to_string(), ..Report::default() };
        match answer {
            Ok(Answer { code: Some(code), output, .. }) => {
                report.read(&output);
                if code != 0 {
                    report.tests.insert(format!("(exit {code})"), Verdict::Fail);
                    report.said.push(output);
                }
            }
            Ok(Answer { code: None, output, console, .. }) => {
                report.tests.insert("(the machine)".to_string(), Verdict::Fail);
                report.said.push(format!("died, or its time was over: {output}\n{console}"));
            }
            Err(error) => {
                report.tests.insert("(the machine)".to_string(), Verdict::Fail);
                report.said.push(format!("{error:#}"));
            }
        }
        report
    }

    #[cfg(test)]
    pub(super) fn of_sections(kernel: &str, sections: &[(&str, &str, &str)]) -> Report {
        let cell = |word: &str, why: &str| Cell { word: word.to_string(), why: why.to_string() };
        let sections = sections.iter().map(|(section, word, why)| (section.to_string(), cell(word, why))).collect();
        Report { kernel: kernel.to_string(), sections, ..Report::default() }
    }

    pub(super) fn sections(&self) -> &[(String, Cell)] {
        &self.sections
    }

    pub(super) fn section(&self, name: &str) -> Option<&Cell> {
        self.sections.iter().find(|(section, _)| section == name).map(|(_, cell)| cell)
    }

    pub(super) fn failures(&self) -> usize {
        self.tests.values().filter(|verdict| **verdict == Verdict::Fail).count()
    }

    /// The programs that took longest.
    pub(super) fn slow(&self) -> String {
        let slow = self.times.iter().filter(|(_, seconds)| *seconds >= 5);
        slow.map(|(program, seconds)| format!(", {program} {seconds} s")).collect()
    }

    /// Reads libtest's output, a program after another between lines that begin with `==`.
    fn read(&mut self, output: &str) {
        let (mut program, mut from) = ("", 0);
        // A test whose verdict comes on a line of its own, because something was written in between.
        let mut begun = None;
        // The test whose output follows.
        let mut shown = String::new();
        for (at, line) in output.lines().enumerate() {
            if let Some(rest) = line.strip_prefix("== ") {
                let ended = rest.split_once(" exit ").and_then(|(_, ended)| ended.split_once(" in "));
                if let Some(seconds) = ended.and_then(|(_, time)| time.strip_suffix(" s")?.parse().ok()) {
                    self.times.push((program.to_string(), seconds));
                }
                match ended {
                    None => (program, from, shown, begun) = (rest, at, String::new(), None),
                    Some(("0", _)) if self.tests.keys().any(|test| test.starts_with(&format!("{program}::"))) => {}
                    Some((code, _)) => {
                        let verdict = if code == "0" { Verdict::Pass } else { Verdict::Fail };
                        self.tests.insert(format!("{program}::(exit)"), verdict);
                        if code != "0" {
                            let said: Vec<&str> = output.lines().skip(from).take(at - from).collect();
                            self.said.push(said.join("\n"));
                        }
                    }
                }
            } else if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
                match verdict {
                    "ok" => self.add(program, name, Verdict::Pass),
                    "FAILED" => self.add(program, name, Verdict::Fail),
                    ignored if ignored.starts_with("ignored") => {}
                    _ => begun = Some(name),
                }
            } else if let (Some(name), "ok" | "FAILED") = (begun, line) {
                self.add(program, name, if line == "ok" { Verdict::Pass } else { Verdict::Fail });
                begun = None;
            } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
                shown = format!("{program}::{name}");
            } else if let Some(why) = line.strip_prefix("skipped: ") {
                if let Some(verdict) = self.tests.get_mut(&shown).filter(|verdict| **verdict == Verdict::Pass) {
                    *verdict = Verdict::Skip(why.to_string());
                }
            } else if let Some([section, word, why]) = line.strip_prefix("section\t").and_then(three) {
                self.sections.push((section.to_string(), Cell { word: word.to_string(), why: why.to_string() }));
            }
        }
    }

    fn add(&mut self, program: &str, test: &str, verdict: Verdict) {
        self.tests.insert(format!("{program}::{test}"), verdict);
    }
}

fn three(line: &str) -> Option<[&str; 3]> {
    let mut parts = line.splitn(3, '\t');
    Some([parts.next()?, parts.next()?, parts.next()?])
}

/// Prints what each test came to on each kernel, and why where it did not pass.
pub(super) fn print(reports: &[Report]) {
    let tests: BTreeSet<&String> = reports.iter().flat_map(|report| report.tests.keys()).collect();
    let width = tests.iter().map(|test| test.len()).max().unwrap_or(0);
    let kernels: Vec<String> = reports.iter().map(|report| format!("{:>5}", report.kernel)).collect();
    println!("{:width$}  {}", "", kernels.join(" "));
    for test in tests {
        let cell = |report: &Report| match report.tests.get(test) {
            Some(Verdict::Pass) => " pass",
            Some(Verdict::Fail) => " FAIL",
            Some(Verdict::Skip(_)) => " skip",
            None => "    -",
        };
        println!("{test:width$}  {}", reports.iter().map(cell).collect::<Vec<_>>().join(" "));
    }
    for report in reports {
        for (test, verdict) in &report.tests {
            if let Verdict::Skip(why) = verdict {
                println!("{} {test}: skipped: {why}", report.kernel);
            }
        }
    }
    for report in reports {
        for (section, Cell { word, why }) in report.sections.iter().filter(|(_, cell)| cell.word != "fired") {
            println!("{} section {section}: {word}: {why}", report.kernel);
        }
    }
    for report in reports {
        report.said.iter().for_each(|said| println!("\n{}: FAILED\n{said}", report.kernel));
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Verdict};

    #[test]
    fn verdicts_of_a_program() {
        let mut report = Report::default();
        report.read(
            "== links\ntest a ... ok\ntest b ... \nnoise\ntest inner ... ok\nok\ntest c ... ignored, not now\n\
             test d ... FAILED\ntest e ... ok\n---- e stdout ----\nskipped: needs Linux 5.14\n\
             section\txdp\tlacks\tno device\n== links exit 101 in 7 s\n== smoke\n== smoke exit 0 in 2 s\n",
        );
        let skip = Verdict::Skip("needs Linux 5.14".to_string());
        let all = [("a", Verdict::Pass), ("b", Verdict::Pass), ("d", Verdict::Fail), ("e", skip)];
        for (test, verdict) in all {
            assert_eq!(report.tests.get(&format!("links::{test}")), Some(&verdict), "{test}");
        }
        assert_eq!(report.tests.get("links::c"), None);
        assert_eq!(report.tests.get("smoke::(exit)"), Some(&Verdict::Pass));
        assert_eq!(report.failures(), 2);
        assert_eq!(report.said.len(), 1);
        assert_eq!(report.slow(), ", links 7 s");
        let cell = report.section("xdp").unwrap();
        assert_eq!((&*cell.word, &*cell.why), ("lacks", "no device"));
    }
}
