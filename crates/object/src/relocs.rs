//! What instructions, slots of maps and data refer to.

use std::collections::HashMap;

use object::elf::{STT_OBJECT, STT_SECTION};
use ringfence_uapi::Insn;

use crate::elf::{Elf, Home, Rel, Symbol};
use crate::externs::Externs;
use crate::functions::Functions;
use crate::layout::{Layout, Part};
use crate::maps::Declared;
use crate::{Error, FunctionId, Map, MapId, Reloc, Role, Slot, SlotTarget, Target};

/// What there is to refer to.
pub(crate) struct Targets<'a> {
    pub(crate) elf: &'a Elf<'a>,
    pub(crate) layout: &'a Layout,
    pub(crate) externs: &'a Externs,
    /// Maps of `.maps` and `maps`, by section and offset.
    pub(crate) maps: HashMap<(usize, u64), MapId>,
    /// Data sections by section, and the arena by that of its contents.
    pub(crate) data: HashMap<usize, MapId>,
    /// Sizes of the tables of `.jumptables` by their offset.
    tables: HashMap<u64, u64>,
}

impl<'a> Targets<'a> {
    pub(crate) fn new(elf: &'a Elf<'a>, layout: &'a Layout, externs: &'a Externs) -> Result<Targets<'a>, Error> {
        let mut tables = HashMap::new();
        if let Some(section) = layout.only(elf, Part::JumpTables)? {
            let symbols = elf.symbols().filter(|symbol| symbol.home == Home::Section(section));
            tables.extend(symbols.filter(|symbol| symbol.kind == STT_OBJECT).map(|table| (table.value, table.size)));
        }
        Ok(Targets { elf, layout, externs, maps: HashMap::new(), data: HashMap::new(), tables })
    }

    /// Resolves the relocations of one executable section.
    pub(crate) fn code(&self, functions: &mut Functions, relocations: usize, code: usize) -> Result<(), Error> {
        let (Some(section), Some(of)) = (self.elf.sections.get(relocations), self.elf.sections.get(code)) else {
            return Ok(());
        };
        for rel in self.elf.relocations(section)? {
            if !rel.offset.is_multiple_of(Insn::SIZE as u64) || rel.offset >= of.size {
                return Err(self.elf.damaged(format!("section {} refers to no instruction", section.name)));
            }
            // A weak function that another file overrode leaves its code behind without a symbol
            // (libbpf, bpf_object__collect_prog_relos).
            let Some((id, start)) = functions.find(code, rel.offset) else { continue };
            let at = usize::try_from(rel.offset.saturating_sub(start)).unwrap_or(usize::MAX) / Insn::SIZE;
            let target = functions.list.get(id.0).map(|function| self.resolve(functions, &function.insns, at, rel));
            let Some(function) = functions.get_mut(id) else { continue };
            match target {
                Some(Ok(target)) => function.relocs.push(Reloc { insn: at, target }),
                Some(Err(what)) => function.set_problem_at(self.elf, at, what),
                None => {}
            }
        }
        Ok(())
    }

    /// What one instruction refers to (libbpf, `bpf_program__record_reloc`).
    fn resolve(&self, functions: &Functions, insns: &[Insn], at: usize, rel: Rel) -> Result<Target, String> {
        let insn = insns.get(at).ok_or("the file is damaged: no such instruction")?;
        let symbol =
            self.elf.symbol(rel.symbol).ok_or("the file is damaged: it refers to a symbol that is not there")?;
        let name = self.name_of(&symbol);
        let call = insn.code == Insn::CALL;
        if !call && !insn.is_ld_imm64() {
            return Err(format!("only a call or a 64-bit load can refer to {name}; compile with -O2"));
        }
        if !call && insns.get(at.saturating_add(1)).is_none_or(|second| second.code != 0) {
            return Err("the file is damaged: the second half of a 64-bit load is missing".into());
        }
        if symbol.is_extern() {
            return match self.externs.by_symbol.get(&rel.symbol) {
                Some(Ok(id)) => Ok(Target::Extern(*id)),
                Some(Err(why)) => Err(why.clone()),
                None => Err("the file is damaged: it refers to a symbol without a name".into()),
            };
        }
        let section = match symbol.home {
            Home::Section(section) => section,
            Home::Undefined => return Err(format!("{name} is defined nowhere")),
            Home::Special(_) => {
                return Err(format!("{name} is in no section; give it a first value, or compile with -fno-common"));
            }
        };
        let part = self.layout.get(section);
        let imm = i64::from(insn.imm);
        match (part, call) {
            (Part::Code, true) => {
                if insn.src != Insn::PSEUDO_CALL {
                    return Err(format!("the file is damaged: its call of {name} is no call of a function"));
                }
                // Global: the symbol's value, and -1. Static: the section's start, and the function's place in it.
                let slots = imm.wrapping_add(1).wrapping_mul(Insn::SIZE as i64);
                function_at(functions, section, symbol.value.wrapping_add_signed(slots), &name).map(Target::Call)
            }
            (Part::Code, false) => {
                // Global: the symbol's value, and 0. Static: the section's start, and bytes.
                function_at(functions, section, symbol.value.wrapping_add_signed(imm), &name).map(Target::Address)
            }
            (_, true) => Err(format!("it calls {name}, which is data")),
            (Part::Maps | Part::LegacyMaps, false) => {
                // GNU as up to 2.40 writes the symbol's value into the instruction as well.
                let twice = symbol.kind != STT_SECTION && imm.cast_unsigned() == symbol.value;
                let offset = if twice { symbol.value } else { symbol.value.wrapping_add_signed(imm) };
                let map = self.maps.get(&(section, offset));
                map.map(|id| Target::Map(*id)).ok_or_else(|| format!("{name} is inside of a map's definition"))
            }
            (Part::Data | Part::Rodata | Part::Bss | Part::Arena, false) => {
                let map = *self.data.get(&section).ok_or_else(|| format!("section of {name} is empty"))?;
                // As 32-bit numbers wrap: an address before a variable is one that the program adds to.
                let offset = (symbol.value.wrapping_add_signed(imm) & u64::from(u32::MAX)) as u32;
                Ok(Target::Data { map, offset })
            }
            (Part::JumpTables, false) => self.jump_table(section, &symbol, imm),
            (Part::StructOps, false) => {
                Err(format!("{name} is a struct_ops variable, whose address a program cannot have"))
            }
            (_, false) => Err(format!(
                "{name} is in section {}, which is no data section; name it .data.*, .rodata.* or .bss.*",
                self.elf.sections.get(section).map_or("?", |section| section.name)
            )),
        }
    }

    /// A table of jump targets. Its size is that of its symbol; a section's symbol stands for a local one.
    fn jump_table(&self, section: usize, symbol: &Symbol<'_>, imm: i64) -> Result<Target, String> {
        let offset = symbol.value.wrapping_add_signed(imm);
        let size = match symbol.kind {
            STT_SECTION => self.tables.get(&offset).copied().unwrap_or(0),
            _ => symbol.size,
        };
        let end = self.elf.sections.get(section).map_or(0, |section| section.size);
        let sound = size > 0 && offset.is_multiple_of(8) && size.is_multiple_of(8);
        if !sound || offset.checked_add(size).is_none_or(|last| last > end) {
            return Err(format!("{} is no table of jump targets: the file is damaged", self.name_of(symbol)));
        }
        Ok(Target::JumpTable { offset, size })
    }

    /// A symbol's name; for a section's symbol, which has none, that of the section.
    fn name_of(&self, symbol: &Symbol<'_>) -> String {
        let section = || match symbol.home {
            Home::Section(at) if symbol.kind == STT_SECTION => self.elf.sections.get(at).map(|s| s.name),
            _ => None,
        };
        let name = if symbol.name.is_empty() { section().unwrap_or("a symbol without a name") } else { symbol.name };
        name.chars().take(200).collect()
    }

    /// Resolves the relocations of `.maps`: what slots hold at first (libbpf, `bpf_object__collect_map_relos`).
    pub(crate) fn slots(
        &self,
        functions: &Functions,
        relocations: usize,
        section: usize,
        declared: &[Declared],
        maps: &mut [Map],
        first: usize,
    ) -> Result<(), Error> {
        let elf = self.elf;
        let (Some(relocations), Some(of)) = (elf.sections.get(relocations), elf.sections.get(section)) else {
            return Ok(());
        };
        let data = elf.bytes(of)?;
        for rel in elf.relocations(relocations)? {
            let outside = || elf.damaged("section .maps has an address outside its maps");
            let after = declared.partition_point(|map| u64::from(map.offset) <= rel.offset);
            let at = after.checked_sub(1).ok_or_else(outside)?;
            let place = declared.get(at).ok_or_else(outside)?;
            let start = u64::from(place.offset);
            let end = rel.offset.checked_add(8).ok_or_else(outside)?;
            if end > start.saturating_add(u64::from(place.size)) {
                return Err(outside());
            }
            let map = maps.get_mut(first.saturating_add(at)).ok_or_else(outside)?;
            let fail = |what: String| Error::Map { object: elf.file.into(), map: map.name.clone(), what };
            let values = place.values.map(u64::from).and_then(|values| start.checked_add(values));
            let in_values = values.and_then(|values| rel.offset.checked_sub(values));
            let Some(index) = in_values.filter(|at| at.is_multiple_of(8)).and_then(|at| u32::try_from(at / 8).ok())
            else {
                return Err(fail("an attribute other than values holds an address".into()));
            };
            let symbol = elf.symbol(rel.symbol).ok_or_else(outside)?;
            let addend = elf.word64(data, rel.offset).ok_or_else(outside)?;
            let target = symbol.value.wrapping_add(addend);
            let target = match (symbol.home, &map.inner) {
                (Home::Section(at), Some(_)) => self.maps.get(&(at, target)).map(|id| SlotTarget::Map(*id)),
                (Home::Section(at), None) => functions.at(at, target).map(SlotTarget::Function),
                _ => None,
            };
            let of_text = |id: FunctionId| functions.list.get(id.0).is_none_or(|f| f.section == ".text");
            let target = target.filter(|target| !matches!(target, SlotTarget::Function(id) if of_text(*id)));
            let Some(target) = target else {
                let wanted = if map.inner.is_some() { "map" } else { "program" };
                let name = self.name_of(&symbol);
                return Err(fail(format!(
                    "slot {index} of its values holds {name}, which is no {wanted} of this object"
                )));
            };
            map.slots.push(Slot { index, target });
        }
        Ok(())
    }

    /// Finds the addresses in a data section, which no loader can fill in: functions, and how many others.
    pub(crate) fn data(
        &self,
        functions: &Functions,
        relocations: usize,
        section: usize,
        map: &mut Map,
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        let elf = self.elf;
        let (Some(relocations), Some(of)) = (elf.sections.get(relocations), elf.sections.get(section)) else {
            return Ok(());
        };
        let Role::Data(contents) = &mut map.role else { return Ok(()) };
        let data = elf.bytes(of)?;
        let mut others = 0usize;
        for rel in elf.relocations(relocations)? {
            let addend = elf.word64(data, rel.offset).unwrap_or(0);
            let function = elf.symbol(rel.symbol).and_then(|symbol| match symbol.home {
                Home::Section(at) if self.layout.is_code(at) => functions.at(at, symbol.value.wrapping_add(addend)),
                _ => None,
            });
            match (function, u32::try_from(rel.offset)) {
                (Some(function), Ok(offset)) => contents.functions.push((offset, function)),
                _ => others = others.saturating_add(1),
            }
        }
        let all = others.saturating_add(contents.functions.len());
        if all > 0 {
            notices.push(format!(
                "section {} holds {all} address{}, which the kernel has no way to fill in: programs read offsets there. \
                 Keep indexes or strings in it, not pointers",
                of.name,
                if all == 1 { "" } else { "es" }
            ));
        }
        Ok(())
    }
}

fn function_at(functions: &Functions, section: usize, offset: u64, name: &str) -> Result<FunctionId, String> {
    match functions.find(section, offset) {
        Some((id, start)) if start == offset => Ok(id),
        Some(_) => Err(format!("it refers to the middle of a function ({name}): the file is damaged")),
        None => Err(format!("it refers to {name}, where no function starts: the file is damaged")),
    }
}

/// Calls that need no relocation: the assembler knows the distance to a function of the same section.
pub(crate) fn direct_calls(elf: &Elf<'_>, functions: &mut Functions) {
    let places: Vec<_> = functions.places().collect();
    for (id, section, start) in places {
        let Some(function) = functions.get_mut(id) else { continue };
        function.relocs.sort_by_key(|reloc| reloc.insn);
        if let Some(twice) = function.relocs.windows(2).find_map(|w| match w {
            [a, b] if a.insn == b.insn => Some(a.insn),
            _ => None,
        }) {
            function.set_problem_at(elf, twice, "two relocations want to fill it in: the file is damaged".into());
        }
        let Some(function) = functions.list.get(id.0) else { continue };
        let mut found = Vec::new();
        let mut problem = None;
        let mut known = function.relocs.iter().map(|reloc| reloc.insn).peekable();
        for (at, insn) in function.insns.iter().enumerate() {
            while known.next_if(|insn| *insn < at).is_some() {}
            if !insn.is_subprogram_call() || known.peek() == Some(&at) {
                continue;
            }
            let slots = i64::from(insn.imm).saturating_add(1).saturating_add_unsigned(at as u64);
            let target = start.wrapping_add_signed(slots.wrapping_mul(Insn::SIZE as i64));
            match function_at(functions, section, target, "a function by its distance") {
                Ok(target) => found.push(Reloc { insn: at, target: Target::Call(target) }),
                Err(what) => {
                    problem.get_or_insert((at, what));
                }
            }
        }
        let Some(function) = functions.get_mut(id) else { continue };
        if let Some((at, what)) = problem {
            function.set_problem_at(elf, at, what);
        }
        if !found.is_empty() {
            function.relocs.append(&mut found);
            function.relocs.sort_by_key(|reloc| reloc.insn);
        }
    }
}
