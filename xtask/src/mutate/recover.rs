//! Real objects with damage in the instructions, types, source lines and relocations, one of them at a time, so that most
//! are still objects: recovery of events and layouts must end each without a panic, in bounded time.

use super::{NUMBERS, Random, Shown};
use crate::tools::parallel;
use anyhow::{Result, ensure};
use object::{Object as _, ObjectSection as _};
use ringfence_flow::{contents, event_types, layouts, outputs, scalars};
use ringfence_object::Object;
use ringfence_testing::worked;
use std::ops::Range;
use std::panic::catch_unwind;
use std::time::Duration;

/// Limit on one object, in time on a processor. An optimised build takes a fifth of what this one does.
const TIME: Duration = Duration::from_secs(5);

/// Where a file has what recovery reads.
#[derive(Default)]
struct Places {
    code: Vec<Range<usize>>,
    types: Vec<Range<usize>>,
    lines: Vec<Range<usize>>,
    relocations: Vec<Range<usize>>,
}

impl Places {
    fn of(file: &[u8]) -> Option<Places> {
        let elf = object::File::parse(file).ok()?;
        let mut places = Places::default();
        for section in elf.sections() {
            let Some((start, length)) = section.file_range() else { continue };
            let range = start as usize..start.checked_add(length)? as usize;
            if file.get(range.clone()).is_none_or(<[u8]>::is_empty) {
                continue;
            }
            match (section.name().unwrap_or_default(), section.kind()) {
                (".BTF", _) => places.types.push(range),
                (".BTF.ext", _) => places.lines.push(range),
                (name, _) if name.starts_with(".rel") => places.relocations.push(range),
                (_, object::SectionKind::Text) => places.code.push(range),
                _ => {}
            }
        }
        (!places.code.is_empty()).then_some(places)
    }
}

/// Larger objects take most of the time and teach little: nine in ten of their mutants are of another.
const LARGE: usize = 512 << 10;

/// What became of a mutant.
#[derive(Default)]
struct Outcome {
    parsed: bool,
    /// A call that sends a record was found.
    sends: bool,
    /// A field was recovered.
    fields: bool,
    time: Duration,
    failure: Option<String>,
}

pub(super) fn run(originals: &[Shown], count: u64, seed: u64) -> Result<()> {
    // Objects that send something first: the others have nothing to recover.
    let mut sending: Vec<(&Shown, Places)> = Vec::new();
    let mut others: Vec<(&Shown, Places)> = Vec::new();
    for shown in originals {
        let Some(places) = Places::of(&shown.1) else { continue };
        let sends = Object::parse(&shown.0, &shown.1).is_ok_and(|object| !outputs(&object).is_empty());
        if sends { &mut sending } else { &mut others }.push((shown, places));
    }
    ensure!(!sending.is_empty(), "no object sends a record");
    let numbers: Vec<u64> = (0..count).collect();
    let outcomes = parallel(&numbers, |number| {
        let mut random = Random(seed.wrapping_mul(1 << 40).wrapping_add(*number));
        let from = if others.is_empty() || random.below(4) > 0 { &sending } else { &others };
        let mut picked = random.pick(from);
        if picked.0.1.len() > LARGE && random.below(10) > 0 {
            picked = random.pick(from);
        }
        let ((name, original), places) = picked;
        let (mutant, how) = damage(original, places, &mut random);
        let mut outcome = recover(name, &mutant);
        if outcome.failure.is_none() && outcome.time > TIME {
            outcome.failure = Some(format!("took {:.1} s", outcome.time.as_secs_f64()));
        }
        if let Some(failure) = &mut outcome.failure {
            let file = crate::tools::target().join("mutants").join(format!("recover-{number}-{name}"));
            let kept = file.parent().map(std::fs::create_dir_all).is_some_and(|made| made.is_ok())
                && std::fs::write(&file, &mutant).is_ok();
            *failure = format!("mutant {number} of {name} ({how}): {failure}");
            if kept {
                failure.push_str(&format!("; {}", file.display()));
            }
        }
        outcome
    });
    let failures: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()).collect();
    failures.iter().for_each(|failure| eprintln!("mutate: {failure}"));
    ensure!(failures.is_empty(), "recovery failed for {} of {count} mutants (seed {seed})", failures.len());
    let of = |what: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| what(outcome)).count();
    let parsed = of(|outcome| outcome.parsed);
    eprintln!(
        "mutate: recovery on {count} mutants of {} objects: {parsed} were objects, {} of these send records, {} have fields; \
         none took longer than {:.2} s",
        sending.len() + others.len(),
        of(|outcome| outcome.sends),
        of(|outcome| outcome.fields),
        outcomes.iter().map(|outcome| outcome.time).max().unwrap_or_default().as_secs_f64()
    );
    // Damage that keeps nearly all from being objects would test nothing.
    ensure!(parsed * 2 > outcomes.len(), "only {parsed} of {count} mutants reached recovery");
    Ok(())
}

fn recover(name: &str, mutant: &[u8]) -> Outcome {
    let start = worked();
    let result = catch_unwind(|| {
        let Ok(object) = Object::parse(name, mutant) else { return Outcome::default() };
        let sends = !outputs(&object).is_empty();
        event_types(&object, None);
        scalars(&object);
        contents(&object);
        let mut fields = false;
        for layout in layouts(&object) {
            fields |= !layout.fields.is_empty();
            for pair in layout.fields.windows(2) {
                // Sorted; members of a union start together, and nothing else overlaps.
                assert!(
                    pair[0].offset == pair[1].offset || pair[0].offset + pair[0].width <= pair[1].offset,
                    "{} overlaps {}",
                    pair[0].shown(),
                    pair[1].shown()
                );
            }
            if let Ok((types, ty)) = layout.to_btf(object.btf.as_ref(), "event") {
                assert_eq!(types.size_of(ty), Ok(u64::from(layout.bytes())));
            }
        }
        Outcome { parsed: true, sends, fields, ..Outcome::default() }
    });
    let panicked = |cause: Box<dyn std::any::Any + Send>| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome { failure: Some(format!("panic: {}", text.unwrap_or_default())), ..Outcome::default() }
    };
    Outcome { time: worked().saturating_sub(start), ..result.unwrap_or_else(panicked) }
}

/// A damaged copy, and what was done to it.
fn damage(original: &[u8], places: &Places, random: &mut Random) -> (Vec<u8>, &'static str) {
    let mut bytes = original.to_vec();
    let (of, how): (&[Range<usize>], _) = match random.below(8) {
        0 if !places.types.is_empty() => (&places.types, "types"),
        1 | 2 if !places.lines.is_empty() => (&places.lines, "source lines"),
        3 if !places.relocations.is_empty() => (&places.relocations, "relocations"),
        _ => (&places.code, "instructions"),
    };
    for _ in 0..=random.below(8) {
        let range = random.pick(of).clone();
        let Some(part) = bytes.get_mut(range) else { continue };
        match how {
            "instructions" => instruction(part, random),
            "relocations" => number(part, 16, random),
            _ => number(part, 4, random),
        }
    }
    (bytes, how)
}

/// Replaces a number that stands at a multiple of 4; half of the time with one that is elsewhere in the part, which is
/// more likely to make sense. `unit`: bytes of a record.
fn number(part: &mut [u8], unit: usize, random: &mut Random) {
    let words = part.len() / 4;
    let at = random.below(words) * 4;
    let new = match random.below(4) {
        0 => *random.pick(NUMBERS),
        1 => random.next() as u32 & 0xff,
        _ => {
            let from = (random.below(part.len() / unit) * unit + at % unit).min(part.len().saturating_sub(4));
            part.get(from..from + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
        }
    };
    if let Some(word) = part.get_mut(at..at + 4) {
        word.copy_from_slice(&new.to_le_bytes());
    }
}

/// Changes one part of an instruction, or moves instructions.
fn instruction(code: &mut [u8], random: &mut Random) {
    let count = code.len() / 8;
    let at = random.below(count) * 8;
    let other = random.below(count) * 8;
    let Some(Ok(mut insn)) = code.get(at..at + 8).map(<[u8; 8]>::try_from) else { return };
    match random.below(7) {
        0 => insn[0] = code.get(other).copied().unwrap_or(0),
        1 => insn[1] = (random.below(11) | random.below(11) << 4) as u8,
        2 => insn[2..4].copy_from_slice(&(random.below(64) as i16 - 32).to_le_bytes()),
        3 => insn[2..4].copy_from_slice(&(random.next() as u16).to_le_bytes()),
        4 => insn[4..].copy_from_slice(&random.pick(NUMBERS).to_le_bytes()),
        5 => insn[4..].copy_from_slice(&(random.below(220) as u32).to_le_bytes()),
        // A run of others, from elsewhere.
        _ => {
            let size = (random.below(16) * 8).min(code.len() - at.max(other));
            code.copy_within(other..other + size, at);
            return;
        }
    }
    code[at..at + 8].copy_from_slice(&insn);
}
