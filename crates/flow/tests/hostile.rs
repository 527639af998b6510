//! Objects that are made to cost much: recovery ends in bounded time and memory.
#![allow(missing_docs)]

use std::path::Path;
use std::time::Duration;

use ringfence_flow::{event_types, layouts, outputs};
use ringfence_object::{Line, MapId, Object, Reloc, Target};
use ringfence_testing::worked;
use ringfence_uapi::Insn;

/// Time on a processor for all questions about one object; a build without optimisation takes some thirty times as long.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 2 });
/// Most memory that this process may ever have had, in KiB.
const MEMORY: u64 = 600 << 10;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// `*(u64 *)(r10 - 8 * SLOT) = r1` for the whole frame.
fn frame_filled() -> Vec<Insn> {
    (1..=64i16).map(|slot| insn(0x7b, 10, 1, -8 * slot, 0)).collect()
}

fn survives(what: &str, change: impl FnOnce(&mut Object)) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/styles.c");
    let Some(elf) = ringfence_testing::compile(&source, &["-target", "bpfel"]) else { return };
    let mut object = Object::parse("hostile.o", &elf).unwrap();
    change(&mut object);
    let start = worked();
    outputs(&object);
    event_types(&object, None);
    layouts(&object);
    let time = worked().saturating_sub(start);
    assert!(time < LIMIT, "{what}: {time:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY, "{what}: {peak} KiB");
    println!("{what}: {time:?}, {peak} KiB so far");
}

/// Places where paths meet, each with a full frame that differs.
#[test]
fn many_paths() {
    survives("many paths", |object| {
        let mut insns = frame_filled();
        for n in 0..200_000 {
            insns.push(insn(0xb7, 2, 0, 0, n));
            insns.push(insn(0x7b, 10, 2, -8 * (n % 64 + 1) as i16, 0));
            insns.push(insn(0x1d, 1, 3, 1, 0));
            insns.push(insn(0xb7, 4, 0, 0, n));
        }
        insns.push(insn(0x95, 0, 0, 0, 0));
        object.functions[0].insns = insns;
        object.functions[0].relocs.clear();
    });
}

/// Jumps from one place to thousands, and back.
#[test]
fn many_targets() {
    survives("many targets", |object| {
        let mut insns = frame_filled();
        for _ in 0..30_000 {
            insns.push(insn(0x1d, 1, 3, 30_000, 0));
        }
        for n in 0..60_000i32 {
            insns.push(insn(0x07, 1, 0, 0, n));
            insns.push(insn(0x1d, 1, 3, -30_000, 0));
        }
        insns.push(insn(0x95, 0, 0, 0, 0));
        for function in &mut object.functions {
            function.insns = insns.clone();
            function.relocs.clear();
        }
    });
}

/// Thousands of calls that send what thousands of stores wrote, each with its line of source.
#[test]
fn many_records() {
    survives("many records", |object| {
        let ring = MapId(object.maps.iter().position(|map| map.name == "plain").unwrap());
        let function = object.functions.iter_mut().max_by_key(|function| function.lines.len()).unwrap();
        let texts: Vec<u32> = function.lines.iter().map(|line| line.text).collect();
        let mut insns = Vec::new();
        let mut relocs = Vec::new();
        for n in 0..4_000i32 {
            for at in 0..16i16 {
                insns.push(insn(0x63, 10, 1, -4 * ((n as i16 + at) % 128 + 1), 0));
            }
            relocs.push(Reloc { insn: insns.len(), target: Target::Map(ring) });
            insns.push(insn(0x18, 1, 1, 0, 0));
            insns.push(insn(0, 0, 0, 0, 0));
            insns.push(insn(0xbf, 2, 10, 0, 0));
            insns.push(insn(0x07, 2, 0, 0, -512));
            insns.push(insn(0xb7, 3, 0, 0, 400 + n % 100));
            insns.push(insn(0xb7, 4, 0, 0, 0));
            insns.push(insn(0x85, 0, 0, 0, 130));
            insns.push(insn(0xbf, 1, 0, 0, 0));
        }
        insns.push(insn(0x95, 0, 0, 0, 0));
        let line = |insn: usize| Line {
            insn,
            file: 1,
            text: texts[insn % texts.len()],
            line: (insn % 5_000) as u32 + 1,
            column: 1,
        };
        function.lines = (0..insns.len()).map(line).collect();
        function.insns = insns;
        function.relocs = relocs;
    });
}
