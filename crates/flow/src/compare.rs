//! What a comparison says of a number, on either way.

use ringfence_uapi::Insn;

use crate::state::State;
use crate::step::X;
use crate::value::Value;

const JEQ: u8 = 0x10;
const JGT: u8 = 0x20;
const JGE: u8 = 0x30;
const JNE: u8 = 0x50;
const JSGT: u8 = 0x60;
const JSGE: u8 = 0x70;
const JLT: u8 = 0xa0;
const JLE: u8 = 0xb0;
const JSLT: u8 = 0xc0;
const JSLE: u8 = 0xd0;

/// What one way of a conditional jump tells of the state behind it.
pub(crate) enum Way {
    /// It is never gone.
    Never,
    /// Nothing.
    Same,
    /// This register, and its copies, hold a number in this range.
    Narrow(u8, Value),
}

/// What a conditional jump tells where it is taken, or where it is not.
pub(crate) fn way(state: &State, insn: Insn, op: u8, taken: bool) -> Way {
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
        _ => return Way::Same,
    };
    let (right, most, positive) = if insn.class() == Insn::JMP32 {
        (right & 0xffff_ffff, u64::from(u32::MAX), i32::MAX.cast_unsigned().into())
    } else {
        (right, u64::MAX, i64::MAX.cast_unsigned())
    };
    if high > most {
        return Way::Same;
    }
    // Signed comparisons are unsigned ones where nothing is negative.
    let op = match op {
        JSGT | JSGE | JSLT | JSLE if high > positive || right > positive => return Way::Same,
        JSGT => JGT,
        JSGE => JGE,
        JSLT => JLT,
        JSLE => JLE,
        other => other,
    };
    match range((low, high), op, right, taken) {
        Some((low, high)) if low <= high => Way::Narrow(register, Value::Number(low, high)),
        _ => Way::Never,
    }
}

/// What is left of a range; `None`: nothing.
fn range((low, high): (u64, u64), op: u8, right: u64, taken: bool) -> Option<(u64, u64)> {
    Some(match (op, taken) {
        (JEQ, true) | (JNE, false) => (low.max(right), high.min(right)),
        (JEQ, false) | (JNE, true) if low == right => (low.checked_add(1)?, high),
        (JEQ, false) | (JNE, true) if high == right => (low, high.checked_sub(1)?),
        (JGT, true) | (JLE, false) => (low.max(right.checked_add(1)?), high),
        (JGT, false) | (JLE, true) => (low, high.min(right)),
        (JGE, true) | (JLT, false) => (low.max(right), high),
        (JGE, false) | (JLT, true) => (low, high.min(right.checked_sub(1)?)),
        _ => (low, high),
    })
}

/// The comparison with its operands exchanged.
pub(crate) fn mirrored(op: u8) -> u8 {
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
