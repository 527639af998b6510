//! Headers of records: what kind one is, and how long (`h->kind = OPEN; h->size = sizeof(*e);`).
//!
//! Two constants beside each other are one store for the compiler, and nothing in it tells of two. That one half of it is the
//! very length of the record does.

use crate::evidence::{Evidence, Reader};
use crate::layout::{Certainty, Field, Meaning};
use crate::writes::{By, Taken, Write};

/// Kinds of records are small numbers.
const MAX_KIND: u64 = 4095;

/// The halves of a store that is a kind and a length, in the order of memory.
pub(crate) fn halves(write: &Write, taken: &Taken, big_endian: bool) -> Option<[Write; 2]> {
    let By::Constant(value) = write.by else { return None };
    let bytes = write.bytes.checked_div(2).filter(|bytes| matches!(bytes, 2 | 4) && write.every.is_none())?;
    let bits = bytes.saturating_mul(8);
    let (upper, lower) = (value.checked_shr(bits)?, value & 1u64.checked_shl(bits)?.checked_sub(1)?);
    let length = u64::from(taken.bytes);
    let is = |length_here: u64, kind: u64| length_here == length && (1..=MAX_KIND).contains(&kind) && kind != length;
    if !is(upper, lower) && !is(lower, upper) {
        return None;
    }
    let (first, second) = if big_endian { (upper, lower) } else { (lower, upper) };
    let half = |value, at: i64| Write { at: write.at.saturating_add(at), bytes, by: By::Constant(value), ..*write };
    Some([half(first, 0), half(second, bytes.into())])
}

impl Reader<'_> {
    /// What [`halves`] say. The line is that of the first: where stores are joined, the one at the lowest address stays
    /// (`mergeStoresOfConstantsOrVecElts` of LLVM's DAGCombiner.cpp).
    pub(crate) fn header(&self, halves: [Write; 2], taken: &Taken, start: i64) -> Vec<Evidence> {
        let field = |(at, half): (usize, &Write)| {
            let assigned = self.assigned(half).filter(|_| at == 0);
            let by_origin = assigned.is_none() && half.by == By::Constant(taken.bytes.into());
            let (name, line) = assigned.unzip();
            Some(Evidence::taken_over(Field {
                offset: u32::try_from(half.at.saturating_sub(start)).ok()?,
                width: half.bytes,
                name: name.or_else(|| by_origin.then(|| "size".to_owned())),
                by_origin,
                meaning: Meaning::Unsigned,
                certainty: Certainty::Likely,
                line,
            }))
        };
        halves.iter().enumerate().filter_map(field).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ringfence_object::FunctionId;

    fn write(value: u64, bytes: u32) -> Write {
        let (function, made) = (FunctionId(0), crate::value::Made::default());
        Write { at: 8, bytes, function, insn: 0, by: By::Constant(value), made, from: None, every: None, most: false }
    }

    #[test]
    fn only_a_length_makes_two_of_one() {
        let taken = Taken { function: FunctionId(0), insn: 0, places: Vec::new(), bytes: 176 };
        let of = |value, bytes| halves(&write(value, bytes), &taken, false);
        let two = of(0xb0_0000_0001, 8).unwrap();
        assert_eq!(
            two.map(|half| (half.at, half.bytes, half.by)),
            [(8, 4, By::Constant(1)), (12, 4, By::Constant(176)),]
        );
        assert_eq!(of(0x2_00b0, 4).unwrap().map(|half| half.by), [By::Constant(176), By::Constant(2)]);
        assert_eq!(
            halves(&write(0xb0_0000_0001, 8), &taken, true).unwrap().map(|half| half.by),
            [By::Constant(176), By::Constant(1),]
        );
        for (value, bytes) in [(0xb1_0000_0001, 8), (0xb0, 8), (0xb0_0000_0000, 8), (0xb0_0000_1000, 8), (0x1_b0, 2)] {
            assert_eq!(of(value, bytes), None, "{value:#x}");
        }
    }
}
