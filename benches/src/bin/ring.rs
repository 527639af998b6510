//! What an event costs its reader: the same records, read by a bare loop and by each library.
//!
//! `ring OBJECT ROUNDS`. In each round every reader in turn (the order rotates) gets 4,000 records in a ring of its own
//! and is timed while it reads them; making them is not timed. Prints a line for each reading: size, reader,
//! nanoseconds a record.

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder, ProgramInput};
use ringfence_benches::{bare::Bare, first_word};
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

const RECORDS: u32 = 4000;
const SIZES: [usize; 4] = [8, 64, 256, 1024];

/// A reader of one ring.
struct Reader {
    name: &'static str,
    /// Owner of the ring and of the programs that fill it.
    object: Object,
    /// Reads until it has `RECORDS` records; the sum of their first words.
    read: Box<dyn FnMut() -> Result<u64>>,
}

fn bare(ring: MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>> {
    let mut ring = Bare::open(ring.as_fd(), ring.max_entries() as usize)?;
    Ok(Box::new(move || {
        let (mut count, mut sum) = (0, 0);
        while count < RECORDS {
            ring.read(|record| {
                count += 1;
                sum += first_word(record);
            });
        }
        Ok(sum)
    }))
}

fn ringfence(ring: MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>> {
    let map = ringfence::Map::from_fd("ring", owned(&ring)?)?;
    let mut events = ringfence::Events::new([&map])?;
    Ok(Box::new(move || {
        let (mut count, mut sum) = (0, 0);
        while count < RECORDS {
            events.consume(|event| {
                count += 1;
                sum += first_word(event.bytes);
            })?;
        }
        Ok(sum)
    }))
}

fn libbpf(ring: MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>> {
    let mut reader = ringfence_benches::libbpf::Ring::open(ring.as_fd())?;
    Ok(Box::new(move || {
        reader.reset();
        while reader.count() < RECORDS {
            reader.consume()?;
        }
        Ok(reader.sum())
    }))
}

fn libbpf_rs(ring: MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>> {
    let state = Rc::new(Cell::new((0u32, 0u64)));
    let shared = state.clone();
    let ring: &'static MapHandle = Box::leak(Box::new(ring));
    let mut builder = libbpf_rs::RingBufferBuilder::new();
    builder.add(ring, move |record: &[u8]| {
        let (count, sum) = shared.get();
        shared.set((count + 1, sum + first_word(record)));
        0
    })?;
    let reader = builder.build()?;
    Ok(Box::new(move || {
        state.set((0, 0));
        while state.get().0 < RECORDS {
            reader.consume()?;
        }
        Ok(state.get().1)
    }))
}

fn aya(ring: MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>> {
    let map = aya::maps::Map::RingBuf(aya::maps::MapData::from_fd(owned(&ring)?)?);
    let mut ring = aya::maps::RingBuf::try_from(map)?;
    Ok(Box::new(move || {
        let (mut count, mut sum) = (0, 0);
        while count < RECORDS {
            while let Some(record) = ring.next() {
                count += 1;
                sum += first_word(&record);
            }
        }
        Ok(sum)
    }))
}

fn owned(ring: &MapHandle) -> Result<OwnedFd> {
    Ok(ring.as_fd().try_clone_to_owned()?)
}

type Open = fn(MapHandle) -> Result<Box<dyn FnMut() -> Result<u64>>>;

const READERS: [(&str, Open); 5] =
    [("bare", bare), ("ringfence", ringfence), ("libbpf", libbpf), ("libbpf-rs", libbpf_rs), ("aya", aya)];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("usage: ring OBJECT ROUNDS")?;
    let rounds: usize = arguments.next().context("usage: ring OBJECT ROUNDS")?.parse()?;
    let mut readers = Vec::new();
    for (name, open) in READERS {
        let object = ObjectBuilder::default().open_file(&file)?.load()?;
        let ring = object.maps().find(|map| map.name() == "ring").context("no ring")?;
        let read = open(MapHandle::try_from(&ring)?).context(name)?;
        readers.push(Reader { name, object, read });
    }
    let mut lines = String::new();
    for size in SIZES {
        // The first rounds warm caches and branch predictors, and are not counted.
        for round in 0..rounds + 5 {
            let count = readers.len();
            for turn in 0..count {
                let reader = &mut readers[(round + turn) % count];
                produce(&mut reader.object, size)?;
                let start = Instant::now();
                let sum = (reader.read)()?;
                let time = start.elapsed();
                ensure!(sum == u64::from(RECORDS), "{} read something else", reader.name);
                if round >= 5 {
                    lines += &format!("{size}_B {} {}\n", reader.name, time.as_nanos() as f64 / f64::from(RECORDS));
                }
            }
        }
    }
    print!("{lines}");
    Ok(())
}

/// Writes the records: a run of the program each.
fn produce(object: &mut Object, size: usize) -> Result<()> {
    let name = format!("produce_{size}");
    let program = object.progs_mut().find(|program| program.name() == name.as_str()).context(name.clone())?;
    let frame = [0u8; 64];
    let input = ProgramInput { data_in: Some(&frame), repeat: RECORDS, ..Default::default() };
    program.test_run(input)?;
    Ok(())
}
