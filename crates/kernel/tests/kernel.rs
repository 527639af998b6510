//! Facts of the running kernel (run in virtual machines too) and of kernels known by their types.

use std::sync::Arc;

use ringfence_btf::{Btf, Kind};
use ringfence_kernel::{Capability, Error, Feature, Kernel, Lockdown, Process, Sysctl};
use ringfence_uapi::{AttachType, Helper, LinkType, MapType, ProgramType};

/// What Debian's kernels have, each the newest of its series: 5.10, 6.1, 6.12, 6.18, 7.3.
const VERSIONS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];
const EXPECTED: &[(Feature, [bool; 5])] = &[
    (Feature::Names, [true, true, true, true, true]),
    (Feature::Btf, [true, true, true, true, true]),
    (Feature::BtfFunc, [true, true, true, true, true]),
    (Feature::BtfFuncGlobal, [true, true, true, true, true]),
    (Feature::BtfDatasec, [true, true, true, true, true]),
    (Feature::BtfDatasecQuestion, [false, false, true, true, true]),
    (Feature::BtfFloat, [false, true, true, true, true]),
    (Feature::BtfDeclTag, [false, true, true, true, true]),
    (Feature::BtfTypeTag, [false, true, true, true, true]),
    (Feature::BtfEnum64, [false, true, true, true, true]),
    (Feature::ArgCtx, [false, false, true, true, true]),
    (Feature::GlobalFuncPointers, [false, true, true, true, true]),
    (Feature::GlobalData, [true, true, true, true, true]),
    (Feature::ArrayMmap, [true, true, true, true, true]),
    (Feature::ExpectedAttachType, [true, true, true, true, true]),
    (Feature::ProbeReadKernel, [true, true, true, true, true]),
    (Feature::MemcgAccounting, [false, true, true, true, true]),
    (Feature::ProgBindMap, [true, true, true, true, true]),
    (Feature::BpfCookie, [false, true, true, true, true]),
    (Feature::SyscallWrapper, [true, true, true, true, true]),
    (Feature::CgroupOrder, [false, false, true, true, true]),
    (Feature::XdpFrags, [false, true, true, true, true]),
    (Feature::PerfLink, [false, true, true, true, true]),
    (Feature::KprobeMulti, [false, false, true, true, true]),
    (Feature::UprobeMulti, [false, false, true, true, true]),
    (Feature::XdpLink, [true, true, true, true, true]),
    (Feature::Tcx, [false, false, true, true, true]),
    (Feature::NetfilterLink, [false, false, true, true, true]),
    (Feature::Netkit, [false, false, true, true, true]),
    (Feature::SockmapLink, [false, false, true, true, true]),
];

/// The row of a release; `None`: this table does not know it.
fn column(release: &str) -> Option<usize> {
    VERSIONS
        .iter()
        .position(|version| release.strip_prefix(version).is_some_and(|rest| !rest.starts_with(char::is_numeric)))
}

fn saved(version: &str) -> Option<Btf> {
    let found = ringfence_testing::kernels().into_iter().find(|(release, _)| release == version);
    if found.is_none() {
        println!("skipped: no BTF of {version}");
    }
    found.map(|(_, path)| Btf::parse(Arc::new(std::fs::read(path).unwrap())).unwrap())
}

#[test]
fn every_feature_is_in_the_table() {
    let listed: Vec<Feature> = EXPECTED.iter().map(|(feature, _)| *feature).collect();
    assert_eq!(listed, Feature::ALL);
}

#[test]
fn features_of_the_running_kernel() {
    let kernel = Kernel::running();
    let Some(column) = column(kernel.release()) else {
        eprintln!("skipped: {} is not in the table", kernel.release());
        return;
    };
    // What a kernel may be built without.
    let fprobe = kernel.btf().unwrap().is_some_and(|btf| btf.find("register_fprobe_ips", Kind::Func).is_some());
    let expected = |feature: &Feature, table: bool| match feature {
        Feature::KprobeMulti => table && fprobe,
        _ => table,
    };
    for (feature, table) in EXPECTED {
        let expected = expected(feature, table[column]);
        assert_eq!(kernel.feature(*feature), Some(expected), "{feature:?} of {}", kernel.release());
    }
    // The other way round, each for itself: without the help of what was settled together.
    for (feature, table) in EXPECTED.iter().rev() {
        let expected = expected(feature, table[column]);
        assert_eq!(Kernel::running().has(*feature), expected, "{feature:?} of {}", kernel.release());
    }
}

#[test]
fn features_by_types() {
    for (column, version) in VERSIONS.iter().enumerate() {
        let Some(btf) = saved(version) else { continue };
        let kernel = Kernel::from_btf(btf);
        for (feature, expected) in EXPECTED {
            let expected = match feature {
                // It leaves no trace.
                Feature::BtfDatasecQuestion => None,
                _ => Some(expected[column]),
            };
            assert_eq!(kernel.feature(*feature), expected, "{feature:?} of {version}");
        }
    }
}

#[test]
fn names_by_types() {
    let table = [
        ("5.10", MapType::RINGBUF, true),
        ("5.10", MapType::BLOOM_FILTER, false),
        ("6.1", MapType::USER_RINGBUF, true),
        ("6.1", MapType::ARENA, false),
        ("6.12", MapType::ARENA, true),
        ("6.18", MapType::INSN_ARRAY, false),
        ("7.3", MapType::INSN_ARRAY, true),
        ("7.3", MapType(99), false),
    ];
    for (version, kind, expected) in table {
        let Some(btf) = saved(version) else { continue };
        let kernel = Kernel::from_btf(btf);
        assert_eq!(kernel.knows_map_type(kind), Some(expected), "{kind} of {version}");
    }
    let Some(btf) = saved("5.10") else { return };
    let old = Kernel::from_btf(btf);
    assert_eq!(old.knows_helper(Helper::KTIME_GET_BOOT_NS), Some(true));
    assert_eq!(old.knows_helper(Helper::LOOP), Some(false));
    assert_eq!(old.knows_program_type(ProgramType::SK_LOOKUP), Some(true));
    assert_eq!(old.knows_program_type(ProgramType::SYSCALL), Some(false));
    assert_eq!(old.knows_attach_type(AttachType::XDP), Some(true));
    // The number behind the last one is a mark in the header.
    assert_eq!(old.knows_attach_type(AttachType::SK_SKB_VERDICT), Some(false));
    assert_eq!(old.knows_link_type(LinkType::XDP), Some(true));
    assert_eq!(old.knows_link_type(LinkType::PERF_EVENT), Some(false));
    assert_eq!(old.possible_cpus().unwrap(), 1);
    assert!(matches!(old.symbol("_stext"), Err(Error::OnlyTypes { .. })));
    assert!(matches!(old.config("CONFIG_HZ"), Err(Error::OnlyTypes { .. })));
    assert_eq!((old.release(), old.version_code()), ("", 0));
    assert_eq!(old.syscall_function("openat"), "__x64_sys_openat");
    assert!(old.modules().unwrap().is_empty());
    // Types that are no kernel's say nothing.
    let empty = Kernel::from_btf(Btf::parse(Arc::new(ringfence_btf::Builder::new().finish().unwrap())).unwrap());
    assert_eq!(empty.knows_helper(Helper::LOOP), None);
    assert_eq!(empty.feature(Feature::MemcgAccounting), None);
    assert!(!empty.has(Feature::MemcgAccounting));
}

#[test]
fn the_running_kernel() {
    let kernel = Kernel::running();
    assert!(kernel.is_running());
    assert_eq!(kernel.knows_helper(Helper::MAP_LOOKUP_ELEM), Some(true));
    assert_eq!(kernel.knows_helper(Helper(100_000)), Some(false));
    assert_eq!(kernel.knows_map_type(MapType::HASH), Some(true));
    assert_eq!(kernel.knows_map_type(MapType(100_000)), Some(false));
    assert_eq!(kernel.knows_program_type(ProgramType::KPROBE), Some(true));
    let version = kernel.version_code();
    let (major, minor) = (version >> 16, version >> 8 & 0xff);
    assert!(kernel.release().starts_with(&format!("{major}.{minor}.")), "{version:#x} {}", kernel.release());
    assert!(kernel.possible_cpus().unwrap() >= 1);
    assert!(kernel.page_size().is_power_of_two());
    assert_eq!(kernel.config("CONFIG_BPF_SYSCALL").unwrap(), Some("y"));
    assert_eq!(kernel.config("CONFIG_NO_SUCH_THING").unwrap(), None);
    assert!(matches!(kernel.sysctl(Sysctl::JitEnable), Some(0..=2)));
    assert!(kernel.sysctl(Sysctl::PerfEventParanoid).is_some());
    if let Some(lockdown) = kernel.lockdown() {
        assert!(lockdown < Lockdown::Confidentiality, "the tests could not run");
    }
    if let Some(lsms) = kernel.lsms() {
        assert!(lsms.iter().all(|name| !name.is_empty()));
    }
    assert_eq!(kernel.syscall_function("bpf").starts_with("__x64_sys_"), cfg!(target_arch = "x86_64"));
    // Root in a container may lack some; it has what these tests need.
    let process = Process::current().unwrap();
    assert!(process.may(Capability::Bpf) && process.may(Capability::NetAdmin));
    assert!(process.has(Capability::SysAdmin));
}

#[test]
fn symbols() {
    let kernel = Kernel::running();
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let expected = text.lines().find_map(|line| line.strip_suffix(" T _stext")).unwrap();
    let expected = u64::from_str_radix(expected.split(' ').next().unwrap(), 16).unwrap();
    if expected == 0 {
        assert!(matches!(kernel.symbol("_stext"), Err(Error::HiddenAddresses)));
        return;
    }
    // A name that several static functions share.
    let mut seen = std::collections::HashMap::new();
    let several = text.lines().find_map(|line| {
        let mut parts = line.split([' ', '\t']);
        let (address, name) = (parts.next()?, parts.nth(1)?);
        let first = *seen.entry(name).or_insert(address);
        (first != address && !name.contains('.')).then_some(name)
    });
    let several = several.unwrap();
    kernel.prefetch_symbols(&["_stext", "no_such_symbol_here", several]).unwrap();
    assert_eq!(kernel.symbol("_stext").unwrap(), Some(expected));
    assert_eq!(kernel.clone().symbol("no_such_symbol_here").unwrap(), None);
    assert!(matches!(kernel.symbol(several), Err(Error::AmbiguousSymbol { .. })));
}

#[test]
fn types_and_modules() {
    let kernel = Kernel::running();
    let Some(btf) = kernel.btf().unwrap() else {
        eprintln!("skipped: this kernel has no BTF");
        return;
    };
    assert!(btf.find("task_struct", ringfence_btf::Kind::Struct).is_some());
    let modules = kernel.modules().unwrap();
    let files = std::fs::read_dir("/sys/kernel/btf").unwrap().count();
    assert_eq!(modules.len(), files - 1);
    for module in modules {
        assert!(module.id > 0, "{}", module.name);
        assert!(module.btf.own_types().all(|ty| ty.is_ok()), "{}", module.name);
    }
    assert!(modules.is_sorted_by_key(|module| module.id));
    // Other types: no modules, but the same kernel.
    let other = Btf::parse(Arc::new(ringfence_btf::Builder::new().finish().unwrap())).unwrap();
    let given = kernel.with_btf(other);
    assert!(given.btf().unwrap().is_some_and(|btf| btf.find("task_struct", ringfence_btf::Kind::Struct).is_none()));
    assert!(given.modules().unwrap().is_empty());
    assert!(given.is_running() && given.has(Feature::Btf));
    assert_eq!(given.knows_map_type(MapType::HASH), Some(true));
}

#[test]
fn tracepoints() {
    let kernel = Kernel::running();
    if matches!(kernel.tracepoint_id("syscalls", "sys_enter_openat"), Err(Error::NoTracefs)) {
        let message = kernel.tracefs().unwrap_err().to_string();
        assert!(message.contains("mount -t tracefs tracefs /sys/kernel/tracing"), "{message}");
        if ringfence_sys::mount("tracefs", std::path::Path::new("/sys/kernel/tracing")).is_err() {
            eprintln!("skipped: tracefs cannot be mounted");
            return;
        }
    }
    let root = kernel.tracefs().unwrap();
    let id = kernel.tracepoint_id("sched", "sched_switch").unwrap();
    let text = std::fs::read_to_string(format!("{root}/events/sched/sched_switch/id")).unwrap();
    assert_eq!(text.trim(), id.to_string());
    for (category, name) in [("sched", "no_such"), ("..", "events"), ("sched", ""), ("sched/sched_switch", "x")] {
        let error = kernel.tracepoint_id(category, name).unwrap_err();
        assert!(matches!(error, Error::NoTracepoint { .. }), "{error}");
    }
}

/// What the first questions cost, in a fresh [`Kernel`]:
/// `cargo test --release -p ringfence-kernel -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement"]
fn cost() {
    let mut rounds: Vec<[u128; 4]> = (0..101)
        .map(|_| {
            let start = std::time::Instant::now();
            let kernel = Kernel::running();
            let mut at = [0; 4];
            kernel.has(Feature::BtfFunc);
            kernel.has(Feature::BtfEnum64);
            at[0] = start.elapsed().as_micros();
            kernel.has(Feature::MemcgAccounting);
            at[1] = start.elapsed().as_micros();
            for feature in [Feature::Names, Feature::GlobalData, Feature::ArrayMmap, Feature::ProbeReadKernel] {
                kernel.has(feature);
            }
            at[2] = start.elapsed().as_micros();
            kernel.knows_helper(Helper::LOOP);
            at[3] = start.elapsed().as_micros();
            at
        })
        .collect();
    let first = rounds[0];
    rounds.sort_unstable();
    println!(
        "us, cumulated: BTF kinds, + memcg, + four more, + BTF enumerators; first {first:?}, median {:?}",
        rounds[50]
    );
    let start = std::time::Instant::now();
    Kernel::running().symbol("_stext").unwrap();
    println!("a kernel symbol: {:?}", start.elapsed());
}
