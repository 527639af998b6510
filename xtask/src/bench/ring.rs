//! Reading a ring buffer: nanoseconds a record for each library and for a bare loop.

use super::{compile, median, page, ratio};
use crate::tools::{Scratch, command, root, text};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// As in benches/src/bin/ring.rs.
const RECORDS: f64 = 4000.0;
const READERS: &[&str] = &["bare", "ringfence", "libbpf", "libbpf-rs", "aya"];

pub(super) fn measure(programs: &Path, rounds: usize) -> Result<String> {
    let scratch = Scratch::new("bench")?;
    let object = scratch.path().join("ring.bpf.o");
    compile(&root().join("benches/bpf/ring.bpf.c"), &object)?;
    let said = text(command(&programs.join("ring").to_string_lossy(), [&object]).arg(rounds.to_string()))?;

    let mut readings: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for line in said.lines() {
        let mut words = line.split(' ');
        let (Some(size), Some(reader), Some(time)) = (words.next(), words.next(), words.next()) else { continue };
        readings.entry((size.parse()?, reader)).or_default().push(time.parse::<f64>()? / RECORDS);
    }
    let sizes: Vec<usize> = readings.keys().filter(|(_, reader)| *reader == "bare").map(|(size, _)| *size).collect();
    ensure!(!sizes.is_empty(), "the benchmark said nothing");

    let mut out = format!(
        "## Reading a ring buffer\n\n`cargo xtask bench ring --write`; {}; {rounds} rounds, the readers in turn, 4,000 \
         records a batch, written by a tc program under BPF_PROG_TEST_RUN without waking anybody. `bare` is the shortest \
         correct loop over the mapped ring. Median ns a record, and medians of the ratios.\n\n\
         | record | {} | ringfence / bare | / libbpf | / libbpf-rs | / aya |\n|---|{}--:|--:|--:|--:|\n",
        page::machine()?,
        READERS.join(" | "),
        "--:|".repeat(READERS.len())
    );
    for size in sizes {
        let of = |reader: &'static str| readings.get(&(size, reader)).with_context(|| format!("nothing of {reader}"));
        let ours = of("ringfence")?;
        write!(out, "| {size} B |")?;
        for reader in READERS {
            write!(out, " {:.2} |", median(of(reader)?.iter().copied()))?;
        }
        for reader in READERS.iter().filter(|reader| **reader != "ringfence") {
            write!(out, " {:.2} |", ratio(ours, of(reader)?))?;
        }
        out.push('\n');
    }
    Ok(out)
}
