//! Structures of operations: variables that hold programs.

use std::collections::{BTreeMap, HashMap};

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_uapi::MapType;

use crate::elf::{Elf, Home};
use crate::functions::Functions;
use crate::types::bad;
use crate::{DatasecLayout, Error, FunctionId, Map, Role, StructOps};

/// `BPF_F_LINK`.
const LINK: u32 = 1 << 13;

/// The variables of one struct_ops section by their offset (libbpf, `init_struct_ops_maps`).
pub(crate) fn read(
    elf: &Elf<'_>,
    btf: &Btf,
    section: usize,
    layout: &DatasecLayout,
) -> Result<BTreeMap<u32, Map>, Error> {
    let Some(section) = elf.sections.get(section) else { return Ok(BTreeMap::new()) };
    let data = elf.bytes(section)?;
    let bare = section.name.strip_prefix('?').unwrap_or(section.name);
    let link = bare == ".struct_ops.link";
    let mut maps = BTreeMap::new();
    for var in &layout.vars {
        let variable = btf.get(var.ty).map_err(|e| bad(elf, e))?;
        let fail = |what: &str| Error::Map { object: elf.file.into(), map: variable.name.into(), what: what.into() };
        let Def::Var { ty, .. } = variable.def else { return Err(fail("the type information has no variable for it")) };
        let ty = btf.resolve(ty).map_err(|e| bad(elf, e))?;
        let Def::Struct(def) = ty.def else { return Err(fail("it is not a struct of the kernel's")) };
        if ty.name.is_empty() {
            return Err(fail("its struct has no name, so that the kernel's cannot be found"));
        }
        let (start, size) = (var.offset as usize, def.size as usize);
        let bytes = data.get(start..start.saturating_add(size));
        let bytes = bytes.ok_or_else(|| fail("it ends outside its section: the file is damaged"))?;
        elf.spend(bytes.len().saturating_add(variable.name.len()).saturating_add(ty.name.len()))?;
        elf.spend(section.name.len().saturating_add(size_of::<Map>()))?;
        let role = Role::StructOps(StructOps {
            type_name: ty.name.into(),
            ty: ty.id,
            bytes: bytes.to_vec(),
            functions: Vec::new(),
            link,
            autocreate: !section.name.starts_with('?'),
        });
        let map = Map {
            key_size: 4,
            value_size: def.size,
            max_entries: 1,
            flags: if link { LINK } else { 0 },
            value_type: Some(ty.id),
            ..Map::new(variable.name, bare, MapType::STRUCT_OPS, role)
        };
        if maps.insert(var.offset, map).is_some() {
            return Err(fail("it is at the same place as another one: the file is damaged"));
        }
    }
    Ok(maps)
}

/// Puts the programs into their members (libbpf, `bpf_object__collect_st_ops_relos`).
pub(crate) fn relocate(
    elf: &Elf<'_>,
    btf: &Btf,
    relocations: usize,
    section: usize,
    maps: &mut BTreeMap<u32, Map>,
    functions: &Functions,
) -> Result<(), Error> {
    let (Some(relocations), Some(section)) = (elf.sections.get(relocations), elf.sections.get(section)) else {
        return Ok(());
    };
    let data = elf.bytes(section)?;
    let mut pointers = HashMap::new();
    for rel in elf.relocations(relocations)? {
        let outside = || elf.damaged(format!("section {} has an address outside its variables", section.name));
        let offset = u32::try_from(rel.offset).map_err(|_| outside())?;
        let (start, map) = maps.range_mut(..=offset).next_back().ok_or_else(outside)?;
        let member = offset.checked_sub(*start).filter(|at| *at < map.value_size).ok_or_else(outside)?;
        let Role::StructOps(ops) = &mut map.role else { return Err(outside()) };
        let fail = |what: &str| Error::Map { object: elf.file.into(), map: map.name.clone(), what: what.into() };
        if !is_function_pointer(elf, btf, ops.ty, member, &mut pointers)? {
            return Err(fail(
                "a member other than a pointer to a function holds an address, which the kernel cannot follow",
            ));
        }
        let addend = elf.word64(data, rel.offset).ok_or_else(outside)?;
        let target = elf.symbol(rel.symbol).and_then(|symbol| match symbol.home {
            Home::Section(at) => functions.at(at, symbol.value.wrapping_add(addend)),
            _ => None,
        });
        let target: FunctionId =
            target.ok_or_else(|| fail("a member holds something else than a program of this object"))?;
        ops.functions.push((member, target));
    }
    for map in maps.values_mut() {
        if let Role::StructOps(ops) = &mut map.role {
            ops.functions.sort_by_key(|(member, _)| *member);
        }
    }
    Ok(())
}

/// Whether the member at this offset of the struct holds a pointer to a function.
fn is_function_pointer(
    elf: &Elf<'_>,
    btf: &Btf,
    ty: TypeId,
    member: u32,
    known: &mut HashMap<TypeId, HashMap<u32, bool>>,
) -> Result<bool, Error> {
    if let Some(members) = known.get(&ty) {
        return Ok(members.get(&member).copied().unwrap_or(false));
    }
    let find = || -> Result<HashMap<u32, bool>, ringfence_btf::Error> {
        let mut members = HashMap::new();
        if let Def::Struct(def) = btf.get(ty)?.def {
            for member in def.members() {
                let member = member?;
                let is_function = match btf.resolve(member.ty)?.def {
                    Def::Ptr(target) => matches!(btf.resolve(target)?.def, Def::FuncProto(_)),
                    _ => false,
                };
                members.entry(member.bit_offset / 8).or_insert(is_function);
            }
        }
        Ok(members)
    };
    let members = find().map_err(|e| bad(elf, e))?;
    let is = members.get(&member).copied().unwrap_or(false);
    known.insert(ty, members);
    Ok(is)
}
