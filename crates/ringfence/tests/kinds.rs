//! Every kind of map between user space and a program that uses it, both ways.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::net::{WIRE, Wire, index};
use common::{load_object, load_since};
use ringfence::hook::{Cgroup, Xdp};
use ringfence::{Error, Kernel, Kind, Loaded, LpmKey, Map, MapType, NewMap, Settings, Update};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PACKET: [u8; 64] = [0; 64];

fn only(names: &[&str]) -> Settings {
    Settings::new().only(names.iter().copied())
}

fn run(loaded: &Loaded, program: &str) -> u32 {
    loaded.program(program).unwrap().test_run(&PACKET, 1).unwrap().retval
}

fn get<T: ringfence::Plain>(loaded: &Loaded, name: &str) -> T {
    loaded.variable(name).unwrap().get().unwrap()
}

fn set<T: ringfence::Plain>(loaded: &Loaded, name: &str, value: T) {
    loaded.variable(name).unwrap().set(&value).unwrap();
}

/// A system call that the programs see.
fn system_call() {
    std::fs::metadata("/").unwrap();
}

/// A directory of a control group, gone when dropped.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let Some(mount) = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1)) else {
            println!("skipped: cgroup2 is not mounted");
            return None;
        };
        let path = PathBuf::from(mount).join(format!("ringfence-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Some(Group(path))
    }

    fn root(&self) -> std::fs::File {
        std::fs::File::open(self.0.parent().unwrap()).unwrap()
    }

    fn open(&self) -> std::fs::File {
        std::fs::File::open(&self.0).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The control group of this process.
fn own_group(group: &Group) -> std::fs::File {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
    std::fs::File::open(group.0.parent().unwrap().join(own)).unwrap()
}

#[test]
fn networks_by_prefix() {
    let loaded = load_object("kinds", only(&["route", "route6"]));
    let routes = loaded.map("routes").unwrap().table::<LpmKey<[u8; 4]>, u32>().unwrap();
    routes.insert(&LpmKey::v4(Ipv4Addr::new(10, 0, 0, 0), 8), &1).unwrap();
    routes.insert(&LpmKey::v4(Ipv4Addr::new(10, 2, 0, 0), 16), &2).unwrap();
    let ask = |address: Ipv4Addr| {
        set(&loaded, "asked", [u32::from_ne_bytes(address.octets()), 0, 0, 0]);
        run(&loaded, "route");
        get::<u64>(&loaded, "answer")
    };
    let asked = [[10, 2, 3, 4], [10, 3, 3, 4], [11, 0, 0, 1]].map(|octets| ask(octets.into()));
    assert_eq!(asked, [2, 1, 0]);
    assert_eq!(routes.get(&Ipv4Addr::new(10, 2, 3, 4).into()).unwrap(), Some(2));
    let names: BTreeMap<String, u32> =
        routes.iter().unwrap().map(|e| e.unwrap()).map(|(k, v)| (k.to_string(), v)).collect();
    assert_eq!(names, BTreeMap::from([("10.0.0.0/8".into(), 1), ("10.2.0.0/16".into(), 2)]));
    let error = routes.insert(&LpmKey::v4(Ipv4Addr::LOCALHOST, 33), &1).unwrap_err();
    assert!(error.to_string().contains("`routes`") && error.to_string().contains("33"), "{error}");

    let routes = loaded.map("routes6").unwrap().table::<LpmKey<[u8; 16]>, u32>().unwrap();
    let network: Ipv6Addr = "2001:db8::".parse().unwrap();
    routes.insert(&LpmKey::v6(network, 32), &6).unwrap();
    let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
    set(&loaded, "asked", address.octets());
    run(&loaded, "route6");
    assert_eq!(get::<u64>(&loaded, "answer"), 6);
    assert_eq!(routes.iter().unwrap().next().unwrap().unwrap().0.to_string(), "2001:db8::/32");

    let own = NewMap::of::<LpmKey<[u8; 4]>, u32>("own", MapType::LPM_TRIE, 4).create().unwrap();
    let own = own.table::<LpmKey<[u8; 4]>, u32>().unwrap();
    own.insert(&LpmKey::v4(Ipv4Addr::UNSPECIFIED, 0), &3).unwrap();
    let taken: Vec<u32> = own.drain().unwrap().map(|entry| entry.unwrap().1).collect();
    assert_eq!((taken, own.iter().unwrap().count()), (vec![3], 0));
}

#[test]
fn a_value_for_each_cpu() {
    let loaded = load_object("kinds", only(&["count"]));
    let table = loaded.map("by_cpu").unwrap().per_cpu::<u32, u64>().unwrap();
    let cpus = ringfence_sys::possible_cpus().unwrap() as usize;
    table.update(&5, &vec![100; cpus], Update::New).unwrap();
    let cpu = run(&loaded, "count") as usize;
    let values = table.get(&5).unwrap().unwrap();
    assert_eq!((values.get(cpu), values.get(cpus)), (Some(101), None));
    assert_eq!(values.iter().sum::<u64>(), 100 * cpus as u64 + 1);
    let error = table.insert(&5, &[1, 2, 3, 4, 5, 6, 7, 8, 9][..cpus.min(8) + 1]).unwrap_err();
    assert!(error.to_string().contains(&format!("there can be {cpus} CPUs")), "{error}");
    assert!(table.update(&5, &vec![0; cpus], Update::New).is_err());
    let drained: Vec<_> = table.drain().unwrap().map(|entry| entry.unwrap()).map(|(k, v)| (k, v.get(cpu))).collect();
    assert_eq!(drained, [(5, Some(101))]);
    assert!(table.get(&5).unwrap().is_none());
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, PartialEq, Debug)]
#[repr(C)]
struct Pair {
    lock: u32,
    first: u32,
    second: u64,
}

#[test]
fn values_with_a_lock() {
    let loaded = load_object("kinds", only(&["pair", "count"]));
    let pairs = loaded.map("pairs").unwrap().table::<u32, Pair>().unwrap();
    pairs.update_locked(&1, &Pair { lock: 9, first: 5, second: 10 }, Update::Any).unwrap();
    assert_eq!(run(&loaded, "pair"), 1);
    assert_eq!(pairs.get_locked(&1).unwrap(), Some(Pair { lock: 0, first: 6, second: 15 }));
    assert_eq!(pairs.get_locked(&2).unwrap(), None);
    assert!(pairs.update_locked(&2, &Pair { lock: 0, first: 5, second: 10 }, Update::Existing).is_err());
    let plain = Map::create("plain", MapType::HASH, 4, 4, 4).unwrap().table::<u32, u32>().unwrap();
    let error = plain.update_locked(&1, &1, Update::Any).unwrap_err();
    assert!(error.to_string().contains("`plain`") && error.to_string().contains("bpf_spin_lock"), "{error}");
}

#[test]
fn maps_that_are_exchanged() {
    let loaded = load_object("kinds", only(&["tenant"]));
    let tenants = loaded.map("tenants").unwrap().of_maps::<u32>().unwrap();
    set(&loaded, "asked", [7u32, 0, 0, 0]);
    assert_eq!(run(&loaded, "tenant"), 0);
    let first = tenants.create("first").unwrap();
    assert_eq!((first.kind(), first.value_size(), first.max_entries()), (MapType::ARRAY, 8, 3));
    tenants.insert(&7, &first).unwrap();
    let counts = first.table::<u32, u64>().unwrap();
    counts.insert(&2, &40).unwrap();
    assert_eq!(run(&loaded, "tenant"), 1);
    assert_eq!(counts.get(&2).unwrap(), Some(41));
    let second = tenants.create("second").unwrap();
    tenants.insert(&7, &second).unwrap();
    run(&loaded, "tenant");
    assert_eq!(counts.get(&2).unwrap(), Some(41));
    drop(second);
    // The map holds it.
    let second = tenants.get(&7).unwrap().unwrap();
    assert_eq!(second.table::<u32, u64>().unwrap().get(&2).unwrap(), Some(1));
    assert_eq!(tenants.ids().unwrap(), [(7, second.id())]);
    assert!(tenants.get(&8).unwrap().is_none());
    let wrong = Map::create("wrong", MapType::ARRAY, 4, 4, 3).unwrap();
    let error = tenants.insert(&7, &wrong).unwrap_err();
    assert!(error.to_string().contains("`tenants`") && error.to_string().contains("shape"), "{error}");
    assert!(tenants.remove(&7).unwrap() && !tenants.remove(&7).unwrap());

    let pools = loaded.map("pools").unwrap().of_maps::<u32>().unwrap();
    let pool = pools.create("pool").unwrap();
    pools.insert(&0, &pool).unwrap();
    assert_eq!((pool.kind(), pool.value_size()), (MapType::HASH, 16));

    let shape = NewMap::of::<u32, u64>("one", MapType::HASH, 4);
    let own = NewMap::new("own", MapType::ARRAY_OF_MAPS, 4, 4, 2).inner(shape).create().unwrap();
    let own = own.of_maps::<u32>().unwrap();
    own.insert(&1, &own.create("a").unwrap()).unwrap();
    assert_eq!(own.ids().unwrap().len(), 1);
    let elsewhere = Map::from_fd("again", own.map().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let error = elsewhere.of_maps::<u32>().unwrap().create("b").unwrap_err();
    assert!(error.to_string().contains("`again`") && error.to_string().contains("NewMap"), "{error}");
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, PartialEq, Debug)]
#[repr(C)]
struct Wide {
    a: u32,
    zero: u32,
    b: u64,
    c: u32,
    end: u32,
}

#[test]
fn arrays_in_memory() {
    let loaded = load_object("kinds", only(&["in_memory"]));
    let map = loaded.map("mapped").unwrap();
    let table = map.table::<u32, Wide>().unwrap();
    table.insert(&99, &Wide { a: 5, b: 1 << 40, ..Wide::default() }).unwrap();
    set(&loaded, "asked", [99u32, 0, 0, 0]);
    assert_eq!(run(&loaded, "in_memory"), 1);
    assert_eq!(get::<u64>(&loaded, "answer"), 1 << 40);
    assert_eq!(table.get(&99).unwrap(), Some(Wide { a: 5, b: 1 << 40, c: 6, ..Wide::default() }));
    assert_eq!((table.get(&100).unwrap(), table.get(&u32::MAX).unwrap()), (None, None));
    let all: Vec<(u32, Wide)> = table.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!((all.len(), all[98].1, all[99]), (100, Wide::default(), (99, table.get(&99).unwrap().unwrap())));
    // The kernel's view is the same.
    assert_eq!(map.lookup(&99u32.to_ne_bytes()).unwrap().unwrap(), all[99].1.as_bytes());
    let past = table.insert(&100, &Wide::default()).unwrap_err();
    assert!(past.to_string().contains("beyond its end"), "{past}");
    assert!(table.update(&1, &Wide::default(), Update::New).unwrap_err().to_string().contains("there already"));
    assert!(table.drain().unwrap_err().to_string().contains("arrays keep their entries"));
    // Having written in memory is in nobody's way.
    map.freeze().unwrap();
    let frozen = table.insert(&99, &Wide::default()).unwrap_err();
    assert!(frozen.to_string().contains("frozen"), "{frozen}");
    let again = map.freeze().unwrap_err();
    assert!(again.to_string().contains("frozen already"), "{again}");
    assert_eq!(table.get(&99).unwrap().unwrap().c, 6);
}

#[test]
fn small_values_in_memory() {
    for count in [1u32, 7, 4096] {
        let map = NewMap::of::<u32, u8>("bytes", MapType::ARRAY, count).flags(1 << 10).create().unwrap();
        let table = map.table::<u32, u8>().unwrap();
        (0..count).for_each(|n| table.insert(&n, &(n as u8 ^ 0x55)).unwrap());
        let all: Vec<(u32, u8)> = table.iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(all, (0..count).map(|n| (n, n as u8 ^ 0x55)).collect::<Vec<_>>());
    }
    let map = NewMap::of::<u32, [u8; 11]>("odd", MapType::ARRAY, 5).flags(1 << 10).create().unwrap();
    let table = map.table::<u32, [u8; 11]>().unwrap();
    table.insert(&4, &[7; 11]).unwrap();
    assert_eq!(table.get(&4).unwrap(), Some([7; 11]));
    assert_eq!(table.iter().unwrap().last().unwrap().unwrap(), (4, [7; 11]));
}

#[test]
fn devices_and_cpus_to_send_to() {
    let loaded = load_object("kinds", only(&["to_port", "to_plain_port", "to_cpu", "going_out", "going_on"]));
    let ports = loaded.map("ports").unwrap().devices().unwrap();
    assert_eq!((ports.get(1).unwrap(), run(&loaded, "to_port")), (None, 1));
    ports.insert(1, "lo", Some(loaded.program("going_out").unwrap())).unwrap();
    let there = ports.get(1).unwrap().unwrap();
    let program = loaded.program("going_out").unwrap().info().unwrap().id;
    assert_eq!((there.number, there.program), (index("lo"), Some(program)));
    set(&loaded, "asked", [1u32, 0, 0, 0]);
    assert_eq!(run(&loaded, "to_port"), 4);
    assert!(ports.remove(1).unwrap());
    assert_eq!((ports.get(1).unwrap(), run(&loaded, "to_port")), (None, 1));
    let error = ports.insert(1, "nowhere", None).unwrap_err();
    assert!(error.to_string().contains("`ports`") && error.to_string().contains("no such device"), "{error}");
    let error = ports.insert_index(1, 1, Some(loaded.program("to_cpu").unwrap())).unwrap_err();
    assert!(error.to_string().contains("not of a section for such maps"), "{error}");
    let error = ports.insert_index(4, 1, None).unwrap_err();
    assert!(error.to_string().contains("beyond its end"), "{error}");

    let ports = loaded.map("plain_ports").unwrap().devices().unwrap();
    ports.insert(1, "lo", None).unwrap();
    assert_eq!(run(&loaded, "to_plain_port"), 4);
    assert_eq!(ports.get(1).unwrap().unwrap().program, None);
    let error = ports.insert(1, "lo", Some(loaded.program("going_out").unwrap())).unwrap_err();
    assert!(error.to_string().contains("bpf_devmap_val"), "{error}");

    let cpus = loaded.map("cpus").unwrap().cpus().unwrap();
    set(&loaded, "asked", [0u32; 4]);
    assert_eq!(run(&loaded, "to_cpu"), 1);
    cpus.insert(0, 64, Some(loaded.program("going_on").unwrap())).unwrap();
    assert_eq!(run(&loaded, "to_cpu"), 4);
    assert_eq!(cpus.get(0).unwrap().unwrap().number, 64);
    let error = cpus.insert(0, 1 << 20, None).unwrap_err();
    assert!(error.to_string().contains("`cpus`"), "{error}");
    assert!(cpus.remove(0).unwrap());
    assert_eq!(run(&loaded, "to_cpu"), 1);
}

#[test]
fn packets_through_a_device_map() {
    let loaded = load_object("kinds", only(&["to_port", "going_out"]));
    let wire = Wire::veth("kinds");
    let ports = loaded.map("ports").unwrap().devices().unwrap();
    let going_out = loaded.program("going_out").unwrap();
    wire.near.inside(|| ports.insert(0, WIRE, Some(going_out)).unwrap());
    let native = || Xdp::new(WIRE).native();
    let _near = loaded.program("to_port").unwrap().attach_to(&wire.near.namespace().hook(native())).unwrap();
    // A veth device takes redirected packets only while its other end has a program.
    let other = load_object("kinds", only(&["to_cpu"]));
    let _far = other.program("to_cpu").unwrap().attach_to(&wire.far.namespace().hook(native())).unwrap();
    wire.send(3);
    let end = Instant::now() + Duration::from_secs(5);
    while get::<u64>(&loaded, "answer") == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(get::<u64>(&loaded, "answer"), u64::from(wire.near.inside(|| index(WIRE))));
}

#[test]
fn counters_and_control_groups() {
    let Some(group) = Group::new("kinds") else { return };
    let loaded = load_object("kinds", only(&["watch"]));
    let counters = loaded.map("counters").unwrap();
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK
    (0..counters.max_entries()).for_each(|cpu| counters.set_counter(cpu, 1, 0).unwrap());
    let groups = loaded.map("groups").unwrap();
    groups.set_fd(&0u32.to_ne_bytes(), group.root().as_fd()).unwrap();
    groups.set_fd(&1u32.to_ne_bytes(), group.open().as_fd()).unwrap();
    let link = loaded.program("watch").unwrap().attach().unwrap();
    set(&loaded, "own_pid", std::process::id());
    system_call();
    let first: u64 = get(&loaded, "clock");
    assert!(first > 0, "the counter counts");
    // Each CPU has a counter of its own, which may have begun later.
    let end = Instant::now() + Duration::from_secs(5);
    while get::<u64>(&loaded, "clock") <= first {
        assert!(Instant::now() < end, "the counter goes on counting");
        system_call();
    }
    assert_eq!(get::<[i32; 2]>(&loaded, "inside"), [1, 0]);
    groups.delete(&0u32.to_ne_bytes()).unwrap();
    system_call();
    assert!(get::<[i32; 2]>(&loaded, "inside")[0] < 0, "the slot is empty");
    drop(link);
    let error = counters.set_counter(0, 1, 12345).unwrap_err();
    assert!(error.to_string().contains("no such event"), "{error}");
    let error = groups.set_fd(&0u32.to_ne_bytes(), std::fs::File::open("/dev/null").unwrap().as_fd()).unwrap_err();
    assert!(error.to_string().contains("no control group's directory"), "{error}");
}

#[test]
fn sockets_that_take_whole_packets() {
    let loaded = load_object("kinds", only(&["to_socket"]));
    let sockets = loaded.map("sockets").unwrap();
    assert_eq!(run(&loaded, "to_socket"), 1);
    let error = sockets.set_fd(&[0; 4], UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()).unwrap_err();
    assert!(error.to_string().contains("AF_XDP"), "{error}");
    let Some(socket) = xdp_socket() else { return };
    sockets.set_fd(&[0; 4], socket.as_fd()).unwrap();
    assert_eq!(run(&loaded, "to_socket"), 4);
    assert!(sockets.delete(&[0; 4]).unwrap());
    assert_eq!(run(&loaded, "to_socket"), 1);
}

/// An AF_XDP socket with its memory and a ring to receive.
fn xdp_socket() -> Option<std::os::fd::OwnedFd> {
    use rustix::net::xdp::{XdpUmemReg, XdpUmemRegFlags};
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let socket = match rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None) {
        Ok(socket) => socket,
        Err(errno) => {
            println!("skipped: this kernel has no AF_XDP sockets ({errno})");
            return None;
        }
    };
    // Stays until the process ends.
    let memory = Vec::leak(vec![0u8; 17 * 4096]);
    let addr = (memory.as_ptr().expose_provenance() as u64).next_multiple_of(4096);
    let memory = XdpUmemReg {
        addr,
        len: 16 * 4096,
        chunk_size: 4096,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    sockopt::set_xdp_umem_reg(&socket, memory).unwrap();
    sockopt::set_xdp_rx_ring_size(&socket, 64).unwrap();
    Some(socket)
}

#[test]
fn a_bloom_filter() {
    let Some(loaded) = load_since((5, 16), "newer", only(&["look", "remember"])) else { return };
    let seen = loaded.map("seen").unwrap().bloom::<u64>().unwrap();
    assert!(!seen.may_contain(&42).unwrap());
    set(&loaded, "asked", 42u64);
    assert_eq!(run(&loaded, "look"), 0);
    seen.insert(&42).unwrap();
    assert_eq!(run(&loaded, "look"), 1);
    set(&loaded, "asked", 43u64);
    assert_eq!(run(&loaded, "remember"), 1);
    assert!(seen.may_contain(&43).unwrap());
    let error = loaded.map("seen").unwrap().bloom::<u32>().unwrap_err();
    assert!(error.to_string().contains("its value has 8 bytes, but u32 has 4"), "{error}");
}

#[test]
fn records_for_programs() {
    let Some(loaded) = load_since((6, 1), "newer", only(&["drain"])) else { return };
    let map = loaded.map("commands").unwrap();
    let mut ring = map.user_ring().unwrap();
    assert!(map.user_ring().unwrap_err().to_string().contains("another writer"));
    assert!(ring.send(&7u64).unwrap());
    let mut record = ring.reserve(8).unwrap().unwrap();
    record.copy_from_slice(&8u64.to_ne_bytes());
    record.submit();
    // Thrown away.
    drop(ring.reserve(8).unwrap().unwrap());
    assert_eq!(ring.pending(), 48);
    assert_eq!(run(&loaded, "drain"), 2);
    assert_eq!((get::<u64>(&loaded, "records"), get::<u64>(&loaded, "sum"), ring.pending()), (2, 15, 0));

    // Many times round, with lengths that do not divide the ring: every byte arrives.
    for n in 0..300u64 {
        let mut record = ring.reserve(8 + (n as usize * 13) % 600).unwrap().unwrap();
        record.fill(0xff);
        record[..8].copy_from_slice(&n.to_ne_bytes());
        record.submit();
        assert_eq!(run(&loaded, "drain"), 1);
        assert_eq!(get::<u64>(&loaded, "last"), n);
    }
    // Full, and too long.
    let mut fit = 0;
    while ring.send(&[0u64; 5]).unwrap() {
        fit += 1;
    }
    assert_eq!(fit, map.max_entries() / 48);
    let error = ring.reserve(map.max_entries() as usize).unwrap_err();
    assert!(error.to_string().contains("`commands`") && error.to_string().contains("this ring takes 4088"), "{error}");
    let start = Instant::now();
    assert!(ring.reserve_within(40, Some(Duration::from_millis(50))).unwrap().is_none());
    assert!(start.elapsed() >= Duration::from_millis(50));
    let busy = cpu_time();
    let start = Instant::now();
    // 8 bytes less than there is room for, so the descriptor is writable all the time.
    assert!(ring.reserve_within(300, Some(Duration::from_millis(300))).unwrap().is_none());
    assert!(cpu_time() - busy < Duration::from_millis(150), "it waits without a loop");
    assert!(start.elapsed() >= Duration::from_millis(300));

    // A program that drains wakes it, and one that drains without a word is noticed too.
    for (wake, most) in [(2u64, 5000), (1, 5000)] {
        set(&loaded, "wake", wake);
        let program = loaded.program("drain").unwrap().clone();
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            program.test_run(&PACKET, 1).unwrap().retval
        });
        let start = Instant::now();
        let record = ring.reserve_within(3000, None).unwrap().unwrap();
        assert!(start.elapsed() < Duration::from_millis(most));
        record.submit();
        assert!(waker.join().unwrap() > 0);
    }
    // The right to write is free again.
    drop(ring);
    map.user_ring().unwrap();
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, PartialEq, Debug)]
#[repr(C)]
struct Visits {
    from_user: u64,
    seen: u64,
}

#[test]
fn values_of_tasks() {
    let Some(loaded) = load_since((5, 12), "storage", only(&["task"])) else { return };
    let tasks = loaded.map("of_tasks").unwrap().storage::<Visits>().unwrap();
    let link = loaded.program("task").unwrap().attach().unwrap();
    let own = ringfence::pidfd(std::process::id()).unwrap();
    assert_eq!(tasks.get(&own).unwrap(), None);
    assert!(!tasks.remove(&own).unwrap());
    // Another process, with one thread: what user space has written is seen by the program, and the other way round.
    let mut child = std::process::Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let process = ringfence::pidfd(child.id()).unwrap();
    tasks.insert(&process, &Visits { from_user: 1 << 40, seen: 0 }).unwrap();
    set(&loaded, "own_pid", child.id());
    // It reads and writes.
    child.stdin.as_mut().unwrap().write_all(b"line").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    let seen = tasks.get(&process).unwrap().unwrap().seen;
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(seen >= 1 << 40, "the program sees what user space has written");
    assert_eq!(tasks.get(&process).unwrap(), None, "gone with the process");

    // This thread's value, and through it the program's.
    let thread = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
    let thread = match ringfence::pidfd_of_thread(thread) {
        Ok(thread) => thread,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    set(&loaded, "own_pid", std::process::id());
    system_call();
    let first = tasks.get(&thread).unwrap().expect("the program has made one");
    assert!(first.seen > 0);
    tasks.insert(&thread, &Visits { from_user: 1 << 40, seen: 0 }).unwrap();
    system_call();
    assert!(tasks.get(&thread).unwrap().unwrap().seen >= 1 << 40, "the program sees what user space has written");
    set(&loaded, "own_pid", 0u32);
    assert!(tasks.update(&thread, &first, Update::New).unwrap_err().to_string().contains("there already"));
    assert!(tasks.remove(&thread).unwrap());
    assert_eq!(tasks.get(&thread).unwrap(), None);
    let error = tasks.get(&std::fs::File::open("/dev/null").unwrap()).unwrap_err();
    assert!(error.to_string().contains("not that of a process"), "{error}");
    drop(link);
    assert_eq!(ringfence::pidfd(u32::MAX >> 1).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn values_of_control_groups() {
    let Some(group) = Group::new("storage") else { return };
    let Some(loaded) = load_since((6, 2), "storage", only(&["group"])) else { return };
    let groups = loaded.map("of_groups").unwrap().storage::<Visits>().unwrap();
    let own = own_group(&group);
    groups.insert(&own, &Visits { from_user: 1 << 40, seen: 0 }).unwrap();
    let link = loaded.program("group").unwrap().attach().unwrap();
    set(&loaded, "own_pid", std::process::id());
    system_call();
    assert!(groups.get(&own).unwrap().unwrap().seen > 1 << 40);
    drop(link);
    assert_eq!(groups.get(&group.open()).unwrap(), None);
    assert!(groups.remove(&own).unwrap());
    let error = groups.get(&std::fs::File::open("/dev/null").unwrap()).unwrap_err();
    assert!(error.to_string().contains("not that of a control group"), "{error}");
}

#[test]
fn values_of_sockets() {
    let Some(group) = Group::new("sockets") else { return };
    let loaded = load_object("storage", only(&["socket"]));
    let sockets = loaded.map("of_sockets").unwrap().storage::<Visits>().unwrap();
    let one = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    sockets.insert(&one, &Visits { from_user: 9, seen: 0 }).unwrap();
    let link = loaded.program("socket").unwrap().attach_to(&Cgroup::new(group.0.parent().unwrap())).unwrap();
    one.set_broadcast(true).unwrap();
    other.set_broadcast(true).unwrap();
    drop(link);
    assert_eq!(sockets.get(&one).unwrap(), Some(Visits { from_user: 9, seen: 10 }));
    assert_eq!(sockets.get(&other).unwrap(), None);
    let error = sockets.get(&std::fs::File::open("/dev/null").unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("`of_sockets`") && error.to_string().contains("not that of a socket"),
        "{error}"
    );
}

#[test]
fn values_of_files() {
    use std::os::unix::fs::MetadataExt;
    let allowed = |lsms: String| lsms.contains("bpf");
    if !std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(allowed) {
        println!("skipped: the bpf LSM is not on (lsm=bpf)");
        return;
    }
    let kernel = Kernel::running();
    let plan = ringfence::plan(&common::object("storage"), &kernel, &only(&["file"])).unwrap();
    let loaded = match ringfence::load(&plan, &kernel) {
        Ok(loaded) => loaded,
        Err(error) if error.kind() == Kind::Permission => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let files = loaded.map("of_files").unwrap().storage::<Visits>().unwrap();
    let own = std::env::current_exe().unwrap();
    let file = std::fs::File::open(&own).unwrap();
    files.insert(&file, &Visits { from_user: 4, seen: 0 }).unwrap();
    set(&loaded, "own_inode", file.metadata().unwrap().ino());
    let link = loaded.program("file").unwrap().attach().unwrap();
    drop(std::fs::File::open(&own).unwrap());
    drop(link);
    assert_eq!(files.get(&file).unwrap().unwrap().seen % 5, 0);
    assert!(files.get(&file).unwrap().unwrap().seen >= 5);
    assert!(files.remove(&file).unwrap());
}

/// Where programs of LSM hooks cannot be loaded, user space still has the values for itself.
#[test]
fn values_of_files_without_a_program() {
    let kernel = Kernel::running();
    let object = common::object("storage");
    let plan = ringfence::plan(&object, &kernel, &only(&["socket"])).unwrap();
    let Some(map) = plan.maps.iter().find(|map| map.name == "of_files") else {
        println!("skipped: this kernel has no storage of files");
        return;
    };
    assert_eq!(map.kind, MapType::INODE_STORAGE);
    let loaded = match ringfence::load(&plan, &kernel) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    let files = loaded.map("of_files").unwrap().storage::<Visits>().unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    files.insert(&file, &Visits { from_user: 4, seen: 1 }).unwrap();
    assert_eq!(files.get(&file).unwrap(), Some(Visits { from_user: 4, seen: 1 }));
    assert!(files.remove(&file).unwrap() && !files.remove(&file).unwrap());
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, PartialEq, Debug)]
#[repr(C)]
struct Node {
    value: u64,
    next: u64,
}

#[test]
fn memory_with_pointers_in_it() {
    let Some(loaded) = load_since((6, 9), "pointers", Settings::new()) else { return };
    let arena = loaded.map("arena").unwrap().arena().unwrap();
    assert_eq!(arena.len(), 8 * ringfence_sys::page_size());
    // A list of two nodes, made here.
    let (first, second) = (ringfence_sys::page_size() * 5 + 16, ringfence_sys::page_size() * 7 + 64);
    arena.set(first, &Node { value: 5, next: arena.address() + second as u64 }).unwrap();
    arena.set(second, &Node { value: 20, next: 0 }).unwrap();
    set(&loaded, "head", arena.address() + first as u64);
    loaded.program("walk").unwrap().call(&mut []).unwrap();
    assert_eq!(get::<u64>(&loaded, "sum"), 25);
    // And one before it, made there.
    assert_eq!(loaded.program("grow").unwrap().call(&mut []).unwrap(), 0);
    let head: u64 = get(&loaded, "head");
    let node: Node = arena.get(arena.offset(head).unwrap()).unwrap();
    assert_eq!(node, Node { value: 1000, next: arena.address() + first as u64 });
    loaded.program("walk").unwrap().call(&mut []).unwrap();
    assert_eq!(get::<u64>(&loaded, "sum"), 1025);
    // A variable in the arena.
    assert_eq!(get::<u64>(&loaded, "walks"), 2);
    set(&loaded, "walks", 100u64);
    loaded.program("walk").unwrap().call(&mut []).unwrap();
    assert_eq!(get::<u64>(&loaded, "walks"), 101);
    let error = arena.offset(8).unwrap_err();
    assert!(error.to_string().contains("leads out of it"), "{error}");
    let error = arena.get::<u64>(arena.len() - 4).unwrap_err();
    assert!(error.to_string().contains("`arena`") && error.to_string().contains("beyond its end"), "{error}");
}

/// Where only programs allocate pages, a page that is missing is an error and no signal.
#[test]
fn memory_that_only_programs_allocate() {
    if Kernel::running().knows_map_type(MapType::ARENA) == Some(false) {
        println!("skipped: this kernel has no arenas");
        return;
    }
    const MMAPABLE: u32 = 1 << 10;
    const SEGV_ON_FAULT: u32 = 1 << 17;
    let arena = NewMap::new("a", MapType::ARENA, 0, 0, 4).flags(MMAPABLE | SEGV_ON_FAULT).create().unwrap();
    let arena = arena.arena().unwrap();
    let error = arena.get::<u64>(0).unwrap_err();
    assert!(error.to_string().contains("no program has allocated that page"), "{error}");
    assert!(arena.set(8, &1u64).is_err());

    let kernel = Kernel::running();
    let settings = only(&["grow"]).map_flags("arena", MMAPABLE | SEGV_ON_FAULT);
    let plan = ringfence::plan(&common::object("pointers"), &kernel, &settings).unwrap();
    let loaded = common::load(&plan);
    assert_eq!(loaded.program("grow").unwrap().call(&mut []).unwrap(), 0);
    let arena = loaded.map("arena").unwrap().arena().unwrap();
    let place = arena.offset(get(&loaded, "head")).unwrap();
    assert_eq!(arena.get::<u64>(place).unwrap(), 1000);
    arena.set(place, &7u64).unwrap();
    assert_eq!(arena.get::<[u64; 2]>(place).unwrap(), [7, 0]);
    let error = arena.read(0, &mut vec![0; arena.len()]).unwrap_err();
    assert!(error.to_string().contains("allocated"), "{error}");
}

#[test]
fn entries_that_are_taken_out() {
    for kind in [MapType::HASH, MapType::LRU_HASH] {
        let table = NewMap::of::<u32, u64>("t", kind, 20_000).create().unwrap().table::<u32, u64>().unwrap();
        table.insert_all((0..5000).map(|n| (n, u64::from(n) + 1))).unwrap();
        let all: BTreeMap<u32, u64> = table.drain().unwrap().map(Result::unwrap).collect();
        assert_eq!(all, (0..5000).map(|n| (n, u64::from(n) + 1)).collect(), "{kind}");
        assert_eq!(table.iter().unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_view_that_does_not_fit_names_the_one_that_does() {
    let hash = Map::create("numbers", MapType::HASH, 4, 8, 10).unwrap();
    let queue = Map::create("waiting", MapType::QUEUE, 0, 8, 10).unwrap();
    let each = NewMap::of::<u32, u64>("each", MapType::PERCPU_ARRAY, 1).create().unwrap();
    fn why<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        error.to_string()
    }
    for (error, map, view) in [
        (why(hash.queue::<u64>()), "numbers", "`table`"),
        (why(hash.per_cpu::<u32, u64>()), "numbers", "`table`"),
        (why(hash.bloom::<u64>()), "numbers", "`table`"),
        (why(hash.storage::<u64>()), "numbers", "`table`"),
        (why(hash.of_maps::<u32>()), "numbers", "`table`"),
        (why(hash.devices()), "numbers", "`table`"),
        (why(hash.cpus()), "numbers", "`table`"),
        (why(hash.user_ring()), "numbers", "`table`"),
        (why(hash.arena()), "numbers", "`table`"),
        (why(queue.table::<u32, u64>()), "waiting", "`queue`"),
        (why(each.table::<u32, u64>()), "each", "`per_cpu`"),
    ] {
        assert!(error.contains(&format!("map `{map}`")) && error.contains(view), "{error}");
    }
    let error = why(hash.set_fd(&[0; 4], hash.as_fd()));
    assert!(error.contains("`numbers`") && error.contains("hold no file descriptors"), "{error}");
    assert_eq!(hash.lookup(&[0; 4]).unwrap(), None, "the number of a descriptor is no value");
}

#[test]
fn a_pin_is_only_taken_when_it_is_the_same() {
    let dir = std::env::temp_dir().join(format!("ringfence-bpffs-kinds-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    ringfence_sys::mount("bpf", &dir).unwrap();
    let path = dir.join("kept");
    let new = NewMap::of::<u32, u64>("kept", MapType::HASH, 10);
    let first = new.pinned(&path).unwrap();
    let second = new.pinned(&path).unwrap();
    let other = NewMap::of::<u32, u32>("kept", MapType::HASH, 10).pinned(&path).unwrap_err();
    let _ = rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH);
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(first.id(), second.id());
    assert!(other.to_string().contains("has values of 8 bytes, not 4"), "{other}");
}

#[test]
fn kinds_that_cannot_be_made() {
    let storage = NewMap::new("s", MapType::TASK_STORAGE, 4, 8, 0).flags(1).create().unwrap_err();
    let known = Kernel::running().knows_map_type(MapType::TASK_STORAGE) != Some(false);
    assert_eq!(storage.kind(), if known { Kind::Invalid } else { Kind::Unsupported }, "{storage}");
    assert!(storage.to_string().contains("map `s`"), "{storage}");
    if Kernel::running().knows_map_type(MapType::ARENA) == Some(false) {
        let error = NewMap::new("a", MapType::ARENA, 0, 0, 1).flags(1 << 10).create().unwrap_err();
        assert!(error.kind() == Kind::Unsupported && error.to_string().contains("came with 6.9"), "{error}");
    }
}
