//! Every kind of link: attached, fired, its effect read, and gone when dropped.

mod common;

use std::io::Read;
use std::time::{Duration, Instant};

use common::{load, load_object, load_since, object};
use ringfence::hook::{
    Cgroup, Iter, NetNamespace, Often, Output, PerfEvent, RawTracepoint, SocketFilter, Tracepoint, Uprobe, Walk,
};
use ringfence::{AttachType, Kernel, Kind, LinkDetails, Loaded, Settings};

fn counter(loaded: &Loaded, name: &str) -> u64 {
    loaded.variable(name).unwrap().get().unwrap()
}

/// The count of a key of `packets`, on all CPUs.
fn packets(loaded: &Loaded, key: u32) -> u64 {
    let table = loaded.map("packets").unwrap().per_cpu::<u32, u64>().unwrap();
    table.get(&key).unwrap().unwrap().iter().sum()
}

fn trace() -> Loaded {
    let settings = Settings::new()
        .global("target", std::process::id())
        .global("getuid_number", u32::try_from(libc::SYS_getuid).unwrap());
    load_object("trace", settings)
}

fn getuid() {
    let _ = rustix::process::getuid();
}

#[test]
fn a_tracepoint() {
    let loaded = trace();
    let link = loaded.attach("tracepoint").unwrap();
    assert_eq!((link.hook(), link.target(), link.program()), ("tracepoint", "syscalls/sys_enter_getuid", "tracepoint"));
    (0..5).for_each(|_| getuid());
    assert_eq!(counter(&loaded, "by_tracepoint"), 5);
    let info = link.info().unwrap();
    let perf_link = info.is_some_and(|info| matches!(info.details, LinkDetails::PerfEvent(_)));
    assert_eq!(perf_link, Kernel::running().version_code() >= 5 << 16 | 15 << 8);
    link.detach().unwrap();
    getuid();
    assert_eq!(counter(&loaded, "by_tracepoint"), 5);
}

#[test]
fn a_raw_tracepoint_and_one_with_types() {
    let loaded = trace();
    let raw = loaded.attach("raw_tp").unwrap();
    let btf = loaded.attach("btf_tp").unwrap();
    (0..3).for_each(|_| getuid());
    assert_eq!(counter(&loaded, "by_raw_tp"), 3);
    assert!(counter(&loaded, "by_btf") >= 3);
    let details = raw.info().unwrap().unwrap().details;
    assert_eq!(details, LinkDetails::RawTracepoint { name: "sys_enter".to_owned(), cookie: 0 });
    assert_eq!(btf.target(), "sys_exit");
    drop(raw);
    // The kernel takes the probe off after a grace period.
    let before = Instant::now();
    loop {
        let seen = counter(&loaded, "by_raw_tp");
        getuid();
        if counter(&loaded, "by_raw_tp") == seen {
            break;
        }
        assert!(before.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_clock_on_each_cpu() {
    let loaded = trace();
    let program = loaded.program("clock").unwrap();
    let links = PerfEvent::cpu_clock(Often::PerSecond(1000)).on_each_cpu(program).unwrap();
    assert!(!links.is_empty());
    let before = Instant::now();
    while counter(&loaded, "by_clock") < 10 {
        assert!(before.elapsed() < Duration::from_secs(10), "{} samples", counter(&loaded, "by_clock"));
    }
    drop(links);
    let error = program.attach_to(&PerfEvent::new(77, 0, Often::Every(1))).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    let error = program.attach_to(&PerfEvent::cpu_clock(Often::PerSecond(10)).pid(0x7fff_fff0)).unwrap_err();
    assert!(error.to_string().contains("no such process"), "{error}");
}

/// The function that the user probes look at.
#[inline(never)]
fn ringfence_test_probed(value: u64) -> u64 {
    std::hint::black_box(value) * 3
}

/// Its symbol, as the compiler has mangled it.
fn probed_symbol() -> String {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let names = elf.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned));
    names.into_iter().find(|name| name.contains("ringfence_test_probed")).unwrap()
}

#[test]
fn a_function_of_our_own() {
    let loaded = load_object("user", Settings::new());
    let symbol = probed_symbol();
    let place = Uprobe::new("/proc/self/exe", &symbol);
    let start = loaded.program("at_start").unwrap().attach_to(&place).unwrap();
    let end =
        loaded.program("at_return").unwrap().attach_to(&place.clone().at_return().pid(std::process::id())).unwrap();
    let sum: u64 = (1..=4).map(|n| ringfence_test_probed(std::hint::black_box(n))).sum();
    assert_eq!(sum, 30);
    assert_eq!((counter(&loaded, "calls"), counter(&loaded, "sum")), (4, 10));
    assert_eq!((counter(&loaded, "returns"), counter(&loaded, "result")), (4, 12));
    drop((start, end));
    ringfence_test_probed(1);
    assert_eq!((counter(&loaded, "calls"), counter(&loaded, "returns")), (4, 4));
    let error =
        loaded.program("at_start").unwrap().attach_to(&Uprobe::new("/proc/self/exe", &symbol[1..])).unwrap_err();
    assert!(error.to_string().contains(&symbol), "{error}");
    let error = loaded.program("at_start").unwrap().attach_to(&Uprobe::new("libc.so.6", "mallocx")).unwrap_err();
    assert!(error.to_string().contains("malloc"), "{error}");
    let error = loaded.attach("at_start").unwrap_err();
    assert!(error.to_string().contains("does not say where"), "{error}");
}

#[test]
fn iterators_write_what_is_read() {
    let loaded = load_object("iter", Settings::new());
    let read = |link: &ringfence::Link| {
        let mut bytes = Vec::new();
        Output::new(link).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let tasks = loaded.attach("tasks").unwrap();
    for _ in 0..2 {
        let tgids: Vec<u32> = read(&tasks).chunks_exact(4).map(|b| u32::from_ne_bytes(b.try_into().unwrap())).collect();
        assert!(tgids.contains(&std::process::id()));
    }
    let numbers = loaded.map("numbers").unwrap();
    numbers.table::<u32, u64>().unwrap().insert_all([(1, 10), (2, 20)]).unwrap();
    let program = loaded.program("elements").unwrap();
    let elements = program.attach_to(&Iter::over_map(numbers)).unwrap();
    let mut values: Vec<u64> =
        read(&elements).chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().unwrap())).collect();
    values.sort_unstable();
    assert_eq!(values, [10, 20]);
    let error = program.attach().unwrap_err();
    assert!(error.to_string().contains("over_map"), "{error}");
    let raw = trace().attach("raw_tp").unwrap();
    assert!(Output::new(&raw).unwrap_err().to_string().contains("no iterator"));
}

#[test]
fn iterators_over_a_choice() {
    let Some(loaded) = load_since((6, 1), "iter", Settings::new()) else { return };
    let read = |place: &Iter| -> Vec<u32> {
        let link = loaded.program("tasks").unwrap().attach_to(place).unwrap();
        let mut bytes = Vec::new();
        Output::new(&link).unwrap().read_to_end(&mut bytes).unwrap();
        bytes.chunks_exact(4).map(|b| u32::from_ne_bytes(b.try_into().unwrap())).collect()
    };
    let own = std::process::id();
    assert!(read(&Iter::new()).len() > 1);
    let threads = read(&Iter::process(own));
    assert!(!threads.is_empty() && threads.iter().all(|process| *process == own), "{threads:?}");
    assert_eq!(read(&Iter::thread(own)), [own]);
    assert_eq!(read(&Iter::process(0x7fff_fff0)), []);
    let error = loaded.program("tasks").unwrap().attach_to(&Iter::cgroups("/proc", Walk::Down)).unwrap_err();
    assert_ne!(error.kind(), Kind::Io, "{error}");
}

#[test]
fn iterators_over_control_groups() {
    let Some(loaded) = load_since((6, 1), "iter_cgroup", Settings::new()) else { return };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let Some(mount) = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1)) else {
        println!("skipped: cgroup2 is not mounted");
        return;
    };
    let group = std::path::Path::new(mount).join(format!("ringfence-walk-{}", std::process::id()));
    std::fs::create_dir_all(group.join("below")).unwrap();
    let walk = |walk| {
        let link = loaded.program("groups").unwrap().attach_to(&Iter::cgroups(&group, walk)).unwrap();
        let mut bytes = Vec::new();
        Output::new(&link).unwrap().read_to_end(&mut bytes).unwrap();
        bytes.len()
    };
    let sizes = [Walk::Itself, Walk::Down, Walk::DownLast].map(walk);
    let nobody = loaded.program("groups").unwrap().attach().unwrap_err();
    std::fs::remove_dir(group.join("below")).unwrap();
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(sizes, [1, 2, 2]);
    assert!(nobody.to_string().contains("Iter::cgroups"), "{nobody}");
    let error = loaded.program("groups").unwrap().attach_to(&Iter::cgroups("/proc", Walk::Up)).unwrap_err();
    assert!(error.to_string().contains("no control group"), "{error}");
}

#[test]
fn a_socket_filter() {
    let loaded = load_object("net", Settings::new().only(["shorten"]));
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = loaded.program("shorten").unwrap().attach_to(&SocketFilter::new(&receiver)).unwrap();
    let mut buffer = [0; 64];
    let mut receive = || {
        sender.send_to(b"0123456789", receiver.local_addr().unwrap()).unwrap();
        receiver.recv(&mut buffer).unwrap()
    };
    assert_eq!(receive(), 4);
    assert_eq!(packets(&loaded, 4), 1);
    drop(link);
    assert_eq!(receive(), 10);
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = loaded.program("shorten").unwrap().attach_to(&SocketFilter::new(&file)).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
}

#[test]
#[ignore = "run by the test of control groups"]
fn makes_a_socket() {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
}

#[test]
fn a_control_group() {
    let loaded = load_object("net", Settings::new().only(["sockets"]));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mount =
        mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split_once(' ').map(|(_, at)| at.to_owned()));
    let Some(mount) = mount else {
        println!("skipped: cgroup2 is not mounted");
        return;
    };
    let group = std::path::Path::new(&mount).join(format!("ringfence-test-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let program = loaded.program("sockets").unwrap();
    let link = program.attach_to(&Cgroup::new(&group)).unwrap();
    assert!(matches!(
        link.info().unwrap().unwrap().details,
        LinkDetails::Cgroup { attach_type: AttachType::CGROUP_INET_SOCK_CREATE, .. }
    ));
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\" --exact --ignored makes_a_socket", group.display());
    let own = std::env::current_exe().unwrap();
    assert!(std::process::Command::new("sh").arg("-c").arg(script).arg(own).status().unwrap().success());
    assert_eq!(packets(&loaded, 3), 1);
    drop(link);
    std::fs::remove_dir(&group).unwrap();
    let error = program.attach_to(&Cgroup::new("/proc")).unwrap_err();
    assert!(error.to_string().contains("no control group"), "{error}");
    let error = program.attach_to(&Cgroup::new("/sys/fs/cgroup/no-such-group")).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
}

#[test]
fn the_order_in_a_control_group() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let Some(mount) = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1)) else {
        println!("skipped: cgroup2 is not mounted");
        return;
    };
    let group = std::path::Path::new(mount).join(format!("ringfence-order-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let objects: Vec<Loaded> = (0..4).map(|_| load_object("net", Settings::new().only(["sockets"]))).collect();
    let attach = |at: usize, place: Cgroup| objects[at].program("sockets").unwrap().attach_to(&place);
    let place = || Cgroup::new(&group);
    let listed = || place().list(AttachType::CGROUP_INET_SOCK_CREATE).unwrap();
    let ids: Vec<u32> = objects.iter().map(|loaded| loaded.program("sockets").unwrap().info().unwrap().id).collect();
    let last = attach(0, place()).unwrap();
    let tried = attach(1, place().first());
    let outcome = match tried {
        Err(error) => Err(error),
        Ok(first) => {
            let middle = attach(2, place().after(&first)).unwrap();
            let revision = listed().revision;
            let stale = attach(3, place().revision(revision + 7)).unwrap_err();
            let unlinked = attach(3, place().before(objects[0].program("sockets").unwrap())).unwrap_err();
            assert!(unlinked.to_string().contains("by its link"), "{unlinked}");
            let before = attach(3, place().before(&last)).unwrap();
            let order: Vec<u32> = listed().programs.iter().map(|(program, _)| *program).collect();
            drop((first, middle, before));
            Ok((order, stale))
        }
    };
    let left: Vec<u32> = listed().programs.iter().map(|(program, _)| *program).collect();
    drop(last);
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(left, [ids[0]]);
    match outcome {
        Ok((order, stale)) => {
            assert_eq!(order, [ids[1], ids[2], ids[3], ids[0]]);
            assert!(stale.to_string().contains("no longer at revision"), "{stale}");
        }
        Err(error) if Kernel::running().version_code() < 6 << 16 | 17 << 8 => {
            assert!(error.to_string().contains("knows no order"), "{error}");
            assert_eq!(error.kind(), Kind::Unsupported);
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn socket_lookup_in_our_namespace() {
    let loaded = load_object("net", Settings::new().only(["look"]));
    let link = loaded.program("look").unwrap().attach_to(&NetNamespace::own()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(packets(&loaded, 5) >= 1);
    assert!(matches!(link.info().unwrap().unwrap().details, LinkDetails::Netns { .. }));
    let error = loaded.program("look").unwrap().attach_to(&NetNamespace::new("/dev/null")).unwrap_err();
    assert!(error.to_string().contains("no network namespace"), "{error}");
}

#[test]
fn programs_that_are_called() {
    let Some(loaded) = load_since((5, 14), "call", Settings::new()) else { return };
    let mut context = [7u64, 8, 0].map(u64::to_ne_bytes).concat();
    assert_eq!(loaded.program("add").unwrap().call(&mut context).unwrap(), 5);
    assert_eq!(context[16..], 15u64.to_ne_bytes());
    let run = loaded.program("caller").unwrap().test_run(&[0; 64], 1).unwrap();
    assert_eq!((run.retval, run.data.len()), (77, 64));
    let error = loaded.program("caller").unwrap().test_run(&[0; 4], 1).unwrap_err();
    assert!(error.to_string().contains("is not what such a program takes"), "{error}");
    assert!(loaded.program("add").unwrap().attach().unwrap_err().to_string().contains("not attached"));
    let info = loaded.program("add").unwrap().info().unwrap();
    assert!(info.id > 0 && info.xlated_len > 0 && info.tag != [0; 8]);
}

#[test]
fn places_that_do_not_exist() {
    let loaded = trace();
    let program = loaded.program("tracepoint").unwrap();
    let error = program.attach_to(&Tracepoint::new("syscalls", "sys_enter_getuidd")).unwrap_err();
    assert!(error.to_string().contains("it has syscalls/sys_enter_getuid"), "{error}");
    assert_eq!(error.kind(), Kind::Unsupported);
    let error = program.attach_to(&Tracepoint::new("syscals", "sys_enter_getuid")).unwrap_err();
    assert!(error.to_string().contains("it has syscalls/sys_enter_getuid"), "{error}");
    let error = program.attach_to(&Tracepoint::new("..", "sys")).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let error = loaded.program("raw_tp").unwrap().attach_to(&RawTracepoint::new("sys_entr")).unwrap_err();
    assert!(error.to_string().contains("sys_enter"), "{error}");
    let error = loaded.program("raw_tp").unwrap().attach_to(&RawTracepoint::new("no_module:no_event")).unwrap_err();
    assert!(error.to_string().contains("modprobe no_module"), "{error}");
}

#[test]
fn everything_that_names_its_place_at_once() {
    let loaded = trace();
    let links = loaded.attach_all().unwrap();
    let mut attached: Vec<&str> = links.iter().map(|link| link.program()).collect();
    attached.sort_unstable();
    assert_eq!(attached, ["btf_tp", "raw_tp", "tracepoint"]);
    getuid();
    assert!(counter(&loaded, "by_tracepoint") >= 1 && counter(&loaded, "by_raw_tp") >= 1);
}

#[test]
fn variables_are_checked_by_size() {
    let loaded = trace();
    let error = loaded.variable("by_btf").unwrap().get::<u32>().unwrap_err();
    assert!(error.to_string().contains("`by_btf` has 8 bytes, but u32 has 4"), "{error}");
    assert!(loaded.variable("by_bft").unwrap_err().to_string().contains("by_btf"));
    let target = loaded.variable("target").unwrap();
    assert_eq!(target.get::<u32>().unwrap(), std::process::id());
    let error = target.set(&1u32).unwrap_err();
    assert!(error.to_string().contains("constant"), "{error}");
    let clock = loaded.variable("by_clock").unwrap();
    clock.set(&99u64).unwrap();
    assert_eq!(clock.get::<u64>().unwrap(), 99);
}

#[test]
fn only_some_programs() {
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object("trace"), &kernel, &Settings::new().only(["raw_tp"])).unwrap();
    let loaded = load(&plan);
    assert_eq!(loaded.programs().len(), 1);
    assert!(loaded.program("tracepoint").is_err());
}
