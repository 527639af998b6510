//! What an error number means at a step, where no log says it: a table, read from the kernel's sources.

use ringfence_kernel::{Feature, Kernel};
use ringfence_plan::{MapPlan, Need, Needed, ProgramPlan};
use ringfence_uapi::{MapType, ProgramType};
use rustix::io::Errno;

use crate::error::{Cause, Kind};

/// `ENOTSUPP`, which the kernel returns to user space at some places although it never should.
pub(crate) const ENOTSUPP: Errno = Errno::from_raw_os_error(524);

/// A row: at this error number, this is what happened and what to do.
struct Row {
    errno: Errno,
    kind: Kind,
    why: &'static str,
    action: &'static str,
}

const fn row(errno: Errno, kind: Kind, why: &'static str, action: &'static str) -> Row {
    Row { errno, kind, why, action }
}

/// `map_create` of `kernel/bpf/syscall.c` and the `map_alloc_check` of the kinds.
const MAP_CREATE: &[Row] = &[
    row(
        Errno::INVAL,
        Kind::Unsupported,
        "the kernel does not know this kind of map, or not with these sizes and flags",
        "compare the map's sizes and flags with what this kernel supports (`ringfence inspect` lists what the object needs)",
    ),
    row(
        Errno::TOOBIG,
        Kind::Invalid,
        "the map is larger than the kernel allows",
        "make max_entries or the value smaller",
    ),
    row(
        Errno::NOMEM,
        Kind::Io,
        "there is not enough memory for the map",
        "make max_entries smaller, or raise the memory limit of the cgroup",
    ),
    row(
        ENOTSUPP,
        Kind::Unsupported,
        "the kernel cannot keep a value of this type in a map",
        "take locks, timers and kernel pointers out of the value",
    ),
    row(
        Errno::OPNOTSUPP,
        Kind::Unsupported,
        "the kernel cannot keep a value of this type in this kind of map",
        "take locks, timers and kernel pointers out of the value",
    ),
];

/// `bpf_prog_load` of `kernel/bpf/syscall.c`, before the verifier runs.
const PROG_LOAD: &[Row] = &[
    row(
        Errno::INVAL,
        Kind::Unsupported,
        "the kernel does not know this program type, attach type or one of the load's attributes, or the attach target is missing",
        "see `ringfence inspect` for what the program needs of the kernel",
    ),
    row(
        Errno::TOOBIG,
        Kind::Refused,
        "the program has more instructions than the kernel takes, or the load uses an attribute that this kernel does not know",
        "split the program by tail calls or global functions",
    ),
    row(
        Errno::NOMEM,
        Kind::Io,
        "there is not enough memory to verify the program",
        "raise the memory limit of the cgroup",
    ),
    row(
        Errno::NOENT,
        Kind::Unsupported,
        "the attach target does not exist in this kernel",
        "attach it to something that this kernel has",
    ),
    row(
        ENOTSUPP,
        Kind::Unsupported,
        "this kernel cannot run a program of this type at this target",
        "for a struct_ops program: use it in a struct_ops map",
    ),
    row(Errno::OPNOTSUPP, Kind::Unsupported, "this kernel was built without what the load asks for", ""),
    row(Errno::ACCESS, Kind::Refused, "the verifier refused it without a word", "load it with a higher log level"),
    row(Errno::AGAIN, Kind::Io, "the verifier was interrupted again and again by a signal", "try again"),
];

/// What is the same at every step.
const ANY: &[Row] = &[
    row(Errno::NOMEM, Kind::Io, "there is not enough memory", ""),
    row(Errno::NOSPC, Kind::Io, "there is no room left", ""),
    row(Errno::MFILE, Kind::Io, "the process has too many files open", "raise `ulimit -n`"),
    row(Errno::NFILE, Kind::Io, "the system has too many files open", ""),
    row(Errno::NOSYS, Kind::Unsupported, "this kernel has no bpf(2)", "use a kernel with CONFIG_BPF_SYSCALL"),
    row(Errno::NODEV, Kind::Io, "the device does not exist", ""),
    row(Errno::NOENT, Kind::Invalid, "it does not exist", ""),
    row(Errno::EXIST, Kind::Invalid, "it exists already", ""),
    row(Errno::BUSY, Kind::Io, "somebody else holds it", ""),
    row(Errno::INVAL, Kind::Invalid, "the kernel takes it for invalid", ""),
    row(Errno::TOOBIG, Kind::Invalid, "it is too large, or full", ""),
    row(Errno::OPNOTSUPP, Kind::Unsupported, "the kernel does not support it here", ""),
    row(ENOTSUPP, Kind::Unsupported, "the kernel does not support it here", ""),
    row(Errno::INTR, Kind::Io, "a signal interrupted it", ""),
    row(Errno::BADF, Kind::Invalid, "the file descriptor is closed or of another kind", ""),
    row(Errno::FAULT, Kind::Invalid, "the kernel cannot read or write the memory", ""),
    row(Errno::ROFS, Kind::Io, "the file system is read-only", ""),
    row(Errno::NOTDIR, Kind::Io, "a part of the path is no directory", ""),
];

fn find(tables: &[&[Row]], errno: Errno) -> Cause {
    let row = tables.iter().flat_map(|table| table.iter()).find(|row| row.errno == errno);
    match row {
        Some(row) => Cause::new(row.kind, row.why).action(row.action).errno(errno),
        None => Cause::new(Kind::Io, errno.to_string()).errno(errno),
    }
}

/// A step for which there is no table of its own.
pub(crate) fn plain(errno: Errno) -> Cause {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            Cause::new(Kind::Permission, "the kernel does not let this process do it").errno(errno)
        }
        _ => find(&[ANY], errno),
    }
}

/// A refusal by netlink: the sentence of the code that refused is better than ours.
pub(crate) fn netlink(error: ringfence_sys::netlink::NetlinkError) -> Cause {
    let known = plain(error.errno);
    if error.text.is_empty() { known } else { Cause { why: format!("the kernel says: {}", error.text), ..known } }
}

/// Creating a map.
pub(crate) fn map_create(errno: Errno, plan: &MapPlan, needs: &[Need], kernel: &Kernel) -> Cause {
    match errno {
        Errno::PERM | Errno::ACCESS => permission(errno, needs, kernel, format!("maps of the kind {}", plan.kind)),
        Errno::INVAL if plan.max_entries == 0 && needs_entries(plan.kind) => {
            Cause::invalid("the map has no max_entries: the object leaves it to its user")
                .action("give the number of entries in the settings")
                .errno(errno)
        }
        _ => find(&[MAP_CREATE, ANY], errno),
    }
}

fn needs_entries(kind: MapType) -> bool {
    use MapType as M;
    !matches!(
        kind,
        M::SK_STORAGE
            | M::INODE_STORAGE
            | M::TASK_STORAGE
            | M::CGRP_STORAGE
            | M::CGROUP_STORAGE
            | M::PERCPU_CGROUP_STORAGE
    )
}

/// Loading a program, when the verifier wrote nothing.
pub(crate) fn prog_load(errno: Errno, plan: &ProgramPlan, needs: &[Need], kernel: &Kernel) -> Cause {
    match errno {
        Errno::PERM => permission(errno, needs, kernel, format!("programs of the type {}", plan.kind)),
        Errno::INVAL => match unknown(plan, kernel) {
            Some(why) => Cause::new(Kind::Unsupported, why).errno(errno),
            None => find(&[PROG_LOAD, ANY], errno),
        },
        _ => find(&[PROG_LOAD, ANY], errno),
    }
}

/// Program types that a kernel's types may name although it was built without them (`include/linux/bpf_types.h`).
const BUILT_IN: &[(ProgramType, &str)] = &[
    (ProgramType::LIRC_MODE2, "CONFIG_BPF_LIRC_MODE2"),
    (ProgramType::LSM, "CONFIG_BPF_LSM"),
    (ProgramType::NETFILTER, "CONFIG_NETFILTER_BPF_LINK"),
];

/// `BPF_F_XDP_HAS_FRAGS`.
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// What of a program this kernel does not know, where it refuses the program without a word.
fn unknown(plan: &ProgramPlan, kernel: &Kernel) -> Option<String> {
    let hook = plan.attach_type;
    if let Some((kind, option)) = BUILT_IN.iter().find(|(kind, _)| *kind == plan.kind) {
        return Some(format!("this kernel was built without programs of the type {kind} ({option})"));
    }
    if plan.flags & XDP_HAS_FRAGS != 0 && !kernel.has(Feature::XdpFrags) {
        let (title, since) = (Feature::XdpFrags.title(), Feature::XdpFrags.since());
        return Some(format!("this kernel has no {title} (they came with {since}); use the section `xdp`"));
    }
    // A struct_ops program has the number of a member there.
    crate::link::lacks_hook(kernel, hook).filter(|_| plan.kind != ProgramType::STRUCT_OPS).map(|cause| cause.why)
}

/// Numbers of helpers that do not exist, which the plan puts where something could not be found: libbpf uses the same.
const POISONED: [(u32, &str); 3] = [
    (195_896_080, "a field, type or enumerator that this kernel does not have (CO-RE)"),
    (2_001_000_000, "a map that is not created"),
    (2_002_000_000, "a kernel function that this kernel does not have"),
];

/// Ends of the verifier's reasons that are about the kernel, not about the program: which types of program and which
/// functions may sleep grows from release to release (`check_attach_btf_id`, `bpf_check_attach_target`).
const LACKS: &[&str] = &["can be sleepable", "is not sleepable"];

/// What the verifier's reason means where it only says that something is not there: whose fault it is, the reason in
/// words, and what to do.
pub(crate) fn refusal(reason: &str) -> (Kind, Option<String>, &'static str) {
    if LACKS.iter().any(|end| reason.ends_with(end)) {
        return (Kind::Unsupported, None, "use a newer kernel, or a program that does not sleep");
    }
    let Some(number) = reason.strip_prefix("invalid func ").and_then(|func| func.rsplit_once('#')) else {
        return (Kind::Refused, None, "");
    };
    let number: u32 = number.1.trim().parse().unwrap_or(0);
    match POISONED.iter().rfind(|(first, _)| number >= *first) {
        Some((_, what)) => {
            let action = "guard it in the source: bpf_core_field_exists, bpf_ksym_exists, a weak declaration";
            (Kind::Unsupported, Some(format!("it needs {what}")), action)
        }
        None => (Kind::Unsupported, None, "the helper is newer than this kernel"),
    }
}

/// EPERM: a capability that is missing, the memory limit of old kernels, or a policy.
pub(crate) fn permission(errno: Errno, needs: &[Need], kernel: &Kernel, what: String) -> Cause {
    let missing = missing_capabilities(needs);
    let cause = if !missing.is_empty() {
        Cause::new(Kind::Permission, format!("this process lacks {}", missing.join(" and "))).action(format!(
            "run it as root, or give the program file `{}+ep` with setcap",
            missing.join(",").to_lowercase()
        ))
    } else if !kernel.has(Feature::MemcgAccounting) {
        Cause::new(
            Kind::Permission,
            "the limit on locked memory (RLIMIT_MEMLOCK) is too low for this kernel and cannot be raised",
        )
        .action("raise it: `ulimit -l unlimited`")
    } else {
        Cause::new(Kind::Unsupported, format!("this platform refuses {what} to a process with all capabilities that they need"))
            .action("a security module, the kernel's lockdown or a container's filter forbids it: ask whoever runs this machine")
    };
    cause.errno(errno)
}

/// Those of the needed capabilities that this process does not have.
pub(crate) fn missing_capabilities(needs: &[Need]) -> Vec<&'static str> {
    use rustix::thread::CapabilitySet as Set;
    let Ok(held) = rustix::thread::capabilities(None) else { return Vec::new() };
    // CAP_SYS_ADMIN stands in for the others (bpf_capable, perfmon_capable of include/linux/capability.h;
    // bpf_net_capable of kernel/bpf/syscall.c).
    if held.effective.contains(Set::SYS_ADMIN) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for need in needs {
        let Needed::Capability(name) = need.what else { continue };
        let set = match name {
            "CAP_BPF" => Set::BPF,
            "CAP_PERFMON" => Set::PERFMON,
            "CAP_NET_ADMIN" => Set::NET_ADMIN,
            "CAP_SYS_ADMIN" => Set::SYS_ADMIN,
            "CAP_SYS_RESOURCE" => Set::SYS_RESOURCE,
            _ => continue,
        };
        if !held.effective.contains(set) && !missing.contains(&name) {
            missing.push(name);
        }
    }
    if needs.is_empty() && !held.effective.contains(Set::BPF) {
        missing.push("CAP_BPF");
    }
    missing
}

/// Whose fault a plan's error is.
pub(crate) fn plan_kind(error: &ringfence_plan::Error) -> Kind {
    use ringfence_plan::Error as E;
    match error {
        // The object asks for something that this kernel does not have.
        E::Core { .. } | E::Extern { .. } | E::StructOps { .. } | E::NoKernelBtf { .. } | E::Unsupported { .. } => {
            Kind::Unsupported
        }
        // What the verifier would say.
        E::Licence { .. } | E::TooLong { .. } => Kind::Refused,
        E::Kernel(_) => Kind::Io,
        _ => Kind::Invalid,
    }
}

/// A name that a person knows: `EPERM`.
pub(crate) fn errno_name(errno: i32) -> String {
    let known = [
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::INTR, "EINTR"),
        (Errno::IO, "EIO"),
        (Errno::TOOBIG, "E2BIG"),
        (Errno::BADF, "EBADF"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::ACCESS, "EACCES"),
        (Errno::FAULT, "EFAULT"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::NFILE, "ENFILE"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::RANGE, "ERANGE"),
        (Errno::DOM, "EDOM"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::SRCH, "ESRCH"),
        (Errno::NXIO, "ENXIO"),
        (Errno::NETDOWN, "ENETDOWN"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::NOTSOCK, "ENOTSOCK"),
        (Errno::NOLINK, "ENOLINK"),
        (Errno::STALE, "ESTALE"),
        (ENOTSUPP, "ENOTSUPP"),
    ];
    match known.iter().find(|(number, _)| number.raw_os_error() == errno) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("errno {errno}"),
    }
}
