//! Benchmarks of one program, which measures all libraries in turn: their sections of the page.

use super::{compile, median, page, ratio};
use crate::tools::{Scratch, command, root, text};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::path::Path;

/// One benchmark: its program of benches/src/bin prints a line for each reading, `CASE CONTENDER NUMBER`.
pub(super) struct Bench {
    /// Of the program, and of `cargo xtask bench`.
    pub(super) name: &'static str,
    title: &'static str,
    /// Program of benches/bpf that it takes.
    object: Option<&'static str>,
    /// What was measured and in which unit.
    about: &'static str,
    case: &'static str,
    /// What else is in the table beside `ringfence`, in the order of the columns.
    others: &'static [&'static str],
}

pub(super) const BENCHES: &[Bench] = &[
    Bench {
        name: "ring",
        title: "Reading a ring buffer",
        object: Some("ring"),
        about: "4,000 records a batch, written by a tc program under BPF_PROG_TEST_RUN without waking anybody. `bare` is \
                the shortest correct loop over the mapped ring. Median ns a record, and medians of the ratios.",
        case: "record",
        others: &["bare", "libbpf", "libbpf-rs", "aya"],
    },
    Bench {
        name: "maps",
        title: "Reading every entry of a map",
        object: None,
        about: "1,000,000 entries of 4 + 8 bytes by each library's iterator with types. `raw` is one system call for all \
                entries of the hash map, and a loop over the mapped memory of the array. Median ns an entry, and medians \
                of the ratios.",
        case: "map",
        others: &["raw", "libbpf-rs", "aya"],
    },
    Bench {
        name: "links",
        title: "Many programs at once",
        object: Some("many"),
        about: "an object of 65 programs that do not know each other, from opening the file to the last one verified; and \
                16 tracepoint links dropped together (libbpf: one after another). `in-turn` is Ringfence with one thread, and \
                its links dropped one after another. Median ms, and medians of the ratios.",
        case: "",
        others: &["in-turn", "libbpf"],
    },
    Bench {
        name: "decode",
        title: "Decoding an event",
        object: None,
        about: "1,000,000 records of 64 bytes with six fields (a time, two ids, a result, two texts). `ringfence` knows the type \
                from BTF alone; `serde_json` serialises a struct written by hand to the same JSON, for both rows. A table row \
                is its cells, padded. Median ns an event, and medians of the ratios.",
        case: "to",
        others: &["serde_json"],
    },
    Bench {
        name: "net",
        title: "Counting a packet",
        object: Some("count"),
        about: "the programs of `ringfence net`, each 500,000 times on one frame of 74 bytes under BPF_PROG_TEST_RUN. `bare` adds \
                to two numbers of a per-CPU array and knows nothing of the packet. Every run was counted. Median ns a packet, \
                and medians of the ratios.",
        case: "at",
        others: &["bare"],
    },
];

impl Bench {
    /// Runs it; its section.
    pub(super) fn measure(&self, programs: &Path, rounds: usize) -> Result<String> {
        let scratch = Scratch::new("bench")?;
        let mut program = command(&programs.join(self.name).to_string_lossy(), [""; 0]);
        if let Some(source) = self.object {
            let object = scratch.path().join("bench.bpf.o");
            compile(&root().join(format!("benches/bpf/{source}.bpf.c")), &object)?;
            program.arg(object);
        }
        let table = self.table(&text(program.arg(rounds.to_string()))?)?;
        let Bench { name, title, about, .. } = self;
        let machine = page::machine()?;
        Ok(format!(
            "## {title}\n\n`cargo xtask bench {name} --write`; {machine}; {rounds} rounds, in turn; {about}\n\n{table}"
        ))
    }

    fn table(&self, said: &str) -> Result<String> {
        let mut readings: Vec<(&str, &str, f64)> = Vec::new();
        for line in said.lines() {
            let [case, contender, number] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            readings.push((case, contender, number.parse()?));
        }
        let mut cases: Vec<&str> = Vec::new();
        for (case, ..) in &readings {
            if !cases.contains(case) {
                cases.push(case);
            }
        }
        ensure!(!cases.is_empty(), "the benchmark said nothing");
        let ratios = self.others.iter().map(|other| format!("/ {other}")).collect::<Vec<_>>().join(" | ");
        let columns = self.others.len() * 2 + 1;
        let mut out = format!("| {} | ringfence | {} | ringfence {ratios} |\n", self.case, self.others.join(" | "));
        writeln!(out, "|---|{}", "--:|".repeat(columns))?;
        for case in cases {
            let of = |contender: &str| -> Result<Vec<f64>> {
                let same = readings.iter().filter(|reading| (reading.0, reading.1) == (case, contender));
                let numbers: Vec<f64> = same.map(|reading| reading.2).collect();
                Some(numbers).filter(|numbers| !numbers.is_empty()).with_context(|| format!("nothing of {contender}"))
            };
            let ours = of("ringfence")?;
            write!(out, "| {} | {:.2} |", case.replace('_', " "), median(ours.iter().copied()))?;
            for other in self.others {
                write!(out, " {:.2} |", median(of(other)?))?;
            }
            for other in self.others {
                write!(out, " {:.2} |", ratio(&ours, &of(other)?))?;
            }
            out.push('\n');
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::Bench;

    #[test]
    fn a_row_for_each_case() {
        let links = Bench { name: "", title: "", object: None, about: "", case: "", others: &["libbpf"] };
        let said = "close_2 ringfence 1\nclose_2 libbpf 4\nload ringfence 2\nclose_2 ringfence 3\nload libbpf 2\nclose_2 libbpf 4\n";
        let table = links.table(said).unwrap();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows[2..], ["| close 2 | 2.00 | 4.00 | 0.50 |", "| load | 2.00 | 2.00 | 1.00 |"], "{table}");
        assert!(links.table("load ringfence 2\n").is_err());
    }
}
