//! What helpers and functions of the kernel do to what is known: what they write, and what they give.

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_uapi::Helper;

use crate::state::State;
use crate::value::{Site, Value};

/// Kernel functions that give a pointer into what a dynptr stands for.
pub(crate) const SLICES: &[&str] = &["bpf_dynptr_slice", "bpf_dynptr_slice_rdwr"];

/// What the dynptr at this place on the stack stands for.
pub(crate) fn held(pointer: Value, state: &State) -> Value {
    match pointer {
        Value::Stack(frame, Some(at)) if frame == state.frame => match state.spilled(at, 8).value {
            record @ Value::Record(..) => record,
            _ => Value::Unknown,
        },
        _ => Value::Unknown,
    }
}

/// What the dynptr among a helper's arguments stands for.
pub(crate) fn dynptr(helper: Helper, arguments: [Value; 5], state: &State) -> Value {
    let [first, ..] = arguments;
    match helper {
        Helper::DYNPTR_WRITE | Helper::DYNPTR_DATA => held(first, state),
        _ => Value::Unknown,
    }
}

/// Helpers that write to no memory that they are given. Of their arguments some are none: what is left in the registers.
#[rustfmt::skip]
const READS: &[Helper] = &[
    Helper::MAP_LOOKUP_ELEM, Helper::MAP_UPDATE_ELEM, Helper::MAP_DELETE_ELEM, Helper::MAP_PUSH_ELEM, Helper::MAP_LOOKUP_PERCPU_ELEM,
    Helper::PERF_EVENT_OUTPUT, Helper::SKB_OUTPUT, Helper::XDP_OUTPUT,
    Helper::RINGBUF_OUTPUT, Helper::RINGBUF_RESERVE, Helper::RINGBUF_SUBMIT, Helper::RINGBUF_DISCARD, Helper::RINGBUF_QUERY,
    Helper::RINGBUF_RESERVE_DYNPTR, Helper::RINGBUF_SUBMIT_DYNPTR, Helper::RINGBUF_DISCARD_DYNPTR,
    Helper::DYNPTR_WRITE, Helper::DYNPTR_DATA,
    Helper::TRACE_PRINTK, Helper::TRACE_VPRINTK, Helper::SEQ_PRINTF, Helper::SEQ_WRITE,
    Helper::KTIME_GET_NS, Helper::KTIME_GET_BOOT_NS, Helper::KTIME_GET_COARSE_NS, Helper::KTIME_GET_TAI_NS, Helper::JIFFIES64,
    Helper::GET_CURRENT_PID_TGID, Helper::GET_CURRENT_UID_GID, Helper::GET_CURRENT_TASK, Helper::GET_CURRENT_TASK_BTF,
    Helper::GET_CURRENT_CGROUP_ID, Helper::GET_CURRENT_ANCESTOR_CGROUP_ID, Helper::CURRENT_TASK_UNDER_CGROUP,
    Helper::GET_SMP_PROCESSOR_ID, Helper::GET_NUMA_NODE_ID, Helper::GET_PRANDOM_U32,
    Helper::GET_ATTACH_COOKIE, Helper::GET_FUNC_IP, Helper::GET_FUNC_ARG_CNT, Helper::GET_RETVAL, Helper::SET_RETVAL,
    Helper::GET_STACKID, Helper::TASK_PT_REGS, Helper::TAIL_CALL, Helper::STRNCMP, Helper::PROBE_WRITE_USER,
    Helper::SPIN_LOCK, Helper::SPIN_UNLOCK, Helper::PER_CPU_PTR, Helper::THIS_CPU_PTR,
    Helper::SEND_SIGNAL, Helper::SEND_SIGNAL_THREAD, Helper::OVERRIDE_RETURN, Helper::REDIRECT, Helper::CSUM_DIFF,
    Helper::GET_SOCKET_COOKIE, Helper::GET_SOCKET_UID, Helper::GET_NETNS_COOKIE, Helper::SOCK_FROM_FILE, Helper::SK_FULLSOCK,
    Helper::TASK_STORAGE_GET, Helper::CGRP_STORAGE_GET, Helper::INODE_STORAGE_GET, Helper::SK_STORAGE_GET,
];

/// Helpers that give what they are given to functions of the program, which can write through pointers in it; and one
/// that reads pointers out of what it is given, as the system call does.
const CALLS_BACK: &[Helper] = &[
    Helper::LOOP,
    Helper::FOR_EACH_MAP_ELEM,
    Helper::FIND_VMA,
    Helper::USER_RINGBUF_DRAIN,
    Helper::TIMER_SET_CALLBACK,
    Helper::SYS_BPF,
];

/// What a helper may have written to this function's frame.
pub(crate) fn clobber(helper: Helper, arguments: [Value; 5], state: &mut State) {
    let [first, second, third, ..] = arguments;
    let bytes = |size: Value| size.as_constant().and_then(|size| i32::try_from(size).ok());
    match helper {
        reads if READS.contains(&reads) => {}
        Helper::PROBE_READ
        | Helper::PROBE_READ_STR
        | Helper::PROBE_READ_USER
        | Helper::PROBE_READ_KERNEL
        | Helper::PROBE_READ_USER_STR
        | Helper::PROBE_READ_KERNEL_STR
        | Helper::DYNPTR_READ
        | Helper::GET_CURRENT_COMM => state.clobber_through(first, bytes(second)),
        Helper::GET_STACK => state.clobber_through(second, bytes(third)),
        follows if CALLS_BACK.contains(&follows) || follows.enumerator().is_none() => state.clobber_behind(arguments),
        // What is written is what a pointer leads to, not what the pointers there lead to.
        _ => arguments.into_iter().for_each(|argument| state.clobber_through(argument, None)),
    }
}

/// What a function of the kernel may have written to this function's frame, as its prototype has it.
pub(crate) fn clobber_of_kfunc(btf: Option<&Btf>, function: TypeId, arguments: [Value; 5], state: &mut State) {
    let proto = btf.and_then(|btf| match btf.get(function).ok()?.def {
        Def::Func { proto, .. } => match btf.resolve(proto).ok()?.def {
            Def::FuncProto(proto) => Some((btf, proto)),
            _ => None,
        },
        _ => None,
    });
    let Some((btf, proto)) = proto else { return state.clobber_behind(arguments) };
    for (argument, param) in arguments.into_iter().zip(proto.params().flatten()) {
        let Ok(Def::Ptr(to)) = btf.resolve(param.ty).map(|ty| ty.def) else { continue };
        // Buffers have no type, or that of their first byte.
        let bytes = btf.size_of(to).ok().filter(|bytes| *bytes > 1).and_then(|bytes| i32::try_from(bytes).ok());
        state.clobber_through(argument, bytes);
    }
}

/// What a helper returns.
pub(crate) fn returned(helper: Helper, arguments: [Value; 5], dynptr: Value, site: Site) -> Value {
    let [first, second, ..] = arguments;
    match (helper, first) {
        (
            Helper::MAP_LOOKUP_ELEM
            | Helper::MAP_LOOKUP_PERCPU_ELEM
            | Helper::GET_LOCAL_STORAGE
            | Helper::SK_STORAGE_GET
            | Helper::TASK_STORAGE_GET
            | Helper::INODE_STORAGE_GET
            | Helper::CGRP_STORAGE_GET,
            Value::Map(map),
        ) => Value::MapValue(map, Some(0)),
        (Helper::RINGBUF_RESERVE, _) => Value::Record(site, Some(0)),
        (Helper::DYNPTR_DATA, _) if dynptr != Value::Unknown => dynptr.add(second),
        _ => Value::Elsewhere,
    }
}
