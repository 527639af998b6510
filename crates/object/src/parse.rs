//! From bytes to an [`Object`]: the order in which its parts are read.

use std::collections::HashMap;
use std::sync::Arc;

use ringfence_btf::Btf;
use ringfence_uapi::MapType;

use crate::elf::Elf;
use crate::error::COMPILE;
use crate::externs::Externs;
use crate::functions::{Functions, programs};
use crate::layout::{Layout, Part};
use crate::relocs::{Targets, direct_calls};
use crate::types::{Types, bad};
use crate::{DatasecLayout, Error, Function, FunctionId, Map, MapId, Object, Program, Tag, Visibility};
use crate::{data, ext, legacy, maps, struct_ops};

/// `callx`: a call through a register, which no kernel takes.
const CALLX: u8 = 0x8d;

impl Object {
    /// Reads an object file. `file_name` is for messages and for the names of data maps; nothing is opened.
    ///
    /// What makes a single function unusable is in [`Function::problem`]; the rest of the object can be used.
    ///
    /// ```
    /// let error = ringfence_object::Object::parse("opens.c", b"int main(void) { return 0; }").unwrap_err();
    /// assert!(error.to_string().contains("clang -target bpf -O2 -g -c"));
    /// ```
    ///
    /// # Errors
    /// What the file is instead of an eBPF object, where it is damaged, or which map or section in it cannot
    /// be understood.
    pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Object, Error> {
        let elf = Elf::parse(file_name, bytes)?;
        let layout = Layout::of(&elf);
        let btf = read_btf(&elf, &layout)?;
        let types = Types::read(&elf, btf.as_ref())?;
        let mut functions = Functions::collect(&elf, &layout)?;
        let externs = Externs::collect(&elf, &types)?;
        let datasecs = data::datasecs(&elf, &types, &externs)?;
        let name = data::object_name(file_name);
        let mut notices = Vec::new();

        let found = Maps::read(&elf, &layout, &types, &externs, &datasecs, &mut functions, &name, &mut notices)?;
        direct_calls(&elf, &mut functions);
        let extension = layout.only(&elf, Part::BtfExt)?.and_then(|at| elf.sections.get(at));
        match (&btf, extension) {
            (Some(btf), Some(section)) => ext::read(&elf, btf, elf.bytes(section)?, &mut functions)?,
            (Some(_), None) => notices.push(format!(
                "it has no .BTF.ext section: no source lines, no CO-RE, and global functions cannot be verified; compile it with `{COMPILE}`"
            )),
            (None, _) => notices.push(format!(
                "it has no type information (.BTF): maps have no types, and kernels check less by name; compile it with `{COMPILE}`"
            )),
        }
        let globals = data::globals(&elf, &types, &datasecs, &found.data)?;
        let mut functions = functions.finish(&elf)?;
        let mut programs = programs(&functions);
        exceptions(&elf, &types, &mut functions, &mut programs);
        if programs.is_empty() && !functions.is_empty() {
            notices.push(format!(
                "none of its {} functions is a program: give the ones that the kernel runs a section, as SEC(\"xdp\") does",
                functions.len()
            ));
        }
        let mut indirect = functions.iter().filter(|f| f.insns.iter().any(|insn| insn.code == CALLX));
        if let Some(function) = indirect.next() {
            notices.push(format!(
                "function {} calls through a register (`callx` in `llvm-objdump -d {file_name}`), as code compiled \
                 without optimisation does, and the kernel refuses that; compile it with `{COMPILE}`",
                function.name
            ));
        }
        Ok(Object {
            name,
            big_endian: elf.big_endian(),
            license: text(&elf, &layout, Part::License)?,
            version: version(&elf, &layout)?,
            jump_tables: section_bytes(&elf, &layout, Part::JumpTables)?.unwrap_or_default().to_vec(),
            functions,
            programs,
            maps: found.maps,
            externs: externs.list,
            datasecs,
            globals,
            notices,
            tags: types.tags,
            btf,
        })
    }
}

/// All maps in libbpf's order (`bpf_object__init_maps`), and which sections the data maps are.
struct Maps {
    maps: Vec<Map>,
    data: HashMap<usize, MapId>,
}

impl Maps {
    #[allow(clippy::too_many_arguments, reason = "all that was read before")]
    fn read(
        elf: &Elf<'_>,
        layout: &Layout,
        types: &Types<'_>,
        externs: &Externs,
        datasecs: &[DatasecLayout],
        functions: &mut Functions,
        name: &str,
        notices: &mut Vec<String>,
    ) -> Result<Maps, Error> {
        let mut all: Vec<Map> = Vec::new();
        let mut targets = Targets::new(elf, layout, externs)?;

        if let Some(at) = layout.only(elf, Part::LegacyMaps)? {
            for found in legacy::read(elf, types.btf, at)? {
                targets.maps.insert((at, found.offset), MapId(all.len()));
                all.push(found.map);
            }
        }
        let first = all.len();
        let mut declared = Vec::new();
        if let Some(at) = layout.only(elf, Part::Maps)? {
            let size = elf.sections.get(at).map_or(0, |section| section.size);
            let known = types.datasec(".maps").and_then(|at| datasecs.get(at));
            let (Some(btf), Some(known)) = (types.btf, known) else {
                let what = format!("it cannot be read without type information; compile with `{COMPILE}`");
                return Err(Error::Section { object: elf.file.into(), section: ".maps".into(), what });
            };
            declared = maps::read(elf, btf, known, size)?;
            for found in &declared {
                targets.maps.insert((at, u64::from(found.offset)), MapId(all.len()));
                all.push(found.map.clone());
            }
        }
        let mut arenas = all.iter().filter(|map| map.kind == MapType::ARENA).skip(1);
        if let Some(second) = arenas.next() {
            let what = "an object can have one arena only, and this is the second one".into();
            return Err(Error::Map { object: elf.file.into(), map: second.name.clone(), what });
        }
        if let Some(at) = layout.only(elf, Part::Arena)? {
            let id = data::fill_arena(elf, types, at, &mut all)?;
            targets.data.insert(at, id);
        }
        for (at, map) in data::maps(elf, layout, types, datasecs, name)? {
            targets.data.insert(at, MapId(all.len()));
            all.push(map);
        }
        if let Some(size) = externs.kconfig_size() {
            all.push(data::kconfig(name, types, size));
        }
        let mut ops = HashMap::new();
        for (at, _) in layout.iter().filter(|(_, part)| *part == Part::StructOps) {
            let section = elf.sections.get(at).map_or("", |section| section.name);
            let known = types.datasec(section).and_then(|at| datasecs.get(at));
            let (Some(btf), Some(known)) = (types.btf, known) else {
                let what = format!("it cannot be read without type information; compile with `{COMPILE}`");
                return Err(Error::Section { object: elf.file.into(), section: section.into(), what });
            };
            ops.insert(at, struct_ops::read(elf, btf, at, known)?);
        }
        for (at, part) in layout.iter() {
            let Part::Relocations(of) = part else { continue };
            match layout.get(of) {
                Part::Code => targets.code(functions, at, of)?,
                Part::Maps => targets.slots(functions, at, of, &declared, &mut all, first)?,
                Part::StructOps => {
                    if let (Some(btf), Some(maps)) = (types.btf, ops.get_mut(&of)) {
                        struct_ops::relocate(elf, btf, at, of, maps, functions)?;
                    }
                }
                Part::Data | Part::Rodata | Part::Arena => {
                    if let Some(map) = targets.data.get(&of).and_then(|id| all.get_mut(id.0)) {
                        targets.data(functions, at, of, map, notices)?;
                    }
                }
                _ => {}
            }
        }
        for map in &mut all {
            map.slots.sort_by_key(|slot| slot.index);
        }
        for (at, _) in layout.iter() {
            all.extend(ops.remove(&at).into_iter().flat_map(|maps| maps.into_values()));
        }
        Ok(Maps { maps: all, data: targets.data })
    }
}

fn read_btf(elf: &Elf<'_>, layout: &Layout) -> Result<Option<Btf>, Error> {
    let Some(bytes) = section_bytes(elf, layout, Part::Btf)? else { return Ok(None) };
    elf.spend(bytes.len())?;
    let btf = Btf::parse(Arc::new(bytes.to_vec())).map_err(|e| bad(elf, e))?;
    if btf.is_big_endian() != elf.big_endian() {
        return Err(elf.damaged("section .BTF is in the other byte order"));
    }
    Ok(Some(btf))
}

fn section_bytes<'a>(elf: &Elf<'a>, layout: &Layout, part: Part) -> Result<Option<&'a [u8]>, Error> {
    let section = layout.only(elf, part)?.and_then(|at| elf.sections.get(at));
    section.map(|section| elf.bytes(section)).transpose()
}

/// The text of a section, up to its NUL.
fn text(elf: &Elf<'_>, layout: &Layout, part: Part) -> Result<Option<String>, Error> {
    let Some(bytes) = section_bytes(elf, layout, part)? else { return Ok(None) };
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(text.get(..text.len().min(1024)).unwrap_or_default()).into_owned()))
}

fn version(elf: &Elf<'_>, layout: &Layout) -> Result<Option<u32>, Error> {
    let Some(bytes) = section_bytes(elf, layout, Part::Version)? else { return Ok(None) };
    match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) if elf.big_endian() => Ok(Some(u32::from_be_bytes(bytes))),
        Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(_) => {
            let what = format!("a version is a number of 4 bytes, this has {}", bytes.len());
            Err(Error::Section { object: elf.file.into(), section: "version".into(), what })
        }
    }
}

/// `__exception_cb(NAME)` leaves a tag on the program (libbpf, `bpf_prog_assign_exc_cb`).
fn exceptions(elf: &Elf<'_>, types: &Types<'_>, functions: &mut [Function], programs: &mut [Program]) {
    let callback = |tag: &Tag| tag.text.strip_prefix("exception_callback:").map(str::to_owned);
    let tags = types.tags.iter().filter(|tag| tag.component.is_none());
    let mut tags = tags.filter_map(|tag| Some((tag.ty, callback(tag)?))).peekable();
    if tags.peek().is_none() {
        return;
    }
    let typed = |(at, program): (usize, &Program)| Some((functions.get(program.function.0)?.btf?, at));
    let by_type: HashMap<_, _> = programs.iter().enumerate().filter_map(typed).collect();
    let subs = functions.iter().enumerate().filter(|(_, f)| f.section == ".text");
    let subs: HashMap<_, _> = subs.map(|(id, f)| (f.name.clone(), (FunctionId(id), f.visibility))).collect();
    for (ty, callback) in tags {
        let Some(program) = by_type.get(&ty).and_then(|at| programs.get_mut(*at)) else { continue };
        let found = subs.get(&callback);
        let problem = match (found, program.exception_callback) {
            (None, _) => Some(format!("its exception callback {callback} is not in the object")),
            (Some((_, Visibility::Static | Visibility::Hidden)), _) => {
                Some(format!("its exception callback {callback} must be global and not hidden"))
            }
            (Some((_, Visibility::Global)), Some(_)) => Some("it has two exception callbacks; keep one".into()),
            (Some((_, Visibility::Global)), None) => None,
        };
        program.exception_callback = found.map(|(id, _)| *id);
        if let (Some(what), Some(function)) = (problem, functions.get_mut(program.function.0)) {
            function.set_problem(elf, what);
        }
    }
}
