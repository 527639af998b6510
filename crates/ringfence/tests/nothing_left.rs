//! After everything, good or bad, the kernel and this process hold what they held before.
//!
//! One test alone in its process, because it compares what the whole process holds. Other processes may load programs at
//! the same time; what they made meanwhile is waited for, too.

mod common;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{load_object, object};
use ringfence::hook::Tracepoint;
use ringfence::{Kernel, Loader, Settings};
use ringfence_sys::Ids;

const KINDS: [Ids; 4] = [Ids::Program, Ids::Map, Ids::Btf, Ids::Link];

/// Every id of the four kinds.
fn ids() -> Vec<BTreeSet<u32>> {
    KINDS
        .iter()
        .map(|kind| {
            let mut all = BTreeSet::new();
            let mut last = 0;
            while let Some(id) = kind.after(last).unwrap() {
                all.insert(id);
                last = id;
            }
            all
        })
        .collect()
}

fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Resident memory, in KiB.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs it, and waits until nothing is there that was not there before: the kernel frees programs and links some time after
/// the last descriptor is closed.
fn leaves_nothing(what: &str, run: impl FnOnce()) {
    let (before, fds_before, threads_before) = (ids(), fds(), threads());
    run();
    let made: Vec<BTreeSet<u32>> = ids().iter().zip(&before).map(|(now, before)| now - before).collect();
    let start = Instant::now();
    loop {
        let more: Vec<BTreeSet<u32>> = ids().iter().zip(&made).map(|(now, made)| now & made).collect();
        if more.iter().all(BTreeSet::is_empty) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: programs, maps, BTF, links are left: {more:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fds(), fds_before, "{what}: file descriptors");
    assert_eq!(threads(), threads_before, "{what}: threads");
}

fn trace_settings() -> Settings {
    Settings::new()
        .global("target", std::process::id())
        .global("getuid_number", u32::try_from(libc::SYS_getuid).unwrap())
}

#[test]
fn nothing_is_left() {
    let kernel = Kernel::running();
    // What the process keeps from the first use on: compiled objects, the kernel's types.
    for name in ["trace", "refused", "events"] {
        object(name);
    }
    drop(load_object("trace", trace_settings()).attach_all().unwrap());

    leaves_nothing("success", || {
        let loaded = load_object("trace", trace_settings());
        let links = loaded.attach_all().unwrap();
        assert!(loaded.variable("by_raw_tp").unwrap().get::<u64>().is_ok());
        drop(links);
    });
    leaves_nothing("refusal of the third program", || {
        let plan = ringfence::plan(&object("refused"), &kernel, &Settings::new()).unwrap();
        assert!(ringfence::load(&plan, &kernel).is_err());
        drop(Loader::new(&plan, &kernel).load_each());
    });
    leaves_nothing("a place that does not exist", || {
        let loaded = load_object("trace", trace_settings());
        let links = loaded.attach("raw_tp").unwrap();
        assert!(loaded.program("tracepoint").unwrap().attach_to(&Tracepoint::new("no", "where")).is_err());
        drop(links);
    });
    leaves_nothing("a panic in the user's callback", || {
        let loaded = load_object("events", Settings::new());
        let mut events = loaded.events("ring").unwrap();
        loaded.program("to_ring").unwrap().test_run(&[0; 64], 3).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| events.poll(None, |_| panic!("the callback's own affair"))));
        assert!(result.is_err());
    });
    leaves_nothing("a panic with everything attached", || {
        let result = catch_unwind(|| {
            let loaded = load_object("trace", trace_settings());
            let _links = loaded.attach_all().unwrap();
            panic!("the caller's own affair");
        });
        assert!(result.is_err());
    });
    leaves_nothing("a thousand rounds", || {
        let plan = ringfence::plan(&object("events"), &kernel, &Settings::new()).unwrap();
        let traced = ringfence::plan(&object("trace"), &kernel, &trace_settings().only(["raw_tp"])).unwrap();
        let mut early = 0;
        for round in 0..1000 {
            let loaded = ringfence::load(&plan, &kernel).unwrap();
            let mut events =
                ringfence::Events::new([loaded.map("ring").unwrap(), loaded.map("perf").unwrap()]).unwrap();
            loaded.program("to_ring").unwrap().test_run(&[0; 64], 1).unwrap();
            assert_eq!(events.consume(|_| ()).unwrap(), 1);
            let traced = ringfence::load(&traced, &kernel).unwrap();
            let _links = traced.attach_all().unwrap();
            if round == 200 {
                early = memory();
            }
        }
        let late = memory();
        assert!(late < early + 512, "memory grew from {early} to {late} KiB");
    });
}
