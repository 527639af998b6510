//! What a section's name says about the programs in it: the SEC() names of libbpf's `section_defs`.

use ringfence_uapi::{AttachType, ProgramType};

/// Names that a section may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Exactly the entry's name.
    Exact,
    /// The entry's name, or that and `/` and a target.
    WithTarget,
}

/// An entry of [`SECTIONS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionDef {
    /// The section's name, or what stands before the first `/` of it.
    pub name: &'static str,
    /// Whether a target may follow.
    pub form: Form,
    /// What a program in it is.
    pub kind: ProgramType,
    /// The hook for which it is verified; `None`: the kernel is told none.
    pub attach: Option<AttachType>,
    /// May sleep (`BPF_F_SLEEPABLE`).
    pub sleepable: bool,
    /// Takes packets in several parts (`BPF_F_XDP_HAS_FRAGS`).
    pub frags: bool,
    /// Works without the attach type as well, on kernels that do not know it (libbpf, `SEC_EXP_ATTACH_OPT`).
    pub attach_optional: bool,
    /// The name says all that is needed to attach the program.
    pub auto_attach: bool,
}

/// A section's name, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section<'a> {
    /// The entry that fits.
    pub def: &'static SectionDef,
    /// What follows the entry's name and a `/`.
    pub target: Option<&'a str>,
}

/// What a section's name says; a leading `?` counts for nothing. `None`: the name is unknown.
pub fn section(name: &str) -> Option<Section<'_>> {
    let name = name.strip_prefix('?').unwrap_or(name);
    SECTIONS.iter().find_map(|def| {
        let rest = name.strip_prefix(def.name)?;
        match (def.form, rest.strip_prefix('/')) {
            _ if rest.is_empty() => Some(Section { def, target: None }),
            (Form::WithTarget, Some(target)) => Some(Section { def, target: Some(target) }),
            (Form::Exact | Form::WithTarget, _) => None,
        }
    })
}

const fn exact(name: &'static str, kind: ProgramType, attach: AttachType) -> SectionDef {
    SectionDef {
        name,
        form: Form::Exact,
        kind,
        attach: Some(attach),
        sleepable: false,
        frags: false,
        attach_optional: false,
        auto_attach: false,
    }
}

const fn plain(name: &'static str, kind: ProgramType) -> SectionDef {
    SectionDef { attach: None, ..exact(name, kind, AttachType(0)) }
}

/// With a target: `NAME+` in libbpf.
const fn to(name: &'static str, kind: ProgramType, attach: AttachType) -> SectionDef {
    SectionDef { form: Form::WithTarget, auto_attach: true, ..exact(name, kind, attach) }
}

const fn plain_to(name: &'static str, kind: ProgramType) -> SectionDef {
    SectionDef { attach: None, ..to(name, kind, AttachType(0)) }
}

const fn optional(name: &'static str, kind: ProgramType, attach: AttachType) -> SectionDef {
    SectionDef { attach_optional: true, ..exact(name, kind, attach) }
}

const fn sleepable(def: SectionDef) -> SectionDef {
    SectionDef { sleepable: true, ..def }
}

const fn frags(def: SectionDef) -> SectionDef {
    SectionDef { frags: true, ..def }
}

const fn by_hand(def: SectionDef) -> SectionDef {
    SectionDef { auto_attach: false, ..def }
}

use AttachType as A;
use ProgramType as P;

/// Every section name that a loader knows, in the order of libbpf's `section_defs` (1.8-dev).
#[rustfmt::skip]
pub const SECTIONS: &[SectionDef] = &[
    plain("socket", P::SOCKET_FILTER),
    exact("sk_reuseport/migrate", P::SK_REUSEPORT, A::SK_REUSEPORT_SELECT_OR_MIGRATE),
    exact("sk_reuseport", P::SK_REUSEPORT, A::SK_REUSEPORT_SELECT),

    plain_to("kprobe", P::KPROBE),
    plain_to("uprobe", P::KPROBE),
    sleepable(plain_to("uprobe.s", P::KPROBE)),
    plain_to("kretprobe", P::KPROBE),
    plain_to("uretprobe", P::KPROBE),
    sleepable(plain_to("uretprobe.s", P::KPROBE)),
    to("kprobe.multi", P::KPROBE, A::TRACE_KPROBE_MULTI),
    to("kretprobe.multi", P::KPROBE, A::TRACE_KPROBE_MULTI),
    to("kprobe.session", P::KPROBE, A::TRACE_KPROBE_SESSION),
    to("uprobe.multi", P::KPROBE, A::TRACE_UPROBE_MULTI),
    to("uretprobe.multi", P::KPROBE, A::TRACE_UPROBE_MULTI),
    to("uprobe.session", P::KPROBE, A::TRACE_UPROBE_SESSION),
    sleepable(to("uprobe.multi.s", P::KPROBE, A::TRACE_UPROBE_MULTI)),
    sleepable(to("uretprobe.multi.s", P::KPROBE, A::TRACE_UPROBE_MULTI)),
    sleepable(to("uprobe.session.s", P::KPROBE, A::TRACE_UPROBE_SESSION)),
    plain_to("ksyscall", P::KPROBE),
    plain_to("kretsyscall", P::KPROBE),
    // TRACE_UPROBE_MULTI where the kernel has it (libbpf, libbpf_prepare_prog_load): a kernel's matter.
    plain_to("usdt", P::KPROBE),
    sleepable(plain_to("usdt.s", P::KPROBE)),

    exact("tc/ingress", P::SCHED_CLS, A::TCX_INGRESS),
    exact("tc/egress", P::SCHED_CLS, A::TCX_EGRESS),
    exact("tcx/ingress", P::SCHED_CLS, A::TCX_INGRESS),
    exact("tcx/egress", P::SCHED_CLS, A::TCX_EGRESS),
    plain("tc", P::SCHED_CLS),
    plain("classifier", P::SCHED_CLS),
    plain("action", P::SCHED_ACT),
    exact("netkit/primary", P::SCHED_CLS, A::NETKIT_PRIMARY),
    exact("netkit/peer", P::SCHED_CLS, A::NETKIT_PEER),

    plain_to("tracepoint", P::TRACEPOINT),
    plain_to("tp", P::TRACEPOINT),
    sleepable(plain_to("tracepoint.s", P::TRACEPOINT)),
    sleepable(plain_to("tp.s", P::TRACEPOINT)),
    plain_to("raw_tracepoint", P::RAW_TRACEPOINT),
    plain_to("raw_tp", P::RAW_TRACEPOINT),
    sleepable(plain_to("raw_tracepoint.s", P::RAW_TRACEPOINT)),
    sleepable(plain_to("raw_tp.s", P::RAW_TRACEPOINT)),
    plain_to("raw_tracepoint.w", P::RAW_TRACEPOINT_WRITABLE),
    plain_to("raw_tp.w", P::RAW_TRACEPOINT_WRITABLE),
    to("tp_btf", P::TRACING, A::TRACE_RAW_TP),
    sleepable(to("tp_btf.s", P::TRACING, A::TRACE_RAW_TP)),

    to("fentry", P::TRACING, A::TRACE_FENTRY),
    to("fmod_ret", P::TRACING, A::MODIFY_RETURN),
    to("fexit", P::TRACING, A::TRACE_FEXIT),
    sleepable(to("fentry.s", P::TRACING, A::TRACE_FENTRY)),
    sleepable(to("fmod_ret.s", P::TRACING, A::MODIFY_RETURN)),
    sleepable(to("fexit.s", P::TRACING, A::TRACE_FEXIT)),
    to("fsession", P::TRACING, A::TRACE_FSESSION),
    sleepable(to("fsession.s", P::TRACING, A::TRACE_FSESSION)),
    to("fentry.multi", P::TRACING, A::TRACE_FENTRY_MULTI),
    to("fexit.multi", P::TRACING, A::TRACE_FEXIT_MULTI),
    to("fsession.multi", P::TRACING, A::TRACE_FSESSION_MULTI),
    sleepable(to("fentry.multi.s", P::TRACING, A::TRACE_FENTRY_MULTI)),
    sleepable(to("fexit.multi.s", P::TRACING, A::TRACE_FEXIT_MULTI)),
    sleepable(to("fsession.multi.s", P::TRACING, A::TRACE_FSESSION_MULTI)),

    plain_to("freplace", P::EXT),
    to("lsm", P::LSM, A::LSM_MAC),
    sleepable(to("lsm.s", P::LSM, A::LSM_MAC)),
    by_hand(to("lsm_cgroup", P::LSM, A::LSM_CGROUP)),
    to("iter", P::TRACING, A::TRACE_ITER),
    sleepable(to("iter.s", P::TRACING, A::TRACE_ITER)),
    sleepable(plain("syscall", P::SYSCALL)),

    frags(exact("xdp.frags/devmap", P::XDP, A::XDP_DEVMAP)),
    exact("xdp/devmap", P::XDP, A::XDP_DEVMAP),
    frags(exact("xdp.frags/cpumap", P::XDP, A::XDP_CPUMAP)),
    exact("xdp/cpumap", P::XDP, A::XDP_CPUMAP),
    frags(exact("xdp.frags", P::XDP, A::XDP)),
    optional("xdp", P::XDP, A::XDP),

    plain("perf_event", P::PERF_EVENT),
    plain("lwt_in", P::LWT_IN),
    plain("lwt_out", P::LWT_OUT),
    plain("lwt_xmit", P::LWT_XMIT),
    plain("lwt_seg6local", P::LWT_SEG6LOCAL),
    optional("sockops", P::SOCK_OPS, A::CGROUP_SOCK_OPS),
    optional("sk_skb/stream_parser", P::SK_SKB, A::SK_SKB_STREAM_PARSER),
    optional("sk_skb/stream_verdict", P::SK_SKB, A::SK_SKB_STREAM_VERDICT),
    optional("sk_skb/verdict", P::SK_SKB, A::SK_SKB_VERDICT),
    plain("sk_skb", P::SK_SKB),
    optional("sk_msg", P::SK_MSG, A::SK_MSG_VERDICT),
    optional("lirc_mode2", P::LIRC_MODE2, A::LIRC_MODE2),
    optional("flow_dissector", P::FLOW_DISSECTOR, A::FLOW_DISSECTOR),

    optional("cgroup_skb/ingress", P::CGROUP_SKB, A::CGROUP_INET_INGRESS),
    optional("cgroup_skb/egress", P::CGROUP_SKB, A::CGROUP_INET_EGRESS),
    plain("cgroup/skb", P::CGROUP_SKB),
    exact("cgroup/sock_create", P::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE),
    exact("cgroup/sock_release", P::CGROUP_SOCK, A::CGROUP_INET_SOCK_RELEASE),
    optional("cgroup/sock", P::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE),
    exact("cgroup/post_bind4", P::CGROUP_SOCK, A::CGROUP_INET4_POST_BIND),
    exact("cgroup/post_bind6", P::CGROUP_SOCK, A::CGROUP_INET6_POST_BIND),
    exact("cgroup/bind4", P::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND),
    exact("cgroup/bind6", P::CGROUP_SOCK_ADDR, A::CGROUP_INET6_BIND),
    exact("cgroup/connect4", P::CGROUP_SOCK_ADDR, A::CGROUP_INET4_CONNECT),
    exact("cgroup/connect6", P::CGROUP_SOCK_ADDR, A::CGROUP_INET6_CONNECT),
    exact("cgroup/connect_unix", P::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_CONNECT),
    exact("cgroup/sendmsg4", P::CGROUP_SOCK_ADDR, A::CGROUP_UDP4_SENDMSG),
    exact("cgroup/sendmsg6", P::CGROUP_SOCK_ADDR, A::CGROUP_UDP6_SENDMSG),
    exact("cgroup/sendmsg_unix", P::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_SENDMSG),
    exact("cgroup/recvmsg4", P::CGROUP_SOCK_ADDR, A::CGROUP_UDP4_RECVMSG),
    exact("cgroup/recvmsg6", P::CGROUP_SOCK_ADDR, A::CGROUP_UDP6_RECVMSG),
    exact("cgroup/recvmsg_unix", P::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_RECVMSG),
    exact("cgroup/getpeername4", P::CGROUP_SOCK_ADDR, A::CGROUP_INET4_GETPEERNAME),
    exact("cgroup/getpeername6", P::CGROUP_SOCK_ADDR, A::CGROUP_INET6_GETPEERNAME),
    exact("cgroup/getpeername_unix", P::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_GETPEERNAME),
    exact("cgroup/getsockname4", P::CGROUP_SOCK_ADDR, A::CGROUP_INET4_GETSOCKNAME),
    exact("cgroup/getsockname6", P::CGROUP_SOCK_ADDR, A::CGROUP_INET6_GETSOCKNAME),
    exact("cgroup/getsockname_unix", P::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_GETSOCKNAME),
    exact("cgroup/sysctl", P::CGROUP_SYSCTL, A::CGROUP_SYSCTL),
    exact("cgroup/getsockopt", P::CGROUP_SOCKOPT, A::CGROUP_GETSOCKOPT),
    exact("cgroup/setsockopt", P::CGROUP_SOCKOPT, A::CGROUP_SETSOCKOPT),
    optional("cgroup/dev", P::CGROUP_DEVICE, A::CGROUP_DEVICE),

    by_hand(plain_to("struct_ops", P::STRUCT_OPS)),
    by_hand(sleepable(plain_to("struct_ops.s", P::STRUCT_OPS))),
    exact("sk_lookup", P::SK_LOOKUP, A::SK_LOOKUP),
    exact("netfilter", P::NETFILTER, A::NETFILTER),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// The names as documentation writes them, a group a line: `{a,b}` each, `[x]` with and without,
    /// `+` with a target as well.
    const GROUPS: &[(&str, ProgramType, usize)] = &[
        ("socket", P::SOCKET_FILTER, 1),
        ("sk_reuseport[/migrate]", P::SK_REUSEPORT, 2),
        ("k[ret]probe+ u[ret]probe[.s]+ k[ret]syscall+ usdt[.s]+", P::KPROBE, 10),
        ("k[ret]probe.multi+ kprobe.session+ u[ret]probe.multi[.s]+ uprobe.session[.s]+", P::KPROBE, 9),
        ("{tc,tcx}/{ingress,egress} tc classifier netkit/{primary,peer}", P::SCHED_CLS, 8),
        ("action", P::SCHED_ACT, 1),
        ("{tracepoint,tp}[.s]+", P::TRACEPOINT, 4),
        ("{raw_tracepoint,raw_tp}[.s]+", P::RAW_TRACEPOINT, 4),
        ("{raw_tracepoint,raw_tp}.w+", P::RAW_TRACEPOINT_WRITABLE, 2),
        ("tp_btf[.s]+ {fentry,fexit,fsession,fmod_ret}[.s]+ iter[.s]+", P::TRACING, 12),
        ("{fentry,fexit,fsession}.multi[.s]+", P::TRACING, 6),
        ("freplace+", P::EXT, 1),
        ("lsm[.s]+ lsm_cgroup+", P::LSM, 3),
        ("syscall", P::SYSCALL, 1),
        ("{xdp,xdp.frags}[/devmap] {xdp,xdp.frags}/cpumap", P::XDP, 6),
        ("perf_event", P::PERF_EVENT, 1),
        ("lwt_in", P::LWT_IN, 1),
        ("lwt_out", P::LWT_OUT, 1),
        ("lwt_xmit", P::LWT_XMIT, 1),
        ("lwt_seg6local", P::LWT_SEG6LOCAL, 1),
        ("sockops", P::SOCK_OPS, 1),
        ("sk_msg", P::SK_MSG, 1),
        ("sk_skb sk_skb/{stream_parser,stream_verdict,verdict}", P::SK_SKB, 4),
        ("lirc_mode2", P::LIRC_MODE2, 1),
        ("flow_dissector", P::FLOW_DISSECTOR, 1),
        ("cgroup_skb/{ingress,egress} cgroup/skb", P::CGROUP_SKB, 3),
        ("cgroup/sock[_create] cgroup/sock_release cgroup/post_bind{4,6}", P::CGROUP_SOCK, 5),
        ("cgroup/bind{4,6}", P::CGROUP_SOCK_ADDR, 2),
        ("cgroup/{connect,sendmsg,recvmsg,getpeername,getsockname}{4,6,_unix}", P::CGROUP_SOCK_ADDR, 15),
        ("cgroup/sysctl", P::CGROUP_SYSCTL, 1),
        ("cgroup/{get,set}sockopt", P::CGROUP_SOCKOPT, 2),
        ("cgroup/dev", P::CGROUP_DEVICE, 1),
        ("struct_ops[.s]+", P::STRUCT_OPS, 2),
        ("sk_lookup", P::SK_LOOKUP, 1),
        ("netfilter", P::NETFILTER, 1),
    ];

    fn expand(pattern: &str) -> Vec<String> {
        let Some(at) = pattern.find(['{', '[']) else { return vec![pattern.to_owned()] };
        let (before, rest) = (&pattern[..at], &pattern[at.saturating_add(1)..]);
        let (inside, after) = rest.split_once(['}', ']']).unwrap();
        let optional = pattern[at..].starts_with('[');
        let choices = inside.split(',').chain(optional.then_some(""));
        choices.flat_map(|choice| expand(&format!("{before}{choice}{after}"))).collect()
    }

    #[test]
    fn all_116_names_are_known() {
        let mut count = 0;
        let mut entries = std::collections::BTreeSet::new();
        for (group, kind, size) in GROUPS {
            let names: Vec<_> = group.split(' ').flat_map(expand).collect();
            assert_eq!(names.len(), *size, "{group}");
            count = names.len().saturating_add(count);
            for name in names {
                let bare = name.trim_end_matches('+');
                let found = section(bare).unwrap_or_else(|| panic!("{bare} is unknown"));
                assert_eq!((found.def.name, found.def.kind, found.target), (bare, *kind, None));
                assert_eq!(found.def.form == Form::WithTarget, name.ends_with('+'), "{name}");
                assert_eq!(section(&format!("?{bare}")), Some(found));
                let with_target = format!("{bare}/some/thing");
                let target = section(&with_target).and_then(|found| found.target);
                assert_eq!(target, name.ends_with('+').then_some("some/thing"), "{name}");
                assert_eq!(found.def.sleepable, bare.ends_with(".s") || bare == "syscall", "{name}");
                assert_eq!(found.def.frags, bare.starts_with("xdp.frags"), "{name}");
                assert!(entries.insert(bare.to_owned()), "{name} is listed twice");
            }
        }
        assert_eq!((count, SECTIONS.len()), (116, 116));
    }

    #[test]
    fn names_that_only_look_alike_are_unknown() {
        for name in
            ["kprobes", "kprobe.", "xdp_pass", "xdp/other", "tc/", "classifier_x", "dispatcher", "", "?", "socket/x"]
        {
            assert_eq!(section(name), None, "{name}");
        }
    }

    #[test]
    fn the_attach_type_can_be_left_out_of_these() {
        let optional: Vec<_> = SECTIONS.iter().filter(|def| def.attach_optional).map(|def| def.name).collect();
        assert_eq!(
            optional,
            [
                "xdp",
                "sockops",
                "sk_skb/stream_parser",
                "sk_skb/stream_verdict",
                "sk_skb/verdict",
                "sk_msg",
                "lirc_mode2",
                "flow_dissector",
                "cgroup_skb/ingress",
                "cgroup_skb/egress",
                "cgroup/sock",
                "cgroup/dev",
            ]
        );
        let kinds: std::collections::BTreeSet<_> =
            SECTIONS.iter().filter(|def| def.auto_attach).map(|def| def.kind.to_string()).collect();
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        assert_eq!(
            kinds,
            ["ext", "kprobe", "lsm", "raw_tracepoint", "raw_tracepoint_writable", "tracepoint", "tracing"]
        );
    }
}
