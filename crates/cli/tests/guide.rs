//! The programs of the guide, `bpf/examples`, through the library: each is fired and its effect read. Those that `run` can show by
//! itself are in `run.rs`.

mod common;

use common::{alone, assert_nothing_left, compile, held};
use ringfence::hook::Uprobe;
use ringfence::{Kernel, Loaded, Settings};

fn load(name: &str) -> Loaded {
    let dir = tempfile::tempdir().expect("a directory");
    let object = ringfence::open(compile(name, dir.path())).expect("an object");
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object, &kernel, &Settings::new()).expect("a plan");
    ringfence::load(&plan, &kernel).expect("the kernel takes it")
}

fn global(loaded: &Loaded, name: &str) -> u64 {
    loaded.variable(name).and_then(|variable| variable.get()).expect("a global of 64 bits")
}

#[test]
fn an_unrolled_loop_reads_every_byte() {
    let _alone = alone();
    let loaded = load("unroll");
    let packet: Vec<u8> = (1..=64).collect();
    loaded.program("sum_bytes").expect("a program").test_run(&packet, 1).expect("a run");
    // The kernel's test run hands a socket filter the packet behind its Ethernet header (`bpf_prog_test_run_skb`).
    let seen: [u8; 8] = loaded.variable("seen").and_then(|variable| variable.get()).expect("8 bytes");
    assert_eq!(seen, [15, 16, 17, 18, 19, 20, 21, 22]);
    assert_eq!(global(&loaded, "sum"), seen.iter().map(|byte| u64::from(*byte)).sum::<u64>());
}

#[test]
fn maps_are_written_and_read_by_both_sides() {
    let _alone = alone();
    let before = held();
    let loaded = load("both_ways");
    let pid = std::process::id();
    let by_pid = loaded.map("by_pid").and_then(|map| map.table::<u32, u64>()).expect("a hash");
    let by_cpu = loaded.map("by_cpu").and_then(|map| map.per_cpu::<u32, u64>()).expect("a per-CPU array");
    let cpus = by_cpu.get(&0).expect("a read").expect("slot 0").len();
    let slot = pid & 3;
    by_pid.insert(&pid, &1_000).expect("the hash takes it");
    by_cpu.insert(&slot, &vec![10; cpus]).expect("the array takes it");
    let links = loaded.attach_all().expect("a tracepoint");
    for _ in 0..500 {
        let _ = rustix::process::getppid();
    }
    drop(links);
    let counted = by_pid.get(&pid).expect("a read").expect("our pid") - 1_000;
    assert!(counted >= 500, "{counted}");
    let on_cpus: u64 = by_cpu.get(&slot).expect("a read").expect("our slot").iter().sum();
    assert_eq!(on_cpus - 10 * cpus as u64, counted, "both maps saw the same calls");
    assert!(by_pid.remove(&pid).expect("a delete"));
    drop((by_pid, by_cpu, loaded));
    assert_nothing_left(&before);
}

#[test]
fn xdp_tells_ipv4_from_the_rest() {
    let _alone = alone();
    let loaded = load("xdp_count");
    let program = loaded.program("count_ipv4").expect("a program");
    let frame = |kind: [u8; 2], protocol: u8| {
        let mut frame = vec![0u8; 64];
        frame[12..14].copy_from_slice(&kind);
        (frame[14], frame[23]) = (0x45, protocol);
        frame
    };
    for (kind, protocol, times) in [([8, 0], 17, 5), ([8, 0], 6, 2), ([0x86, 0xdd], 6, 3), ([8, 6], 1, 1)] {
        program.test_run(&frame(kind, protocol), times).expect("a run");
    }
    let counts = loaded.map("ipv4_frames").and_then(|map| map.per_cpu::<u32, u64>()).expect("a per-CPU array");
    let count = |protocol: u32| counts.get(&protocol).expect("a read").expect("a slot").iter().sum::<u64>();
    assert_eq!((count(17), count(6), count(1)), (5, 2, 0));
}

/// What the user probe looks at.
#[inline(never)]
fn ringfence_guide_probed(value: u64) -> u64 {
    std::hint::black_box(value) * 2
}

/// Its symbol, as the compiler has mangled it.
fn probed_symbol() -> String {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read("/proc/self/exe").expect("our own binary");
    let elf = object::File::parse(&*bytes).expect("ELF");
    let mut names = elf.symbols().filter_map(|symbol| symbol.name().ok());
    names.find(|name| name.contains("ringfence_guide_probed")).expect("our function").to_owned()
}

#[test]
fn a_user_function_is_counted() {
    let _alone = alone();
    let loaded = load("uprobe_count");
    let place = Uprobe::new("/proc/self/exe", &probed_symbol());
    let attach = |name: &str, place: &Uprobe| loaded.program(name).and_then(|program| program.attach_to(place));
    let links =
        (attach("on_call", &place).expect("a probe"), attach("on_return", &place.at_return()).expect("a probe"));
    for value in 1..=3 {
        ringfence_guide_probed(std::hint::black_box(value));
    }
    assert_eq!((global(&loaded, "calls"), global(&loaded, "returned")), (3, 12));
    drop(links);
    ringfence_guide_probed(std::hint::black_box(1));
    assert_eq!(global(&loaded, "calls"), 3, "it is off");
}
