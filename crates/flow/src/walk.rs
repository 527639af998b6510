//! Abstract interpretation: what every register can hold at every instruction, over all paths, through calls and callbacks.
//!
//! Paths are joined at jump targets until nothing changes; a range that keeps growing there is given up. Only then
//! the calls are reported, with what holds at last. Work is bounded by [`PER_PROGRAM`] and [`IN_ALL`].

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use ringfence_object::{Function, FunctionId, MapId, Object, Target};
use ringfence_uapi::{Helper, Insn};

use crate::compare::{Way, way};
use crate::helpers::{SLICES, clobber, clobber_of_kfunc, dynptr, held, returned};
use crate::origin::Origin;
use crate::state::State;
use crate::step::{X, access_bytes, compute, element, load, store};
use crate::value::{Frame, Known, Made, Site, Value};

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
    /// Of each instruction, whether its numbers are the kernel's to fill in.
    core: Vec<bool>,
    /// Of each instruction, whether paths can meet there.
    leaders: Vec<bool>,
}

impl<'a> Facts<'a> {
    fn new(function: &'a Function) -> Facts<'a> {
        let insns = &function.insns;
        let marked = |places: &mut dyn Iterator<Item = usize>| {
            let mut marks = vec![false; insns.len()];
            for place in places {
                if let Some(mark) = marks.get_mut(place) {
                    *mark = true;
                }
            }
            marks
        };
        let jumps = insns.iter().enumerate().filter_map(|(at, insn)| jump_target(*insn, at));
        Facts {
            function,
            targets: function.relocs.iter().map(|reloc| (reloc.insn, reloc.target)).collect(),
            core: marked(&mut function.core.iter().map(|core| core.insn)),
            leaders: marked(&mut jumps.chain([0])),
        }
    }

    fn is_core(&self, at: usize) -> bool {
        self.core.get(at).copied().unwrap_or(false)
    }

    fn is_leader(&self, at: usize) -> bool {
        self.leaders.get(at).copied().unwrap_or(false)
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
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

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
        let entry = State::entry(arguments, Frame { depth: frame, of: id });
        let mut entries = BTreeMap::from([(0usize, Box::new((entry, 0u32)))]);
        let mut changed = BTreeSet::from([0usize]);
        let mut result = None;
        let held = Rc::clone(&self.held);
        let (before, full) = (held.get(), Cell::new(false));
        while let Some(start) = changed.pop_first() {
            let Some(state) = entries.get(&start).map(|entry| entry.0.clone()) else { continue };
            let mut meet = |at: usize, state: &State| {
                let new = match entries.get_mut(&at) {
                    Some(entry) => {
                        let (known, times) = entry.as_mut();
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
                        entries.insert(at, Box::new((state.clone(), 0)));
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
            for (start, entry) in &entries {
                self.block(id, &facts, *start, entry.0.clone(), &mut |_, _| {}, &mut None, true);
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
            if at != start && facts.is_leader(at) {
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
                    if let Some(target) = jump_target(insn, at) {
                        match way(&state, insn, op, true) {
                            Way::Never => {}
                            Way::Same => meet(target, &state),
                            Way::Narrow(register, to) => {
                                let mut taken = state.clone();
                                taken.narrow(register, to);
                                meet(target, &taken);
                            }
                        }
                    }
                    match way(&state, insn, op, false) {
                        Way::Never => return true,
                        Way::Same => {}
                        Way::Narrow(register, to) => state.narrow(register, to),
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
                    load(&mut state, insn, at, facts.is_core(at).then_some(Site { function: id, insn: at }));
                }
                (Insn::ST | Insn::STX, _) => {
                    if report {
                        (self.report)(&Seen::Store(&written(&state, insn, id, at, facts.is_core(at))));
                    }
                    store(&mut state, insn, facts.is_core(at));
                }
                (Insn::ALU | Insn::ALU64, _) => {
                    const MOV: u8 = 0xb0;
                    let moved = Some(state.made(insn.src)).filter(|_| insn.code & 0xf0 == MOV && insn.code & X != 0);
                    let element = element(&state, facts.function, at, insn);
                    compute(&mut state, insn, facts.is_core(at));
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

fn immediate(facts: &Facts<'_>, at: usize, insn: Insn) -> Value {
    let high = facts.function.insns.get(at.saturating_add(1)).map_or(0, |second| second.imm);
    match facts.targets.get(&at) {
        Some(Target::Map(map)) => Value::Map(*map),
        Some(Target::Data { map, offset }) => Value::Data(*map, i64::from(*offset)),
        Some(Target::Address(function)) => Value::Function(*function),
        Some(Target::Call(_) | Target::Extern(_) | Target::JumpTable { .. }) => Value::Elsewhere,
        None if insn.src == 0 && !facts.is_core(at) => {
            Value::constant(u64::from(high.cast_unsigned()) << 32 | u64::from(insn.imm.cast_unsigned()))
        }
        None => Value::Elsewhere,
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
