//! Registers and spilled values at one instruction.

use std::rc::Rc;

use crate::origin::Origin;
use crate::value::{Frame, Known, Made, Value};

/// Most spilled values that are remembered: the whole of the 512 bytes.
const MAX_SLOTS: usize = 128;

/// A value that was stored in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// Bytes from the frame's top.
    at: i32,
    /// 4 or 8.
    bytes: i32,
    known: Known,
}

/// What is known before an instruction runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    registers: [Value; 11],
    /// Where each register's value comes from.
    origins: [Origin; 11],
    /// What gave each register its value, where all paths agree.
    made: [Made; 11],
    /// The registers that hold the same value as each, one bit for one.
    same: [u16; 11],
    /// Spilled values by their offset, sorted. Most states that are copied change none.
    slots: Rc<Vec<Slot>>,
    /// This function's.
    pub(crate) frame: Frame,
}

impl State {
    /// At a function's entry.
    pub(crate) fn entry(arguments: [Value; 5], frame: Frame) -> State {
        let mut registers = [Value::Elsewhere; 11];
        for (register, argument) in registers.iter_mut().skip(1).zip(arguments) {
            *register = argument;
        }
        if let Some(fp) = registers.last_mut() {
            *fp = Value::Stack(frame, Some(0));
        }
        State {
            registers,
            origins: [Origin::Other; 11],
            made: [Made::default(); 11],
            same: own(),
            slots: Rc::default(),
            frame,
        }
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<State>().saturating_add(self.slots.len().saturating_mul(size_of::<Slot>()))
    }

    /// Time to copy and compare it, in instructions that do neither.
    pub(crate) fn cost(&self) -> usize {
        self.slots.len().div_ceil(4).saturating_add(1)
    }

    pub(crate) fn get(&self, register: u8) -> Value {
        self.registers.get(usize::from(register)).copied().unwrap_or(Value::Unknown)
    }

    pub(crate) fn set(&mut self, register: u8, value: Value) {
        // r10 is read-only.
        if let Some(slot) = self.registers.get_mut(usize::from(register)).filter(|_| register < 10) {
            *slot = value;
        }
        let bit = 1u16.checked_shl(register.into()).unwrap_or(0);
        for (at, same) in self.same.iter_mut().enumerate() {
            *same = if at == usize::from(register) { bit } else { *same & !bit };
        }
        self.mark(register, Origin::Other);
        self.set_made(register, Made::default());
    }

    /// One register was copied to another.
    pub(crate) fn copied(&mut self, to: u8, from: u8) {
        let bit = 1u16.checked_shl(to.into()).unwrap_or(0);
        let all = self.same.get(usize::from(from)).copied().unwrap_or(0) | bit;
        for (at, same) in self.same.iter_mut().enumerate() {
            if all.checked_shr(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1 {
                *same = all;
            }
        }
    }

    /// Whether two registers hold the same value.
    pub(crate) fn alike(&self, one: u8, other: u8) -> bool {
        let all = self.same.get(usize::from(one)).copied().unwrap_or(0);
        all.checked_shr(other.into()).unwrap_or(0) & 1 == 1
    }

    /// A comparison says more of a register's value, and of all copies.
    pub(crate) fn narrow(&mut self, register: u8, value: Value) {
        let all = self.same.get(usize::from(register)).copied().unwrap_or(0);
        for (at, known) in self.registers.iter_mut().enumerate() {
            if all.checked_shr(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1 {
                *known = value;
            }
        }
    }

    /// The instructions of this function that made a register's value.
    pub(crate) fn made(&self, register: u8) -> Made {
        self.made.get(usize::from(register)).copied().unwrap_or_default()
    }

    pub(crate) fn set_made(&mut self, register: u8, by: Made) {
        if let Some(slot) = self.made.get_mut(usize::from(register)) {
            *slot = by;
        }
    }

    /// Says where the value of a register comes from, which [`State::set`] forgot.
    pub(crate) fn mark(&mut self, register: u8, origin: Origin) {
        if let Some(slot) = self.origins.get_mut(usize::from(register)) {
            *slot = origin;
        }
    }

    pub(crate) fn origin(&self, register: u8) -> Origin {
        self.origins.get(usize::from(register)).copied().unwrap_or(Origin::Other)
    }

    pub(crate) fn arguments(&self) -> [Value; 5] {
        [1, 2, 3, 4, 5].map(|register| self.get(register))
    }

    /// A value of so many bytes that was spilled here.
    pub(crate) fn spilled(&self, offset: i32, bytes: u32) -> Known {
        let slot = self.slots.binary_search_by_key(&offset, |slot| slot.at).ok().and_then(|at| self.slots.get(at));
        slot.filter(|slot| slot.bytes.cast_unsigned() == bytes).map_or(Known::NOTHING, |slot| slot.known)
    }

    /// A register is stored in this function's frame.
    pub(crate) fn spill(&mut self, offset: i32, bytes: i32, known: Known) {
        self.clobber(offset, offset.saturating_add(bytes));
        let value = if bytes == 4 { known.value.truncated(4) } else { known.value };
        if matches!(bytes, 4 | 8)
            && value != Value::Unknown
            && self.slots.len() < MAX_SLOTS
            && let Err(at) = self.slots.binary_search_by_key(&offset, |slot| slot.at)
        {
            Rc::make_mut(&mut self.slots).insert(at, Slot { at: offset, bytes, known: Known { value, ..known } });
        }
    }

    /// Something unknown is written to `from..to` of this function's frame.
    pub(crate) fn clobber(&mut self, from: i32, to: i32) {
        let apart = |slot: &Slot| slot.at.saturating_add(slot.bytes) <= from || slot.at >= to;
        if !self.slots.iter().all(apart) {
            Rc::make_mut(&mut self.slots).retain(apart);
        }
    }

    /// A called function may have written through this pointer.
    pub(crate) fn clobber_through(&mut self, pointer: Value, bytes: Option<i32>) {
        match pointer.loose() {
            Value::Stack(frame, Some(at)) if frame == self.frame => {
                self.clobber(at, bytes.map_or(i32::MAX, |bytes| at.saturating_add(bytes)));
            }
            Value::Stack(frame, None) if frame == self.frame => self.slots = Rc::default(),
            Value::Unknown => self.slots = Rc::default(),
            _ => {}
        }
    }

    /// A called function may have written wherever these lead to: through them, or through a pointer that they point at.
    pub(crate) fn clobber_behind(&mut self, pointers: [Value; 5]) {
        let stack = |value: Value| {
            matches!(value.loose(), Value::Stack(frame, _) if frame == self.frame) || value == Value::Unknown
        };
        if pointers.into_iter().any(stack) && self.slots.iter().any(|slot| stack(slot.known.value)) {
            self.slots = Rc::default();
        }
        for pointer in pointers {
            self.clobber_through(pointer, None);
        }
    }

    /// After a call: r1 to r5 are gone.
    pub(crate) fn forget_arguments(&mut self) {
        (1..=5).for_each(|register| self.set(register, Value::Elsewhere));
    }

    /// Takes in another path's state; `true` when that says something new.
    pub(crate) fn join(&mut self, other: &State, widen: bool) -> bool {
        let (mut new, mut different) = (false, false);
        let mut joined = |mine: &mut Known, theirs: Known| {
            if *mine == theirs {
                return;
            }
            let before = *mine;
            mine.origin = met((mine.origin, mine.value), (theirs.origin, theirs.value));
            mine.value = mine.value.join(theirs.value, widen);
            mine.made = mine.made.join(theirs.made);
            new |= *mine != before;
        };
        let registers = self.registers.iter_mut().zip(&mut self.origins).zip(&mut self.made);
        let others = other.registers.into_iter().zip(other.origins).zip(other.made);
        for (((value, origin), made), ((theirs, from), by)) in registers.zip(others) {
            let mut mine = Known { value: *value, origin: *origin, made: *made };
            joined(&mut mine, Known { value: theirs, origin: from, made: by });
            (*value, *origin, *made) = (mine.value, mine.origin, mine.made);
        }
        for (mine, theirs) in self.same.iter_mut().zip(other.same) {
            let before = *mine;
            *mine &= theirs;
            different |= *mine != before;
        }
        if !Rc::ptr_eq(&self.slots, &other.slots) && self.slots != other.slots {
            let mut theirs = other.slots.iter().peekable();
            Rc::make_mut(&mut self.slots).retain_mut(|slot| {
                while theirs.next_if(|their| their.at < slot.at).is_some() {}
                let same = theirs.next_if(|their| (their.at, their.bytes) == (slot.at, slot.bytes));
                joined(&mut slot.known, same.map_or(Known::NOTHING, |their| their.known));
                slot.known.value != Value::Unknown
            });
        }
        new || different
    }
}

/// Each register by itself.
fn own() -> [u16; 11] {
    std::array::from_fn(|register| 1u16.checked_shl(u32::try_from(register).unwrap_or(u32::MAX)).unwrap_or(0))
}

/// Where a value comes from that comes from either. The number of a stack may be a constant: there is none.
fn met((a, of_a): (Origin, Value), (b, of_b): (Origin, Value)) -> Origin {
    let stack = |origin| matches!(origin, Origin::StackId | Origin::UserStackId);
    match (of_a.as_constant(), of_b.as_constant()) {
        (Some(_), None) if stack(b) => b,
        (None, Some(_)) if stack(a) => a,
        _ => a.join(b),
    }
}
