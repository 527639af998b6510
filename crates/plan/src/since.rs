//! Since which release of Linux there is what, as tables.
//!
//! The numbers of `bpf.h` only ever grow, so a table lists the first number of each release. The ends at 5.10, 6.1,
//! 6.12, 6.18 and 7.3 are compared with the enumerators in those kernels' BTF (`tests/real.rs`); what is not known
//! for certain is `None`.

use ringfence_uapi::{AttachType, Helper, Insn, MapType, ProgramType};

/// `(first number, release)`, in order of the numbers.
type Firsts = &'static [(u32, &'static str)];

const HELPERS: Firsts = &[
    (Helper::MAP_LOOKUP_ELEM.0, "3.19"),
    (Helper::PROBE_READ.0, "4.1"),
    (Helper::TAIL_CALL.0, "4.2"),
    (Helper::GET_CGROUP_CLASSID.0, "4.3"),
    (Helper::REDIRECT.0, "4.4"),
    (Helper::SKB_LOAD_BYTES.0, "4.5"),
    (Helper::GET_STACKID.0, "4.6"),
    (Helper::SKB_CHANGE_PROTO.0, "4.8"),
    (Helper::CURRENT_TASK_UNDER_CGROUP.0, "4.9"),
    (Helper::GET_NUMA_NODE_ID.0, "4.10"),
    (Helper::PROBE_READ_STR.0, "4.11"),
    (Helper::GET_SOCKET_COOKIE.0, "4.12"),
    (Helper::SET_HASH.0, "4.13"),
    (Helper::REDIRECT_MAP.0, "4.14"),
    (Helper::XDP_ADJUST_META.0, "4.15"),
    (Helper::OVERRIDE_RETURN.0, "4.16"),
    (Helper::MSG_REDIRECT_MAP.0, "4.17"),
    (Helper::XDP_ADJUST_TAIL.0, "4.18"),
    (Helper::GET_LOCAL_STORAGE.0, "4.19"),
    (Helper::SK_LOOKUP_TCP.0, "4.20"),
    (Helper::MSG_POP_DATA.0, "5.0"),
    (Helper::SPIN_LOCK.0, "5.1"),
    (Helper::SKC_LOOKUP_TCP.0, "5.2"),
    (Helper::SEND_SIGNAL.0, "5.3"),
    (Helper::TCP_GEN_SYNCOOKIE.0, "5.4"),
    (Helper::SKB_OUTPUT.0, "5.5"),
    (Helper::TCP_SEND_ACK.0, "5.6"),
    (Helper::READ_BRANCH_RECORDS.0, "5.7"),
    (Helper::KTIME_GET_BOOT_NS.0, "5.8"),
    (Helper::SKC_TO_TCP6_SOCK.0, "5.9"),
    (Helper::LOAD_HDR_OPT.0, "5.10"),
    (Helper::TASK_STORAGE_GET.0, "5.11"),
    (Helper::CHECK_MTU.0, "5.12"),
    (Helper::FOR_EACH_MAP_ELEM.0, "5.13"),
    (Helper::SYS_BPF.0, "5.14"),
    (Helper::TIMER_INIT.0, "5.15"),
    (Helper::GET_BRANCH_SNAPSHOT.0, "5.16"),
    (Helper::FIND_VMA.0, "5.17"),
    (Helper::GET_RETVAL.0, "5.18"),
    (Helper::KPTR_XCHG.0, "5.19"),
    (Helper::TCP_RAW_GEN_SYNCOOKIE_IPV4.0, "6.0"),
    (Helper::KTIME_GET_TAI_NS.0, "6.1"),
    (Helper::CGRP_STORAGE_GET.0, "6.2"),
];

const PROGRAM_TYPES: Firsts = &[
    (ProgramType::SOCKET_FILTER.0, "3.19"),
    (ProgramType::KPROBE.0, "4.1"),
    (ProgramType::TRACEPOINT.0, "4.7"),
    (ProgramType::XDP.0, "4.8"),
    (ProgramType::PERF_EVENT.0, "4.9"),
    (ProgramType::CGROUP_SKB.0, "4.10"),
    (ProgramType::SOCK_OPS.0, "4.13"),
    (ProgramType::SK_SKB.0, "4.14"),
    (ProgramType::CGROUP_DEVICE.0, "4.15"),
    (ProgramType::SK_MSG.0, "4.17"),
    (ProgramType::LWT_SEG6LOCAL.0, "4.18"),
    (ProgramType::SK_REUSEPORT.0, "4.19"),
    (ProgramType::FLOW_DISSECTOR.0, "4.20"),
    (ProgramType::CGROUP_SYSCTL.0, "5.2"),
    (ProgramType::CGROUP_SOCKOPT.0, "5.3"),
    (ProgramType::TRACING.0, "5.5"),
    (ProgramType::STRUCT_OPS.0, "5.6"),
    (ProgramType::LSM.0, "5.7"),
    (ProgramType::SK_LOOKUP.0, "5.9"),
    (ProgramType::SYSCALL.0, "5.14"),
    (ProgramType::NETFILTER.0, "6.4"),
];

const MAP_TYPES: Firsts = &[
    (MapType::HASH.0, "3.19"),
    (MapType::PROG_ARRAY.0, "4.2"),
    (MapType::PERF_EVENT_ARRAY.0, "4.3"),
    (MapType::PERCPU_HASH.0, "4.6"),
    (MapType::CGROUP_ARRAY.0, "4.8"),
    (MapType::LRU_HASH.0, "4.10"),
    (MapType::LPM_TRIE.0, "4.11"),
    (MapType::ARRAY_OF_MAPS.0, "4.12"),
    (MapType::DEVMAP.0, "4.14"),
    (MapType::CPUMAP.0, "4.15"),
    (MapType::XSKMAP.0, "4.18"),
    (MapType::CGROUP_STORAGE.0, "4.19"),
    (MapType::PERCPU_CGROUP_STORAGE.0, "4.20"),
    (MapType::SK_STORAGE.0, "5.2"),
    (MapType::DEVMAP_HASH.0, "5.4"),
    (MapType::STRUCT_OPS.0, "5.6"),
    (MapType::RINGBUF.0, "5.8"),
    (MapType::INODE_STORAGE.0, "5.10"),
    (MapType::TASK_STORAGE.0, "5.11"),
    (MapType::BLOOM_FILTER.0, "5.16"),
    (MapType::USER_RINGBUF.0, "6.1"),
    (MapType::CGRP_STORAGE.0, "6.2"),
    (MapType::ARENA.0, "6.9"),
    (MapType::INSN_ARRAY.0, "6.19"),
];
/// The first map type whose release is not in the table.
const MAP_TYPES_END: u32 = MapType::INSN_ARRAY.0.saturating_add(1);

/// `CGROUP_INET_INGRESS` is 0, which is also "none": it has no row.
const ATTACH_TYPES: Firsts = &[
    (AttachType::CGROUP_INET_EGRESS.0, "4.10"),
    (AttachType::CGROUP_SOCK_OPS.0, "4.13"),
    (AttachType::SK_SKB_STREAM_PARSER.0, "4.14"),
    (AttachType::CGROUP_DEVICE.0, "4.15"),
    (AttachType::SK_MSG_VERDICT.0, "4.17"),
    (AttachType::CGROUP_UDP4_SENDMSG.0, "4.18"),
    (AttachType::FLOW_DISSECTOR.0, "4.20"),
    (AttachType::CGROUP_SYSCTL.0, "5.2"),
    (AttachType::CGROUP_GETSOCKOPT.0, "5.3"),
    (AttachType::TRACE_RAW_TP.0, "5.5"),
    (AttachType::MODIFY_RETURN.0, "5.7"),
    (AttachType::TRACE_ITER.0, "5.8"),
    (AttachType::CGROUP_INET_SOCK_RELEASE.0, "5.9"),
    (AttachType::SK_SKB_VERDICT.0, "5.13"),
    (AttachType::SK_REUSEPORT_SELECT.0, "5.14"),
    (AttachType::PERF_EVENT.0, "5.15"),
    (AttachType::TRACE_KPROBE_MULTI.0, "5.18"),
    (AttachType::LSM_CGROUP.0, "6.0"),
    (AttachType::STRUCT_OPS.0, "6.4"),
    (AttachType::TCX_INGRESS.0, "6.6"),
    (AttachType::CGROUP_UNIX_CONNECT.0, "6.7"),
    (AttachType::TRACE_KPROBE_SESSION.0, "6.10"),
    (AttachType::TRACE_UPROBE_SESSION.0, "6.13"),
];
/// The first attach type whose release is not in the table.
const ATTACH_TYPES_END: u32 = AttachType::TRACE_FSESSION.0;

fn look_up(table: Firsts, end: u32, number: u32) -> Option<&'static str> {
    let after = table.partition_point(|(first, _)| *first <= number);
    table.get(after.checked_sub(1)?).filter(|_| number < end).map(|(_, release)| *release)
}

/// The release of Linux that brought a helper; `None`: not known for certain.
pub fn helper(helper: Helper) -> Option<&'static str> {
    look_up(HELPERS, Helper::CGRP_STORAGE_DELETE.0.saturating_add(1), helper.0)
}

/// The release of Linux that brought a program type; `None`: not known for certain.
pub fn program_type(kind: ProgramType) -> Option<&'static str> {
    look_up(PROGRAM_TYPES, ProgramType::NETFILTER.0.saturating_add(1), kind.0)
}

/// The release of Linux that brought a map type; `None`: not known for certain.
pub fn map_type(kind: MapType) -> Option<&'static str> {
    look_up(MAP_TYPES, MAP_TYPES_END, kind.0)
}

/// The release of Linux that brought an attach type; `None`: not known for certain.
pub fn attach_type(hook: AttachType) -> Option<&'static str> {
    look_up(ATTACH_TYPES, ATTACH_TYPES_END, hook.0)
}

/// Whether it is worth asking a kernel's types for something. Kernels show their types since 5.4, so those that can be
/// asked have everything that is older.
pub(crate) fn worth_asking(since: Option<&str>) -> bool {
    release(since) > (5, 4)
}

/// For comparison; what has no known release counts as the newest.
pub(crate) fn release(since: Option<&str>) -> (u32, u32) {
    let Some((major, minor)) = since.and_then(|since| since.split_once('.')) else { return (u32::MAX, 0) };
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

/// What an instruction asks of the kernel beyond the first instruction set.
pub(crate) fn instruction(insn: Insn) -> Option<(&'static str, &'static str)> {
    const V4: (&str, &str) = ("instruction set v4", "6.6");
    /// Operation and mode bits of `include/uapi/linux/bpf.h` and `bpf_common.h`.
    const MOV_X: u8 = 0xbc;
    const MOV64_X: u8 = 0xbf;
    const GOTOL: u8 = 0x06;
    const MAY_GOTO: u8 = 0xe5;
    const BSWAP: u8 = 0xd7;
    const ADDR_SPACE_CAST: i16 = 1;
    const ATOMIC: u8 = 0xc0;
    let (mode, operation) = (insn.code & 0xe0, insn.code & 0xf0);
    match insn.class() {
        Insn::STX if mode == ATOMIC => match insn.imm {
            0 => None,
            0x100 | 0x110 => Some(("load-acquire and store-release instructions", "6.15")),
            _ => Some(("atomic instructions other than addition", "5.12")),
        },
        Insn::LDX if mode == 0x80 => Some(V4),
        Insn::JMP32 if insn.code == GOTOL => Some(V4),
        Insn::JMP32 => Some(("32-bit jumps", "5.1")),
        Insn::JMP if insn.code == MAY_GOTO => Some(("may_goto", "6.9")),
        Insn::ALU64 if insn.code == MOV64_X && insn.off == ADDR_SPACE_CAST => Some(("arena address casts", "6.9")),
        Insn::ALU64 if insn.code == BSWAP => Some(V4),
        Insn::ALU | Insn::ALU64 if matches!(insn.code, MOV_X | MOV64_X) && insn.off != 0 => Some(V4),
        // Signed division and remainder.
        Insn::ALU | Insn::ALU64 if matches!(operation, 0x30 | 0x90) && insn.off == 1 => Some(V4),
        _ => None,
    }
}

/// Helpers that the kernel gives only to programs under a GPL-compatible licence (`gpl_only` in their
/// `bpf_func_proto`; Linux 6.12). `bpf_ktime_get_ns` is free since 5.8.
pub(crate) const GPL_HELPERS: &[Helper] = &[
    Helper::PROBE_READ,
    Helper::TRACE_PRINTK,
    Helper::PERF_EVENT_READ,
    Helper::PERF_EVENT_OUTPUT,
    Helper::GET_STACKID,
    Helper::GET_CURRENT_TASK,
    Helper::PROBE_WRITE_USER,
    Helper::PROBE_READ_STR,
    Helper::PERF_EVENT_READ_VALUE,
    Helper::PERF_PROG_READ_VALUE,
    Helper::OVERRIDE_RETURN,
    Helper::GET_STACK,
    Helper::FIB_LOOKUP,
    Helper::RC_REPEAT,
    Helper::RC_KEYDOWN,
    Helper::RC_POINTER_REL,
    Helper::TCP_CHECK_SYNCOOKIE,
    Helper::TCP_GEN_SYNCOOKIE,
    Helper::SKB_OUTPUT,
    Helper::PROBE_READ_USER,
    Helper::PROBE_READ_KERNEL,
    Helper::PROBE_READ_USER_STR,
    Helper::PROBE_READ_KERNEL_STR,
    Helper::READ_BRANCH_RECORDS,
    Helper::XDP_OUTPUT,
    Helper::SEQ_PRINTF,
    Helper::SEQ_WRITE,
    Helper::SEQ_PRINTF_BTF,
    Helper::GET_CURRENT_TASK_BTF,
    Helper::CHECK_MTU,
    Helper::SNPRINTF,
    Helper::TIMER_INIT,
    Helper::TIMER_SET_CALLBACK,
    Helper::TIMER_START,
    Helper::TIMER_CANCEL,
    Helper::GET_FUNC_IP,
    Helper::TASK_PT_REGS,
    Helper::GET_BRANCH_SNAPSHOT,
    Helper::TRACE_VPRINTK,
    Helper::COPY_FROM_USER_TASK,
    Helper::TCP_RAW_GEN_SYNCOOKIE_IPV4,
    Helper::TCP_RAW_GEN_SYNCOOKIE_IPV6,
    Helper::TCP_RAW_CHECK_SYNCOOKIE_IPV4,
    Helper::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
];

/// Licences that the kernel takes for GPL (`license_is_gpl_compatible` of `include/linux/license.h`).
pub(crate) fn is_gpl(license: &str) -> bool {
    const GPL: [&str; 6] =
        ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
    GPL.contains(&license)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_of_a_release() {
        assert_eq!(helper(Helper::MAP_LOOKUP_ELEM), Some("3.19"));
        assert_eq!(helper(Helper::REDIRECT_PEER), Some("5.10"));
        assert_eq!(helper(Helper::TASK_STORAGE_GET), Some("5.11"));
        assert_eq!(helper(Helper::USER_RINGBUF_DRAIN), Some("6.1"));
        assert_eq!(helper(Helper(0)), None);
        assert_eq!(helper(Helper(4000)), None);
        assert_eq!(map_type(MapType::RINGBUF), Some("5.8"));
        assert_eq!(map_type(MapType(900)), None);
        assert_eq!(program_type(ProgramType::SCHED_ACT), Some("4.1"));
        assert_eq!(attach_type(AttachType::NETFILTER), Some("6.4"));
        assert_eq!(attach_type(AttachType(0)), None);
    }

    #[test]
    fn tables_are_in_order() {
        for table in [HELPERS, PROGRAM_TYPES, MAP_TYPES, ATTACH_TYPES] {
            assert!(table.is_sorted_by_key(|(first, _)| *first));
            assert!(table.is_sorted_by_key(|(_, since)| release(Some(since))));
            assert!(table.iter().all(|(_, since)| release(Some(since)).0 < 10));
        }
    }
}
