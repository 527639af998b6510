//! How long a record of 64 bytes takes from bytes to JSON, against `serde_json` on a struct written by hand.
//!
//! `cargo run --release -p ringfence-value --example json_speed`: nanoseconds an event, medians of interleaved rounds.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use ringfence_btf::{Array, Builder, Int, Member, New, TypeId};
use ringfence_value::{Layout, Row};
use serde::Serialize;

#[derive(Serialize)]
struct Event<'a> {
    ts: u64,
    pid: u32,
    tid: u32,
    uid: u32,
    ret: i32,
    comm: &'a str,
    bytes: u64,
    inode: u64,
    cpu: u32,
    flags: u32,
}

fn layout() -> Layout {
    let mut b = Builder::new();
    let mut int = |name: &str, size: u32, signed| {
        b.add(name, New::Int(Int { size, bits: (size * 8) as u8, offset: 0, signed, char: false, bool: false }))
    };
    let (u64, u32, s32, char) = (int("u64", 8, false), int("u32", 4, false), int("int", 4, true), int("char", 1, true));
    let text = b.add("", New::Array(Array { element: char, index: u32, len: 16 }));
    let member = |name, ty: TypeId, byte: u32| Member { name, ty, bit_offset: byte * 8, bit_size: 0 };
    let members = [
        member("ts", u64, 0),
        member("pid", u32, 8),
        member("tid", u32, 12),
        member("uid", u32, 16),
        member("ret", s32, 20),
        member("comm", text, 24),
        member("bytes", u64, 40),
        member("inode", u64, 48),
        member("cpu", u32, 56),
        member("flags", u32, 60),
    ];
    let ty = b.add("event", New::Struct { size: 64, members: &members });
    Layout::compile(&b.build().unwrap(), ty).unwrap()
}

fn by_hand(record: &[u8], out: &mut Vec<u8>) {
    let u64_at = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
    let comm = &record[24..40];
    let comm = &comm[..comm.iter().position(|b| *b == 0).unwrap_or(16)];
    let event = Event {
        ts: u64_at(0),
        pid: u32_at(8),
        tid: u32_at(12),
        uid: u32_at(16),
        ret: u32_at(20) as i32,
        comm: std::str::from_utf8(comm).unwrap(),
        bytes: u64_at(40),
        inode: u64_at(48),
        cpu: u32_at(56),
        flags: u32_at(60),
    };
    serde_json::to_writer(out, &event).unwrap();
}

fn main() {
    const EVENTS: usize = 100_000;
    let layout = layout();
    let mut records = Vec::new();
    for n in 0..EVENTS as u64 {
        records.extend((1_234_567_890_000 + n * 997).to_le_bytes());
        records.extend(
            [1000 + n as u32 % 5000, 1000 + n as u32 % 5000, 1000, -2i32 as u32].map(u32::to_le_bytes).as_flattened(),
        );
        records.extend(b"systemd-journal\0");
        records.extend([n * 31, 1 << 40 | n].map(u64::to_le_bytes).as_flattened());
        records.extend([n as u32 % 8, 0x8000].map(u32::to_le_bytes).as_flattened());
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    layout.json(&records[..64], &mut ours).unwrap();
    by_hand(&records[..64], &mut theirs);
    assert_eq!(ours, theirs);

    let (mut out, mut row) = (Vec::with_capacity(EVENTS * 256), Row::new());
    let mut time = |work: &mut dyn FnMut(&[u8], &mut Vec<u8>)| {
        out.clear();
        let start = Instant::now();
        records.chunks_exact(64).for_each(|record| work(record, &mut out));
        black_box(&out);
        start.elapsed().as_nanos() as f64 / EVENTS as f64
    };
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..21 {
        let json = time(&mut |record, out| layout.json(record, out).unwrap());
        let serde = time(&mut |record, out| by_hand(record, out));
        let cells = time(&mut |record, _| layout.row(black_box(record), None, &mut row).unwrap());
        for (all, this) in rounds.iter_mut().zip([json, serde, cells, json / serde]) {
            all.push(this);
        }
    }
    let [json, serde, cells, ratio] = rounds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!("json {json:.0} ns, serde_json by hand {serde:.0} ns, ratio {ratio:.2}; table row {cells:.0} ns");
}
