//! Whether a struct can be what the code stores.

use ringfence_btf::{Btf, Def, TypeId};

use crate::layout::{Certainty, Field, Layout};

/// Structs in structs, and members of one, that are looked into.
const MAX_DEPTH: u8 = 16;
const MAX_MEMBERS: usize = 4_096;

/// Why records of this layout cannot be of this type: a field that is certain and that the type has no place for.
pub(crate) fn contradiction(btf: &Btf, ty: TypeId, layout: &Layout) -> Option<String> {
    let mut leaves = Vec::new();
    flatten(btf, ty, 0, 0, &mut leaves);
    let certain = layout.fields.iter().filter(|field| field.certainty == Certainty::Certain);
    certain.filter_map(|field| of_field(btf, ty, field, &leaves)).next()
}

fn of_field(btf: &Btf, ty: TypeId, field: &Field, leaves: &[Leaf]) -> Option<String> {
    let name = field.name.as_deref()?;
    let what = format!("the code stores `{name}`, {} bytes, at {}", field.width, field.offset);
    if !has_place(btf, ty, field.offset.into(), field.width.into(), 0) {
        return Some(format!("{what}, where no member starts or ends"));
    }
    let at = u64::from(field.offset);
    let here = leaves.iter().filter(|leaf| leaf.at <= at && at < leaf.end).collect::<Vec<_>>();
    let mut elsewhere = leaves.iter().filter(|leaf| leaf.name == name);
    match elsewhere.next() {
        // It has that name at one other place, and another name here.
        Some(other) if elsewhere.next().is_none() && !here.is_empty() && here.iter().all(|leaf| leaf.name != name) => {
            Some(format!("{what}, and the type has it at {}", other.at))
        }
        _ => None,
    }
}

struct Leaf {
    name: String,
    at: u64,
    end: u64,
}

fn flatten(btf: &Btf, ty: TypeId, base: u64, depth: u8, leaves: &mut Vec<Leaf>) {
    let Ok(Def::Struct(found) | Def::Union(found)) = btf.resolve(ty).map(|ty| ty.def) else { return };
    for member in found.members().flatten() {
        if depth >= MAX_DEPTH || leaves.len() >= MAX_MEMBERS {
            return;
        }
        let at = base.saturating_add(u64::from(member.bit_offset / 8));
        let end = at.saturating_add(btf.size_of(member.ty).unwrap_or(0));
        leaves.push(Leaf { name: member.name.to_owned(), at, end });
        flatten(btf, member.ty, at, depth.saturating_add(1), leaves);
    }
}

/// Whether something of so many bytes can be stored here: a member, a part of one number, or several whole members.
fn has_place(btf: &Btf, ty: TypeId, at: u64, width: u64, depth: u8) -> bool {
    let (Ok(ty), true) = (btf.resolve(ty), depth < MAX_DEPTH) else { return true };
    let end = at.saturating_add(width);
    match ty.def {
        Def::Struct(found) => {
            let mut met = false;
            for member in found.members().take(MAX_MEMBERS).flatten() {
                let start = u64::from(member.bit_offset / 8);
                // Bit-fields are stored with what is around them; an array without a length is as long as the record.
                let Ok(size) = btf.size_of(member.ty) else { return true };
                let stop = start.saturating_add(size);
                if (member.bit_size > 0 && start < end && at < stop) || (size == 0 && start <= at) {
                    return true;
                }
                if stop <= at || end <= start {
                    continue;
                }
                met = true;
                let within = start <= at && end <= stop;
                let over = at <= start && stop <= end;
                if within && !over {
                    return has_place(btf, member.ty, at.saturating_sub(start), width, depth.saturating_add(1));
                }
                if !over {
                    return false;
                }
            }
            met
        }
        Def::Union(found) => found
            .members()
            .take(MAX_MEMBERS)
            .flatten()
            .any(|member| has_place(btf, member.ty, at, width, depth.saturating_add(1))),
        Def::Array(array) => match btf.size_of(array.element) {
            Ok(size) if size > 1 => {
                let (first, last) = (at.checked_div(size), end.saturating_sub(1).checked_div(size));
                let into = at.checked_rem(size).unwrap_or(0);
                if first == last {
                    has_place(btf, array.element, into, width, depth.saturating_add(1))
                } else {
                    into == 0 && end.is_multiple_of(size)
                }
            }
            _ => true,
        },
        _ => btf.size_of(ty.id).is_ok_and(|size| end <= size),
    }
}
