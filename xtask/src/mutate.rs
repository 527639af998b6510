//! `cargo xtask mutate`: real objects, damaged, through `ringfence inspect`. It must answer each with a result or a clear
//! error, within a second and 100 MB, and never by a panic or a signal. Then recovery alone, on 10,000 more.
//!
//! The same seed makes the same mutants. One that fails is kept in target/mutants.

mod recover;

use crate::objects;
use crate::tools::{self, Scratch, command, files, finish, parallel, ringfence, target};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Wall-clock limit for one object.
const TIME: Duration = Duration::from_secs(1);
/// Limit on memory that is the process's own: heap, stacks, private writable mappings (`RLIMIT_DATA`).
const MEMORY: u64 = 100 << 20;

/// Exit codes that are an answer: all well, unreadable, the kernel lacks something, refused.
const ANSWERS: &[i32] = &[0, 1, 3, 4];

/// The name of an object, and its bytes.
type Shown = (String, Vec<u8>);

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let count: u64 = arguments.opt_value_from_str("--count")?.unwrap_or(5000);
    let recovered: u64 = arguments.opt_value_from_str("--recover")?.unwrap_or(10_000);
    let seed: u64 = arguments.opt_value_from_str("--seed")?.unwrap_or(1);
    let given = arguments.opt_value_from_str("--ringfence")?;
    finish(arguments)?;
    let mut originals: Vec<Shown> = Vec::new();
    for set in objects::SETS {
        for file in files(&objects::place().join(set), ".o")? {
            originals.push((tools::name(&file), fs::read(&file)?));
        }
    }
    ensure!(!originals.is_empty(), "no objects; `cargo xtask objects` makes them");

    recover::run(&originals, recovered, seed)?;
    if count > 0 {
        inspected(&ringfence(given)?, &originals, count, seed)?;
    }
    Ok(())
}

fn inspected(program: &PathBuf, originals: &[Shown], count: u64, seed: u64) -> Result<()> {
    let scratch = Scratch::new("mutate")?;
    let mutants: Vec<u64> = (0..count).collect();
    let failures: Vec<String> = parallel(&mutants, |number| {
        let mut random = Random(seed.wrapping_mul(1 << 32).wrapping_add(*number));
        let (name, original) = random.pick(originals);
        let (_, donor) = random.pick(originals);
        let (mutant, how) = mutate(original, donor, &mut random);
        let file = scratch.path().join(format!("{number}-{name}"));
        let failure = fs::write(&file, mutant).context("no room").and_then(|()| inspect(program, &file));
        let kept = failure.err().map(|error| keep(&file, &format!("mutant {number} of {name} ({how}): {error:#}")));
        fs::remove_file(&file).ok();
        kept
    })
    .into_iter()
    .flatten()
    .collect();
    failures.iter().for_each(|failure| eprintln!("mutate: {failure}"));
    ensure!(failures.is_empty(), "{} of {count} mutants (seed {seed}) were not answered", failures.len());
    eprintln!("mutate: {count} mutants of {} objects, seed {seed}: each answered", originals.len());
    Ok(())
}

fn keep(file: &Path, failure: &str) -> String {
    let place = target().join("mutants");
    let kept = place.join(file.file_name().unwrap_or_default());
    match fs::create_dir_all(&place).and_then(|()| fs::copy(file, &kept)) {
        Ok(_) => format!("{failure}; {}", kept.display()),
        Err(_) => failure.to_string(),
    }
}

/// Shows an object to the command, under its limits.
fn inspect(program: &PathBuf, object: &Path) -> Result<()> {
    let mut slow = Duration::ZERO;
    // Twice: on a busy machine one slow answer says nothing.
    for _ in 0..2 {
        let start = Instant::now();
        let mut limited = command("timeout", ["10", "prlimit", &format!("--data={MEMORY}")]);
        let output = limited.arg(program).arg("inspect").arg(object).env("RUST_BACKTRACE", "0").output()?;
        slow = start.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        let code = output.status.code().filter(|code| ANSWERS.contains(code));
        let code = code.with_context(|| format!("{}: {last}", output.status))?;
        ensure!(code == 0 || !last.is_empty(), "exit {code} without a word");
        if slow < TIME {
            return Ok(());
        }
    }
    anyhow::bail!("took {:.1} s", slow.as_secs_f64())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 when there is nothing below.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Numbers that parsers stumble over.
const NUMBERS: &[u32] =
    &[0, 1, 2, 7, 8, 0xff, 0x100, 0xffff, 0x1_0000, 0x0fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// A damaged copy, and what was done to it.
fn mutate(original: &[u8], donor: &[u8], random: &mut Random) -> (Vec<u8>, &'static str) {
    let mut bytes = original.to_vec();
    let length = bytes.len();
    // Most damage goes where the structure is: headers at both ends, and the BTF that makes up much of the rest.
    let place = |random: &mut Random| match random.below(4) {
        0 => random.below(64),
        1 => length.saturating_sub(1 + random.below(64 * 32)),
        _ => random.below(length),
    };
    match random.below(8) {
        0 => {
            bytes.truncate(random.below(length));
            (bytes, "truncated")
        }
        1 => {
            for _ in 0..=random.below(16) {
                let at = place(random);
                bytes[at] ^= 1 << random.below(8);
            }
            (bytes, "bits flipped")
        }
        2..=4 => {
            for _ in 0..=random.below(4) {
                let at = place(random) & !3;
                let number = random.pick(NUMBERS).to_le_bytes();
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
            (bytes, "numbers replaced")
        }
        5 => {
            let (at, size) = (place(random), random.below(256));
            bytes.iter_mut().skip(at).take(size).for_each(|byte| *byte = 0);
            (bytes, "zeroed")
        }
        6 => {
            let (at, from, size) = (place(random), random.below(donor.len()), random.below(1024));
            let part: Vec<u8> = donor.iter().skip(from).take(size).copied().collect();
            bytes.splice(at..at, part);
            (bytes, "part of another inserted")
        }
        _ => {
            let (at, from, size) = (place(random), random.below(donor.len()), random.below(1024));
            bytes.iter_mut().skip(at).zip(donor.iter().skip(from).take(size)).for_each(|(byte, new)| *byte = *new);
            (bytes, "overwritten with part of another")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_its_mutant_and_every_kind_comes() {
        let original: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let (mutant, how) = mutate(&original, &original, &mut Random(seed));
            assert_eq!(mutate(&original, &original, &mut Random(seed)).0, mutant);
            kinds.insert(how);
        }
        assert_eq!(kinds.len(), 6);
    }
}
