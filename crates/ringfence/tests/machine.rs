//! What the kernel holds: where each link is, in words, and through what each object is held.

mod common;

use std::os::fd::AsFd;

use common::{insn, load_object, load_since, object, returns};
use ringfence::hook::{Cgroup, Family, Iter, NetNamespace, Netfilter, Often, PerfEvent, Step, Tc, Trace, Xdp};
use ringfence::machine::{self, Holder, Id, Machine};
use ringfence::{AttachType, Kernel, Kind, Link, Loaded, Loader, MapType, ProgramType, Settings};
use ringfence_sys::{self as sys, AttachTo, LinkCreate, LinkTail, MapCreate, Multi, ProgLoad, ProgramFd};

/// A look at the machine opens what it looks at: while one test does so, the objects of another one have two holders.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn release() -> (u32, u32) {
    let code = Kernel::running().version_code();
    (code >> 16, code >> 8 & 255)
}

fn trace() -> Loaded {
    let number = u32::try_from(libc::SYS_getuid).unwrap();
    load_object("trace", Settings::new().global("target", std::process::id()).global("getuid_number", number))
}

/// The link is listed with this place, and with this process as its owner and its program's.
fn listed(link: &Link, hook: &str, target: &str) {
    let machine = Machine::read().unwrap();
    let Some(info) = link.info().unwrap() else {
        println!("{hook}: this kernel has no link here");
        return;
    };
    let found = machine.link(info.id).unwrap_or_else(|| panic!("{info:?} is not listed"));
    assert_eq!((found.hook.as_str(), found.target.as_str()), (hook, target), "{info:?}");
    let owners = machine.owners(found.id());
    assert!(owners.iter().any(|(pid, _)| *pid == std::process::id()), "{owners:?}");
    if info.program_id != 0 {
        let places = machine.places(info.program_id);
        assert!(places.contains(&(hook.to_owned(), target.to_owned())), "{places:?}");
        assert_eq!(machine.owners(Id::Program(info.program_id)), owners);
    }
}

#[test]
fn links_of_tracing_say_where_they_are() {
    let _alone = alone();
    let loaded = trace();
    listed(&loaded.attach("raw_tp").unwrap(), "raw_tracepoint", "sys_enter");
    listed(&loaded.attach("btf_tp").unwrap(), "raw_tracepoint", "sys_exit");
    // Before 6.6 the kernel tells nothing of events that links are on.
    let tells = release() >= (6, 6);
    let silent = "an event that this kernel does not tell (6.6)";
    let (hook, target) = if tells { ("tracepoint", "sys_enter_getuid") } else { ("perf_event", silent) };
    listed(&loaded.attach("tracepoint").unwrap(), hook, target);
    let clock = PerfEvent::cpu_clock(Often::PerSecond(10));
    if let Ok(link) = loaded.program("clock").unwrap().attach_to(&clock) {
        listed(&link, "perf_event", if tells { "cpu-clock" } else { silent });
    }
    let iterators = load_object("iter", Settings::new());
    listed(&iterators.attach("tasks").unwrap(), "iter", "task");
    let numbers = iterators.map("numbers").unwrap();
    let link = iterators.program("elements").unwrap().attach_to(&Iter::over_map(numbers)).unwrap();
    listed(&link, "iter", &format!("bpf_map_elem (map id {})", numbers.info().unwrap().id));
}

#[test]
fn programs_have_their_whole_names() {
    let _alone = alone();
    let name = "on_sk_skb_stream_parser";
    let loaded = load_object("sections_net", Settings::new().only([name]));
    let machine = Machine::read().unwrap();
    let found = machine.program(loaded.program(name).unwrap().info().unwrap().id).unwrap();
    assert_eq!((found.name.as_str(), found.info.name.as_str()), (name, "on_sk_skb_strea"));
    assert_eq!(machine.name(found.id()), name);
}

#[test]
fn a_perf_event_without_a_link_is_a_holder() {
    let _alone = alone();
    let loaded = trace();
    let program = loaded.program("tracepoint").unwrap();
    let id = program.info().unwrap().id;
    let number = Kernel::running().tracepoint_id("syscalls", "sys_enter_getuid").unwrap();
    let event = sys::perf_event_open(&sys::PerfOpen::new(sys::PerfTarget::Tracepoint(number))).unwrap();
    sys::perf_set_program(event.as_fd(), program.as_fd()).unwrap();
    let machine = Machine::read().unwrap();
    let place = ("tracepoint".to_owned(), "sys_enter_getuid".to_owned());
    assert_eq!(machine.places(id), [place]);
    let is_event = |holder: &Holder| matches!(holder, Holder::Process { event: Some(_), .. });
    assert!(machine.holders(Id::Program(id)).iter().any(is_event));
}

#[test]
fn links_of_the_network_say_where_they_are() {
    let _alone = alone();
    use common::net::{WIRE, Wire};
    let wire = Wire::veth("places");
    let tcx = (release() >= (6, 6)).then_some("either_side");
    let loaded = load_object("net", Settings::new().only(["ipv4", "look"].into_iter().chain(tcx)));
    let (near, name) = (wire.near.namespace(), &wire.near.name);
    let device = format!("{WIRE} (netns {name})");
    let attach = |program: &str, hook: &dyn Fn(&NetNamespace) -> ringfence::Result<Link>| match hook(&near) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("skipped: {program}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    };
    let xdp = loaded.program("ipv4").unwrap().clone();
    if let Some(link) = attach("xdp", &|near| xdp.attach_to(&near.hook(Xdp::new(WIRE)))) {
        listed(&link, "xdp", &device);
    }
    if let Some(either) = tcx.map(|name| loaded.program(name).unwrap())
        && let Some(link) = attach("tcx", &|near| either.attach_to(&near.hook(Tc::new(WIRE).ingress())))
    {
        listed(&link, "tcx_ingress", &device);
    }
    let look = loaded.program("look").unwrap().clone();
    if let Some(link) = attach("sk_lookup", &|near| look.attach_to(near)) {
        listed(&link, "sk_lookup", &format!("netns {name}"));
    }
    if let Some(netfilter) = load_since((6, 4), "netfilter", Settings::new()) {
        let hooked = netfilter.program("hooked").unwrap().clone();
        let place = || Netfilter::new(Family::V4, Step::Input).priority(-5);
        if let Some(link) = attach("netfilter", &|near| hooked.attach_to(&near.hook(place()))) {
            listed(&link, "netfilter", "ipv4 input priority -5");
        }
    }
}

#[test]
fn links_of_cgroups_say_their_path() {
    let _alone = alone();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let Some(mount) = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")) else {
        println!("skipped: no cgroup2 is mounted");
        return;
    };
    let name = format!("rf-machine-{}", std::process::id());
    let dir = std::path::Path::new(mount.split(' ').nth(1).unwrap()).join(&name);
    std::fs::create_dir_all(dir.join("inner")).unwrap();
    let loaded = load_object("net", Settings::new().only(["sockets"]));
    let link = loaded.program("sockets").unwrap().attach_to(&Cgroup::new(dir.join("inner"))).unwrap();
    listed(&link, "cgroup_inet_sock_create", &format!("/{name}/inner"));
    std::fs::remove_dir(dir.join("inner")).unwrap();
    std::fs::remove_dir(&dir).unwrap();
    // The kernel lets go of a cgroup some time after it was removed.
    for _ in 0..100 {
        let machine = Machine::read().unwrap();
        let found = machine.link(link.info().unwrap().unwrap().id).unwrap();
        if found.target == "a cgroup that is gone" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the link does not say that its cgroup is gone");
}

#[test]
fn a_table_of_functions_is_a_link_to_its_map() {
    let _alone = alone();
    let Some(loaded) = load_since((6, 4), "congestion", Settings::new()) else { return };
    let link = loaded.register("linked").unwrap();
    listed(&link, "struct_ops", "tcp_congestion_ops linked");
    let machine = Machine::read().unwrap();
    let Id::Link(id) = Id::Link(link.info().unwrap().unwrap().id) else { return };
    let map = loaded.map("linked").unwrap().info().unwrap().id;
    assert!(machine.holders(Id::Map(map)).contains(&Holder::Object(Id::Link(id))));
    // The table holds its functions.
    for program in loaded.programs() {
        let holders = machine.holders(program.info().map(|info| Id::Program(info.id)).unwrap()).to_vec();
        let by_a_map = |holder: &Holder| matches!(holder, Holder::Object(Id::Map(_)));
        assert!(holders.iter().any(by_a_map), "{}: {holders:?}", program.name());
    }
}

const CHILD: &str = "RINGFENCE_TEST_LEAVES_A_TABLE";

/// Registers a table without a link and ends without a word, as a process that is killed.
#[test]
fn leaves_a_table_behind() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let loaded = load_object("congestion", Settings::new());
    let _registered = loaded.register("by_value").unwrap();
    std::process::exit(0);
}

#[test]
fn a_registered_table_without_an_owner_is_found_and_removed() {
    let _alone = alone();
    if load_since((6, 4), "congestion", Settings::new()).is_none() {
        return;
    }
    let own = std::env::current_exe().unwrap();
    let child = std::process::Command::new(own).args(["--exact", "leaves_a_table_behind"]).env(CHILD, "1").output();
    assert!(child.unwrap().status.success());
    let registered = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    assert!(registered().contains("rf_by_value"));
    let audit = machine::audit().unwrap();
    let orphan = audit.orphans.iter().find(|orphan| orphan.name == "by_value").unwrap();
    assert!(orphan.why.starts_with("registered without a link"), "{orphan:?}");
    assert!(orphan.keeps.iter().any(|id| matches!(id, Id::Program(_))), "{orphan:?}");
    orphan.remove().unwrap();
    assert!(!registered().contains("rf_by_value"));
}

fn loaded(load: &ProgLoad<'_>) -> Option<ProgramFd> {
    match sys::prog_load(load, None) {
        Ok(program) => Some(program),
        Err(errno) => {
            println!("skipped: {} programs: {errno}", load.kind);
            None
        }
    }
}

#[test]
fn kernel_functions_have_names() {
    let _alone = alone();
    let only = |programs: &[&str]| Settings::new().global("target", std::process::id()).only(programs.iter().copied());
    let probes = load_object("traced", only(&["probe", "probe_return"]));
    let tells = release() >= (6, 6);
    for (program, hook) in [("probe", "kprobe"), ("probe_return", "kretprobe")] {
        match probes.attach(program) {
            Ok(link) if tells => listed(&link, hook, "do_sys_openat2"),
            Ok(link) => listed(&link, "perf_event", "an event that this kernel does not tell (6.6)"),
            Err(error) => println!("skipped: {error}"),
        }
    }
    let plan = ringfence::plan(&object("traced"), &Kernel::running(), &only(&["enter", "leave"])).unwrap();
    match ringfence::load(&plan, &Kernel::running()) {
        Ok(traced) => {
            let silent = "a function that this kernel does not tell (5.13)";
            let target = if release() >= (5, 13) { "do_sys_openat2" } else { silent };
            listed(&traced.attach("enter").unwrap(), "fentry", target);
            listed(&traced.attach("leave").unwrap(), "fexit", target);
        }
        Err(error) => println!("skipped: {error}"),
    }
    let target = load_object("replaced", Settings::new());
    let plan = ringfence::plan(&object("replacing"), &Kernel::running(), &Settings::new()).unwrap();
    match Loader::new(&plan, &Kernel::running()).target("better", target.program("asks").unwrap()).load() {
        Ok(replacing) => {
            let id = target.program("asks").unwrap().info().unwrap().id;
            let link = replacing.program("better").unwrap().attach_to(&Trace::new()).unwrap();
            let silent = "a function that this kernel does not tell (5.13)".to_owned();
            listed(&link, "freplace", &if release() >= (5, 13) { format!("answer of program {id}") } else { silent });
        }
        Err(error) => println!("skipped: {error}"),
    }
}

#[test]
fn links_to_many_places_name_the_first() {
    let _alone = alone();
    let insns = returns(0);
    let many = |hook| ProgLoad { attach_type: hook, ..ProgLoad::new(ProgramType::KPROBE, &insns, "GPL") };
    let words = |link: &sys::LinkFd| {
        let id = link.info().unwrap().id;
        let machine = Machine::read().unwrap();
        let link = machine.link(id).unwrap().clone();
        (link.hook, link.target)
    };
    let names = [c"do_sys_openat2", c"ksys_read", c"ksys_write", c"vfs_open"];
    // Without cookies, as other loaders do: 6.18.15 halts when `fdinfo` of such a link is read.
    if let Some(program) = loaded(&many(AttachType::TRACE_KPROBE_MULTI)) {
        let tail = LinkTail::KprobeMulti { functions: Multi::Symbols(&names), cookies: &[], flags: 0 };
        let (program, attach_type) = (program.as_fd(), AttachType::TRACE_KPROBE_MULTI);
        match sys::link_create(&LinkCreate { program, attach_type, to: AttachTo::Nothing, flags: 0, tail }) {
            Ok(link) if release() >= (6, 6) => {
                let (hook, target) = words(&link);
                assert_eq!(hook, "kprobe.multi");
                // The kernel sorts them by address.
                assert!(target.ends_with(" and 1 more"), "{target}");
                assert!(names.iter().filter(|name| target.contains(name.to_str().unwrap())).count() == 3, "{target}");
            }
            Ok(link) => assert_eq!(words(&link).0, "kprobe_multi"),
            Err(errno) => println!("skipped: kprobe.multi: {errno}"),
        }
    }
    if let Some(program) = loaded(&many(AttachType::TRACE_UPROBE_MULTI)) {
        let path = std::ffi::CString::new(std::env::current_exe().unwrap().to_str().unwrap()).unwrap();
        let offsets = [0x4000, 0x5000];
        let tail = LinkTail::UprobeMulti {
            path: &path,
            offsets: &offsets,
            ref_ctr_offsets: &[],
            cookies: &[],
            flags: 0,
            pid: 1,
        };
        let (program, attach_type) = (program.as_fd(), AttachType::TRACE_UPROBE_MULTI);
        match sys::link_create(&LinkCreate { program, attach_type, to: AttachTo::Nothing, flags: 0, tail }) {
            Ok(link) if release() >= (6, 8) => {
                let target = format!("{}:0x4000, 0x5000 of process 1", path.to_str().unwrap());
                assert_eq!(words(&link), ("uprobe.multi".to_owned(), target));
            }
            Ok(link) => _ = words(&link),
            Err(errno) => println!("skipped: uprobe.multi: {errno}"),
        }
    }
}

#[test]
fn what_maps_hold_is_held_by_them() {
    let _alone = alone();
    let insns = [insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)];
    let program = sys::prog_load(&ProgLoad::new(ProgramType::XDP, &insns, "GPL"), None).unwrap();
    let create = |kind, name, entries| MapCreate { name, ..MapCreate::new(kind, 4, 4, entries) };
    let calls = sys::map_create(&create(MapType::PROG_ARRAY, "rf_calls", 8)).unwrap();
    calls.update_fd(&3u32.to_ne_bytes(), program.as_fd(), 0).unwrap();
    let inner = sys::map_create(&create(MapType::ARRAY, "rf_inner", 1)).unwrap();
    let outer = MapCreate { inner: Some(inner.as_fd()), ..create(MapType::HASH_OF_MAPS, "rf_outer", 2) };
    let outer = sys::map_create(&outer).unwrap();
    outer.update_fd(&7u32.to_ne_bytes(), inner.as_fd(), 0).unwrap();
    let (program_id, inner_id) = (program.info().unwrap().id, inner.shape().id);
    drop((program, inner));
    let machine = Machine::read().unwrap();
    assert_eq!(machine.holders(Id::Program(program_id)), [Holder::Object(Id::Map(calls.shape().id))]);
    assert_eq!(machine.places(program_id), [("prog_array".to_owned(), "rf_calls".to_owned())]);
    assert_eq!(machine.holders(Id::Map(inner_id)), [Holder::Object(Id::Map(outer.shape().id))]);
    for id in [Id::Program(program_id), Id::Map(inner_id)] {
        let owners = machine.owners(id);
        assert!(owners.len() == 1 && owners[0].0 == std::process::id(), "{owners:?}");
    }
}

#[test]
fn a_filter_of_a_socket_has_no_holder_that_is_told() {
    let _alone = alone();
    let (socket, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let program = sys::prog_load(&ProgLoad::new(ProgramType::SOCKET_FILTER, &returns(0), "GPL"), None).unwrap();
    let id = program.info().unwrap().id;
    sys::socket_attach(socket.as_fd(), program.as_fd()).unwrap();
    drop(program);
    let audit = machine::audit().unwrap();
    let orphan = audit.orphans.iter().find(|orphan| orphan.id == Id::Program(id)).unwrap();
    assert!(orphan.holder.is_none() && orphan.why.contains("a socket has it"), "{orphan:?}");
    assert!(orphan.remove().unwrap_err().to_string().contains("end the process that has the socket"));
}

#[test]
fn iterators_end_when_asked_for_what_goes_away() {
    let _alone = alone();
    // Objects that come and go all the time disturb nobody.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let loaded = trace();
                let _links = loaded.attach("raw_tp");
            }
        };
        scope.spawn(busy);
        for _ in 0..30 {
            Machine::read().unwrap();
            assert!(machine::programs().unwrap().all(|program| program.is_ok()));
            assert!(machine::links().is_ok_and(|mut links| links.all(|link| link.is_ok())));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn filters_and_their_actions_are_found_and_removed() {
    use common::net::{WIRE, Wire, index};
    use sys::netlink::Netlink;
    use sys::rtnetlink::{FilterKind, FilterPlace, FilterSet, Side};
    let _alone = alone();
    let wire = Wire::veth("filters");
    let kinds = [
        (ProgramType::SCHED_CLS, FilterKind::Classifier, Side::Ingress, "tc ingress"),
        (ProgramType::SCHED_ACT, FilterKind::Action, Side::Egress, "tc egress"),
    ];
    for (kind, filter, side, hook) in kinds {
        let program = sys::prog_load(&ProgLoad::new(kind, &returns(0), "GPL"), None).unwrap();
        let id = program.info().unwrap().id;
        let made = wire.near.inside(|| {
            let (netlink, index) = (Netlink::open().unwrap(), index(WIRE));
            let _ = netlink.clsact_add(index);
            let place = FilterPlace { index, side, priority: 0, handle: 0, kind: filter };
            netlink.filter_set(place, program.as_fd(), "rf", FilterSet::New)
        });
        if let Err(error) = made {
            println!("skipped: {hook}: {error}");
            continue;
        }
        drop(program);
        let audit = machine::audit().unwrap();
        let orphan = audit.orphans.iter().find(|orphan| orphan.id == Id::Program(id)).unwrap();
        let Some(Holder::Attachment(at)) = &orphan.holder else { panic!("{orphan:?}") };
        assert_eq!((at.hook.as_str(), at.target.clone()), (hook, format!("{WIRE} (netns {})", wire.near.name)));
        orphan.remove().unwrap();
        let left = machine::audit().unwrap().orphans.into_iter().find(|orphan| orphan.id == Id::Program(id));
        assert!(left.is_none(), "{left:?}");
    }
}
