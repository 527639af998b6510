use std::os::fd::AsFd;

use ringfence_sys::{
    self as sys, AttachTo, Errno, LinkCreate, LinkDetails, LinkTail, PerfLinkDetails, PerfOpen, PerfTarget, ProgLoad,
};
use ringfence_uapi::{AttachType, Insn, LinkType, MapType, ProgramType};

use crate::{NOTHING, insn, load_map, map, program, raise_memlock, release};

/// A program that adds one to the map's first value, and returns 1.
fn counting(kind: ProgramType, attach_type: AttachType) -> (sys::ProgramFd, sys::MapFd) {
    raise_memlock();
    let map = map(MapType::ARRAY, 4, 8, 1);
    let mut insns = load_map(1, &map, Insn::PSEUDO_MAP_VALUE).to_vec();
    insns.extend([insn(0xb7, 2, 0, 0, 1), insn(0xdb, 1, 2, 0, 0), insn(0xb7, 0, 0, 0, 1), NOTHING[1]]);
    let load = ProgLoad { name: "rf_count", attach_type, ..ProgLoad::new(kind, &insns, "GPL") };
    (sys::prog_load(&load, None).unwrap(), map)
}

fn count(map: &sys::MapFd) -> u64 {
    let mut value = [0; 8];
    map.lookup(&[0; 4], &mut value, 0).unwrap();
    u64::from_ne_bytes(value)
}

#[test]
fn a_raw_tracepoint_fires_and_ends() {
    let (program, hits) = counting(ProgramType::RAW_TRACEPOINT, AttachType(0));
    let link = sys::raw_tracepoint_open(Some(c"sys_enter"), program.as_fd(), 0).unwrap();
    assert_eq!(sys::page_size() % 4096, 0);
    rustix::thread::sched_yield();
    assert!(count(&hits) > 0);
    let info = link.info().unwrap();
    assert_eq!((info.kind, info.program_id), (LinkType::RAW_TRACEPOINT, program.info().unwrap().id));
    assert_eq!(info.details, LinkDetails::RawTracepoint { name: "sys_enter".into(), cookie: 0 });
    assert_eq!(sys::open_link(info.id).unwrap().info().unwrap(), info);
    drop(link);
    assert_eq!(sys::raw_tracepoint_open(Some(c"no_such"), program.as_fd(), 0).unwrap_err(), Errno::NOENT);
}

#[test]
fn xdp_on_the_loopback_device() {
    let (program, hits) = counting(ProgramType::XDP, AttachType::XDP);
    let (other, other_hits) = counting(ProgramType::XDP, AttachType::XDP);
    // XDP_ABORTED is 0 and XDP_DROP 1: what is sent to a port of this machine's own would be lost, so use a
    // namespace of our own.
    in_new_netns(|| {
        // XDP_FLAGS_SKB_MODE
        let create = LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::XDP,
            to: AttachTo::Device(1),
            flags: 1 << 1,
            tail: LinkTail::None,
        };
        let link = sys::link_create(&create).unwrap();
        send_to_self();
        assert_eq!(count(&hits), 1);
        assert_eq!(link.info().unwrap().details, LinkDetails::Xdp { ifindex: 1 });
        assert_eq!(sys::link_update(&link, other.as_fd(), Some(other.as_fd())), Err(Errno::PERM));
        sys::link_update(&link, other.as_fd(), Some(program.as_fd())).unwrap();
        send_to_self();
        assert_eq!((count(&hits), count(&other_hits)), (1, 1));
        sys::link_detach(&link).unwrap();
        send_to_self();
        assert_eq!((count(&hits), count(&other_hits)), (1, 1));
    });
}

/// One datagram through the loopback device.
fn send_to_self() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // To its own port: another would answer with an ICMP message, which is a packet too.
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
}

/// Runs on a thread of its own, whose network namespace ends with it.
fn in_new_netns(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let home = std::fs::File::open("/proc/self/ns/net").unwrap();
                #[allow(deprecated, reason = "the namespace of the network is no file table")]
                rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
                assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
                work();
                sys::enter_network_namespace(home.as_fd()).unwrap();
            })
            .join()
            .unwrap();
    });
}

#[test]
fn tcx_in_order() {
    if release() < (6, 6) {
        eprintln!("skipped: tcx is of 6.6");
        return;
    }
    let (first, first_hits) = counting(ProgramType::SCHED_CLS, AttachType::TCX_INGRESS);
    let next = program(ProgramType::SCHED_CLS, &[insn(0xb7, 0, 0, 0, -1), NOTHING[1]]);
    in_new_netns(|| {
        let create = |program, flags, tail| {
            let to = AttachTo::Device(1);
            sys::link_create(&LinkCreate { program, attach_type: AttachType::TCX_INGRESS, to, flags, tail })
        };
        let link = create(first.as_fd(), 0, LinkTail::None).unwrap();
        let before = LinkTail::Relative { to: Some(sys::Relative::Fd(first.as_fd())), expected_revision: 0 };
        let link_before = create(next.as_fd(), sys::flags::BPF_F_BEFORE, before).unwrap();
        send_to_self();
        assert_eq!(count(&first_hits), 1);
        let id = |program: &sys::ProgramFd| program.info().unwrap().id;
        let queried = sys::program_query(AttachTo::Device(1), AttachType::TCX_INGRESS, 0, true).unwrap();
        assert_eq!(queried.programs, [id(&next), id(&first)]);
        assert_eq!(queried.links, [link_before.info().unwrap().id, link.info().unwrap().id]);
        let expected = LinkDetails::Tcx { ifindex: 1, attach_type: AttachType::TCX_INGRESS };
        assert_eq!(link.info().unwrap().details, expected);
        // The list has another revision.
        let stale = LinkTail::Relative { to: None, expected_revision: 77 };
        assert_eq!(create(first.as_fd(), 0, stale).unwrap_err(), Errno::STALE);
    });
}

fn tracepoint_id(name: &str) -> Option<u64> {
    for root in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        if let Ok(text) = std::fs::read_to_string(format!("{root}/events/{name}/id")) {
            return text.trim().parse().ok();
        }
    }
    None
}

#[test]
fn a_tracepoint_by_perf_event() {
    let _ = sys::mount("tracefs", std::path::Path::new("/sys/kernel/tracing"));
    let Some(id) = tracepoint_id("syscalls/sys_enter_sched_yield") else {
        eprintln!("skipped: no tracefs or no system call tracepoints");
        return;
    };
    let (program, hits) = counting(ProgramType::TRACEPOINT, AttachType(0));
    let open = PerfOpen { disabled: true, ..PerfOpen::new(PerfTarget::Tracepoint(id)) };
    let event = sys::perf_event_open(&open).unwrap();
    if release() >= (5, 15) {
        let create = LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::PERF_EVENT,
            to: AttachTo::Fd(event.as_fd()),
            flags: 0,
            tail: LinkTail::PerfEvent { cookie: 77 },
        };
        let link = sys::link_create(&create).unwrap();
        let info = link.info().unwrap();
        let expected = PerfLinkDetails::Tracepoint { name: "sys_enter_sched_yield".into(), cookie: 77 };
        match info.details {
            LinkDetails::PerfEvent(PerfLinkDetails::Unknown) if release() < (6, 6) => {}
            LinkDetails::PerfEvent(PerfLinkDetails::Tracepoint { name, .. }) if release() < (6, 9) => {
                assert_eq!(name, "sys_enter_sched_yield");
            }
            details => assert_eq!(details, LinkDetails::PerfEvent(expected)),
        }
        sys::perf_enable(event.as_fd()).unwrap();
        rustix::thread::sched_yield();
        assert!(count(&hits) > 0);
    } else {
        sys::perf_set_program(event.as_fd(), program.as_fd()).unwrap();
        sys::perf_enable(event.as_fd()).unwrap();
        rustix::thread::sched_yield();
        assert!(count(&hits) > 0);
    }
    sys::perf_disable(event.as_fd()).unwrap();
}

/// What the uprobes of the test below stand on.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn rf_sys_probe_target(x: u64) -> u64 {
    std::hint::black_box(x).wrapping_mul(3)
}

/// Offset of a function of this binary in its file, by the mapping in which it lies.
fn file_offset(address: u64) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(rest.split_whitespace().nth(1)?, 16).ok()?;
        (start..end).contains(&address).then(|| address - start + offset)
    })
}

#[test]
fn uprobes_of_both_kinds() {
    let Ok(text) = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type") else {
        eprintln!("skipped: no uprobes");
        return;
    };
    let offset = file_offset(rf_sys_probe_target as *const () as u64).unwrap();
    let path = std::env::current_exe().unwrap().into_os_string().into_encoded_bytes();
    let path = std::ffi::CString::new(path).unwrap();
    let pid = std::process::id();

    let (program, hits) = counting(ProgramType::KPROBE, AttachType(0));
    let target = PerfTarget::Probe { pmu: text.trim().parse().unwrap(), config: 0, name: Some(&path), offset };
    let event = sys::perf_event_open(&PerfOpen { pid: Some(pid), cpu: None, ..PerfOpen::new(target) });
    // `pid` names a thread here, and the test runs on another one than the first.
    drop(event.unwrap());
    let event = sys::perf_event_open(&PerfOpen { cpu: Some(0), ..PerfOpen::new(target) }).unwrap();
    sys::perf_set_program(event.as_fd(), program.as_fd()).unwrap();
    sys::perf_enable(event.as_fd()).unwrap();
    rf_sys_probe_target(1);
    rf_sys_probe_target(2);
    assert_eq!(count(&hits), 2);
    drop(event);
    rf_sys_probe_target(3);
    assert_eq!(count(&hits), 2);

    if release() >= (6, 6) {
        let (program, hits) = counting(ProgramType::KPROBE, AttachType::TRACE_UPROBE_MULTI);
        let multi = |cookies| LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::TRACE_UPROBE_MULTI,
            to: AttachTo::Nothing,
            flags: 0,
            tail: LinkTail::UprobeMulti {
                path: &path,
                offsets: std::slice::from_ref(&offset),
                ref_ctr_offsets: &[],
                cookies,
                flags: 0,
                pid,
            },
        };
        assert_eq!(sys::link_create(&multi(&[1, 2])).unwrap_err(), Errno::MSGSIZE);
        let link = sys::link_create(&multi(&[5])).unwrap();
        rf_sys_probe_target(1);
        assert_eq!(count(&hits), 1);
        let LinkDetails::UprobeMulti { path: told, count, .. } = link.info().unwrap().details else { panic!() };
        if release() >= (6, 8) {
            assert_eq!((told.as_bytes(), count), (path.as_bytes(), 1));
        }
    }
}

#[test]
fn cgroups() {
    let directory = std::env::temp_dir().join(format!("rf-sys-cg-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    if sys::mount("cgroup2", &directory).is_err() {
        std::fs::remove_dir(&directory).unwrap();
        eprintln!("skipped: no cgroup2");
        return;
    }
    let cgroup = directory.join("rf_sys_test");
    std::fs::create_dir(&cgroup).unwrap();
    let fd = std::fs::File::open(&cgroup).unwrap();
    let (program, _) = counting(ProgramType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE);
    let (id, to) = (program.info().unwrap().id, AttachTo::Fd(fd.as_fd()));
    let hook = AttachType::CGROUP_INET_SOCK_CREATE;
    let attached = sys::program_attach(to, program.as_fd(), hook, 0, None);
    let queried = sys::program_query(to, hook, 0, false);
    let detached = sys::program_detach(to, Some(program.as_fd()), hook);
    let create = LinkCreate { program: program.as_fd(), attach_type: hook, to, flags: 0, tail: LinkTail::None };
    let link = sys::link_create(&create);
    let details = link.as_ref().map(|link| link.info().unwrap().details);
    let cgroup_id = std::os::unix::fs::MetadataExt::ino(&fd.metadata().unwrap());
    drop((fd, link.as_ref().ok()));
    let expected = LinkDetails::Cgroup { id: cgroup_id, attach_type: hook };
    std::fs::remove_dir(&cgroup).unwrap();
    rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_dir(&directory).unwrap();
    assert_eq!((attached, detached), (Ok(()), Ok(())));
    assert_eq!(queried.unwrap().programs, [id]);
    assert_eq!(details.unwrap(), expected);
}

#[test]
fn an_iterator_is_read() {
    let Ok(bytes) = sys::kernel_btf("vmlinux") else {
        eprintln!("skipped: this kernel has no BTF");
        return;
    };
    let btf = ringfence_btf::Btf::parse(bytes).unwrap();
    let btf_id = btf.find("bpf_iter_bpf_map", ringfence_btf::Kind::Func).unwrap().0;
    raise_memlock();
    // bpf_seq_write(ctx->meta->seq, "hi", 2); return 0;
    let insns = [
        insn(0x79, 1, 1, 0, 0), // r1 = ctx->meta
        insn(0x79, 1, 1, 0, 0), // r1 = meta->seq
        insn(0x7a, 10, 0, -8, i32::from_ne_bytes(*b"hi\0\0")),
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, -8),
        insn(0xb7, 3, 0, 0, 2),
        insn(Insn::CALL, 0, 0, 0, ringfence_uapi::Helper::SEQ_WRITE.0 as i32),
        NOTHING[0],
        NOTHING[1],
    ];
    let load = ProgLoad {
        attach_type: AttachType::TRACE_ITER,
        target: sys::Target::Kernel { btf_id },
        ..ProgLoad::new(ProgramType::TRACING, &insns, "GPL")
    };
    let mut log = sys::Log::new(1, 1 << 16);
    let program = sys::prog_load(&load, Some(&mut log)).unwrap_or_else(|errno| panic!("{errno}: {}", log.text()));
    let create = LinkCreate {
        program: program.as_fd(),
        attach_type: AttachType::TRACE_ITER,
        to: AttachTo::Nothing,
        flags: 0,
        tail: LinkTail::None,
    };
    let link = sys::link_create(&create).unwrap();
    if release() >= (5, 11) {
        assert_eq!(link.info().unwrap().details, LinkDetails::Iter { target: "bpf_map".into() });
    }
    let _one = map(MapType::ARRAY, 4, 4, 1);
    let mut text = String::new();
    let mut reader = std::fs::File::from(sys::iter_create(&link).unwrap());
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert!(text.starts_with("hi") && text.len().is_multiple_of(2), "{text:?}");
}
