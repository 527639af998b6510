//! Outcomes as a table, as a list of differences, and as docs/verdicts.md.

use super::super::known::{Known, Row};
use super::super::report::Difference;
use super::{Case, Outcome};
use std::fmt::Write;

/// What a run found.
pub(super) struct Page<'a> {
    cases: &'a [Case],
    outcomes: &'a [Outcome],
    known: &'a Known,
    /// Each with the row that explains it.
    differences: Vec<(Difference<'a>, Option<&'a Row>)>,
}

impl<'a> Page<'a> {
    pub(super) fn new(cases: &'a [Case], outcomes: &'a [Outcome], known: &'a Known) -> Page<'a> {
        let found = cases.iter().zip(outcomes).flat_map(|(case, outcome)| {
            let (kernel, object) = (case.kernel, case.object.as_str());
            outcome.differences.iter().map(move |finding| Difference { kernel, object, finding })
        });
        let explained = |difference: Difference<'a>| {
            let row = known.0.iter().find(|row| row.explains(&difference));
            (difference, row)
        };
        Page { cases, outcomes, known, differences: found.map(explained).collect() }
    }

    /// Counts by kernel and set, as Markdown.
    pub(super) fn table(&self) -> String {
        let mut table = String::from(
            "| kernel | objects | programs | both load | only libbpf | only ringfence | both refuse | with the same errno | \
             before the kernel is asked | unexplained |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        let mut lines: Vec<(&str, &str)> = self.cases.iter().map(|case| (case.kernel, case.set)).collect();
        lines.dedup();
        for line in lines {
            let of_line = self.cases.iter().zip(self.outcomes).filter(|(case, _)| (case.kernel, case.set) == line);
            let mut sum = [0; 7];
            for (_, outcome) in of_line {
                let Outcome { both, only_libbpf, only_ringfence, refused, same_errno, without_errno, .. } = outcome;
                let all = both + only_libbpf + only_ringfence + refused;
                let counts = [all, *both, *only_libbpf, *only_ringfence, *refused, *same_errno, *without_errno];
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let unexplained = self.unexplained().filter(|found| {
                found.kernel == line.0 && found.object.split_once('/').is_some_and(|(set, _)| set == line.1)
            });
            let cells: Vec<String> = sum.iter().map(usize::to_string).collect();
            writeln!(table, "| {} | {} | {} | {} |", line.0, line.1, cells.join(" | "), unexplained.count()).ok();
        }
        table
    }

    /// Differences without a reason.
    pub(super) fn unexplained(&self) -> impl Iterator<Item = &Difference<'a>> {
        self.differences.iter().filter(|(_, row)| row.is_none()).map(|(difference, _)| difference)
    }

    /// Rows that explain nothing. How long a verifier takes depends on the machine: what explains that is not among them.
    pub(super) fn stale(&self) -> Vec<&'a Row> {
        let used =
            |row: &&Row| self.differences.iter().any(|(_, used)| used.is_some_and(|used| std::ptr::eq(used, *row)));
        let slow = |row: &&Row| row.what.contains("exit 143") || row.what.contains("Terminated");
        self.known.0.iter().filter(|row| !used(row) && !slow(row)).collect()
    }

    /// docs/verdicts.md.
    pub(super) fn text(&self) -> String {
        let mut page = String::from(
            "# What loads, compared with libbpf\n\n\
             Written by `cargo xtask oracle --verdicts --write`: do not edit. On each kernel of the table, in a virtual \
             machine, libbpf 1.7 and `ringfence check` load every program of real objects for itself: Debian's libbpf-tools \
             and xdp-tools, and the self-tests of Linux 6.12, most of which are made to be refused by some kernel. The \
             kernels are Debian's own: the self-tests' module bpf_testmod is not there, and programs that need it are \
             refused by both. \"Before the kernel is asked\": Ringfence knows that it cannot load, and has no errno.\n\n",
        );
        page += &self.table();
        page += "\n## Differences, and why\n\n";
        let mut reasons: Vec<(&str, &str)> = Vec::new();
        for row in &self.known.0 {
            let reason = (row.what.split(": ").next().unwrap_or_default(), row.reason.as_str());
            if reasons.contains(&reason) {
                continue;
            }
            reasons.push(reason);
            let of_reason = |(found, row): &&(Difference<'_>, Option<&Row>)| {
                row.is_some_and(|row| (found.finding.what, row.reason.as_str()) == reason)
            };
            let found: Vec<_> = self.differences.iter().filter(of_reason).collect();
            if found.is_empty() {
                continue;
            }
            writeln!(page, "{} ({}): {}\n", reason.0, found.len(), reason.1).ok();
            // An object a line: its programs, and on which kernels.
            let mut objects: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
            for (Difference { kernel, object, finding }, _) in found {
                let at = objects.iter().position(|(name, ..)| name == object).unwrap_or_else(|| {
                    objects.push((object, Vec::new(), Vec::new()));
                    objects.len() - 1
                });
                let Some((_, programs, kernels)) = objects.get_mut(at) else { continue };
                if !programs.contains(&finding.program.as_str()) {
                    programs.push(&finding.program);
                }
                if !kernels.contains(kernel) {
                    kernels.push(kernel);
                }
            }
            for (object, programs, kernels) in objects {
                writeln!(page, "- {object} on {}: {}", kernels.join(", "), programs.join(", ")).ok();
            }
            page.push('\n');
        }
        page
    }
}
