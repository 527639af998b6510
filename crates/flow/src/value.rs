//! What a register can hold.

use ringfence_object::{FunctionId, MapId};

use crate::origin::Origin;

/// A frame of the call stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Frame {
    /// How many functions called it.
    pub(crate) depth: u8,
    /// The function that runs in it.
    pub(crate) of: FunctionId,
}

/// The call that reserved a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Site {
    /// The function that it is in.
    pub(crate) function: FunctionId,
    /// Index into its instructions.
    pub(crate) insn: usize,
}

/// The instructions that gave a register its value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Made {
    /// What computed it, or read it first.
    pub(crate) by: Option<u32>,
    /// What read it back from the stack first: spills and reloads that follow say nothing.
    pub(crate) read: Option<u32>,
}

impl Made {
    pub(crate) fn at(insn: usize) -> Made {
        Made { by: u32::try_from(insn).ok(), read: None }
    }

    /// What both agree on.
    pub(crate) fn join(self, other: Made) -> Made {
        Made { by: self.by.filter(|_| self.by == other.by), read: self.read.filter(|_| self.read == other.read) }
    }

    /// The instructions, the last one first.
    pub(crate) fn steps(self) -> impl Iterator<Item = usize> {
        [self.read, self.by].into_iter().flatten().filter_map(|at| usize::try_from(at).ok())
    }
}

/// A value, and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    pub(crate) made: Made,
}

impl Known {
    pub(crate) const NOTHING: Known =
        Known { value: Value::Unknown, origin: Origin::Other, made: Made { by: None, read: None } };
}

/// Memory that pointers lead to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Base {
    Stack(Frame),
    MapValue(MapId),
    Record(Site),
    Either(Site, MapId),
}

/// Places at the same distance from each other: where a loop, or an index, leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Stride {
    /// The first.
    pub(crate) start: i32,
    /// From each to the next; 0: there is one.
    pub(crate) step: u32,
    /// How many; 0: not known.
    pub(crate) count: u32,
}

impl Stride {
    /// Longest step; larger things are no elements of an array.
    pub(crate) const MAX_STEP: u32 = 1 << 16;

    /// The places of both; `None`: they have no step in common.
    fn join(self, other: Stride) -> Option<Stride> {
        if self == other {
            return Some(self);
        }
        let apart = self.start.abs_diff(other.start);
        let step = gcd(gcd(self.step, other.step), apart);
        let same = (self.start, self.step, self.count) == (other.start, other.step, other.count);
        let count = if same { self.count } else { 0 };
        (1..=Stride::MAX_STEP).contains(&step).then_some(Stride { start: self.start.min(other.start), step, count })
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

/// An abstract value. What it says is true of every run; [`Value::Unknown`] says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::enum_variant_names, reason = "a map's value is called a map value")]
pub(crate) enum Value {
    /// Anything.
    Unknown,
    /// Anything but an address in a frame of the call stack.
    Elsewhere,
    /// An unsigned number between these, both included.
    Number(u64, u64),
    /// The program's context.
    Context,
    /// Address of a map.
    Map(MapId),
    /// Address in a frame of the call stack: whose, bytes from its top. `None`: anywhere in it.
    Stack(Frame, Option<i32>),
    /// Address in a value that was looked up, or a map that was looked up in a map of maps. `None`: some offset.
    MapValue(MapId, Option<i32>),
    /// Address in a data section.
    Data(MapId, i64),
    /// Address in a record that was reserved.
    Record(Site, Option<i32>),
    /// Address in a record that was reserved, or in a map's value where there are no ring buffers.
    Either(Site, MapId, Option<i32>),
    /// One of several addresses in such memory.
    Every(Base, Stride),
    /// Address of a function.
    Function(FunctionId),
}

impl Value {
    pub(crate) const ANY_NUMBER: Value = Value::Number(0, u64::MAX);

    pub(crate) fn constant(value: u64) -> Value {
        Value::Number(value, value)
    }

    pub(crate) fn as_constant(self) -> Option<u64> {
        match self {
            Value::Number(low, high) if low == high => Some(low),
            _ => None,
        }
    }

    /// The range of a number; everything where it is none (a pointer is a number, too).
    pub(crate) fn range(self) -> (u64, u64) {
        match self {
            Value::Number(low, high) => (low, high),
            _ => (0, u64::MAX),
        }
    }

    /// What it leads to, and where in it; `None`: not known.
    fn place(self) -> Option<(Base, Option<Stride>)> {
        let one = |at: Option<i32>| at.map(|start| Stride { start, step: 0, count: 1 });
        match self {
            Value::Stack(frame, at) => Some((Base::Stack(frame), one(at))),
            Value::MapValue(map, at) => Some((Base::MapValue(map), one(at))),
            Value::Record(site, at) => Some((Base::Record(site), one(at))),
            Value::Either(site, map, at) => Some((Base::Either(site, map), one(at))),
            Value::Every(base, stride) => Some((base, Some(stride))),
            Value::Unknown
            | Value::Elsewhere
            | Value::Number(..)
            | Value::Context
            | Value::Map(_)
            | Value::Data(..)
            | Value::Function(_) => None,
        }
    }

    fn at(base: Base, stride: Option<Stride>) -> Value {
        match stride {
            Some(stride) if stride.step > 0 => Value::Every(base, stride),
            one => {
                let at = one.map(|one| one.start);
                match base {
                    Base::Stack(frame) => Value::Stack(frame, at),
                    Base::MapValue(map) => Value::MapValue(map, at),
                    Base::Record(site) => Value::Record(site, at),
                    Base::Either(site, map) => Value::Either(site, map, at),
                }
            }
        }
    }

    /// The same, with one place or none: several are somewhere.
    pub(crate) fn loose(self) -> Value {
        match self {
            Value::Every(base, _) => Value::at(base, None),
            other => other,
        }
    }

    /// An element of an array: the address of the first moved by a number of which each step is so many bytes.
    pub(crate) fn indexed(self, by: Value, step: u32) -> Option<Value> {
        let (base, Some(Stride { start, step: 0, .. })) = self.place()? else { return None };
        let Value::Number(low, high) = by else { return None };
        let low = i32::try_from(low).ok()?;
        // What a loop counts, and nothing bounds here: its steps are those of a shift or a product.
        let Some(last) = u32::try_from(high).ok().filter(|last| *last <= Stride::MAX_STEP) else {
            let stepped = low == 0 && (2..=Stride::MAX_STEP).contains(&step);
            return stepped.then_some(Value::Every(base, Stride { start, step, count: 0 }));
        };
        let count = last.checked_sub(low.cast_unsigned())?.checked_div(step)?.checked_add(1)?;
        let known = count > 1 && step <= Stride::MAX_STEP;
        known.then_some(Value::Every(base, Stride { start: start.checked_add(low)?, step, count }))
    }

    /// An element of an array: the address of the first moved by a number to which a loop adds.
    pub(crate) fn stepped(self, by: Value, step: u32) -> Option<Value> {
        let (base, Some(Stride { start, step: 0, .. })) = self.place()? else { return None };
        let start = start.checked_add(i32::try_from(by.range().0).ok()?)?;
        (step <= Stride::MAX_STEP).then_some(Value::Every(base, Stride { start, step, count: 0 }))
    }

    /// What holds where paths meet. `widen`: they met here often, so a range that still grows is given up.
    pub(crate) fn join(self, other: Value, widen: bool) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Every(..), _) | (_, Value::Every(..)) => match (self.place(), other.place()) {
                (Some((a, Some(one))), Some((b, Some(two)))) if a == b => {
                    let both = one.join(two).filter(|both| !widen || *both == one);
                    Value::at(a, both)
                }
                _ => self.loose().join(other.loose(), widen),
            },
            (Value::Number(a, b), Value::Number(c, d)) if !widen => Value::Number(a.min(c), b.max(d)),
            (Value::Number(a, b), Value::Number(c, d)) => {
                Value::Number(if c < a { 0 } else { a }, if d > b { u64::MAX } else { b })
            }
            (Value::Stack(a, _), Value::Stack(b, _)) if a == b => self.several(other, widen),
            (Value::MapValue(a, _), Value::MapValue(b, _)) if a == b => self.several(other, widen),
            (Value::Record(a, _), Value::Record(b, _)) if a == b => self.several(other, widen),
            (Value::Record(site, a), Value::MapValue(map, b)) | (Value::MapValue(map, a), Value::Record(site, b)) => {
                Value::Either(site, map, if a == b { a } else { None })
            }
            (Value::Either(s, m, _), Value::Either(t, n, _)) if (s, m) == (t, n) => self.several(other, widen),
            (Value::Either(s, m, a), Value::Record(t, b)) | (Value::Record(t, b), Value::Either(s, m, a)) if s == t => {
                Value::Either(s, m, if a == b { a } else { None })
            }
            (Value::Either(s, m, a), Value::MapValue(n, b)) | (Value::MapValue(n, b), Value::Either(s, m, a))
                if m == n =>
            {
                Value::Either(s, m, if a == b { a } else { None })
            }
            // A lookup that failed gives 0; what is read through the pointer later is the value.
            (pointer @ (Value::MapValue(..) | Value::Record(..) | Value::Either(..)), Value::Number(0, 0))
            | (Value::Number(0, 0), pointer @ (Value::MapValue(..) | Value::Record(..) | Value::Either(..))) => pointer,
            _ => self.vague(other),
        }
    }

    /// One of two places of the same memory.
    fn several(self, other: Value, widen: bool) -> Value {
        match (self.place(), other.place()) {
            (Some((base, Some(one))), Some((_, Some(two)))) if !widen => Value::at(base, one.join(two)),
            (Some((base, _)), _) => Value::at(base, None),
            (None, _) => Value::Unknown,
        }
    }

    /// Something that was made of both.
    fn vague(self, other: Value) -> Value {
        let on_stack = |value| matches!(value, Value::Stack(..) | Value::Every(Base::Stack(_), _) | Value::Unknown);
        if on_stack(self) || on_stack(other) { Value::Unknown } else { Value::Elsewhere }
    }

    /// A pointer moved by a number; a number plus a number.
    pub(crate) fn add(self, other: Value) -> Value {
        let moved = |offset: Option<i32>, by: Value| {
            let by = i32::try_from(by.as_constant()?.cast_signed()).ok()?;
            offset?.checked_add(by)
        };
        match (self, other) {
            (Value::Every(base, stride), by) | (by, Value::Every(base, stride)) => {
                let start = moved(Some(stride.start), by).filter(|_| by.place().is_none());
                Value::at(base, start.map(|start| Stride { start, ..stride }))
            }
            (Value::Number(a, b), Value::Number(c, d)) => match (a.checked_add(c), b.checked_add(d)) {
                (Some(low), Some(high)) => Value::Number(low, high),
                // Both ends wrap around: a negative number was added.
                (None, None) => Value::Number(a.wrapping_add(c), b.wrapping_add(d)),
                _ => Value::ANY_NUMBER,
            },
            (Value::Stack(frame, at), by @ Value::Number(..)) | (by @ Value::Number(..), Value::Stack(frame, at)) => {
                Value::Stack(frame, moved(at, by))
            }
            (Value::MapValue(map, at), by @ Value::Number(..)) | (by @ Value::Number(..), Value::MapValue(map, at)) => {
                Value::MapValue(map, moved(at, by))
            }
            (Value::Record(site, at), by @ Value::Number(..)) | (by @ Value::Number(..), Value::Record(site, at)) => {
                Value::Record(site, moved(at, by))
            }
            (Value::Either(site, map, at), by @ Value::Number(..))
            | (by @ Value::Number(..), Value::Either(site, map, at)) => Value::Either(site, map, moved(at, by)),
            (Value::Data(map, at), by @ Value::Number(..)) | (by @ Value::Number(..), Value::Data(map, at)) => {
                let moved = by.as_constant().and_then(|by| at.checked_add(by.cast_signed()));
                moved.map_or(Value::Elsewhere, |at| Value::Data(map, at))
            }
            _ => self.vague(other),
        }
    }

    /// As a number of this many bytes: what a narrow move or load leaves.
    pub(crate) fn truncated(self, bytes: u32) -> Value {
        let most = match bytes {
            1 => 0xff,
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => return self,
        };
        match self {
            Value::Number(low, high) if high <= most => Value::Number(low, high),
            Value::Number(low, high) if low == high => Value::constant(low & most),
            _ => Value::Number(0, most),
        }
    }

    /// `and`, `or`, shifts and so on of two numbers; 64 bits.
    pub(crate) fn arithmetic(self, op: Op, other: Value) -> Value {
        let ((a, b), (c, d)) = (self.range(), other.range());
        if let (Some(a), Some(c)) = (self.as_constant(), other.as_constant()) {
            return Value::constant(op.of(a, c));
        }
        let shift = u32::try_from(c).ok().filter(|bits| c == d && *bits < 64);
        match (op, shift) {
            (Op::And, _) => Value::Number(0, b.min(d)),
            (Op::Or | Op::Xor, _) => {
                // No bit above the highest of either.
                let bits = (b | d).checked_ilog2().map_or(0, |bit| u64::MAX >> 63u32.saturating_sub(bit));
                Value::Number(if op == Op::Or { a.max(c) } else { 0 }, bits)
            }
            (Op::Shl, Some(bits)) if b.leading_zeros() >= bits => Value::Number(a << bits, b << bits),
            (Op::Shr, Some(bits)) => Value::Number(a >> bits, b >> bits),
            (Op::Sar, Some(bits)) if b <= i64::MAX.cast_unsigned() => Value::Number(a >> bits, b >> bits),
            (Op::Sub, _) if a >= d => Value::Number(a.saturating_sub(d), b.saturating_sub(c)),
            (Op::Mul, _) => match b.checked_mul(d) {
                Some(high) => Value::Number(a.saturating_mul(c), high),
                None => Value::ANY_NUMBER,
            },
            (Op::Div, _) if c > 0 => Value::Number(a.checked_div(d).unwrap_or(0), b.checked_div(c).unwrap_or(u64::MAX)),
            // The remainder by 0 is the dividend.
            (Op::Mod, _) if c > 0 => Value::Number(0, b.min(d.saturating_sub(1))),
            _ => Value::ANY_NUMBER,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Sar,
}

impl Op {
    /// As the kernel's interpreter computes it (`___bpf_prog_run` in kernel/bpf/core.c).
    fn of(self, a: u64, b: u64) -> u64 {
        let bits = (b & 63) as u32;
        match self {
            Op::Sub => a.wrapping_sub(b),
            Op::Mul => a.wrapping_mul(b),
            Op::Div => a.checked_div(b).unwrap_or(0),
            Op::Mod => a.checked_rem(b).unwrap_or(a),
            Op::And => a & b,
            Op::Or => a | b,
            Op::Xor => a ^ b,
            Op::Shl => a.wrapping_shl(bits),
            Op::Shr => a.wrapping_shr(bits),
            Op::Sar => a.cast_signed().wrapping_shr(bits).cast_unsigned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn within(value: Value, number: u64) -> bool {
        let (low, high) = value.range();
        low <= number && number <= high
    }

    const OPS: [Op; 10] = [Op::Sub, Op::Mul, Op::Div, Op::Mod, Op::And, Op::Or, Op::Xor, Op::Shl, Op::Shr, Op::Sar];

    /// A range and a number in it, near the edges as often as not.
    fn number() -> impl Strategy<Value = (Value, u64)> {
        let edge = prop_oneof![0u64..70, any::<u64>(), (0u64..70).prop_map(|n| !n), any::<u32>().prop_map(u64::from)];
        (edge.clone(), edge.clone(), edge).prop_map(|(a, b, c)| {
            let mut all = [a, b, c];
            all.sort_unstable();
            let [low, number, high] = all;
            (Value::Number(low, high), number)
        })
    }

    proptest! {
        #[test]
        fn ranges_hold((left, a) in number(), (right, b) in number()) {
            for op in OPS {
                prop_assert!(within(left.arithmetic(op, right), op.of(a, b)), "{op:?}");
                let constant = Value::constant(b);
                prop_assert!(within(left.arithmetic(op, constant), op.of(a, b)), "{op:?} constant");
            }
            prop_assert!(within(left.add(right), a.wrapping_add(b)));
            for (bytes, mask) in [(1, 0xff), (2, 0xffff), (4, 0xffff_ffff), (8, u64::MAX)] {
                prop_assert!(within(left.truncated(bytes), a & mask));
            }
            for widen in [false, true] {
                prop_assert!(within(left.join(right, widen), a) && within(left.join(right, widen), b));
            }
        }
    }
}
