use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use ringfence_sys::{self as sys, Epoll, Errno, PerfOpen, PerfRing, PerfTarget, Sampling, TestRun, Wakeup};
use ringfence_uapi::{Helper, Insn, MapType, ProgramType};

use crate::{NOTHING, insn, load_map, map, program};

#[test]
fn every_sample_once_wrapped_or_not() {
    // The test run's CPU is whichever the thread is on.
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(0);
    rustix::thread::sched_setaffinity(None, &cpus).unwrap();

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
        insn(0xb7, 5, 0, 0, 20),
        insn(Insn::CALL, 0, 0, 0, Helper::PERF_EVENT_OUTPUT.0 as i32),
        NOTHING[0],
        NOTHING[1],
    ]);
    let program = program(ProgramType::SOCKET_FILTER, &insns);

    let open = PerfOpen {
        sample_type: PerfOpen::SAMPLE_RAW,
        sampling: Sampling::Period(1),
        wakeup: Wakeup::Samples(1),
        ..PerfOpen::new(PerfTarget::BPF_OUTPUT)
    };
    let event = sys::perf_event_open(&open).unwrap();
    assert_eq!(PerfRing::map(event.as_fd(), 3).unwrap_err(), Errno::INVAL);
    let mut ring = PerfRing::map(event.as_fd(), 1).unwrap();
    events.update_fd(&[0; 4], event.as_fd(), 0).unwrap();
    sys::perf_enable(event.as_fd()).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(event.as_fd(), 3).unwrap();

    let run = |repeat| {
        let mut run = TestRun { data_in: &[0; 64], repeat, ..TestRun::default() };
        sys::test_run(program.as_fd(), &mut run).unwrap();
    };
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
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(0);
    rustix::thread::sched_setaffinity(None, &cpus).unwrap();
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
