//! Outcomes as a table, as a list of differences, and as docs/oracle.md.

use super::compare::{Finding, Outcome};
use super::known::{Known, Row};
use super::{Case, Question};
use std::fmt::{self, Write};

/// A difference, with where it was found.
pub(super) struct Difference<'a> {
    pub(super) kernel: &'a str,
    pub(super) object: &'a str,
    pub(super) finding: &'a Finding,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { kernel, object, finding: Finding { program, what, detail } } = self;
        write!(f, "{kernel} | {object} | {program} | {what} | {detail}")
    }
}

/// A line of the table.
struct Line<'a> {
    question: Question,
    set: &'a str,
    kernel: &'a str,
    equal: usize,
    equal_if_lenient: usize,
    refused: usize,
    explained: usize,
    unexplained: usize,
}

/// What a run found.
pub(super) struct Report<'a> {
    lines: Vec<Line<'a>>,
    /// Each with the row that explains it.
    differences: Vec<(Difference<'a>, Option<&'a Row>)>,
    known: &'a Known,
}

impl<'a> Report<'a> {
    pub(super) fn new(cases: &'a [Case], outcomes: &'a [Outcome], known: &'a Known) -> Report<'a> {
        let mut report = Report { lines: Vec::new(), differences: Vec::new(), known };
        for (case, outcome) in cases.iter().zip(outcomes) {
            let differences: Vec<_> = outcome
                .differences
                .iter()
                .map(|finding| Difference { kernel: case.kernel, object: &case.object, finding })
                .map(|difference| {
                    let row = known.0.iter().find(|row| row.explains(&difference));
                    (difference, row)
                })
                .collect();
            let explained = differences.iter().filter(|(_, row)| row.is_some()).count();
            let line = report.line(case);
            line.equal += outcome.equal;
            line.equal_if_lenient += outcome.equal_if_lenient;
            line.refused += outcome.refused;
            line.explained += explained;
            line.unexplained += differences.len() - explained;
            report.differences.extend(differences);
        }
        report
    }

    fn line(&mut self, case: &'a Case) -> &mut Line<'a> {
        let Case { question, set, kernel, .. } = *case;
        let is = |line: &Line<'_>| (line.question, line.set, line.kernel) == (question, set, kernel);
        let at = self.lines.iter().position(is).unwrap_or_else(|| {
            let (equal, equal_if_lenient, refused, explained, unexplained) = (0, 0, 0, 0, 0);
            self.lines.push(Line { question, set, kernel, equal, equal_if_lenient, refused, explained, unexplained });
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    /// Counts by question, set and kernel, as Markdown.
    pub(super) fn table(&self) -> String {
        let mut table = String::from(
            "| compared | objects | kernel | equal | equal if libbpf is lenient | refused by both | explained | unexplained |\n\
             |---|---|---|--:|--:|--:|--:|--:|\n",
        );
        for line in &self.lines {
            let Line { question, set, kernel, equal, equal_if_lenient, refused, explained, unexplained } = line;
            let question = match question {
                Question::Instructions => "instructions",
                Question::Verdicts => "verdicts",
            };
            writeln!(
                table,
                "| {question} | {set} | {kernel} | {equal} | {equal_if_lenient} | {refused} | {explained} | {unexplained} |"
            )
            .ok();
        }
        table
    }

    /// Differences without a reason.
    pub(super) fn unexplained(&self) -> impl Iterator<Item = &Difference<'a>> {
        self.differences.iter().filter(|(_, row)| row.is_none()).map(|(difference, _)| difference)
    }

    /// Rows of the table of known differences that explain none.
    pub(super) fn stale(&self) -> Vec<&'a Row> {
        let used =
            |row: &&Row| self.differences.iter().any(|(_, used)| used.is_some_and(|used| std::ptr::eq(used, *row)));
        self.known.0.iter().filter(|row| !used(row)).collect()
    }

    /// docs/oracle.md.
    pub(super) fn page(&self) -> String {
        let mut page = String::from(
            "# Compared with libbpf\n\n\
             Written by `cargo xtask oracle --write`: do not edit. Every program of real objects through both loaders: \
             Debian's libbpf-tools and xdp-tools, and the self-tests of Linux 6.12. `here` is the kernel that the \
             command ran on; the others are Debian's, by their BTF, which libbpf is made to take for the running \
             kernel's.\n\n\
             libbpf refuses programs for the sake of others: it wants every symbol that any program of the object uses, \
             and a kernel that takes the struct_ops maps. `lenient`: its instructions when the externs are made weak and \
             no struct_ops map is created.\n\n",
        );
        page += &self.table();
        page += "\n## Differences, and why\n\n";
        let mut any = false;
        let mut reasons: Vec<(&str, &str)> = Vec::new();
        for row in &self.known.0 {
            let reason = (row.what.as_str(), row.reason.as_str());
            if reasons.contains(&reason) {
                continue;
            }
            reasons.push(reason);
            let of_reason = |(_, row): &&(_, Option<&Row>)| {
                row.is_some_and(|row| (row.what.as_str(), row.reason.as_str()) == reason)
            };
            let found: Vec<_> = self.differences.iter().filter(of_reason).collect();
            if found.is_empty() {
                continue;
            }
            any = true;
            writeln!(page, "{} ({}): {}\n", row.what, found.len(), row.reason).ok();
            for (Difference { kernel, object, finding }, _) in found {
                writeln!(page, "- {kernel}, {object}, {}", finding.program).ok();
            }
            page.push('\n');
        }
        if !any {
            page += "None.\n";
        }
        page
    }
}
