//! What a kernel's own types say of it.

use std::collections::HashSet;

use ringfence_btf::{Btf, Def, Kind, TypeId};

/// A trace that something leaves in a kernel's types.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence {
    /// That there are types at all.
    Types,
    /// An enumerator of this enumeration.
    Enumerator(&'static str, &'static str),
    /// An enumerator of an enumeration without a name; nothing else is called so.
    AnyEnumerator(&'static str),
    /// A member of this structure or union, also in an anonymous part of it.
    Member(&'static str, &'static str),
    /// A structure.
    Struct(&'static str),
    /// No such structure: it went when this came.
    NoStruct(&'static str),
    /// One of these functions.
    Function(&'static [&'static str]),
    /// None that is known.
    Unseen,
}

impl Evidence {
    /// Whether the types show it; `None`: they cannot tell.
    pub(crate) fn in_types(self, btf: &Btf) -> Option<bool> {
        match self {
            Evidence::Types => Some(true),
            Evidence::Enumerator(of, name) => Some(values(btf, of)?.any(|(known, _)| known == name)),
            Evidence::AnyEnumerator(name) => {
                let needle: Vec<u8> = [0].into_iter().chain(name.bytes()).chain([0]).collect();
                Some(memchr::memmem::find(btf.bytes(), &needle).is_some())
            }
            Evidence::Member(of, name) => {
                let root = btf.find(of, Kind::Struct).or_else(|| btf.find(of, Kind::Union))?;
                Some(has_member(btf, root, name, 0))
            }
            Evidence::Struct(name) => Some(btf.find(name, Kind::Struct).is_some()),
            Evidence::NoStruct(name) => {
                // Types of a kernel without BPF, or of something else, say nothing.
                btf.find("bpf_map", Kind::Struct)?;
                Some(btf.find(name, Kind::Struct).is_none())
            }
            Evidence::Function(names) => Some(names.iter().any(|name| btf.find(name, Kind::Func).is_some())),
            Evidence::Unseen => None,
        }
    }
}

/// The enumerators of an enumeration; `None`: there is no such enumeration.
fn values<'a>(btf: &'a Btf, name: &str) -> Option<impl Iterator<Item = (&'a str, i64)> + use<'a>> {
    let id = btf.find(name, Kind::Enum).or_else(|| btf.find(name, Kind::Enum64))?;
    let Ok(Def::Enum(found)) = btf.get(id).map(|ty| ty.def) else { return None };
    Some(found.values().flatten().map(|one| (one.name, one.value)))
}

/// The values of those enumerators that begin so: marks like `__MAX_BPF_MAP_TYPE` do not.
pub(crate) fn known(btf: &Btf, name: &str, prefix: &str) -> Option<HashSet<u32>> {
    let values = values(btf, name)?.filter(|(name, _)| name.starts_with(prefix));
    Some(values.filter_map(|(_, value)| u32::try_from(value).ok()).collect())
}

/// Deepest nesting of anonymous members that is followed.
const MAX_DEPTH: u32 = 8;

fn has_member(btf: &Btf, id: TypeId, name: &str, depth: u32) -> bool {
    let Ok(Def::Struct(composite) | Def::Union(composite)) = btf.get(id).map(|ty| ty.def) else { return false };
    composite.members().flatten().any(|member| {
        member.name == name
            || member.name.is_empty() && depth < MAX_DEPTH && has_member(btf, member.ty, name, depth + 1)
    })
}
