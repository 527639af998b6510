//! Where a program goes when everything is attached: what its section says, taken apart.
//!
//! The forms are libbpf's (`attach_kprobe`, `attach_uprobe` and the others behind its section table). A form that
//! cannot be understood is no error before somebody attaches: [`Attach::ByUser`] says what is to be given then.

use ringfence_uapi::{AttachType, ProgramType};

use crate::model::Attach;

/// Where a program of section `prefix` (`kprobe`, `uprobe.s`) goes; `target` is what stands behind the `/`.
pub(crate) fn from_section(prefix: &str, kind: ProgramType, hook: AttachType, target: Option<&str>) -> Attach {
    let target = target.filter(|target| !target.is_empty());
    let ret = prefix.starts_with("kret") || prefix.starts_with("uret");
    match (kind, prefix) {
        (ProgramType::TRACEPOINT, _) => tracepoint(target),
        (ProgramType::RAW_TRACEPOINT | ProgramType::RAW_TRACEPOINT_WRITABLE, _) => match target {
            Some(name) => Attach::RawTracepoint { name: name.to_owned() },
            None => by_user("a raw tracepoint: its name"),
        },
        (ProgramType::KPROBE, "ksyscall" | "kretsyscall") => match target {
            Some(name) => Attach::Kprobe { ret, function: name.to_owned(), syscall: true },
            None => by_user("a system call: its name"),
        },
        (ProgramType::KPROBE, "kprobe.multi" | "kretprobe.multi" | "kprobe.session") => match target {
            Some(pattern) => {
                let session = prefix == "kprobe.session";
                Attach::KprobeMulti { ret, session, pattern: pattern.to_owned() }
            }
            None => by_user("a pattern of kernel functions"),
        },
        (ProgramType::KPROBE, "kprobe" | "kretprobe") => kprobe(ret, target),
        (ProgramType::KPROBE, "usdt" | "usdt.s") => usdt(target),
        (ProgramType::KPROBE, _) if prefix.contains("probe.multi") || prefix.starts_with("uprobe.session") => {
            let session = prefix.starts_with("uprobe.session");
            match target.and_then(binary_and_function) {
                Some((binary, pattern)) => Attach::UprobeMulti { ret, session, binary, pattern },
                None => by_user("a program or library and a pattern of its functions: /path:pattern"),
            }
        }
        (ProgramType::KPROBE, "uprobe" | "uprobe.s" | "uretprobe" | "uretprobe.s") => {
            match target.and_then(binary_and_function) {
                Some((binary, function)) => Attach::Uprobe { ret, binary, function },
                None => by_user("a program or library and one of its functions: /path:function+offset"),
            }
        }
        (ProgramType::KPROBE, _) => by_user("a kernel function, or a function of a program"),
        (ProgramType::TRACING, _) if hook == AttachType::TRACE_ITER => Attach::Iter,
        (ProgramType::LSM, _) if hook == AttachType::LSM_CGROUP => by_user("a cgroup"),
        (ProgramType::TRACING, _) if is_multi(hook) => match target {
            Some(pattern) => Attach::TraceMulti { pattern: pattern.to_owned() },
            None => by_user("a pattern of kernel functions"),
        },
        (ProgramType::TRACING | ProgramType::LSM, _) => Attach::Trace,
        (ProgramType::EXT, _) => by_user("the program and its function that this one replaces"),
        (ProgramType::STRUCT_OPS, _) => Attach::StructOps,
        (ProgramType::SYSCALL, _) => Attach::Nothing,
        (kind, _) => by_user(place(kind, hook)),
    }
}

/// Attached to many functions at once: nothing is named at load time.
pub(crate) fn is_multi(hook: AttachType) -> bool {
    use AttachType as A;
    matches!(hook, A::TRACE_FENTRY_MULTI | A::TRACE_FEXIT_MULTI | A::TRACE_FSESSION_MULTI)
}

/// The section that a program with this target would have, for one whose type the user gives.
pub(crate) fn prefix(kind: ProgramType, hook: AttachType, target: &str) -> &'static str {
    match (kind, hook) {
        (ProgramType::KPROBE, AttachType::TRACE_KPROBE_MULTI) => "kprobe.multi",
        (ProgramType::KPROBE, AttachType::TRACE_KPROBE_SESSION) => "kprobe.session",
        (ProgramType::KPROBE, AttachType::TRACE_UPROBE_MULTI) => "uprobe.multi",
        (ProgramType::KPROBE, AttachType::TRACE_UPROBE_SESSION) => "uprobe.session",
        // A module has no / in its name.
        (ProgramType::KPROBE, _) if target.contains('/') => "uprobe",
        (ProgramType::KPROBE, _) => "kprobe",
        _ => "",
    }
}

/// What a program of this type is attached to, for those whose section never says it.
fn place(kind: ProgramType, hook: AttachType) -> &'static str {
    match (kind, hook) {
        (_, AttachType::XDP_DEVMAP) => "an entry of a device map",
        (_, AttachType::XDP_CPUMAP) => "an entry of a CPU map",
        (_, AttachType::NETKIT_PRIMARY | AttachType::NETKIT_PEER) => "a netkit device",
        (ProgramType::XDP, _) => "a network device",
        (ProgramType::SCHED_CLS, AttachType::TCX_INGRESS | AttachType::TCX_EGRESS) => "a network device",
        (ProgramType::SCHED_CLS, _) => "a network device, and its ingress or egress side",
        (ProgramType::SCHED_ACT, _) => "an action of a tc filter",
        (ProgramType::SOCKET_FILTER, _) => "a socket",
        (ProgramType::SK_REUSEPORT, _) => "a socket of a group with SO_REUSEPORT",
        (ProgramType::SK_SKB | ProgramType::SK_MSG, _) => "a socket map",
        (ProgramType::FLOW_DISSECTOR | ProgramType::SK_LOOKUP, _) => "a network namespace",
        (ProgramType::PERF_EVENT, _) => "a perf event: what is counted and how often it fires",
        (ProgramType::LIRC_MODE2, _) => "an infrared device (/dev/lirc0)",
        (ProgramType::NETFILTER, _) => "a netfilter hook: protocol family, hook and priority",
        (ProgramType::LWT_IN | ProgramType::LWT_OUT | ProgramType::LWT_XMIT | ProgramType::LWT_SEG6LOCAL, _) => {
            "a route with a lightweight tunnel"
        }
        (
            ProgramType::CGROUP_SKB
            | ProgramType::CGROUP_SOCK
            | ProgramType::CGROUP_SOCK_ADDR
            | ProgramType::CGROUP_SOCKOPT
            | ProgramType::CGROUP_SYSCTL
            | ProgramType::CGROUP_DEVICE
            | ProgramType::SOCK_OPS,
            _,
        ) => "a cgroup",
        _ => "the place that this type of program is attached to",
    }
}

/// Whether a kernel must know this hook for the program to be of use: hooks of tc and of socket groups have an older way to be attached.
pub(crate) fn is_needed(kind: ProgramType, hook: AttachType) -> bool {
    use AttachType as A;
    let older = matches!(hook, A::TCX_INGRESS | A::TCX_EGRESS | A::SK_REUSEPORT_SELECT);
    hook != AttachType(0) && kind != ProgramType::STRUCT_OPS && !older
}

/// Whether a kernel must know this hook to load such a program. Of the other types it looks at the hook only when the program is
/// attached (`bpf_prog_load_check_attach`, `bpf_check_attach_target`). A struct_ops program has the number of a member in its place.
pub(crate) fn must_know(kind: ProgramType, hook: AttachType) -> bool {
    use ProgramType as P;
    let checked = [
        P::TRACING,
        P::LSM,
        P::CGROUP_SOCK,
        P::CGROUP_SOCK_ADDR,
        P::CGROUP_SKB,
        P::CGROUP_SOCKOPT,
        P::SK_LOOKUP,
        P::NETFILTER,
    ];
    hook != AttachType(0) && checked.contains(&kind)
}

fn by_user(what: &'static str) -> Attach {
    Attach::ByUser { what }
}

/// `CATEGORY/NAME`.
fn tracepoint(target: Option<&str>) -> Attach {
    match target.and_then(|target| target.split_once('/')) {
        Some((category, name)) if !category.is_empty() && !name.is_empty() => {
            Attach::Tracepoint { category: category.to_owned(), name: name.to_owned() }
        }
        _ => by_user("a tracepoint: category/name"),
    }
}

/// `FUNCTION`, `FUNCTION+OFFSET`, `MODULE:FUNCTION`. A return has no offset.
fn kprobe(ret: bool, target: Option<&str>) -> Attach {
    let what = if ret { "a kernel function" } else { "a kernel function, function+offset at will" };
    let Some(target) = target else { return by_user(what) };
    let (function, offset) = match target.split_once('+') {
        Some((function, offset)) => (function, number(offset)),
        None => (target, Some(0)),
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '$');
    match offset {
        Some(0) if function.chars().all(letters) => {
            Attach::Kprobe { ret, function: function.to_owned(), syscall: false }
        }
        Some(offset) if !ret && function.chars().all(letters) => {
            Attach::Kprobe { ret, function: format!("{function}+{offset:#x}"), syscall: false }
        }
        _ => by_user(what),
    }
}

/// `BINARY:FUNCTION`; what stands behind the first colon may hold further ones (C++).
fn binary_and_function(target: &str) -> Option<(String, String)> {
    let (binary, function) = target.split_once(':')?;
    (!binary.is_empty() && !function.is_empty()).then(|| (binary.to_owned(), function.to_owned()))
}

/// `BINARY:PROVIDER:NAME`.
fn usdt(target: Option<&str>) -> Attach {
    let mut parts = target.unwrap_or_default().splitn(3, ':').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(binary), Some(provider), Some(name)) if ![&binary, &provider, &name].iter().any(|s| s.is_empty()) => {
            Attach::Usdt { binary, provider, name }
        }
        _ => by_user("a program or library and one of its static probes: /path:provider:name"),
    }
}

/// As strtol(3) with base 0.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(prefix: &str, target: &str) -> Attach {
        from_section(prefix, ProgramType::KPROBE, AttachType(0), Some(target))
    }

    #[test]
    fn kernel_functions() {
        let kprobe = |ret, function: &str| Attach::Kprobe { ret, function: function.into(), syscall: false };
        assert_eq!(probe("kprobe", "tcp_connect"), kprobe(false, "tcp_connect"));
        assert_eq!(probe("kretprobe", "tcp_connect"), kprobe(true, "tcp_connect"));
        assert_eq!(probe("kprobe", "f+16"), kprobe(false, "f+0x10"));
        assert_eq!(probe("kprobe", "f+0x10"), kprobe(false, "f+0x10"));
        assert_eq!(probe("kprobe", "f.isra.0"), kprobe(false, "f.isra.0"));
        assert_eq!(probe("kprobe", "veth:veth_xmit"), kprobe(false, "veth:veth_xmit"));
        assert!(matches!(probe("kretprobe", "f+16"), Attach::ByUser { .. }));
        assert!(matches!(probe("kprobe", "f+x"), Attach::ByUser { .. }));
        assert!(matches!(probe("kprobe", ""), Attach::ByUser { .. }));
        let syscall = Attach::Kprobe { ret: true, function: "openat".into(), syscall: true };
        assert_eq!(probe("kretsyscall", "openat"), syscall);
    }

    #[test]
    fn user_functions() {
        let uprobe = Attach::Uprobe { ret: true, binary: "/bin/bash".into(), function: "readline".into() };
        assert_eq!(probe("uretprobe.s", "/bin/bash:readline"), uprobe);
        let scoped = Attach::Uprobe { ret: false, binary: "libx".into(), function: "a::b+4".into() };
        assert_eq!(probe("uprobe", "libx:a::b+4"), scoped);
        assert!(matches!(probe("uprobe", "/bin/bash"), Attach::ByUser { .. }));
        let multi = |ret, session| Attach::UprobeMulti { ret, session, binary: "c".into(), pattern: "m*".into() };
        assert_eq!(probe("uprobe.multi", "c:m*"), multi(false, false));
        assert_eq!(probe("uretprobe.multi.s", "c:m*"), multi(true, false));
        assert_eq!(probe("uprobe.session.s", "c:m*"), multi(false, true));
        let usdt = Attach::Usdt { binary: "c".into(), provider: "p".into(), name: "n".into() };
        assert_eq!(probe("usdt", "c:p:n"), usdt);
        assert!(matches!(probe("usdt.s", "c:p"), Attach::ByUser { .. }));
    }

    #[test]
    fn other_places() {
        let at = |prefix, kind, target| from_section(prefix, kind, AttachType(0), target);
        let tracepoint = Attach::Tracepoint { category: "sched".into(), name: "sched_switch".into() };
        assert_eq!(at("tp", ProgramType::TRACEPOINT, Some("sched/sched_switch")), tracepoint);
        assert!(matches!(at("tp", ProgramType::TRACEPOINT, Some("sched")), Attach::ByUser { .. }));
        assert_eq!(at("raw_tp", ProgramType::RAW_TRACEPOINT, Some("x")), Attach::RawTracepoint { name: "x".into() });
        let many = |target| from_section("fexit.multi", ProgramType::TRACING, AttachType::TRACE_FEXIT_MULTI, target);
        assert_eq!(many(Some("tcp_*")), Attach::TraceMulti { pattern: "tcp_*".into() });
        assert!(matches!(many(None), Attach::ByUser { .. }));
        assert_eq!(at("xdp", ProgramType::XDP, None), Attach::ByUser { what: "a network device" });
        assert_eq!(at("syscall", ProgramType::SYSCALL, None), Attach::Nothing);
    }
}
