//! What it takes to make JSON or a table row of an event whose type is known from BTF alone, beside `serde_json` on a struct
//! written by hand.
//!
//! `decode ROUNDS`. In each round each contender in turn gets all records. Prints a line for each reading: what is made,
//! contender, nanoseconds an event.

use anyhow::{Context, Result, ensure};
use ringfence_btf::{Array, Builder, Int, Member, New, TypeId};
use ringfence_value::{Layout, Row};
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;

const RECORDS: u64 = 1_000_000;
const SIZE: usize = 64;
/// Output is thrown away after so many records, as a reader writes it out after a turn.
const TURN: usize = 4096;
const WIDTHS: [usize; 6] = [16, 7, 7, 9, 16, 24];

#[derive(Serialize)]
struct Event<'a> {
    timestamp: u64,
    pid: u32,
    uid: u32,
    result: i64,
    comm: &'a str,
    target: &'a str,
}

fn layout() -> Result<Layout> {
    let mut b = Builder::new();
    let mut int = |name: &str, size: u32, signed, char| {
        b.add(name, New::Int(Int { size, bits: (size * 8) as u8, offset: 0, signed, char, bool: false }))
    };
    let (u64, s64) = (int("u64", 8, false, false), int("s64", 8, true, false));
    let (u32, char) = (int("u32", 4, false, false), int("char", 1, true, false));
    let mut text = |len| b.add("", New::Array(Array { element: char, index: u32, len }));
    let (comm, target) = (text(16), text(24));
    let member = |name, ty: TypeId, byte: u32| Member { name, ty, bit_offset: byte * 8, bit_size: 0 };
    let members = [
        member("timestamp", u64, 0),
        member("pid", u32, 8),
        member("uid", u32, 12),
        member("result", s64, 16),
        member("comm", comm, 24),
        member("target", target, 40),
    ];
    let ty = b.add("event", New::Struct { size: SIZE as u32, members: &members });
    Ok(Layout::compile(&b.build()?, ty)?)
}

fn records() -> Vec<u8> {
    const COMMS: [&str; 4] = ["systemd-journal", "sshd", "bash", "kworker/u8:2"];
    const TARGETS: [&str; 3] = ["/etc/ld.so.cache", "/proc/self/status", "/usr/lib/locale/C.utf8"];
    let mut out = Vec::with_capacity(RECORDS as usize * SIZE);
    let text = |out: &mut Vec<u8>, text: &str, len: usize| {
        out.extend_from_slice(text.as_bytes());
        out.resize(out.len() + len - text.len(), 0);
    };
    for n in 0..RECORDS {
        out.extend((1_234_567_890_000 + n * 997).to_le_bytes());
        out.extend((1000 + (n % 30_000) as u32).to_le_bytes());
        out.extend((n as u32 % 2 * 1000).to_le_bytes());
        out.extend((n as i64 % 7 - 2).to_le_bytes());
        text(&mut out, COMMS[n as usize % 4], 16);
        text(&mut out, TARGETS[n as usize % 3], 24);
    }
    out
}

fn by_hand(record: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let part = |from: usize, to: usize| record.get(from..to).context("a record");
    let text = |from, to| -> Result<&str> {
        let bytes = part(from, to)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Ok(std::str::from_utf8(&bytes[..end])?)
    };
    let event = Event {
        timestamp: u64::from_le_bytes(part(0, 8)?.try_into()?),
        pid: u32::from_le_bytes(part(8, 12)?.try_into()?),
        uid: u32::from_le_bytes(part(12, 16)?.try_into()?),
        result: i64::from_le_bytes(part(16, 24)?.try_into()?),
        comm: text(24, 40)?,
        target: text(40, 64)?,
    };
    serde_json::to_writer(&mut *out, &event)?;
    out.push(b'\n');
    Ok(())
}

fn json(layout: &Layout, record: &[u8], out: &mut Vec<u8>) -> Result<()> {
    layout.json(record, out)?;
    out.push(b'\n');
    Ok(())
}

/// As `ringfence run` prints rows.
fn table(layout: &Layout, row: &mut Row, record: &[u8], out: &mut Vec<u8>) -> Result<()> {
    layout.row(record, None, row)?;
    for (cell, width) in row.cells().zip(WIDTHS) {
        out.extend_from_slice(cell.as_bytes());
        out.extend(std::iter::repeat_n(b' ', width.saturating_sub(cell.chars().count()) + 2));
    }
    out.push(b'\n');
    Ok(())
}

fn time(records: &[u8], out: &mut Vec<u8>, mut each: impl FnMut(&[u8], &mut Vec<u8>) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for turn in records.chunks(SIZE * TURN) {
        out.clear();
        turn.chunks_exact(SIZE).try_for_each(|record| each(record, out))?;
        black_box(&out);
    }
    Ok(start.elapsed().as_nanos() as f64 / RECORDS as f64)
}

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).context("how many rounds?")?.parse()?;
    let (layout, records) = (layout()?, records());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for record in records.chunks_exact(SIZE).take(100) {
        json(&layout, record, &mut ours)?;
        by_hand(record, &mut theirs)?;
    }
    ensure!(ours == theirs, "both say the same");
    let (mut out, mut row) = (Vec::with_capacity(TURN * 256), Row::new());
    for _ in 0..rounds {
        let hand = time(&records, &mut out, by_hand)?;
        let json = time(&records, &mut out, |record, out| json(&layout, record, out))?;
        let table = time(&records, &mut out, |record, out| table(&layout, &mut row, record, out))?;
        println!("JSON ringfence {json}\nJSON serde_json {hand}\ntable_row ringfence {table}\ntable_row serde_json {hand}");
    }
    Ok(())
}
