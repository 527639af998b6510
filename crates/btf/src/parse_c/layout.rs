//! Where members lie.

use crate::Member;
use crate::types::TypeId;

/// Bytes, and the alignment in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) size: u64,
    pub(super) align: u32,
}

/// A member as it is declared.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: TypeId,
    pub(super) shape: Shape,
    pub(super) bits: Option<u8>,
    pub(super) packed: bool,
    pub(super) align: Option<u32>,
}

/// Size and members with their places; `None`: too large.
pub(super) fn lay(fields: &[Field], union: bool, packed: bool, given: Option<u32>) -> Option<(Shape, Vec<Member<'_>>)> {
    let mut members = Vec::new();
    // In bits.
    let (mut at, mut end) = (0_u64, 0_u64);
    let mut align = 1_u32;
    for field in fields {
        let loose = packed || field.packed;
        let natural = if loose { 1 } else { field.shape.align };
        let own = natural.max(field.align.unwrap_or(1));
        let start = if union { 0 } else { at };
        let size = field.shape.size.checked_mul(8)?;
        let (place, len) = match field.bits {
            None => (up(start, own)?, size),
            // No bits: the next field begins a new unit.
            Some(0) => {
                at = if union { at } else { up(start, field.shape.align)? };
                continue;
            }
            Some(bits) => {
                let bits = u64::from(bits);
                let unit = u64::from(natural).checked_mul(8)?;
                let start = field.align.map_or(Some(start), |align| up(start, align))?;
                // It does not cross a unit of its type, unless it is packed.
                let crosses = !loose && (start.checked_rem(unit)?).checked_add(bits)? > size;
                (if crosses { up(start, natural)? } else { start }, bits)
            }
        };
        if field.bits.is_none() || !field.name.is_empty() {
            align = align.max(own);
            let bit_offset = u32::try_from(place).ok()?;
            members.push(Member { name: &field.name, ty: field.ty, bit_offset, bit_size: field.bits.unwrap_or(0) });
        }
        at = place.checked_add(len)?;
        end = end.max(at);
    }
    let align = align.max(given.unwrap_or(1));
    let size = up(end.max(if union { 0 } else { at }), align)?.checked_div(8)?;
    Some((Shape { size, align }, members))
}

/// The next place in bits that is aligned to so many bytes.
fn up(bits: u64, align: u32) -> Option<u64> {
    bits.checked_next_multiple_of(u64::from(align).checked_mul(8)?)
}
