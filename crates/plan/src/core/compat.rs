//! When two types count as the same: the three relations that libbpf knows.
//!
//! They differ on purpose: *compatible* ignores every name below the root, *matches* compares them, and
//! *compatible fields* is what reading one field through the other asks for.

use ringfence_btf::{self as btf, Btf, Composite, Def, Enum, Kind, Proto, TypeId, essential_name};

/// Deepest nesting of function prototypes, or of structs in structs, that is compared
/// (libbpf `bpf_core_types_are_compat`, `bpf_core_types_match`).
const MAX_LEVEL: u32 = 32;

/// Pairs of types and names that may still be looked at. Types of a hostile file can be arranged so that
/// comparing them takes exponential time; with this it ends.
#[derive(Debug)]
pub(super) struct Fuel(pub(super) u32);

impl Fuel {
    /// Less than 0.1 s of work. The most that any of 800 real objects takes is 1,800.
    pub(super) fn new() -> Fuel {
        Fuel(1_000_000)
    }

    pub(super) fn burn(&mut self, culprit: TypeId) -> Result<(), btf::Error> {
        self.0 = self.0.checked_sub(1).ok_or(btf::Error::TooDeep(culprit))?;
        Ok(())
    }
}

/// Kinds that may stand for each other: equal ones, and both widths of `enum` (libbpf `btf_kind_core_compat`).
pub(super) fn same_kind(a: Kind, b: Kind) -> bool {
    let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
    a == b || is_enum(a) && is_enum(b)
}

/// Both types, each in its own BTF.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) local: &'a Btf,
    pub(super) target: &'a Btf,
}

/// Type compatibility as libbpf's `bpf_core_types_are_compat` defines it: for TYPE_EXISTS and its kin, for
/// kernel variables and for prototypes of kernel functions. The caller has compared the names of the roots;
/// no other name matters.
pub(crate) fn compatible(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> Result<bool, btf::Error> {
    Pair { local, target }.compatible(local_id, target_id, &mut Fuel::new())
}

impl Pair<'_> {
    pub(super) fn compatible(self, local: TypeId, target: TypeId, fuel: &mut Fuel) -> Result<bool, btf::Error> {
        // Only for the roots: a typedef and a struct are not compatible although the typedef may name that struct.
        if !same_kind(self.local.get(local)?.def.kind(), self.target.get(target)?.def.kind()) {
            return Ok(false);
        }
        self.compatible_at(local, target, MAX_LEVEL, fuel)
    }

    fn compatible_at(self, local: TypeId, target: TypeId, level: u32, fuel: &mut Fuel) -> Result<bool, btf::Error> {
        let (mut local, mut target) = (local, target);
        for _ in 0..MAX_LEVEL {
            fuel.burn(local)?;
            let (l, t) = (self.local.resolve(local)?, self.target.resolve(target)?);
            if !same_kind(l.def.kind(), t.def.kind()) {
                return Ok(false);
            }
            (local, target) = match (l.def, t.def) {
                (Def::Void | Def::Struct(_) | Def::Union(_) | Def::Enum(_) | Def::Fwd { .. }, _) => return Ok(true),
                // Integers with an offset are bit-fields of old compilers.
                (Def::Int(l), Def::Int(t)) => return Ok(l.offset == 0 && t.offset == 0),
                (Def::Ptr(l), Def::Ptr(t)) => (l, t),
                (Def::Array(l), Def::Array(t)) => (l.element, t.element),
                (Def::FuncProto(l), Def::FuncProto(t)) => {
                    let below = |l, t, fuel: &mut Fuel| {
                        let level = level.checked_sub(1).ok_or(btf::Error::TooDeep(l))?;
                        self.compatible_at(l, t, level, fuel)
                    };
                    if !self.params(l, t, fuel, below)? {
                        return Ok(false);
                    }
                    (l.ret, t.ret)
                }
                _ => return Ok(false),
            };
        }
        Err(btf::Error::TooDeep(local))
    }

    /// Whether there are as many parameters, and each agrees.
    fn params(
        self,
        local: Proto<'_>,
        target: Proto<'_>,
        fuel: &mut Fuel,
        agree: impl Fn(TypeId, TypeId, &mut Fuel) -> Result<bool, btf::Error>,
    ) -> Result<bool, btf::Error> {
        if local.params().len() != target.params().len() {
            return Ok(false);
        }
        for (l, t) in local.params().zip(target.params()) {
            if !agree(l?.ty, t?.ty, fuel)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a field of the one type can be read as the other (libbpf `bpf_core_fields_are_compat`).
    pub(super) fn fields_compatible(self, local: TypeId, target: TypeId) -> Result<bool, btf::Error> {
        let (mut local, mut target) = (local, target);
        for _ in 0..MAX_LEVEL {
            let (l, t) = (self.local.resolve(local)?, self.target.resolve(target)?);
            (local, target) = match (l.def, t.def) {
                (Def::Struct(_) | Def::Union(_), Def::Struct(_) | Def::Union(_))
                | (Def::Ptr(_), Def::Ptr(_))
                | (Def::Float { .. }, Def::Float { .. }) => return Ok(true),
                (Def::Int(l), Def::Int(t)) => return Ok(l.offset == 0 && t.offset == 0),
                (Def::Enum(_), Def::Enum(_)) | (Def::Fwd { .. }, Def::Fwd { .. }) => {
                    let (l, t) = (essential_name(l.name), essential_name(t.name));
                    return Ok(l.is_empty() || t.is_empty() || l == t);
                }
                (Def::Array(l), Def::Array(t)) => (l.element, t.element),
                _ => return Ok(false),
            };
        }
        Err(btf::Error::TooDeep(local))
    }

    /// Type equality by structure, as libbpf's `bpf_core_types_match` defines it (TYPE_MATCHES): every local member,
    /// enumerator and parameter has a counterpart of the same name and a matching type. The caller has compared the
    /// names of the roots.
    pub(super) fn matches(self, local: TypeId, target: TypeId, fuel: &mut Fuel) -> Result<bool, btf::Error> {
        self.matches_at(local, target, false, MAX_LEVEL, fuel)
    }

    fn matches_at(
        self,
        local: TypeId,
        target: TypeId,
        behind_pointer: bool,
        level: u32,
        fuel: &mut Fuel,
    ) -> Result<bool, btf::Error> {
        let (mut local, mut target, mut behind_pointer) = (local, target, behind_pointer);
        let level = level.checked_sub(1).ok_or(btf::Error::TooDeep(local))?;
        for _ in 0..MAX_LEVEL {
            fuel.burn(local)?;
            let (l, t) = (self.local.resolve(local)?, self.target.resolve(target)?);
            if !same_name(l.name, t.name) {
                return Ok(false);
            }
            (local, target) = match (l.def, t.def) {
                (Def::Void, Def::Void) => return Ok(true),
                (Def::Fwd { is_union: l }, Def::Fwd { is_union: t }) => return Ok(l == t),
                // A declaration stands for its definition where only the address matters.
                (Def::Fwd { is_union: l }, Def::Struct(_) | Def::Union(_)) => {
                    return Ok(behind_pointer && l == (t.def.kind() == Kind::Union));
                }
                (Def::Struct(_) | Def::Union(_), Def::Fwd { is_union: t }) => {
                    return Ok(behind_pointer && t == (l.def.kind() == Kind::Union));
                }
                (Def::Enum(l), Def::Enum(t)) => return self.enums_match(l, t, local, fuel),
                (Def::Struct(l), Def::Struct(t)) | (Def::Union(l), Def::Union(t)) => {
                    return if behind_pointer { Ok(true) } else { self.members_match(l, t, level, fuel) };
                }
                (Def::Int(l), Def::Int(t)) => return Ok(l.size == t.size && l.signed == t.signed),
                (Def::Ptr(l), Def::Ptr(t)) => {
                    behind_pointer = true;
                    (l, t)
                }
                (Def::Array(l), Def::Array(t)) if l.len == t.len => (l.element, t.element),
                (Def::FuncProto(l), Def::FuncProto(t)) => {
                    let below = |l, t, fuel: &mut Fuel| self.matches_at(l, t, behind_pointer, level, fuel);
                    if !self.params(l, t, fuel, below)? {
                        return Ok(false);
                    }
                    (l.ret, t.ret)
                }
                _ => return Ok(false),
            };
        }
        Err(btf::Error::TooDeep(local))
    }

    /// Equal sizes, and every local name is there; values may differ.
    fn enums_match(self, local: Enum<'_>, target: Enum<'_>, id: TypeId, fuel: &mut Fuel) -> Result<bool, btf::Error> {
        if local.size != target.size || local.values().len() > target.values().len() {
            return Ok(false);
        }
        for l in local.values() {
            let name = l?.name;
            let mut found = false;
            for t in target.values() {
                fuel.burn(id)?;
                if same_name(name, t?.name) {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn members_match(
        self,
        local: Composite<'_>,
        target: Composite<'_>,
        level: u32,
        fuel: &mut Fuel,
    ) -> Result<bool, btf::Error> {
        if local.len() > target.len() {
            return Ok(false);
        }
        for l in local.members() {
            let l = l?;
            let mut found = false;
            for t in target.members() {
                fuel.burn(l.ty)?;
                let t = t?;
                if same_name(l.name, t.name) && self.matches_at(l.ty, t.ty, false, level, fuel)? {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// libbpf `bpf_core_names_match`.
fn same_name(local: &str, target: &str) -> bool {
    if target.is_empty() { local.is_empty() } else { essential_name(local) == essential_name(target) }
}
