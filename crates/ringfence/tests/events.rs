//! Ring buffers and perf event arrays, filled by test runs.

mod common;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::load_object;
use ringfence::{Buffering, Events, Loaded, Settings};

const PACKET: [u8; 64] = [0; 64];

fn run(loaded: &Loaded, program: &str, times: u32) {
    loaded.program(program).unwrap().test_run(&PACKET, times).unwrap();
}

fn numbers(event: &ringfence::Event<'_>) -> [u32; 2] {
    event.read().unwrap()
}

#[test]
fn a_ring_buffer_in_order_and_without_what_was_discarded() {
    let loaded = load_object("events", Settings::new());
    let mut events = loaded.events("ring").unwrap();
    assert!(events.next(Some(Duration::ZERO)).unwrap().is_none());
    run(&loaded, "to_ring", 100);
    let mut seen = Vec::new();
    let count = events.poll(None, |event| seen.push(numbers(&event))).unwrap();
    assert_eq!(count, 75);
    assert_eq!(seen, (0..100).filter(|n| n % 4 != 3).map(|n| [n, n * 2]).collect::<Vec<_>>());
    run(&loaded, "to_ring", 2);
    let event = events.next(None).unwrap().unwrap();
    assert_eq!((numbers(&event), event.source, event.cpu), ([100, 200], 0, None));
    assert_eq!(numbers(&events.next(None).unwrap().unwrap()), [101, 202]);
    let before = Instant::now();
    assert!(events.next(Some(Duration::from_millis(50))).unwrap().is_none());
    assert!(before.elapsed() >= Duration::from_millis(50));
    let seen = &events.seen()[0];
    assert_eq!((seen.map.as_str(), seen.events, seen.lost, seen.size), ("ring", 77, None, 65536));
    assert_eq!(seen.fullest, 1600);
}

#[test]
fn a_full_ring_buffer_is_seen_to_be_full() {
    let loaded = load_object("events", Settings::new());
    let mut events = loaded.events("ring").unwrap();
    run(&loaded, "to_ring", 5000);
    let mut count = 0;
    events.poll(None, |_| count += 1).unwrap();
    // The kernel keeps the last byte free, and with it a record of 16; every fourth is discarded.
    assert_eq!(count, 4095 / 4 * 3 + 3);
    assert_eq!(events.seen()[0].fullest, 4095 * 16);
    assert_eq!(loaded.variable("refused").unwrap().get::<u64>().unwrap(), 5000 - 4095);
}

#[test]
fn several_buffers_in_one_reader() {
    let loaded = load_object("events", Settings::new());
    let maps = ["ring", "other", "perf"].map(|name| loaded.map(name).unwrap());
    let mut events = Events::new(maps).unwrap();
    for program in ["to_other", "to_ring", "to_perf", "to_other"] {
        run(&loaded, program, 1);
    }
    let mut seen = Vec::new();
    events.poll(Some(Duration::from_secs(5)), |event| seen.push((event.source, numbers(&event)[0]))).unwrap();
    assert_eq!(seen, [(0, 1), (1, 0), (1, 3), (2, 2)]);
    run(&loaded, "to_perf", 2);
    run(&loaded, "to_ring", 1);
    let mut pulled = Vec::new();
    while let Some(event) = events.next(Some(Duration::ZERO)).unwrap() {
        pulled.push(event.source);
    }
    pulled.sort_unstable();
    assert_eq!(pulled, [0, 2, 2]);
}

#[test]
fn a_perf_event_array_counts_what_is_lost() {
    let loaded = load_object("events", Settings::new());
    let mut buffering = Buffering::default();
    buffering.bytes_per_cpu = 4096;
    let mut events = Events::with([loaded.map("perf").unwrap()], buffering).unwrap();
    run(&loaded, "to_perf", 1000);
    let mut first = 0;
    let mut last = None;
    events
        .poll(None, |event| {
            first += 1;
            last = Some(numbers(&event));
        })
        .unwrap();
    assert!((100..300).contains(&first), "{first} events in one page");
    assert_eq!(last, Some([first - 1, (first - 1) * 2]));
    // The kernel says how many it lost when it writes the next one.
    run(&loaded, "to_perf", 1);
    events.poll(None, |event| assert_eq!(numbers(&event), [1000, 2000])).unwrap();
    let seen = &events.seen()[0];
    assert_eq!(seen.lost, Some(u64::from(1000 - first)));
    assert_eq!(seen.lost_by_cpu.iter().map(|(_, lost)| lost).sum::<u64>(), u64::from(1000 - first));
    assert_eq!(seen.events, u64::from(first) + 1);
}

#[test]
fn few_perf_records_come_within_the_flush_time() {
    let loaded = load_object("events", Settings::new());
    let mut events = loaded.events("perf").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            run(&loaded, "to_perf", 1);
        });
        let before = Instant::now();
        let event = events.next(Some(Duration::from_secs(10))).unwrap().map(|event| (numbers(&event), event.cpu));
        assert!(event.is_some_and(|(numbers, cpu)| numbers == [0, 0] && cpu.is_some()));
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    });
}

#[test]
fn a_panic_in_the_callback_loses_nothing_and_repeats_nothing() {
    let loaded = load_object("events", Settings::new());
    for (map, program) in [("other", "to_other"), ("perf", "to_perf")] {
        loaded.variable("next_number").unwrap().set(&0u32).unwrap();
        let mut events = loaded.events(map).unwrap();
        run(&loaded, program, 10);
        let mut seen = Vec::new();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            events.poll(None, |event| {
                seen.push(numbers(&event)[0]);
                assert!(seen.len() < 4, "the callback's own affair");
            })
        }));
        assert!(panicked.is_err());
        events.poll(None, |event| seen.push(numbers(&event)[0])).unwrap();
        assert_eq!(seen, (0..10).collect::<Vec<_>>(), "{map}");
    }
}

#[test]
fn a_dropped_reader_leaves_the_array_empty() {
    let loaded = load_object("events", Settings::new());
    drop(loaded.events("perf").unwrap());
    run(&loaded, "to_perf", 3);
    let mut events = loaded.events("perf").unwrap();
    assert!(events.next(Some(Duration::ZERO)).unwrap().is_none());
    run(&loaded, "to_perf", 1);
    assert!(events.next(Some(Duration::from_secs(1))).unwrap().is_some());
}

#[test]
fn maps_without_events_are_refused() {
    let loaded = load_object("events", Settings::new());
    let data = loaded.map(".bss").unwrap();
    assert!(Events::new([data]).unwrap_err().to_string().contains("holds no events"));
    assert!(loaded.map("ring").unwrap().table::<u32, u32>().is_err());
}

#[test]
fn the_reader_becomes_readable() {
    use rustix::event::{PollFd, PollFlags, poll};
    let loaded = load_object("events", Settings::new());
    let mut events = loaded.events("ring").unwrap();
    let ready = |events: &Events| {
        let mut fds = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    assert!(!ready(&events));
    run(&loaded, "to_ring", 1);
    assert!(ready(&events));
    events.consume(|_| ()).unwrap();
    assert!(!ready(&events));
}
