//! Data sections: the maps that hold them, and where their variables are.

use std::collections::HashMap;

use object::elf::STT_OBJECT;
use ringfence_btf::{Def, Linkage};
use ringfence_uapi::MapType;

use crate::elf::{Elf, Home, Symbol};
use crate::externs::Externs;
use crate::layout::{Layout, Part};
use crate::types::{Types, bad};
use crate::{Data, DatasecLayout, Error, ExternKind, Global, Map, MapId, Role, VarLayout};

/// Most bytes of zeros that an object may ask for.
const MAX_BSS: u64 = 256 << 20;
/// The kernel's name of a map has at most 15 bytes (`BPF_OBJ_NAME_LEN`).
const NAME_LEN: usize = 15;
/// `BPF_F_RDONLY_PROG`.
pub(crate) const RDONLY_PROG: u32 = 1 << 7;

/// The object's name: the file's up to its first dot (libbpf, `bpf_object__new`, which keeps 15 bytes of it).
pub(crate) fn object_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split('.').next().unwrap_or(base).into()
}

/// `PREFIX.rodata`: the name of the map of the section `.data`, `.rodata` or `.kconfig`, or of one for zeros, in the object of
/// this name (libbpf, `internal_map_name`).
///
/// The section's name takes 7 bytes even when it is shorter; what is left of 15 goes to the object's name,
/// unless the section is a custom one with a second dot.
pub fn data_map_name(object: &str, section: &str) -> String {
    let suffix = section.len().clamp(7, NAME_LEN);
    let custom = section.get(1..).is_some_and(|rest| rest.contains('.'));
    let prefix = if custom { 0 } else { NAME_LEN.saturating_sub(suffix) };
    let bytes = object.bytes().take(prefix).chain(section.bytes().take(suffix));
    let clean = |b: u8| if b.is_ascii_alphanumeric() || b == b'_' || b == b'.' { char::from(b) } else { '_' };
    bytes.map(clean).collect()
}

/// Where the variables of each `DATASEC` are (libbpf, `btf_fixup_datasec`).
pub(crate) fn datasecs(elf: &Elf<'_>, types: &Types<'_>, externs: &Externs) -> Result<Vec<DatasecLayout>, Error> {
    let Some(btf) = types.btf else { return Ok(Vec::new()) };
    let mut variables: Option<HashMap<&str, Symbol<'_>>> = None;
    let mut layouts = Vec::with_capacity(types.datasecs.len());
    for (id, name) in &types.datasecs {
        let Def::Datasec(datasec) = btf.get(*id).map_err(|e| bad(elf, e))?.def else { continue };
        elf.spend(name.len().saturating_add(datasec.vars().len().saturating_mul(size_of::<VarLayout>())))?;
        let mut layout = DatasecLayout {
            ty: *id,
            name: (*name).into(),
            size: datasec.size,
            vars: Vec::with_capacity(datasec.vars().len()),
        };
        let fail = |what: String| Error::Section { object: elf.file.into(), section: (*name).into(), what };
        match *name {
            ".kconfig" => layout.size = externs.kconfig_size().unwrap_or(0),
            ".ksyms" => layout.size = u32::try_from(datasec.vars().len()).unwrap_or(0).saturating_mul(4),
            // Static linking (`bpftool gen object`) fills in what compilers leave at zero.
            _ if datasec.size == 0 => {
                let size = elf.find(name).and_then(|at| elf.sections.get(at)).map_or(0, |section| section.size);
                let limit = u64::from(u32::MAX);
                layout.size = match u32::try_from(size) {
                    Ok(0) => return Err(fail("types are recorded for it, but it is empty or missing".into())),
                    Ok(size) => size,
                    Err(_) => {
                        let what = format!("bytes in section {name}");
                        return Err(Error::TooLarge { object: elf.file.into(), what, limit });
                    }
                };
            }
            _ => {}
        }
        for (at, var) in datasec.vars().enumerate() {
            let ty = btf.get(var.ty).map_err(|e| bad(elf, e))?;
            let mut place = VarLayout { ty: var.ty, offset: var.offset, size: var.size, linkage: Linkage::Global };
            match (*name, ty.def) {
                // Any space will do: the kernel only wants variables that do not overlap.
                (".ksyms", _) => {
                    (place.offset, place.size) = (u32::try_from(at).unwrap_or(0).saturating_mul(4), 4);
                }
                (".kconfig", _) => {
                    let id = externs.by_type.get(&var.ty);
                    match id.and_then(|id| externs.list.get(id.0)).map(|found| found.kind) {
                        Some(ExternKind::Kconfig { offset, size, .. }) => (place.offset, place.size) = (offset, size),
                        _ => continue,
                    }
                }
                (_, Def::Var { linkage: linkage @ (Linkage::Static | Linkage::Extern), .. }) => place.linkage = linkage,
                (_, Def::Var { linkage: Linkage::Global, .. }) => {
                    let variables = variables.get_or_insert_with(|| global_variables(elf));
                    let Some(symbol) = variables.get(ty.name) else {
                        return Err(fail(format!("variable {} has a type but no symbol", ty.name)));
                    };
                    // libbpf believes what is not zero; but bpftool's linker has been seen to put an extern map and
                    // its definition to different places, of which the symbol's is the right one.
                    let offset = u32::try_from(symbol.value);
                    place.offset = offset.map_err(|_| fail(format!("variable {} ends past 4 GiB", ty.name)))?;
                    if symbol.hidden {
                        place.linkage = Linkage::Static;
                    }
                }
                _ => return Err(fail(format!("its type information holds a {:?}", ty.def.kind()))),
            }
            layout.vars.push(place);
        }
        layout.vars.sort_by_key(|var| var.offset);
        layouts.push(layout);
    }
    Ok(layouts)
}

/// The variables that other files could name (libbpf, `find_elf_var_sym`).
fn global_variables<'a>(elf: &Elf<'a>) -> HashMap<&'a str, Symbol<'a>> {
    let mut variables = HashMap::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind == STT_OBJECT && symbol.is_global()) {
        variables.entry(symbol.name).or_insert(symbol);
    }
    variables
}

/// A map for each data section, in the order of the file; with its section's index.
pub(crate) fn maps(
    elf: &Elf<'_>,
    layout: &Layout,
    types: &Types<'_>,
    datasecs: &[DatasecLayout],
    object: &str,
) -> Result<Vec<(usize, Map)>, Error> {
    let mut maps = Vec::new();
    let mut zeros = 0u64;
    for (at, part) in layout.iter() {
        let Some(section) = elf.sections.get(at) else { continue };
        let (read_only, bss) = match part {
            Part::Data => (false, false),
            Part::Rodata => (true, false),
            Part::Bss => (false, true),
            _ => continue,
        };
        let bytes = if bss {
            zeros = zeros.saturating_add(section.size);
            if zeros > MAX_BSS {
                let what = format!("bytes of zeros in section {}", section.name);
                return Err(Error::TooLarge { object: elf.file.into(), what, limit: MAX_BSS });
            }
            vec![0; usize::try_from(section.size).unwrap_or(0)]
        } else {
            let bytes = elf.bytes(section)?;
            elf.spend(bytes.len())?;
            bytes.to_vec()
        };
        // Users know custom `.data` and `.rodata` sections by their own name, `.bss` ones by the kernel's
        // (libbpf, `map_uses_real_name`).
        let own_name = !bss && !matches!(section.name, ".data" | ".rodata");
        let name = if own_name { section.name.into() } else { data_map_name(object, section.name) };
        elf.spend(section.name.len().saturating_mul(2).saturating_add(size_of::<Map>()))?;
        let datasec = types.datasec(section.name).and_then(|at| datasecs.get(at));
        let exported = datasec.is_some_and(|d| d.vars.iter().any(|var| var.linkage != Linkage::Static));
        let datasec = datasec.map(|datasec| datasec.ty);
        let size = u32::try_from(bytes.len()).map_err(|_| elf.damaged("a data section is larger than 4 GiB"))?;
        let data = Data { bytes, read_only, bss, exported, datasec, functions: Vec::new(), arena: false };
        let flags = if read_only { RDONLY_PROG } else { 0 };
        let map = Map { value_type: datasec, ..array(&name, section.name, size, flags, Role::Data(data)) };
        maps.push((at, map));
    }
    Ok(maps)
}

/// The map of `.kconfig`, whose contents the kernel's configuration decides.
pub(crate) fn kconfig(object: &str, types: &Types<'_>, size: u32) -> Map {
    let map = array(&data_map_name(object, ".kconfig"), ".kconfig", size, RDONLY_PROG, Role::Kconfig);
    let datasec = types.datasec(".kconfig").and_then(|at| types.datasecs.get(at));
    Map { value_type: datasec.map(|(id, _)| *id), ..map }
}

/// An array of one element.
fn array(name: &str, section: &str, value_size: u32, flags: u32, role: Role) -> Map {
    Map { key_size: 4, value_size, max_entries: 1, flags, ..Map::new(name, section, MapType::ARRAY, role) }
}

/// Gives the arena the contents of `.addr_space.1` (libbpf, `init_arena_map_data`).
pub(crate) fn fill_arena(elf: &Elf<'_>, types: &Types<'_>, at: usize, maps: &mut [Map]) -> Result<MapId, Error> {
    let Some(section) = elf.sections.get(at) else { return Err(elf.damaged("a section is missing")) };
    let mut arenas = maps.iter_mut().enumerate().filter(|(_, map)| map.kind == MapType::ARENA);
    let Some((id, map)) = arenas.next() else {
        let what = "it holds variables of an arena, but .maps declares none; add a map of type BPF_MAP_TYPE_ARENA";
        return Err(Error::Section { object: elf.file.into(), section: section.name.into(), what: what.into() });
    };
    let bytes = elf.bytes(section)?;
    elf.spend(bytes.len())?;
    map.role = Role::Data(Data {
        bytes: bytes.to_vec(),
        read_only: false,
        bss: false,
        exported: true,
        datasec: types.datasec(section.name).and_then(|at| types.datasecs.get(at)).map(|(id, _)| *id),
        functions: Vec::new(),
        arena: true,
    });
    Ok(MapId(id))
}

/// The variables of data sections. Without BTF the symbols say where they are, but not what.
pub(crate) fn globals(
    elf: &Elf<'_>,
    types: &Types<'_>,
    datasecs: &[DatasecLayout],
    map_of: &HashMap<usize, MapId>,
) -> Result<Vec<Global>, Error> {
    let mut globals = Vec::new();
    if let Some(btf) = types.btf {
        for layout in datasecs {
            let Some(&map) = elf.find(&layout.name).and_then(|at| map_of.get(&at)) else { continue };
            for var in &layout.vars {
                let ty = btf.get(var.ty).map_err(|e| bad(elf, e))?;
                let Def::Var { ty: of, linkage: Linkage::Static | Linkage::Global } = ty.def else { continue };
                elf.spend(ty.name.len().saturating_add(size_of::<Global>()))?;
                let is_static = var.linkage == Linkage::Static;
                let (name, ty) = (ty.name.into(), Some(of));
                globals.push(Global { name, ty, map, offset: var.offset, size: var.size, is_static });
            }
        }
    } else {
        for symbol in elf.symbols().filter(|symbol| symbol.kind == STT_OBJECT) {
            let Home::Section(at) = symbol.home else { continue };
            let (Some(&map), Ok(offset), Ok(size)) =
                (map_of.get(&at), u32::try_from(symbol.value), u32::try_from(symbol.size))
            else {
                continue;
            };
            elf.spend(symbol.name.len().saturating_add(size_of::<Global>()))?;
            let is_static = !symbol.is_global() || symbol.hidden;
            globals.push(Global { name: symbol.name.into(), ty: None, map, offset, size, is_static });
        }
    }
    globals.sort_by_key(|global| (global.map, global.offset));
    Ok(globals)
}
