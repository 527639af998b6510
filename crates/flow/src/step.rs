//! What one instruction does to what is known.

use ringfence_object::Function;
use ringfence_uapi::Insn;

use crate::origin::Origin;
use crate::state::State;
use crate::value::{Known, Made, Op, Site, Value};

/// The second operand is a register.
pub(crate) const X: u8 = 0x08;

pub(crate) fn access_bytes(insn: Insn) -> u32 {
    match insn.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// Offset in this function's frame that an access goes to.
pub(crate) fn own_frame(state: &State, base: Value, insn: Insn) -> Option<i32> {
    match base {
        Value::Stack(frame, Some(at)) if frame == state.frame => at.checked_add(insn.off.into()),
        _ => None,
    }
}

pub(crate) fn load(state: &mut State, insn: Insn, index: usize, core: Option<Site>) {
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

pub(crate) fn store(state: &mut State, insn: Insn, core: bool) {
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

pub(crate) fn compute(state: &mut State, insn: Insn, core: bool) {
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
pub(crate) fn element(state: &State, function: &Function, at: usize, insn: Insn) -> Option<Value> {
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
pub(crate) fn added(state: &State, function: &Function, at: usize, register: u8) -> Option<u32> {
    const ADD_K: [u8; 2] = [0x07, 0x04];
    /// Instructions of a loop's body that are looked at.
    const NEAR: usize = 64;
    let near = function.insns.get(at..)?.iter().take(NEAR);
    let step = near.filter(|insn| ADD_K.contains(&insn.code) && state.alike(insn.dst, register));
    step.map(|insn| u32::try_from(insn.imm).ok()).next().flatten().filter(|step| *step > 0)
}

/// The constant that was put into a register last before a loop, in the order of the instructions.
pub(crate) fn begun(function: &Function, at: usize, register: u8) -> Option<u64> {
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
