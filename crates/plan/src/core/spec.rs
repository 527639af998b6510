//! A path into a type: read from a relocation for the local type, found by name in a target type.

use std::fmt;

use ringfence_btf::{self as btf, Array, Btf, Composite, Def, Enumerator, Member, TypeId, essential_name};
use ringfence_object::{CoreKind, CoreReloc};

use super::compat::{Fuel, Pair};
use super::{Cause, Group, group};

/// Deepest nesting of structs, unions and arrays (libbpf `BPF_CORE_SPEC_MAX_LEN`).
const MAX_PATH: usize = 64;

/// One step of the path that the program's author wrote: a named member or an index. Anonymous structs between
/// two members are no steps, because the kernel may have more or fewer of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// The struct or union that has the member; for an index, the type of the element.
    pub(super) ty: TypeId,
    /// Number of the member or element.
    pub(super) index: u32,
    /// The member; `None`: an index.
    pub(super) member: Option<Member<'a>>,
    /// The member is the last one of its struct.
    last: bool,
}

/// What a relocation points at, in one BTF.
#[derive(Clone, Debug)]
pub(super) struct Spec<'a> {
    pub(super) btf: &'a Btf,
    pub(super) root: TypeId,
    kind: CoreKind,
    /// Index at each level, anonymous structs included.
    raw: Vec<u32>,
    pub(super) steps: Vec<Step<'a>>,
    /// From the start of the root.
    pub(super) bits: u64,
    /// For the enumerator kinds.
    pub(super) enumerator: Option<Choice<'a>>,
}

/// An enumerator, and what its enum says about its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) value: Enumerator<'a>,
    pub(super) signed: bool,
    pub(super) is_64: bool,
}

impl<'a> Spec<'a> {
    fn new(btf: &'a Btf, root: TypeId, kind: CoreKind) -> Spec<'a> {
        Spec { btf, root, kind, raw: Vec::new(), steps: Vec::new(), bits: 0, enumerator: None }
    }

    /// The path as the compiler wrote it (libbpf `bpf_core_parse_spec`).
    pub(super) fn local(btf: &'a Btf, reloc: &CoreReloc) -> Result<Spec<'a>, Cause> {
        let bad = |why| Cause::BadPath { path: reloc.access.clone(), why };
        let mut spec = Spec::new(btf, reloc.ty, reloc.kind);
        if group(reloc.kind) == Group::Type {
            return if reloc.access == "0" {
                Ok(spec)
            } else {
                Err(bad("a relocation of a whole type has the path 0"))
            };
        }
        for number in reloc.access.split(':') {
            if spec.raw.len() == MAX_PATH {
                return Err(bad("it has more than 64 steps"));
            }
            spec.raw.push(number.parse().map_err(|_| bad("it is not numbers separated by colons"))?);
        }
        let (first, path) = spec.raw.split_first().ok_or(bad("it is empty"))?;
        let (first, path) = (*first, path.to_vec());
        let root = btf.resolve(reloc.ty)?;
        if group(reloc.kind) == Group::Enumerator {
            let Def::Enum(def) = root.def else { return Err(bad("the type is no enum")) };
            if !path.is_empty() {
                return Err(bad("an enumerator has one number"));
            }
            let value = def.values().nth(first as usize).ok_or(bad("the enum has fewer enumerators"))??;
            spec.enumerator = Some(Choice { value, signed: def.signed, is_64: def.is_64 });
            spec.steps.push(Step { ty: root.id, index: first, member: None, last: false });
            return Ok(spec);
        }
        spec.index(root.id, first)?;
        let mut at = root.id;
        for index in path {
            match btf.resolve(at)? {
                btf::Type { id, def: Def::Struct(def) | Def::Union(def), .. } => {
                    let member = def.member(index).ok_or(bad("the struct has fewer members"))??;
                    spec.bits = spec.bits.saturating_add(u64::from(member.bit_offset));
                    if !member.name.is_empty() {
                        spec.member(id, index, member, def);
                    }
                    at = member.ty;
                }
                btf::Type { def: Def::Array(array), .. } => {
                    at = btf.resolve(array.element)?.id;
                    if !spec.may_index(array, index) {
                        return Err(bad("the array has fewer elements"));
                    }
                    spec.index(at, index)?;
                }
                _ => return Err(bad("it goes into what is neither struct, union nor array")),
            }
        }
        Ok(spec)
    }

    fn member(&mut self, ty: TypeId, index: u32, member: Member<'a>, of: Composite<'_>) {
        let last = (index as usize).checked_add(1) == Some(of.len());
        self.steps.push(Step { ty, index, member: Some(member), last });
    }

    fn index(&mut self, element: TypeId, index: u32) -> Result<(), Cause> {
        if index > 0 {
            let bytes = self.btf.size_of(element)?.saturating_mul(u64::from(index));
            self.bits = self.bits.saturating_add(bytes.saturating_mul(8));
        }
        self.steps.push(Step { ty: element, index, member: None, last: false });
        Ok(())
    }

    /// Whether the array, reached by the last step, has that element. A flexible array has any.
    fn may_index(&self, array: Array, index: u32) -> bool {
        // libbpf `is_flex_arr`: of length 0, and the last member of its struct.
        let flexible = array.len == 0 && self.steps.last().is_some_and(|step| step.member.is_some() && step.last);
        flexible || index < array.len
    }

    /// The same path in `target`; `None`: the type is another one than the program means
    /// (libbpf `bpf_core_spec_match`).
    pub(super) fn find_in<'t>(
        &self,
        target: &'t Btf,
        root: TypeId,
        fuel: &mut Fuel,
    ) -> Result<Option<Spec<'t>>, Cause> {
        let pair = Pair { local: self.btf, target };
        let mut found = Spec::<'t>::new(target, root, self.kind);
        match group(self.kind) {
            Group::Type => {
                let same = match self.kind {
                    CoreKind::TypeMatches => pair.matches(self.root, root, fuel)?,
                    _ => pair.compatible(self.root, root, fuel)?,
                };
                Ok(same.then_some(found))
            }
            Group::Enumerator => {
                let (ty, Some(wanted)) = (target.resolve(root)?, self.enumerator) else { return Ok(None) };
                let Def::Enum(def) = ty.def else { return Ok(None) };
                for (index, value) in (0..).zip(def.values()) {
                    fuel.burn(root)?;
                    let value = value?;
                    if essential_name(value.name) == essential_name(wanted.value.name) {
                        // Kernels before 6.0 do not record signs; the program's own types do.
                        let signed = def.signed || wanted.signed && !def.is_64;
                        let low = value.value as i32;
                        let value =
                            if signed && !def.is_64 { Enumerator { value: low.into(), ..value } } else { value };
                        found.enumerator = Some(Choice { value, signed, is_64: def.is_64 });
                        found.raw.push(index);
                        found.steps.push(Step { ty: ty.id, index, member: None, last: false });
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Group::Field => {
                let mut at = target.resolve(root)?.id;
                for (place, step) in self.steps.iter().enumerate() {
                    let next = match step.member {
                        Some(member) => found.find_member(pair, member, at, fuel)?,
                        None if place == 0 => found.find_element(at, step.index).map(Some)?,
                        None => match target.resolve(at)?.def {
                            Def::Array(array) if found.may_index(array, step.index) => {
                                found.find_element(target.resolve(array.element)?.id, step.index).map(Some)?
                            }
                            _ => None,
                        },
                    };
                    let Some(next) = next else { return Ok(None) };
                    at = next;
                }
                Ok(Some(found))
            }
        }
    }

    fn find_element(&mut self, element: TypeId, index: u32) -> Result<TypeId, Cause> {
        self.push_raw(element, index)?;
        self.index(element, index)?;
        Ok(element)
    }

    /// Goes to the member of this name, also inside anonymous structs and unions; the answer is its type
    /// (libbpf `bpf_core_match_member`).
    fn find_member(
        &mut self,
        pair: Pair<'_>,
        wanted: Member<'_>,
        of: TypeId,
        fuel: &mut Fuel,
    ) -> Result<Option<TypeId>, Cause> {
        let ty = self.btf.resolve(of)?;
        let (Def::Struct(def) | Def::Union(def)) = ty.def else { return Ok(None) };
        let depth = self.raw.len();
        // To skip a member takes a small part of what it takes to look at one.
        (0..=def.len() / 16).try_for_each(|_| fuel.burn(of))?;
        for (index, member) in def.towards(wanted.name) {
            fuel.burn(of)?;
            let member = member?;
            let before = self.bits;
            self.push_raw(of, index)?;
            self.bits = before.saturating_add(u64::from(member.bit_offset));
            if member.name.is_empty() {
                if let Some(found) = self.find_member(pair, wanted, member.ty, fuel)? {
                    return Ok(Some(found));
                }
            } else if pair.fields_compatible(wanted.ty, member.ty)? {
                self.member(ty.id, index, member, def);
                return Ok(Some(member.ty));
            } else {
                return Ok(None);
            }
            self.raw.truncate(depth);
            self.bits = before;
        }
        Ok(None)
    }

    fn push_raw(&mut self, culprit: TypeId, index: u32) -> Result<(), Cause> {
        if self.raw.len() == MAX_PATH {
            return Err(Cause::Btf(btf::Error::TooDeep(culprit)));
        }
        self.raw.push(index);
        Ok(())
    }
}

/// As C would write it: `struct task_struct.se.vruntime (0:21:9 @ offset 240)`.
impl fmt::Display for Spec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&root_name(self.btf, self.root))?;
        if let Some(Choice { value, .. }) = self.enumerator {
            return write!(f, "::{} = {}", value.name, value.value);
        }
        if group(self.kind) != Group::Field {
            return Ok(());
        }
        for (place, step) in self.steps.iter().enumerate() {
            match step.member {
                Some(member) => write!(f, ".{}", member.name)?,
                None if place > 0 || step.index > 0 => write!(f, "[{}]", step.index)?,
                None => {}
            }
        }
        let path: Vec<String> = self.raw.iter().map(u32::to_string).collect();
        write!(f, " ({} @ offset {}", path.join(":"), self.bits / 8)?;
        match self.bits % 8 {
            0 => f.write_str(")"),
            bits => write!(f, ".{bits})"),
        }
    }
}

/// `struct task_struct`, `enum bpf_map_type`, `pid_t`; the number where the type is damaged.
pub(super) fn root_name(btf: &Btf, root: TypeId) -> String {
    let Ok(ty) = btf.get(root) else { return format!("type {root}") };
    let name = if ty.name.is_empty() { "(anonymous)" } else { ty.name };
    match ty.def {
        Def::Struct(_) | Def::Fwd { is_union: false } => format!("struct {name}"),
        Def::Union(_) | Def::Fwd { is_union: true } => format!("union {name}"),
        Def::Enum(_) => format!("enum {name}"),
        _ => name.to_owned(),
    }
}
