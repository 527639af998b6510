//! Abstract interpretation: what every register can hold at every instruction, over all paths, through calls and callbacks.
//!
//! Paths are joined at jump targets until nothing changes; a range that keeps growing there is given up. Only then
//! the calls are reported, with what holds at last. Work is bounded by [`PER_PROGRAM`] and [`IN_ALL`].

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_object::{Function, FunctionId, MapId, Object, Target};
use ringfence_uapi::{Helper, Insn};

use crate::origin::Origin;
use crate::state::State;
use crate::value::{Frame, Known, Made, Op, Site, Value};

/// Instructions that are looked at for one program.
const PER_PROGRAM: usize = 1_000_000;
/// Instructions that are looked at for one object.
const IN_ALL: usize = 2_000_000;
/// Most nested calls (`MAX_CALL_FRAMES` in include/linux/bpf_verifier.h).
const MAX_FRAMES: u8 = 8;
/// Bytes of states that are remembered at once, for places where paths meet.
const MAX_HELD: usize = 32 << 20;
/// How often paths meet at an instruction before ranges that still grow are given up.
const WIDEN_AFTER: u32 = 8;

/// A call of a helper, with what its arguments hold.
pub(crate) struct Call<'a> {
    pub(crate) function: FunctionId,
    pub(crate) insn: usize,
    pub(crate) helper: Helper,
    pub(crate) arguments: &'a [Value; 5],
    /// What made each argument.
    pub(crate) made: [Made; 5],
    /// The start of the record that the dynptr among the arguments stands for.
    pub(crate) dynptr: Value,
}

/// A store to memory.
pub(crate) struct Store {
    pub(crate) function: FunctionId,
    pub(crate) insn: usize,
    /// Where it goes: the offset of the instruction is in it.
    pub(crate) to: Value,
    pub(crate) bytes: u32,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// The instructions of this function that computed or read the value.
    pub(crate) made: Made,
}

/// A load from memory.
pub(crate) struct Load {
    pub(crate) function: FunctionId,
    pub(crate) insn: usize,
    /// From where: the offset of the instruction is in it.
    pub(crate) from: Value,
    pub(crate) bytes: u32,
}

/// What the walk comes across.
pub(crate) enum Seen<'a> {
    Call(&'a Call<'a>),
    Store(&'a Store),
    Load(&'a Load),
}

/// Reports every helper call that a program of the object can reach. `false`: the work was too much and some are missing.
pub(crate) fn calls(object: &Object, report: &mut dyn FnMut(&Call<'_>)) -> bool {
    walk(object, &mut |seen| match seen {
        Seen::Call(call) => report(call),
        Seen::Store(_) | Seen::Load(_) => {}
    })
}

/// Reports every helper call, store and load. `false`: as for [`calls`].
pub(crate) fn walk(object: &Object, report: &mut dyn FnMut(&Seen<'_>)) -> bool {
    let mut walker = Walker {
        object,
        report,
        facts: HashMap::new(),
        results: HashMap::new(),
        reported: HashSet::new(),
        budget: 0,
        left: IN_ALL,
        held: Rc::new(Cell::new(0)),
        complete: true,
    };
    for program in &object.programs {
        let context = [Value::Context, Value::Elsewhere, Value::Elsewhere, Value::Elsewhere, Value::Elsewhere];
        walker.root(program.function, context);
    }
    // What no program calls: global functions for others to replace, callbacks that are registered elsewhere.
    for id in (0..object.functions.len()).map(FunctionId) {
        if !walker.facts.contains_key(&id) {
            walker.root(id, [Value::Elsewhere; 5]);
        }
    }
    walker.complete
}

struct Walker<'a> {
    object: &'a Object,
    report: &'a mut dyn FnMut(&Seen<'_>),
    facts: HashMap<FunctionId, Rc<Facts<'a>>>,
    /// What a function returns for these arguments; there from the start of its walk, so that recursion ends.
    results: HashMap<(FunctionId, [Value; 5], u8), Value>,
    reported: HashSet<(FunctionId, [Value; 5], u8)>,
    budget: usize,
    left: usize,
    /// Bytes of all states of all functions that are being walked.
    held: Rc<Cell<usize>>,
    complete: bool,
}

/// What is the same in every walk over a function.
struct Facts<'a> {
    function: &'a Function,
    targets: HashMap<usize, Target>,
    /// Instructions whose numbers are the kernel's to fill in.
    core: HashSet<usize>,
    /// Where paths can meet.
    leaders: HashSet<usize>,
}

impl<'a> Facts<'a> {
    fn new(function: &'a Function) -> Facts<'a> {
        let mut leaders = HashSet::from([0]);
        for (at, insn) in function.insns.iter().enumerate() {
            leaders.extend(jump_target(*insn, at));
        }
        Facts {
            function,
            targets: function.relocs.iter().map(|reloc| (reloc.insn, reloc.target)).collect(),
            core: function.core.iter().map(|core| core.insn).collect(),
            leaders,
        }
    }
}

/// Where a jump goes when it is taken.
pub(crate) fn jump_target(insn: Insn, at: usize) -> Option<usize> {
    let by = match (insn.class(), insn.code & 0xf0) {
        (Insn::JMP | Insn::JMP32, CALL | EXIT) => return None,
        // `gotol`: the offset is in the immediate.
        (Insn::JMP32, JA) => insn.imm,
        (Insn::JMP | Insn::JMP32, _) => insn.off.into(),
        _ => return None,
    };
    at.checked_add(1)?.checked_add_signed(isize::try_from(by).ok()?)
}

/// Whether the instruction behind this one can run next.
pub(crate) fn falls_through(insn: Insn) -> bool {
    !matches!((insn.class(), insn.code & 0xf0), (Insn::JMP, EXIT | JA) | (Insn::JMP32, JA))
}

const JA: u8 = 0x00;
const JEQ: u8 = 0x10;
const JGT: u8 = 0x20;
const JGE: u8 = 0x30;
const JNE: u8 = 0x50;
const JSGT: u8 = 0x60;
const JSGE: u8 = 0x70;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const JLT: u8 = 0xa0;
const JLE: u8 = 0xb0;
const JSLT: u8 = 0xc0;
const JSLE: u8 = 0xd0;
/// The second operand is a register.
const X: u8 = 0x08;

impl<'a> Walker<'a> {
    fn root(&mut self, id: FunctionId, arguments: [Value; 5]) {
        self.budget = PER_PROGRAM.min(self.left);
        let before = self.budget;
        self.run(id, arguments, 0, true);
        self.left = self.left.saturating_sub(before.saturating_sub(self.budget));
    }

    fn facts(&mut self, id: FunctionId) -> Option<Rc<Facts<'a>>> {
        let function = self.object.functions.get(id.0)?;
        Some(Rc::clone(self.facts.entry(id).or_insert_with(|| Rc::new(Facts::new(function)))))
    }

    /// Walks a function; returns what it returns. The second walk, over what the first one found out, reports.
    fn run(&mut self, id: FunctionId, arguments: [Value; 5], frame: u8, report: bool) -> Value {
        let key = (id, arguments, frame);
        let known = self.results.get(&key).copied();
        if let Some(result) = known.filter(|_| !report || self.reported.contains(&key)) {
            return result;
        }
        let Some(facts) = self.facts(id).filter(|_| frame < MAX_FRAMES) else { return Value::Unknown };
        self.results.entry(key).or_insert(Value::Unknown);
        let mut entries = BTreeMap::from([(0usize, (State::entry(arguments, Frame { depth: frame, of: id }), 0u32))]);
        let mut changed = BTreeSet::from([0usize]);
        let mut result = None;
        let held = Rc::clone(&self.held);
        let (before, full) = (held.get(), Cell::new(false));
        while let Some(start) = changed.pop_first() {
            let Some(state) = entries.get(&start).map(|(state, _)| state.clone()) else { continue };
            let mut meet = |at: usize, state: &State| {
                let new = match entries.get_mut(&at) {
                    Some((known, times)) => {
                        *times = times.saturating_add(1);
                        known.join(state, *times > WIDEN_AFTER)
                    }
                    None => {
                        let more = held.get().saturating_add(state.bytes());
                        if more > MAX_HELD {
                            full.set(true);
                            return;
                        }
                        held.set(more);
                        entries.insert(at, (state.clone(), 0));
                        true
                    }
                };
                if new {
                    changed.insert(at);
                }
            };
            let going = self.block(id, &facts, start, state, &mut meet, &mut result, false);
            if !going || full.get() {
                self.complete = false;
                held.set(before);
                return Value::Unknown;
            }
        }
        if report && self.reported.insert(key) {
            for (start, (state, _)) in &entries {
                self.block(id, &facts, *start, state.clone(), &mut |_, _| {}, &mut None, true);
            }
        }
        held.set(before);
        // Without an exit that is reached, nothing comes back.
        let result = result.unwrap_or(Value::Unknown);
        self.results.insert(key, result);
        result
    }

    /// From a place where paths meet to the next one. `false`: out of budget.
    #[allow(clippy::too_many_arguments, reason = "the state of one walk, used in two places")]
    fn block(
        &mut self,
        id: FunctionId,
        facts: &Facts<'a>,
        start: usize,
        mut state: State,
        meet: &mut dyn FnMut(usize, &State),
        result: &mut Option<Value>,
        report: bool,
    ) -> bool {
        let mut at = start;
        while let Some(insn) = facts.function.insns.get(at).copied() {
            if at != start && facts.leaders.contains(&at) {
                meet(at, &state);
                return true;
            }
            // What is copied and compared where paths part and meet is work, too.
            let cost = if matches!(insn.class(), Insn::JMP | Insn::JMP32) { state.cost() } else { 1 };
            let Some(budget) = self.budget.checked_sub(cost) else {
                self.complete = false;
                return false;
            };
            self.budget = budget;
            let next = at.saturating_add(1);
            match (insn.class(), insn.code & 0xf0) {
                (Insn::JMP, CALL) => self.call(id, facts, at, insn, &mut state, report),
                (Insn::JMP, EXIT) => {
                    let returned = state.get(0);
                    *result = Some(result.map_or(returned, |known| known.join(returned, false)));
                    return true;
                }
                // Through a table of targets: where it goes is not followed.
                (Insn::JMP, JA) if insn.code & X != 0 => {
                    self.complete = false;
                    return true;
                }
                (Insn::JMP | Insn::JMP32, JA) => {
                    if let Some(target) = jump_target(insn, at) {
                        meet(target, &state);
                    }
                    return true;
                }
                (Insn::JMP | Insn::JMP32, op) => {
                    if let Some(target) = jump_target(insn, at)
                        && let Some(taken) = refined(&state, insn, op, true)
                    {
                        meet(target, &taken);
                    }
                    match refined(&state, insn, op, false) {
                        Some(not_taken) => state = not_taken,
                        None => return true,
                    }
                }
                (Insn::LD, _) if insn.is_ld_imm64() => {
                    state.set(insn.dst, immediate(facts, at, insn));
                    state.set_made(insn.dst, Made::at(at));
                    at = next.saturating_add(1);
                    continue;
                }
                // Packet loads of old (`BPF_ABS`, `BPF_IND`).
                (Insn::LD, _) => {
                    state.forget_arguments();
                    state.set(0, Value::Number(0, u32::MAX.into()));
                }
                (Insn::LDX, _) => {
                    if report {
                        let from = state.get(insn.src).add(Value::constant(i64::from(insn.off).cast_unsigned()));
                        let load = Load { function: id, insn: at, from, bytes: access_bytes(insn) };
                        (self.report)(&Seen::Load(&load));
                    }
                    load(&mut state, insn, at, facts.core.contains(&at).then_some(Site { function: id, insn: at }));
                }
                (Insn::ST | Insn::STX, _) => {
                    if report {
                        (self.report)(&Seen::Store(&written(&state, insn, id, at, facts.core.contains(&at))));
                    }
                    store(&mut state, insn, facts.core.contains(&at));
                }
                (Insn::ALU | Insn::ALU64, _) => {
                    const MOV: u8 = 0xb0;
                    let moved = Some(state.made(insn.src)).filter(|_| insn.code & 0xf0 == MOV && insn.code & X != 0);
                    let element = element(&state, facts.function, at, insn);
                    compute(&mut state, insn, facts.core.contains(&at));
                    if let Some(element) = element {
                        state.set(insn.dst, element);
                    }
                    // A copy of all of a register: 32 bits are where the others are 0.
                    let copied = insn.code & 0xf0 == MOV && insn.code & X != 0 && insn.off == 0 && insn.dst != insn.src;
                    let small = matches!(state.get(insn.src), Value::Number(_, high) if high <= u32::MAX.into());
                    if copied && (insn.class() == Insn::ALU64 || small) {
                        state.copied(insn.dst, insn.src);
                    }
                    state.set_made(insn.dst, moved.filter(|made| made.by.is_some()).unwrap_or(Made::at(at)));
                }
                _ => {}
            }
            at = next;
        }
        true
    }

    fn call(&mut self, id: FunctionId, facts: &Facts<'a>, at: usize, insn: Insn, state: &mut State, report: bool) {
        let arguments = state.arguments();
        let mut origin = Origin::Other;
        let mut made = Made::default();
        let result = match (facts.targets.get(&at), insn.src) {
            (Some(Target::Call(callee)), _) => {
                state.clobber_behind(arguments);
                self.run(*callee, arguments, state.frame.depth.saturating_add(1), report)
            }
            (None, 0) => {
                let helper = Helper(insn.imm.cast_unsigned());
                let dynptr = dynptr(helper, arguments, state);
                if report {
                    let made = [1, 2, 3, 4, 5].map(|register| state.made(register));
                    let call = Call { function: id, insn: at, helper, arguments: &arguments, made, dynptr };
                    (self.report)(&Seen::Call(&call));
                }
                self.callbacks(helper, arguments, state, report);
                clobber(helper, arguments, state);
                let site = Site { function: id, insn: at };
                let [_, _, _, fourth, _] = arguments;
                if let (Helper::RINGBUF_RESERVE_DYNPTR, Value::Stack(frame, Some(to))) = (helper, fourth)
                    && frame == state.frame
                {
                    // The 16 bytes are the kernel's own; that they stand for the record is all that matters.
                    state.clobber(to, to.saturating_add(16));
                    state.spill(to, 8, Known { value: Value::Record(site, Some(0)), ..Known::NOTHING });
                }
                origin = Origin::of_helper(helper, arguments);
                made = Made::at(at);
                returned(helper, arguments, dynptr, site)
            }
            (Some(Target::Extern(function)), _)
                if self.object.externs.get(function.0).is_some_and(|f| SLICES.contains(&f.name.as_str())) =>
            {
                let [pointer, offset, ..] = arguments;
                held(pointer, state).add(offset)
            }
            (Some(Target::Extern(function)), _) => {
                match self.object.externs.get(function.0) {
                    Some(function) => clobber_of_kfunc(self.object.btf.as_ref(), function.btf, arguments, state),
                    None => state.clobber_behind(arguments),
                }
                Value::Elsewhere
            }
            _ => {
                state.clobber_behind(arguments);
                Value::Elsewhere
            }
        };
        state.forget_arguments();
        state.set(0, result);
        state.mark(0, origin);
        state.set_made(0, made);
    }

    /// Functions that a helper calls, with the arguments that it gives them.
    fn callbacks(&mut self, helper: Helper, arguments: [Value; 5], state: &State, report: bool) {
        let [map, _, third, fourth, _] = arguments;
        let any = Value::Elsewhere;
        for (n, argument) in arguments.into_iter().enumerate() {
            let Value::Function(callee) = argument else { continue };
            // include/uapi/linux/bpf.h says what each passes on; the callback is always the one before the context.
            let given = match (helper, map, n) {
                (Helper::LOOP, _, 1) => [Value::ANY_NUMBER, third, any, any, any],
                (Helper::FOR_EACH_MAP_ELEM, Value::Map(of), 1) => [map, any, Value::MapValue(of, Some(0)), third, any],
                (Helper::USER_RINGBUF_DRAIN, _, 1) => [any, third, any, any, any],
                (Helper::FIND_VMA, _, 2) => [any, any, fourth, any, any],
                _ => [any; 5],
            };
            self.run(callee, given, state.frame.depth.saturating_add(1), report);
        }
    }
}

/// Kernel functions that give a pointer into what a dynptr stands for.
const SLICES: &[&str] = &["bpf_dynptr_slice", "bpf_dynptr_slice_rdwr"];

/// What the dynptr at this place on the stack stands for.
fn held(pointer: Value, state: &State) -> Value {
    match pointer {
        Value::Stack(frame, Some(at)) if frame == state.frame => match state.spilled(at, 8).value {
            record @ Value::Record(..) => record,
            _ => Value::Unknown,
        },
        _ => Value::Unknown,
    }
}

/// What the dynptr among a helper's arguments stands for.
fn dynptr(helper: Helper, arguments: [Value; 5], state: &State) -> Value {
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
fn clobber(helper: Helper, arguments: [Value; 5], state: &mut State) {
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
fn clobber_of_kfunc(btf: Option<&Btf>, function: TypeId, arguments: [Value; 5], state: &mut State) {
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
fn returned(helper: Helper, arguments: [Value; 5], dynptr: Value, site: Site) -> Value {
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

fn immediate(facts: &Facts<'_>, at: usize, insn: Insn) -> Value {
    let high = facts.function.insns.get(at.saturating_add(1)).map_or(0, |second| second.imm);
    match facts.targets.get(&at) {
        Some(Target::Map(map)) => Value::Map(*map),
        Some(Target::Data { map, offset }) => Value::Data(*map, i64::from(*offset)),
        Some(Target::Address(function)) => Value::Function(*function),
        Some(Target::Call(_) | Target::Extern(_) | Target::JumpTable { .. }) => Value::Elsewhere,
        None if insn.src == 0 && !facts.core.contains(&at) => {
            Value::constant(u64::from(high.cast_unsigned()) << 32 | u64::from(insn.imm.cast_unsigned()))
        }
        None => Value::Elsewhere,
    }
}

fn access_bytes(insn: Insn) -> u32 {
    match insn.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// Offset in this function's frame that an access goes to.
fn own_frame(state: &State, base: Value, insn: Insn) -> Option<i32> {
    match base {
        Value::Stack(frame, Some(at)) if frame == state.frame => at.checked_add(insn.off.into()),
        _ => None,
    }
}

/// What a store does.
fn written(state: &State, insn: Insn, function: FunctionId, at: usize, core: bool) -> Store {
    let to = state.get(insn.dst).add(Value::constant(i64::from(insn.off).cast_unsigned()));
    let (value, origin, made) = match insn.class() {
        Insn::ST if !core => (Value::constant(i64::from(insn.imm).cast_unsigned()), Origin::Other, Made::default()),
        // What an atomic operation leaves is computed.
        Insn::STX if insn.code & 0xe0 == 0x60 => (state.get(insn.src), state.origin(insn.src), state.made(insn.src)),
        // A sum of durations is one.
        Insn::STX => match state.origin(insn.src) {
            elapsed @ Origin::Elapsed(_) if insn.imm & !1 == 0 => (Value::Unknown, elapsed, Made::default()),
            _ => (Value::Unknown, Origin::Other, Made::default()),
        },
        _ => (Value::Unknown, Origin::Other, Made::default()),
    };
    Store { function, insn: at, to, bytes: access_bytes(insn), value, origin, made }
}

fn load(state: &mut State, insn: Insn, index: usize, core: Option<Site>) {
    const MEM: u8 = 0x60;
    const MEMSX: u8 = 0x80;
    let base = state.get(insn.src);
    let at = own_frame(state, base, insn);
    let stored = at.map_or(Known::NOTHING, |at| state.spilled(at, access_bytes(insn)));
    let spilled = Some(stored).filter(|known| access_bytes(insn) == 8 && known.value != Value::Unknown);
    let signed = insn.code & 0xe0 == MEMSX;
    let origin =
        spilled.map_or_else(|| Origin::loaded(base, insn.off, access_bytes(insn), core, signed), |known| known.origin);
    let value = match (insn.code & 0xe0, access_bytes(insn), at) {
        (MEM, 8, Some(at)) => state.spilled(at, 8).value,
        // What copies a struct is not known to store constants.
        (MEM, 4, Some(_)) if stored.value.as_constant().is_none() => stored.value.truncated(4),
        // The stack can hold addresses of the stack.
        (MEM, 8, None) if matches!(base.loose(), Value::Stack(..) | Value::Unknown) => Value::Unknown,
        (MEM, 8, None) => Value::Elsewhere,
        (MEM, bytes, _) => Value::ANY_NUMBER.truncated(bytes),
        _ => Value::ANY_NUMBER,
    };
    state.set(insn.dst, value);
    state.mark(insn.dst, origin);
    let here = u32::try_from(index).ok();
    state.set_made(
        insn.dst,
        if stored.made.by.is_some() {
            Made { read: stored.made.read.or(here), ..stored.made }
        } else {
            Made::at(index)
        },
    );
}

fn store(state: &mut State, insn: Insn, core: bool) {
    const MEM: u8 = 0x60;
    const ATOMIC: u8 = 0xc0;
    const FETCH: i32 = 1;
    const COMPARE: i32 = 0xf1;
    const LOAD_ACQUIRE: i32 = 0x100;
    let atomic = insn.code & 0xe0 == ATOMIC && insn.class() == Insn::STX;
    if atomic && insn.imm == LOAD_ACQUIRE {
        state.set(insn.dst, Value::Unknown);
        return;
    }
    let bytes = access_bytes(insn).cast_signed();
    let value = match insn.class() {
        Insn::ST if !core => Value::constant(i64::from(insn.imm).cast_unsigned()),
        Insn::STX if insn.code & 0xe0 == MEM => state.get(insn.src),
        _ => Value::Unknown,
    };
    match (state.get(insn.dst), own_frame(state, state.get(insn.dst), insn)) {
        (_, Some(at)) if insn.class() == Insn::STX => {
            state.spill(at, bytes, Known { value, origin: state.origin(insn.src), made: state.made(insn.src) })
        }
        (_, Some(at)) => state.spill(at, bytes, Known { value, ..Known::NOTHING }),
        (base, None) => state.clobber_through(base, None),
    }
    if atomic && insn.imm & FETCH != 0 {
        state.set(if insn.imm == COMPARE { 0 } else { insn.src }, Value::Unknown);
    }
}

fn compute(state: &mut State, insn: Insn, core: bool) {
    const MOV: u8 = 0xb0;
    const ADD: u8 = 0x00;
    const NEG: u8 = 0x80;
    const END: u8 = 0xd0;
    let narrow = insn.class() == Insn::ALU;
    let width = |value: Value| if narrow { value.truncated(4) } else { value };
    let left = state.get(insn.dst);
    let right = match (insn.code & X != 0, core) {
        (true, _) => state.get(insn.src),
        // A CO-RE relocation fills in the number.
        (false, true) => Value::ANY_NUMBER,
        (false, false) => Value::constant(i64::from(insn.imm).cast_unsigned()),
    };
    let op = match insn.code & 0xf0 {
        0x10 => Some(Op::Sub),
        0x20 => Some(Op::Mul),
        // With an offset, division is signed.
        0x30 if insn.off == 0 => Some(Op::Div),
        0x90 if insn.off == 0 => Some(Op::Mod),
        0x40 => Some(Op::Or),
        0x50 => Some(Op::And),
        0xa0 => Some(Op::Xor),
        0x60 => Some(Op::Shl),
        0x70 => Some(Op::Shr),
        0xc0 => Some(Op::Sar),
        _ => None,
    };
    let value = match (insn.code & 0xf0, op) {
        (MOV, _) if insn.off == 0 => width(right),
        // `movsx`: the same number where it is not negative.
        (MOV, _) => match (insn.off, right) {
            (8, Value::Number(_, ..=0x7f))
            | (16, Value::Number(_, ..=0x7fff))
            | (32, Value::Number(_, ..=0x7fff_ffff)) => right,
            // Between address spaces.
            (1, _) => Value::Elsewhere,
            _ => Value::ANY_NUMBER,
        },
        (ADD, _) => width(width(left).add(width(right))),
        (NEG, _) => match left.as_constant() {
            Some(number) => width(Value::constant(number.wrapping_neg())),
            None => Value::ANY_NUMBER,
        },
        (END, _) => Value::ANY_NUMBER.truncated(insn.imm.cast_unsigned() / 8),
        (_, Some(Op::Sub)) if !narrow && !matches!(left, Value::Number(..)) => match right.as_constant() {
            Some(by) => left.add(Value::constant(by.wrapping_neg())),
            None => left.add(Value::ANY_NUMBER),
        },
        (_, Some(op)) if narrow => {
            let (left, mut right) = (left.truncated(4), right.truncated(4));
            let shift = matches!(op, Op::Shl | Op::Shr | Op::Sar);
            if shift {
                right = right.as_constant().map_or(Value::Number(0, 31), |bits| Value::constant(bits & 31));
            }
            let negative = op == Op::Sar && left.range().1 > i32::MAX.cast_unsigned().into();
            if negative { Value::ANY_NUMBER.truncated(4) } else { left.arithmetic(op, right).truncated(4) }
        }
        (_, Some(op)) => left.arithmetic(op, right),
        (_, None) => Value::ANY_NUMBER,
    };
    let from = if insn.code & X != 0 { state.origin(insn.src) } else { Origin::Other };
    let origin = state.origin(insn.dst).computed(insn.code & 0xf0, right.as_constant(), from, narrow);
    state.set(insn.dst, width(value));
    state.mark(insn.dst, origin);
}

/// The address of an array's element: a pointer to the first, and a number that a shift, a product or a mask made.
fn element(state: &State, function: &Function, at: usize, insn: Insn) -> Option<Value> {
    const ADD_X: u8 = 0x0f;
    let (left, right) = (state.get(insn.dst), state.get(insn.src));
    let (pointer, number, register) = match (left, right) {
        _ if insn.code != ADD_X => return None,
        (_, Value::Number(low, high)) if low < high => (left, right, insn.src),
        (Value::Number(low, high), _) if low < high => (right, left, insn.dst),
        _ => return None,
    };
    // What a loop adds to each time is made in two places.
    let Some(made) = state.made(register).by else {
        let step = added(state, function, at, register)?;
        // Where a loop ends at one number, nothing bounds what it counts.
        let first = match number {
            Value::Number(0, u64::MAX) => begun(function, at, register).map_or(number, Value::constant),
            known => known,
        };
        return pointer.stepped(first, step);
    };
    let at = usize::try_from(made).ok()?;
    let maker = function.insns.get(at)?;
    let before = function.insns.get(at.checked_sub(1)?);
    let bits = maker.imm.cast_unsigned();
    let step = match maker.code {
        // By a constant, 64 or 32 bits.
        0x67 | 0x64 => 1u32.checked_shl(bits)?,
        0x27 | 0x24 => bits,
        0x57 | 0x54 => 1u32.checked_shl(bits.trailing_zeros())?,
        // `x << 32 >> 29`: the upper half goes.
        0x77 if before.is_some_and(|before| before.code == 0x67 && before.imm == 32 && before.dst == maker.dst) => {
            1u32.checked_shl(32u32.checked_sub(bits)?)?
        }
        _ => 1,
    };
    pointer.indexed(number, step)
}

/// What the instructions behind this one add to a register, or to what it is a copy of.
fn added(state: &State, function: &Function, at: usize, register: u8) -> Option<u32> {
    const ADD_K: [u8; 2] = [0x07, 0x04];
    /// Instructions of a loop's body that are looked at.
    const NEAR: usize = 64;
    let near = function.insns.get(at..)?.iter().take(NEAR);
    let step = near.filter(|insn| ADD_K.contains(&insn.code) && state.alike(insn.dst, register));
    step.map(|insn| u32::try_from(insn.imm).ok()).next().flatten().filter(|step| *step > 0)
}

/// The constant that was put into a register last before a loop, in the order of the instructions.
fn begun(function: &Function, at: usize, register: u8) -> Option<u64> {
    const MOV_K: [u8; 2] = [0xb7, 0xb4];
    const ADD_K: [u8; 2] = [0x07, 0x04];
    /// Instructions before it that are looked at.
    const NEAR: usize = 64;
    let before = function.insns.get(at.saturating_sub(NEAR)..at)?.iter().rev();
    let sets = |insn: &&Insn| {
        matches!(insn.class(), Insn::ALU | Insn::ALU64 | Insn::LDX | Insn::LD)
            && insn.dst == register
            && !ADD_K.contains(&insn.code)
    };
    let last = before.into_iter().find(sets).filter(|insn| MOV_K.contains(&insn.code))?;
    u64::try_from(last.imm).ok()
}

/// The state behind a conditional jump, on one of its ways; `None`: that way is never taken.
fn refined(state: &State, insn: Insn, op: u8, taken: bool) -> Option<State> {
    let mut state = state.clone();
    let other =
        if insn.code & X != 0 { state.get(insn.src) } else { Value::constant(i64::from(insn.imm).cast_unsigned()) };
    // `5 > r1` says of r1 what `r1 < 5` does.
    let turned = insn.code & X != 0 && other.as_constant().is_none() && state.get(insn.dst).as_constant().is_some();
    let (register, left, right, op) = match turned {
        true => (insn.src, other, state.get(insn.dst).as_constant(), mirrored(op)),
        false => (insn.dst, state.get(insn.dst), other.as_constant(), op),
    };
    let (low, high, right) = match (left, right) {
        (Value::Number(low, high), Some(right)) => (low, high, right),
        // What a helper returned, bounded from above: a number. A pointer is compared with 0 only.
        (Value::Elsewhere, Some(right))
            if matches!((op, taken), (JGT | JGE, false) | (JLT | JLE, true)) && right > 0 =>
        {
            (0, u64::MAX, right)
        }
        _ => return Some(state),
    };
    let (right, most, positive) = if insn.class() == Insn::JMP32 {
        (right & 0xffff_ffff, u64::from(u32::MAX), i32::MAX.cast_unsigned().into())
    } else {
        (right, u64::MAX, i64::MAX.cast_unsigned())
    };
    if high > most {
        return Some(state);
    }
    // Signed comparisons are unsigned ones where nothing is negative.
    let op = match op {
        JSGT | JSGE | JSLT | JSLE if high > positive || right > positive => return Some(state),
        JSGT => JGT,
        JSGE => JGE,
        JSLT => JLT,
        JSLE => JLE,
        other => other,
    };
    let (low, high) = match (op, taken) {
        (JEQ, true) | (JNE, false) => (low.max(right), high.min(right)),
        (JEQ, false) | (JNE, true) if low == right => (low.checked_add(1)?, high),
        (JEQ, false) | (JNE, true) if high == right => (low, high.checked_sub(1)?),
        (JGT, true) | (JLE, false) => (low.max(right.checked_add(1)?), high),
        (JGT, false) | (JLE, true) => (low, high.min(right)),
        (JGE, true) | (JLT, false) => (low.max(right), high),
        (JGE, false) | (JLT, true) => (low, high.min(right.checked_sub(1)?)),
        _ => (low, high),
    };
    if low > high {
        return None;
    }
    state.narrow(register, Value::Number(low, high));
    Some(state)
}

/// The comparison with its operands exchanged.
fn mirrored(op: u8) -> u8 {
    match op {
        JGT => JLT,
        JLT => JGT,
        JGE => JLE,
        JLE => JGE,
        JSGT => JSLT,
        JSLT => JSGT,
        JSGE => JSLE,
        JSLE => JSGE,
        other => other,
    }
}

/// The map that an argument stands for, and whether it is a map inside that one.
pub(crate) fn map_of(object: &Object, argument: Value) -> (Option<MapId>, bool) {
    match argument {
        Value::Map(map) => (Some(map), false),
        Value::MapValue(map, Some(0)) if object.maps.get(map.0).is_some_and(|map| map.inner.is_some()) => {
            (Some(map), true)
        }
        _ => (None, false),
    }
}
