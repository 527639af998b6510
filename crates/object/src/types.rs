//! What the loader looks for in an object's BTF, found in one pass.

use std::collections::HashMap;

use ringfence_btf::{Btf, Def, Linkage, TypeId};

use crate::elf::Elf;
use crate::{Error, Tag};

/// An object's BTF, and where in it things are. Without BTF everything is empty.
pub(crate) struct Types<'a> {
    pub(crate) btf: Option<&'a Btf>,
    /// Every `DATASEC` with its name, in order.
    pub(crate) datasecs: Vec<(TypeId, &'a str)>,
    /// The first `DATASEC` of each name, as an index into `datasecs`.
    by_name: HashMap<&'a str, usize>,
    /// The extern variables and functions by name.
    pub(crate) externs: HashMap<&'a str, TypeId>,
    pub(crate) tags: Vec<Tag>,
}

impl<'a> Types<'a> {
    pub(crate) fn read(elf: &Elf<'_>, btf: Option<&'a Btf>) -> Result<Types<'a>, Error> {
        let mut types =
            Types { btf, datasecs: Vec::new(), by_name: HashMap::new(), externs: HashMap::new(), tags: Vec::new() };
        for ty in btf.iter().flat_map(|btf| btf.own_types()) {
            let ty = ty.map_err(|source| bad(elf, source))?;
            match ty.def {
                Def::Datasec(_) => {
                    types.by_name.entry(ty.name).or_insert(types.datasecs.len());
                    types.datasecs.push((ty.id, ty.name));
                }
                Def::Var { linkage: Linkage::Extern, .. } | Def::Func { linkage: Linkage::Extern, .. } => {
                    types.externs.entry(ty.name).or_insert(ty.id);
                }
                Def::DeclTag { ty: target, component } => {
                    elf.spend(ty.name.len())?;
                    types.tags.push(Tag { text: ty.name.into(), ty: target, component });
                }
                _ => {}
            }
        }
        Ok(types)
    }

    /// The first `DATASEC` of this name, as an index into [`Types::datasecs`].
    pub(crate) fn datasec(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// An error in the object's `.BTF`.
pub(crate) fn bad(elf: &Elf<'_>, source: ringfence_btf::Error) -> Error {
    Error::Btf { object: elf.file.into(), section: ".BTF", source }
}
