//! Questions that only trying answers: bpf(2) on the running kernel.
//!
//! Each probe gives `None` when the answer would not be about the kernel: no permission, no memory, no descriptors.

use std::os::fd::AsFd;

use ringfence_btf::{Builder, Int, Linkage, New, Param, SectionVar, TypeId};
use ringfence_sys::{self as sys, Errno, LinkCreate, LinkTail, MapCreate, ProgLoad, ProgramFd};
use ringfence_uapi::{AttachType, Helper, Insn, MapType, ProgramType};

use crate::Feature;

/// Features that one attempt shows together. On a modern kernel that settles all of them.
pub(crate) struct Group {
    pub(crate) features: &'static [Feature],
    pub(crate) together: fn() -> Option<bool>,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        features: &[
            Feature::Btf,
            Feature::BtfFunc,
            Feature::BtfFuncGlobal,
            Feature::BtfDatasec,
            Feature::BtfFloat,
            Feature::BtfDeclTag,
            Feature::BtfTypeTag,
            Feature::BtfEnum64,
        ],
        together: || btf(&[Part::Func(Linkage::Global), Part::Datasec(".data"), Part::Float, Part::Tags, Part::Enum64]),
    },
    Group {
        features: &[Feature::Names, Feature::MemcgAccounting],
        together: || program(ProgramType::SOCKET_FILTER, AttachType(0), "rf_probe", &call(Helper::KTIME_GET_COARSE_NS)),
    },
    Group {
        features: &[Feature::ProbeReadKernel, Feature::BpfCookie],
        together: || {
            // The first helper takes the stack and loses r1, the second takes the context.
            let [fp, minus, size, from, read, _] = read_kernel();
            let [cookie, exit] = call(Helper::GET_ATTACH_COOKIE);
            let insns = [mov(6, 1), fp, minus, size, from, read, mov(1, 6), cookie, exit];
            program(ProgramType::TRACEPOINT, AttachType(0), "", &insns)
        },
    },
];

/// One feature alone.
pub(crate) fn single(feature: Feature) -> Option<bool> {
    let nothing = call_nothing();
    match feature {
        Feature::Names => program(ProgramType::SOCKET_FILTER, AttachType(0), "rf_probe", &nothing),
        Feature::Btf => btf(&[]),
        Feature::BtfFunc => btf(&[Part::Func(Linkage::Static)]),
        Feature::BtfFuncGlobal => btf(&[Part::Func(Linkage::Global)]),
        Feature::BtfDatasec => btf(&[Part::Datasec(".data")]),
        Feature::BtfDatasecQuestion => btf(&[Part::Datasec("?.data")]),
        Feature::BtfFloat => btf(&[Part::Float]),
        Feature::BtfDeclTag => btf(&[Part::DeclTag]),
        Feature::BtfTypeTag => btf(&[Part::TypeTag]),
        Feature::BtfEnum64 => btf(&[Part::Enum64]),
        Feature::ArgCtx => global_function(true),
        Feature::GlobalFuncPointers => global_function(false),
        Feature::GlobalData => global_data(),
        Feature::ArrayMmap => map(&MapCreate { flags: sys::flags::BPF_F_MMAPABLE, ..array(4) }),
        Feature::ExpectedAttachType => {
            // Any kind with a hook other than 0: a kernel that does not know the field refuses it.
            program(ProgramType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE, "", &nothing)
        }
        Feature::ProbeReadKernel => program(ProgramType::TRACEPOINT, AttachType(0), "", &read_kernel()),
        // This helper came in the same release (libbpf, probe_memcg_account), and a probe by memory would have to
        // use up the limit.
        Feature::MemcgAccounting => {
            program(ProgramType::SOCKET_FILTER, AttachType(0), "", &call(Helper::KTIME_GET_COARSE_NS))
        }
        Feature::ProgBindMap => bind_map(),
        Feature::BpfCookie => program(ProgramType::TRACEPOINT, AttachType(0), "", &call(Helper::GET_ATTACH_COOKIE)),
        // Seen in the types and symbols of the running kernel.
        Feature::SyscallWrapper => None,
        // It would take a group.
        Feature::CgroupOrder => None,
        Feature::XdpFrags => {
            /// `BPF_F_XDP_HAS_FRAGS`.
            const HAS_FRAGS: u32 = 1 << 5;
            let load = ProgLoad { flags: HAS_FRAGS, ..ProgLoad::new(ProgramType::XDP, &nothing, "GPL") };
            answer(sys::prog_load(&load, None))
        }
        Feature::PerfLink => perf_link(),
        Feature::KprobeMulti => kprobe_multi(),
        Feature::UprobeMulti => uprobe_multi(),
        // What tells that it is there is what it says of a device or map that does not exist.
        Feature::Tcx => link(ProgramType::SCHED_CLS, AttachType::TCX_INGRESS, Errno::NODEV),
        Feature::SockmapLink => link(ProgramType::SK_SKB, AttachType::SK_SKB_STREAM_VERDICT, Errno::BADF),
        // Attempts give EINVAL with and without them (bpf_xdp_link_attach), or need more than a question may.
        Feature::XdpLink | Feature::NetfilterLink | Feature::Netkit => None,
    }
}

/// A link to nothing: with such links the kernel looks for the target and says `found_out`.
fn link(kind: ProgramType, attach_type: AttachType, found_out: Errno) -> Option<bool> {
    let program = load(kind, AttachType(0), "", &call_nothing()).ok()?;
    let create = LinkCreate {
        program: program.as_fd(),
        attach_type,
        to: sys::AttachTo::Device(i32::MAX.cast_unsigned()),
        flags: 0,
        tail: LinkTail::None,
    };
    match sys::link_create(&create) {
        Ok(_) => None,
        Err(errno) if errno == found_out => Some(true),
        Err(errno) => answer(Err::<(), _>(errno)),
    }
}

/// What an attempt says.
fn answer<T>(attempt: Result<T, Errno>) -> Option<bool> {
    match attempt {
        Ok(_) => Some(true),
        Err(
            Errno::PERM | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::INTR | Errno::NAMETOOLONG,
        ) => None,
        Err(_) => Some(false),
    }
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

const fn mov(dst: u8, src: u8) -> Insn {
    insn(0xbf, dst, src, 0, 0)
}

const EXIT: Insn = insn(Insn::EXIT, 0, 0, 0, 0);

fn call_nothing() -> [Insn; 2] {
    [insn(0xb7, 0, 0, 0, 0), EXIT]
}

fn call(helper: Helper) -> [Insn; 2] {
    [insn(Insn::CALL, 0, 0, 0, helper.0.cast_signed()), EXIT]
}

/// `bpf_probe_read_kernel(fp - 8, 8, 0)`.
fn read_kernel() -> [Insn; 6] {
    let [call, exit] = call(Helper::PROBE_READ_KERNEL);
    [mov(1, 10), insn(0x07, 1, 0, 0, -8), insn(0xb7, 2, 0, 0, 8), insn(0xb7, 3, 0, 0, 0), call, exit]
}

fn load(kind: ProgramType, attach_type: AttachType, name: &str, insns: &[Insn]) -> Result<ProgramFd, Errno> {
    sys::prog_load(&ProgLoad { name, attach_type, ..ProgLoad::new(kind, insns, "GPL") }, None)
}

fn program(kind: ProgramType, attach_type: AttachType, name: &str, insns: &[Insn]) -> Option<bool> {
    answer(load(kind, attach_type, name, insns))
}

fn array(value_size: u32) -> MapCreate<'static> {
    MapCreate::new(MapType::ARRAY, 4, value_size, 1)
}

fn map(create: &MapCreate<'_>) -> Option<bool> {
    answer(sys::map_create(create))
}

fn global_data() -> Option<bool> {
    use std::os::fd::AsRawFd;
    let map = sys::map_create(&array(32)).ok()?;
    let [r0, exit] = call_nothing();
    let insns = [
        insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_VALUE, 0, map.as_fd().as_raw_fd()),
        insn(0, 0, 0, 0, 16),
        insn(0x7a, 1, 0, 0, 42),
        r0,
        exit,
    ];
    program(ProgramType::SOCKET_FILTER, AttachType(0), "", &insns)
}

/// A global function that takes a pointer: a number's, or by its tag alone the context, which the helper wants.
fn global_function(tagged: bool) -> Option<bool> {
    let mut types = Builder::new();
    let int = New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false });
    let int = types.add("int", int);
    let [number, context] = [int, TypeId::VOID].map(|to| types.add("", New::Ptr(to)));
    let mut function = |name, ty| {
        let proto = types.add("", New::FuncProto { ret: int, params: &[Param { name: "a", ty }] });
        types.add(name, New::Func { proto, linkage: Linkage::Global })
    };
    let main = function("main", context);
    let other = function("other", if tagged { context } else { number });
    if tagged {
        types.add("arg:ctx", New::DeclTag { ty: other, component: Some(0) });
    }
    let btf = sys::btf_load(&types.finish().ok()?, None, None);
    let btf = match btf {
        Ok(btf) => btf,
        Err(errno) => return answer::<()>(Err(errno)),
    };
    let [helper, exit] = call(Helper::GET_FUNC_IP);
    // The null pointer may be handed over: a kernel takes it, or knows no pointers at all.
    let (first, last) = match tagged {
        true => (mov(1, 1), helper),
        false => (insn(0xb7, 1, 0, 0, 0), insn(0xb7, 0, 0, 0, 0)),
    };
    let insns = [first, insn(Insn::CALL, 0, Insn::PSEUDO_CALL, 0, 1), exit, last, exit];
    let funcs = [sys::FuncInfo { insn: 0, ty: main.0 }, sys::FuncInfo { insn: 3, ty: other.0 }];
    let load = ProgLoad { btf: Some(btf.as_fd()), funcs: &funcs, ..ProgLoad::new(ProgramType::KPROBE, &insns, "GPL") };
    answer(sys::prog_load(&load, None))
}

fn bind_map() -> Option<bool> {
    let map = sys::map_create(&array(32)).ok()?;
    let program = load(ProgramType::SOCKET_FILTER, AttachType(0), "", &call_nothing()).ok()?;
    answer(sys::prog_bind_map(program.as_fd(), map.as_fd()))
}

/// A link on something that is no event: `EBADF` where such links are known, else `EINVAL`.
fn perf_link() -> Option<bool> {
    let program = load(ProgramType::TRACEPOINT, AttachType(0), "", &call_nothing()).ok()?;
    let create = LinkCreate {
        program: program.as_fd(),
        attach_type: AttachType::PERF_EVENT,
        to: sys::AttachTo::Fd(program.as_fd()),
        flags: 0,
        tail: LinkTail::None,
    };
    match sys::link_create(&create) {
        Err(Errno::BADF) => Some(true),
        Err(Errno::PERM) => None,
        _ => Some(false),
    }
}

/// A place where no function is: `EOPNOTSUPP` from a kernel that only knows the name of such links, `EINVAL` from one that does not
/// even know that, which asks for an attach type of its own first.
fn kprobe_multi() -> Option<bool> {
    let program = match load(ProgramType::KPROBE, AttachType::TRACE_KPROBE_MULTI, "", &call_nothing()) {
        Ok(program) => program,
        Err(errno) => return answer::<()>(Err(errno)),
    };
    let functions = sys::Multi::Symbols(&[c"no function has this name"]);
    let attempt = sys::link_create(&LinkCreate {
        program: program.as_fd(),
        attach_type: AttachType::TRACE_KPROBE_MULTI,
        to: sys::AttachTo::Nothing,
        flags: 0,
        tail: LinkTail::KprobeMulti { functions, cookies: &[], flags: 0 },
    });
    match attempt {
        // ftrace_lookup_symbols of kernel/trace/ftrace.c.
        Err(Errno::SRCH | Errno::NOENT) => Some(true),
        Err(Errno::PERM) => None,
        _ => Some(false),
    }
}

/// Uprobes in a directory: `EBADF` where such links are known. And with a process that cannot be: `EINVAL` where
/// the filter is by process, as it should; it was by thread at first (libbpf, probe_uprobe_multi_link).
fn uprobe_multi() -> Option<bool> {
    let program = match load(ProgramType::KPROBE, AttachType::TRACE_UPROBE_MULTI, "", &call_nothing()) {
        Ok(program) => program,
        Err(errno) => return answer::<()>(Err(errno)),
    };
    let attempt = |pid| {
        let (path, offsets) = (c"/", [0]);
        let tail = LinkTail::UprobeMulti { path, offsets: &offsets, ref_ctr_offsets: &[], cookies: &[], flags: 0, pid };
        sys::link_create(&LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::TRACE_UPROBE_MULTI,
            to: sys::AttachTo::Nothing,
            flags: 0,
            tail,
        })
    };
    match (attempt(0), attempt(u32::MAX)) {
        (Err(Errno::BADF), Err(Errno::INVAL)) => Some(true),
        (Err(Errno::PERM), _) => None,
        _ => Some(false),
    }
}

/// What BTF of a probe has beside an `int`.
enum Part {
    Func(Linkage),
    Datasec(&'static str),
    Float,
    DeclTag,
    TypeTag,
    /// A declaration tag and a type tag.
    Tags,
    Enum64,
}

fn btf(parts: &[Part]) -> Option<bool> {
    let mut types = Builder::new();
    let int = New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false });
    let int = types.add("int", int);
    let variable = |types: &mut Builder| types.add("v", New::Var { ty: int, linkage: Linkage::Static });
    let decl_tag = |types: &mut Builder| {
        let ty = variable(types);
        types.add("t", New::DeclTag { ty, component: None });
    };
    let type_tag = |types: &mut Builder| {
        let tag = types.add("t", New::TypeTag(int));
        types.add("", New::Ptr(tag));
    };
    for part in parts {
        match part {
            Part::Func(linkage) => {
                let params = [Param { name: "a", ty: int }];
                let proto = types.add("", New::FuncProto { ret: TypeId::VOID, params: &params });
                types.add("f", New::Func { proto, linkage: *linkage });
            }
            Part::Datasec(name) => {
                let ty = variable(&mut types);
                types.add(name, New::Datasec { size: 4, vars: &[SectionVar { ty, offset: 0, size: 4 }] });
            }
            Part::Float => drop(types.add("float", New::Float { size: 4 })),
            Part::DeclTag => decl_tag(&mut types),
            Part::TypeTag => type_tag(&mut types),
            Part::Tags => {
                decl_tag(&mut types);
                type_tag(&mut types);
            }
            Part::Enum64 => drop(types.add("e", New::Enum64 { size: 8, signed: false, values: &[] })),
        }
    }
    answer(sys::btf_load(&types.finish().ok()?, None, None))
}

/// A kind of map, on a kernel whose types are not to be had.
pub(crate) fn map_type(kind: MapType) -> Option<bool> {
    const NO_PREALLOC: u32 = sys::flags::BPF_F_NO_PREALLOC;
    let (key, value, max, flags) = match kind {
        MapType::STACK_TRACE => (4, 8, 1, 0),
        MapType::LPM_TRIE => (8, 8, 1, NO_PREALLOC),
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => (16, 8, 0, 0),
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => (0, 4, 1, 0),
        MapType::RINGBUF | MapType::USER_RINGBUF => (0, 0, u32::try_from(sys::page_size()).ok()?, 0),
        MapType::ARENA => (0, 0, 1, sys::flags::BPF_F_MMAPABLE),
        MapType::INSN_ARRAY => (4, 16, 1, 0),
        MapType::RHASH => (4, 4, 1, NO_PREALLOC),
        // These want types or a value in the kernel, and such kernels have none.
        MapType::SK_STORAGE
        | MapType::INODE_STORAGE
        | MapType::TASK_STORAGE
        | MapType::CGRP_STORAGE
        | MapType::STRUCT_OPS => return None,
        _ => (4, 4, 1, 0),
    };
    let mut create = MapCreate { flags, ..MapCreate::new(kind, key, value, max) };
    let inner = match kind {
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => Some(sys::map_create(&array(4)).ok()?),
        _ => None,
    };
    create.inner = inner.as_ref().map(|map| map.as_fd());
    map(&create)
}

/// A kind of program, on a kernel whose types are not to be had.
pub(crate) fn program_type(kind: ProgramType) -> Option<bool> {
    let attach_type = match kind {
        ProgramType::CGROUP_SOCK_ADDR => AttachType::CGROUP_INET4_CONNECT,
        ProgramType::CGROUP_SOCKOPT => AttachType::CGROUP_GETSOCKOPT,
        ProgramType::SK_LOOKUP => AttachType::SK_LOOKUP,
        ProgramType::LIRC_MODE2 => AttachType::LIRC_MODE2,
        ProgramType::NETFILTER => AttachType::NETFILTER,
        // These want types of the kernel, which it does not have.
        ProgramType::TRACING | ProgramType::LSM | ProgramType::EXT | ProgramType::STRUCT_OPS => return None,
        _ => AttachType(0),
    };
    let insns = call_nothing();
    let flags = if kind == ProgramType::SYSCALL { sys::flags::BPF_F_SLEEPABLE } else { 0 };
    answer(sys::prog_load(&ProgLoad { attach_type, flags, ..ProgLoad::new(kind, &insns, "GPL") }, None))
}

/// A helper, on a kernel whose types are not to be had: the verifier says `invalid func unknown#N` of numbers that
/// it does not know.
pub(crate) fn helper(helper: Helper) -> Option<bool> {
    let mut log = sys::Log::new(1, 4096);
    let insns = call(helper);
    match sys::prog_load(&ProgLoad::new(ProgramType::SOCKET_FILTER, &insns, "GPL"), Some(&mut log)) {
        Err(errno) if answer::<()>(Err(errno)).is_none() => None,
        Err(_) if log.text().is_empty() => None,
        _ => Some(!log.text().contains("invalid func ")),
    }
}
