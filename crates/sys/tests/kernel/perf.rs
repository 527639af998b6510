use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use ringfence_sys::{self as sys, Epoll, Errno, MapFd, PerfOpen, PerfRing, PerfTarget, ProgramFd, Sampling, Wakeup};
use ringfence_uapi::{Helper, Insn, MapType, ProgramType};

use crate::ring::run;
use crate::{NOTHING, insn, load_map, map, program};

/// Keeps this thread on CPU 0: the events of a test run are those of the CPU on which it runs.
fn stay() {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(0);
    rustix::thread::sched_setaffinity(None, &cpus).unwrap();
}

/// A map of events, and a program that outputs `size` bytes to them: 24 at most, of which the first 8 are a number
/// that grows by one, and then 5 and 6.
fn producer(size: i32) -> (MapFd, ProgramFd, MapFd) {
    let events = map(MapType::PERF_EVENT_ARRAY, 4, 4, sys::possible_cpus().unwrap());
    let counter = map(MapType::ARRAY, 4, 8, 1);
    let mut insns = vec![insn(0xbf, 6, 1, 0, 0)];
    insns.extend(load_map(1, &counter, Insn::PSEUDO_MAP_VALUE));
    insns.extend([
        insn(0x79, 2, 1, 0, 0),
        insn(0x7b, 10, 2, -24, 0),
        insn(0x7a, 10, 0, -16, 5),
        insn(0x7a, 10, 0, -8, 6),
        insn(0x07, 2, 0, 0, 1),
        insn(0x7b, 1, 2, 0, 0),
        insn(0xbf, 1, 6, 0, 0),
    ]);
    insns.extend(load_map(2, &events, Insn::PSEUDO_MAP_FD));
    insns.extend([
        insn(0x18, 3, 0, 0, -1), // BPF_F_CURRENT_CPU
        insn(0, 0, 0, 0, 0),
        insn(0xbf, 4, 10, 0, 0),
        insn(0x07, 4, 0, 0, -24),
        insn(0xb7, 5, 0, 0, size),
        insn(Insn::CALL, 0, 0, 0, Helper::PERF_EVENT_OUTPUT.0 as i32),
        NOTHING[0],
        NOTHING[1],
    ]);
    (events, program(ProgramType::SOCKET_FILTER, &insns), counter)
}

#[test]
fn every_sample_once_wrapped_or_not() {
    stay();
    let (events, program, _counter) = producer(20);
    let open = PerfOpen {
        sample_type: PerfOpen::SAMPLE_RAW,
        sampling: Sampling::Period(1),
        wakeup: Wakeup::Samples(1),
        ..PerfOpen::new(PerfTarget::BPF_OUTPUT)
    };
    let event = sys::perf_event_open(&open).unwrap();
    assert_eq!(PerfRing::map(event.as_fd(), 3).unwrap_err(), Errno::INVAL);
    let mut ring = PerfRing::map(event.as_fd(), 1).unwrap();
    assert_eq!(PerfRing::map(event.as_fd(), 1).unwrap_err(), Errno::BUSY);
    events.update_fd(&[0; 4], event.as_fd(), 0).unwrap();
    sys::perf_enable(event.as_fd()).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(event.as_fd(), 3).unwrap();

    let run = |repeat| run(&program, repeat);
    // 32 bytes each (8 header, 4 length, 20 data): add odd-sized runs so that the end is met everywhere.
    let mut next = 0u64;
    for _ in 0..50 {
        run(37);
        let mut ready = Vec::new();
        epoll.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(ready, [3]);
        let drained = ring
            .drain(usize::MAX, |record| {
                let raw = record.raw().unwrap();
                assert_eq!(raw[..8], next.to_ne_bytes());
                assert_eq!((raw.len(), raw[16]), (20, 6));
                next += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((drained.records, drained.emptied), (37, true));
    }
    // 128 records fit; the others are lost, and the next record says how many.
    run(500);
    let drained = ring.drain(usize::MAX, |_| ControlFlow::Continue(())).unwrap();
    assert!(drained.records < 130);
    run(1);
    let mut lost = 0;
    let end = ring.drain(usize::MAX, |record| {
        lost += record.lost().unwrap_or(0);
        ControlFlow::Continue(())
    });
    assert!(end.unwrap().emptied);
    assert_eq!(lost as usize + drained.records, 500);
}

#[test]
fn records_that_wrap() {
    stay();
    // Of the clock, with a call chain: records of many lengths.
    let open = PerfOpen {
        sample_type: 1 | 1 << 5, // PERF_SAMPLE_IP, PERF_SAMPLE_CALLCHAIN
        sampling: Sampling::Period(100_000),
        disabled: true,
        ..PerfOpen::new(PerfTarget::CPU_CLOCK)
    };
    let event = sys::perf_event_open(&open).unwrap();
    let mut ring = PerfRing::map(event.as_fd(), 1).unwrap();
    sys::perf_enable(event.as_fd()).unwrap();
    let (mut bytes, start) = (0, std::time::Instant::now());
    while bytes < 4 * ring.size() && start.elapsed() < Duration::from_secs(20) {
        let drained = ring.drain(usize::MAX, |record| {
            if record.kind == sys::PerfRecord::SAMPLE {
                let count = u64::from_ne_bytes(record.body[8..16].try_into().unwrap());
                assert_eq!(record.body.len() as u64, 16 + count * 8);
            }
            bytes += record.body.len() + 8;
            ControlFlow::Continue(())
        });
        let _ = drained.unwrap();
    }
    sys::perf_set_period(event.as_fd(), 1_000_000).unwrap();
    sys::perf_disable(event.as_fd()).unwrap();
    assert!(bytes >= 4 * ring.size(), "the clock brought only {bytes} bytes");
}

#[test]
fn limits_and_capabilities() {
    let (soft, hard) = sys::memlock_limit();
    sys::set_memlock_limit(soft, hard).unwrap();
    assert!(sys::capabilities().unwrap().contains(sys::CapabilitySet::NET_ADMIN));
}

/// Cost of a record against a bare loop over the same memory; see `ring_cost`.
#[test]
#[ignore = "a measurement"]
fn perf_cost() {
    stay();
    let (events, program, _counter) = producer(12);
    let open = PerfOpen {
        sample_type: PerfOpen::SAMPLE_RAW,
        sampling: Sampling::Period(1),
        wakeup: Wakeup::Samples(1_000_000),
        ..PerfOpen::new(PerfTarget::BPF_OUTPUT)
    };
    let (safe_event, bare_event) = (sys::perf_event_open(&open).unwrap(), sys::perf_event_open(&open).unwrap());
    let mut safe = PerfRing::map(safe_event.as_fd(), 64).unwrap();
    let bare = Bare::map(bare_event.as_fd(), 64);
    let mut rounds = Vec::new();
    for _ in 0..201 {
        let (mut sum, mut times) = (0u64, [0.0; 2]);
        events.update_fd(&[0; 4], safe_event.as_fd(), 0).unwrap();
        run(&program, 4000);
        let start = std::time::Instant::now();
        let drained = safe.drain(usize::MAX, |record| {
            if let Some(raw) = record.raw() {
                sum = sum.wrapping_add(u64::from_ne_bytes(*raw.first_chunk().unwrap_or(&[0; 8])));
            }
            ControlFlow::Continue(())
        });
        times[0] = start.elapsed().as_nanos() as f64 / 4000.0;
        assert_eq!(drained.unwrap().records, 4000);
        events.update_fd(&[0; 4], bare_event.as_fd(), 0).unwrap();
        run(&program, 4000);
        let start = std::time::Instant::now();
        let count = bare.drain(&mut sum);
        times[1] = start.elapsed().as_nanos() as f64 / 4000.0;
        assert_eq!(count, 4000);
        std::hint::black_box(sum);
        rounds.push((times[0] / times[1], times));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, [safe, bare]) = rounds[100];
    println!("perf: {safe:.2} ns a record, bare loop {bare:.2}, ratio {ratio:.3}");
}

/// What one would write without a library: no checks, no records that wrap (24 bytes each: they do, and the copy of
/// the other one is not missed here because the sum is not looked at).
struct Bare {
    start: *mut u8,
    mask: u64,
}

impl Bare {
    fn map(event: std::os::fd::BorrowedFd<'_>, pages: usize) -> Self {
        use std::os::fd::AsRawFd;
        let (page, access) = (sys::page_size(), libc::PROT_READ | libc::PROT_WRITE);
        let len = (pages + 1) * page;
        // SAFETY: a new mapping at an address of the kernel's choice, never unmapped.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, event.as_raw_fd(), 0) };
        Self { start: start.cast(), mask: (pages * page) as u64 - 1 }
    }

    #[inline(never)]
    fn drain(&self, sum: &mut u64) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the kernel keeps these pages in order; this is a measurement. The first 8 bytes of data of a
        // record that wraps may be read from behind the ring's end only where the record is the last: 24-byte
        // records in a ring of a multiple of 8 keep header and length in front of it.
        unsafe {
            let head = AtomicU64::from_ptr(self.start.add(1024).cast()).load(Ordering::Acquire);
            let tail = AtomicU64::from_ptr(self.start.add(1032).cast());
            let (mut position, mut count) = (tail.load(Ordering::Relaxed), 0);
            while position < head {
                let at = |offset: u64| self.start.add(sys::page_size() + ((position + offset) & self.mask) as usize);
                let size = at(6).cast::<u16>().read();
                if at(0).cast::<u32>().read() == 9 {
                    let low = u64::from(at(12).cast::<u32>().read());
                    let high = u64::from(at(16).cast::<u32>().read());
                    *sum = sum.wrapping_add(high << 32 | low);
                    count += 1;
                }
                position += u64::from(size);
            }
            tail.store(position, Ordering::Release);
            count
        }
    }
}
