//! What the object's types say of the places that are read: members by CO-RE relocations, of contexts and of maps' values, global
//! variables.

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_object::{CoreKind, Function, FunctionId, Line, MapId};

use crate::evidence::Reader;
use crate::layout::Meaning;
use crate::names;
use crate::outputs::line_of;
use crate::value::Site;

impl Reader<'_> {
    pub(crate) fn size(&self, ty: TypeId) -> Option<u32> {
        self.object.btf.as_ref()?.size_of(ty).ok().and_then(|size| u32::try_from(size).ok())
    }

    /// A type of these many bytes that says more than a number does.
    pub(crate) fn typed(&self, ty: TypeId, bytes: u32) -> Option<Meaning> {
        let btf = self.object.btf.as_ref()?;
        if self.size(ty)? != bytes {
            return None;
        }
        Some(match btf.resolve(ty).ok()?.def {
            // A pointer is shown as the number that it is.
            Def::Ptr(_) => Meaning::Unsigned,
            Def::Array(array) if btf.size_of(array.element) == Ok(1) && is_char(btf, array.element) => Meaning::Text,
            _ => Meaning::Typed(ty),
        })
    }

    /// The last member that the CO-RE relocations of this line, up to this instruction, lead to.
    pub(crate) fn core_of_line(&self, function: &Function, line: Line, insn: usize) -> Option<(String, TypeId)> {
        let here =
            |at: usize| line_of(function, at).is_some_and(|other| (other.file, other.line) == (line.file, line.line));
        let (from, to) = (insn.saturating_sub(63), insn.saturating_add(1));
        let [from, to] = [from, to].map(|at| function.core.partition_point(|core| core.insn < at));
        let near = function.core.get(from..to)?.iter().filter(|core| core.kind == CoreKind::FieldByteOffset);
        let last = near
            .filter(|core| here(core.insn) || here(core.insn.saturating_add(1)) || here(core.insn.saturating_add(2)));
        let last = last.max_by_key(|core| core.insn)?;
        member(self.object.btf.as_ref()?, last.ty, &last.access)
    }

    pub(crate) fn core_at(&self, site: Site) -> Option<(String, TypeId)> {
        let function = self.object.functions.get(site.function.0)?;
        let core =
            function.core.iter().find(|core| core.insn == site.insn && core.kind == CoreKind::FieldByteOffset)?;
        member(self.object.btf.as_ref()?, core.ty, &core.access)
    }

    /// The global variable at this place, if it is a number of this size.
    pub(crate) fn number_at(&self, map: MapId, at: i32, bytes: u32) -> Option<(&str, Meaning)> {
        let at = u32::try_from(at).ok()?;
        let global = self.object.globals.iter().find(|global| (global.map, global.offset) == (map, at))?;
        let ty = global.ty.filter(|_| global.size == bytes)?;
        match self.object.btf.as_ref()?.resolve(ty).ok()?.def {
            Def::Int(_) | Def::Enum(_) | Def::Ptr(_) => Some((global.name.as_str(), self.typed(ty, bytes)?)),
            _ => None,
        }
    }

    /// The member of a program's context that one load for this line reads, if it is a number of this size. Two members at
    /// once the verifier refuses.
    pub(crate) fn of_context(&self, function: &Function, at: i16, bytes: u32, text: &str) -> Option<(String, TypeId)> {
        let (btf, start) = (self.object.btf.as_ref()?, u64::try_from(at).ok()?);
        let (path, field) = btf.member_at(self.context(function)?, start).ok()?;
        let number = matches!(btf.resolve(field.ty).ok()?.def, Def::Int(_) | Def::Enum(_) | Def::Ptr(_));
        let whole = field.bit_offset == start.checked_mul(8)? && self.size(field.ty) == Some(bytes);
        // An element that the line does not name may be one of several that it copies.
        let one = !path.contains('[') || names::right_side(text).contains('[');
        let name = path.rsplit('.').next().unwrap_or(&path);
        (number && whole && one).then(|| (name.to_owned(), field.ty))
    }

    /// The struct that a program's first argument leads to.
    fn context(&self, function: &Function) -> Option<TypeId> {
        let btf = self.object.btf.as_ref()?;
        let entry = |of: FunctionId| self.object.functions.get(of.0).is_some_and(|of| std::ptr::eq(of, function));
        self.spend(self.object.programs.len()).then_some(())?;
        self.object.programs.iter().any(|program| entry(program.function)).then_some(())?;
        let Def::Func { proto, .. } = btf.get(function.btf?).ok()?.def else { return None };
        let Def::FuncProto(proto) = btf.get(proto).ok()?.def else { return None };
        match btf.resolve(proto.params().next()?.ok()?.ty).ok()?.def {
            Def::Ptr(context) => Some(context),
            _ => None,
        }
    }

    pub(crate) fn member_of_value(&self, map: MapId, at: i32) -> Option<(String, TypeId)> {
        let btf = self.object.btf.as_ref()?;
        let ty = self.object.maps.get(map.0)?.value_type?;
        let resolved = btf.resolve(ty).ok()?;
        if !matches!(resolved.def, Def::Struct(_) | Def::Union(_)) {
            return (at == 0).then(|| (resolved.name.to_owned(), ty));
        }
        let (path, field) = btf.member_at(ty, u64::try_from(at).ok()?).ok()?;
        let start = u64::try_from(at).ok()?.checked_mul(8)?;
        (field.bit_offset == start).then_some((path, field.ty))
    }
}

fn is_char(btf: &Btf, element: TypeId) -> bool {
    btf.resolve(element).is_ok_and(|ty| matches!(ty.def, Def::Int(int) if int.char || int.signed))
}

/// The member at the end of a CO-RE access path.
fn member(btf: &Btf, root: TypeId, access: &str) -> Option<(String, TypeId)> {
    let (mut ty, mut name) = (root, String::new());
    // The first number counts whole roots.
    for step in access.split(':').skip(1).take(64) {
        let step: u32 = step.parse().ok()?;
        match btf.resolve(ty).ok()?.def {
            Def::Struct(found) | Def::Union(found) => {
                let member = found.member(step)?.ok()?;
                if member.bit_size > 0 {
                    return None;
                }
                if !member.name.is_empty() {
                    name = member.name.to_owned();
                }
                ty = member.ty;
            }
            Def::Array(array) => ty = array.element,
            _ => return None,
        }
    }
    (!name.is_empty()).then_some((name, ty))
}
