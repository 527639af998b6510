use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use ringfence_sys::{self as sys, Epoll, MapFd, ProgramFd, RingConsumer, TestRun};
use ringfence_uapi::{Helper, Insn, MapType, ProgramType};

use crate::{NOTHING, insn, load_map, map, program};

const NO_WAKEUP: i32 = 1;

/// A program that outputs `size` bytes, of which the first 8 are a number that grows by one.
pub(crate) fn producer(ring: &MapFd, size: i32, flags: i32) -> (ProgramFd, MapFd) {
    let counter = map(MapType::ARRAY, 4, 8, 1);
    let mut insns = Vec::new();
    for word in 0..size / 8 {
        insns.push(insn(0x7a, 10, 0, (-512 + word * 8) as i16, word));
    }
    insns.extend(load_map(1, &counter, Insn::PSEUDO_MAP_VALUE));
    insns.extend([
        insn(0x79, 2, 1, 0, 0),     // r2 = *r1
        insn(0x7b, 10, 2, -512, 0), // *(r10 - 512) = r2
        insn(0x07, 2, 0, 0, 1),     // r2 += 1
        insn(0x7b, 1, 2, 0, 0),     // *r1 = r2
    ]);
    insns.extend(load_map(1, ring, Insn::PSEUDO_MAP_FD));
    insns.extend([
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -512),
        insn(0xb7, 3, 0, 0, size),
        insn(0xb7, 4, 0, 0, flags),
        insn(Insn::CALL, 0, 0, 0, Helper::RINGBUF_OUTPUT.0 as i32),
        NOTHING[1],
    ]);
    (program(ProgramType::SOCKET_FILTER, &insns), counter)
}

pub(crate) fn run(program: &ProgramFd, repeat: u32) {
    let mut run = TestRun { data_in: &[0; 64], repeat, ..TestRun::default() };
    sys::test_run(program.as_fd(), &mut run).unwrap();
}

fn number(record: &[u8]) -> u64 {
    u64::from_ne_bytes(record[..8].try_into().unwrap())
}

#[test]
fn every_record_once_and_in_order() {
    let ring = map(MapType::RINGBUF, 0, 0, 4096);
    let (program, _counter) = producer(&ring, 24, NO_WAKEUP);
    let mut consumer = RingConsumer::map(&ring).unwrap();
    assert_eq!(consumer.size(), 4096);
    // A second consumer would pull the records from under the first one.
    assert_eq!(RingConsumer::map(&ring).unwrap_err(), sys::Errno::BUSY);
    // 32 bytes each, so that the ring wraps many times; 100 fit.
    let mut next = 0;
    for _ in 0..50 {
        run(&program, 100);
        assert_eq!(consumer.pending(), 3200);
        let drained = consumer
            .drain(usize::MAX, |record| {
                assert_eq!((record.len(), number(record)), (24, next));
                assert_eq!(record[8..16], 1u64.to_ne_bytes());
                next += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((drained.records, drained.emptied), (100, true));
        assert_eq!(consumer.pending(), 0);
    }
    assert_eq!(next, 5000);
}

#[test]
fn stops_where_it_is_told_to() {
    let ring = map(MapType::RINGBUF, 0, 0, 4096);
    let (program, _counter) = producer(&ring, 8, NO_WAKEUP);
    let mut consumer = RingConsumer::map(&ring).unwrap();
    run(&program, 20);
    let mut seen = Vec::new();
    let drained = consumer
        .drain(5, |record| {
            seen.push(number(record));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((drained.records, drained.emptied), (5, false));
    let drained = consumer
        .drain(usize::MAX, |record| {
            seen.push(number(record));
            if number(record) == 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((drained.records, drained.emptied), (4, false));
    // A panic loses only the record for which it came.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        consumer.drain(usize::MAX, |record| {
            assert!(number(record) != 10, "on purpose");
            ControlFlow::Continue(())
        })
    }));
    assert!(panicked.is_err());
    let drained = consumer
        .drain(usize::MAX, |record| {
            seen.push(number(record));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(drained.emptied);
    assert_eq!(seen, (0..9).chain(11..20).collect::<Vec<_>>());
}

#[test]
fn wakes_who_waits() {
    let ring = map(MapType::RINGBUF, 0, 0, 4096);
    let (program, _counter) = producer(&ring, 8, 0);
    let mut consumer = RingConsumer::map(&ring).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(ring.as_fd(), 7).unwrap();
    let mut ready = vec![1];
    epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
    assert_eq!(ready, [0; 0]);
    // Round after round: a wake-up that is lost would end in a time-out.
    for _ in 0..200 {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| run(&program, 3));
            let mut records = 0;
            while records < 3 {
                epoll.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
                assert_eq!(ready, [7]);
                records += consumer.drain(usize::MAX, |_| ControlFlow::Continue(())).unwrap().records;
            }
            thread.join().unwrap();
        });
    }
}

/// A producer on another thread, as fast as it can, against a consumer that sleeps whenever the ring is empty.
#[test]
fn no_wake_up_is_lost_under_load() {
    const EVENTS: u64 = 100_000;
    let ring = map(MapType::RINGBUF, 0, 0, 1 << 22);
    let (program, _counter) = producer(&ring, 8, 0);
    let mut consumer = RingConsumer::map(&ring).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(ring.as_fd(), 0).unwrap();
    std::thread::scope(|scope| {
        // 16 bytes each: at most 160,000 are in flight, which fits.
        let thread = scope.spawn(|| (0..EVENTS / 100).for_each(|_| run(&program, 100)));
        let (mut next, mut ready) = (0, Vec::new());
        while next < EVENTS {
            epoll.wait(&mut ready, Some(Duration::from_secs(10))).unwrap();
            assert_eq!(ready, [0], "a wake-up was lost after {next} events");
            let drained = consumer.drain(1000, |record| {
                assert!(number(record) >= next, "twice");
                next = number(record) + 1;
                ControlFlow::Continue(())
            });
            let _ = drained.unwrap();
        }
        thread.join().unwrap();
    });
}

/// Cost of a record against a bare loop over the same memory: run it alone and in release mode,
/// `cargo test --release -p ringfence-sys -- --ignored --nocapture ring_cost`.
#[test]
#[ignore = "a measurement"]
fn ring_cost() {
    for size in [8, 64, 256] {
        let ring = map(MapType::RINGBUF, 0, 0, 1 << 22);
        let (program, _counter) = producer(&ring, size, NO_WAKEUP);
        let mut consumer = RingConsumer::map(&ring).unwrap();
        let mut bare = Bare::map(&ring);
        let (mut safe_ns, mut bare_ns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..201 {
            let mut sum = 0u64;
            run(&program, 4000);
            let start = std::time::Instant::now();
            let drained = consumer.drain(usize::MAX, |record| {
                sum = sum.wrapping_add(u64::from_ne_bytes(*record.first_chunk().unwrap_or(&[0; 8])));
                ControlFlow::Continue(())
            });
            let safe = start.elapsed().as_nanos() as f64 / 4000.0;
            assert_eq!(drained.unwrap().records, 4000);
            run(&program, 4000);
            let start = std::time::Instant::now();
            let count = bare.drain(&mut sum);
            let bare = start.elapsed().as_nanos() as f64 / 4000.0;
            assert_eq!(count, 4000);
            std::hint::black_box(sum);
            safe_ns.push(safe);
            bare_ns.push(bare);
            ratios.push(safe / bare);
        }
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (safe, bare, ratio) = (median(&mut safe_ns), median(&mut bare_ns), median(&mut ratios));
        println!("{size:4} B: {safe:.2} ns a record, bare loop {bare:.2}, ratio {ratio:.3}");
    }
}

/// What one would write without a library: no checks, position written after each record.
struct Bare {
    consumer: *mut u64,
    producer: *const u8,
    mask: u64,
}

impl Bare {
    fn map(ring: &MapFd) -> Self {
        use std::os::fd::AsRawFd;
        let (fd, size) = (ring.as_fd().as_raw_fd(), ring.shape().max_entries as usize);
        // SAFETY: new mappings at addresses of the kernel's choice, never unmapped.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let consumer = libc::mmap(std::ptr::null_mut(), 4096, access, libc::MAP_SHARED, fd, 0);
            let producer =
                libc::mmap(std::ptr::null_mut(), 4096 + 2 * size, libc::PROT_READ, libc::MAP_SHARED, fd, 4096);
            Self { consumer: consumer.cast(), producer: producer.cast(), mask: size as u64 - 1 }
        }
    }

    #[inline(never)]
    fn drain(&mut self, sum: &mut u64) -> u64 {
        use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
        // SAFETY: the kernel keeps these pages in order; this is a measurement.
        unsafe {
            let (consumer, producer) =
                (AtomicU64::from_ptr(self.consumer), AtomicU64::from_ptr(self.producer.cast_mut().cast()));
            let (mut position, mut count) = (consumer.load(Ordering::Acquire), 0);
            let end = producer.load(Ordering::Acquire);
            while position < end {
                let at = self.producer.add(4096 + (position & self.mask) as usize).cast_mut();
                let header = AtomicU32::from_ptr(at.cast()).load(Ordering::Acquire);
                if header >> 31 != 0 {
                    break;
                }
                position += u64::from((header & 0x3fff_ffff) + 8).next_multiple_of(8);
                if header >> 30 == 0 {
                    *sum = sum.wrapping_add(at.add(8).cast::<u64>().read());
                    count += 1;
                }
                consumer.store(position, Ordering::Release);
            }
            count
        }
    }
}
