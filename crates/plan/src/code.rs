//! From linked code to what the kernel takes: references to maps, kernel symbols and jump tables filled in, and
//! helpers that an old kernel lacks replaced. What is filled in is what libbpf fills in
//! (`bpf_object__relocate_data`, `bpf_object__sanitize_prog`), so that both loaders give the same instructions.

use std::collections::BTreeMap;

use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{ExternId, ExternKind, MapId, Object, Role, Target};
use ringfence_uapi::{Helper, Insn, MapType};

use crate::Error;
use crate::externs::{Externs, Found};
use crate::link::{Linked, link_error};
use crate::maps::{Maps, Place};
use crate::model::{Fixup, FixupWith, MapPlan, PlanMap};

/// In place of a map that is left out: a call of a helper that no kernel has. The rest of the number tells which.
const POISON_MAP: i32 = 2_001_000_000;
/// In place of a call of a weak kernel function that this kernel lacks.
const POISON_KFUNC: i32 = 2_002_000_000;

/// Name that libbpf gives to the maps behind jump tables.
const JUMP_TABLES: &str = ".jumptables";
/// `struct bpf_insn_array_value`.
const JUMP_VALUE: usize = 16;

/// Most entries of all jump tables: each program has its own copy.
const MAX_JUMPS: u64 = 1_000_000;

/// What is filled in from.
pub(crate) struct Filler<'a> {
    pub(crate) object: &'a Object,
    pub(crate) kernel: &'a Kernel,
    pub(crate) externs: &'a Externs<'a>,
    /// Modules with kernel functions that the object calls, in the order of its externs. Filled when needed.
    modules: Option<Vec<&'a str>>,
    /// Entries of jump tables so far.
    jumps: u64,
}

/// Code that is ready.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) fixups: Vec<Fixup>,
    pub(crate) modules: Vec<String>,
    /// It holds addresses of kernel symbols.
    pub(crate) reads_symbols: bool,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(object: &'a Object, kernel: &'a Kernel, externs: &'a Externs<'a>) -> Self {
        Filler { object, kernel, externs, modules: None, jumps: 0 }
    }

    /// Fills in everything that a program's code refers to. Jump tables become maps of the plan.
    pub(crate) fn fill(&mut self, linked: &mut Linked, maps: &mut Maps) -> Result<Filled, Error> {
        let mut filled = Filled::default();
        let mut tables: BTreeMap<u64, PlanMap> = BTreeMap::new();
        for (at, target) in std::mem::take(&mut linked.open) {
            match target {
                Target::Map(map) => self.map(linked, maps, at, map, None, &mut filled)?,
                Target::Data { map, offset } => self.map(linked, maps, at, map, Some(offset), &mut filled)?,
                Target::Extern(id) => self.external(linked, maps, at, id, &mut filled)?,
                Target::JumpTable { offset, size } => {
                    let map = match tables.get(&offset).copied() {
                        Some(map) => map,
                        None => {
                            let map = self.jump_table(linked, at, offset, size)?;
                            maps.plans.push(map);
                            let map = PlanMap(maps.plans.len().saturating_sub(1));
                            tables.insert(offset, map);
                            map
                        }
                    };
                    let (first, _) = self.pair(linked, at)?;
                    (first.src, first.off, first.imm) = (Insn::PSEUDO_MAP_VALUE, 0, 0);
                    filled.fixups.push(Fixup { insn: at, with: FixupWith::Map(map) });
                }
                // Those are linked already.
                Target::Call(_) | Target::Address(_) => {}
            }
        }
        // Subprograms were followed where they are called, so the instructions come in another order.
        filled.fixups.sort_by_key(|fixup| fixup.insn);
        self.old_helpers(linked);
        Ok(filled)
    }

    /// A 64-bit load.
    fn pair<'l>(&self, linked: &'l mut Linked, at: usize) -> Result<(&'l mut Insn, &'l mut Insn), Error> {
        let problem = "it should be a 64-bit load and is none";
        let pair = at..at.saturating_add(2);
        if !linked.insns.get(pair.clone()).and_then(<[Insn]>::first).is_some_and(|first| first.is_ld_imm64()) {
            return Err(self.error(linked, at, problem));
        }
        match linked.insns.get_mut(pair) {
            Some([first, second]) => Ok((first, second)),
            _ => Err(Error::Link { function: String::new(), insn: at, problem: problem.to_owned() }),
        }
    }

    fn error(&self, linked: &Linked, at: usize, problem: &str) -> Error {
        let part = linked.parts.iter().rfind(|(_, start)| *start <= at);
        match part.and_then(|(id, start)| Some((self.object.functions.get(id.0)?, start))) {
            Some((function, start)) => link_error(function, at.saturating_sub(*start), problem),
            None => Error::Link { function: String::new(), insn: at, problem: problem.to_owned() },
        }
    }

    /// A map, or with an offset a place in its value.
    fn map(
        &self,
        linked: &mut Linked,
        maps: &Maps,
        at: usize,
        id: MapId,
        offset: Option<u32>,
        filled: &mut Filled,
    ) -> Result<(), Error> {
        let place = maps.place(id).ok_or_else(|| self.error(linked, at, "it refers to no map of the object"))?;
        let (first, second) = self.pair(linked, at)?;
        match place {
            Place::Planned(map) => {
                first.src = if offset.is_some() { Insn::PSEUDO_MAP_VALUE } else { Insn::PSEUDO_MAP_FD };
                first.imm = 0;
                if let Some(offset) = offset {
                    second.imm = offset.cast_signed();
                }
                filled.fixups.push(Fixup { insn: at, with: FixupWith::Map(*map) });
            }
            Place::Off(_) => {
                let number = i32::try_from(id.0).unwrap_or(0);
                *first = poison(POISON_MAP.saturating_add(number));
                *second = *first;
            }
            Place::Broken(error) => return Err(error.clone()),
        }
        Ok(())
    }

    fn external(
        &mut self,
        linked: &mut Linked,
        maps: &Maps,
        at: usize,
        id: ExternId,
        filled: &mut Filled,
    ) -> Result<(), Error> {
        let found = self.externs.find(id)?;
        if linked.insns.get(at).is_some_and(|insn| insn.code == Insn::CALL) {
            return self.kernel_call(linked, at, id, found, filled);
        }
        let (first, second) = match found {
            Found::Kconfig { offset } => {
                let map = self.object.maps.iter().position(|map| matches!(map.role, Role::Kconfig));
                let map = map.ok_or_else(|| self.error(linked, at, "the object has no .kconfig map"))?;
                return self.map(linked, maps, at, MapId(map), Some(offset), filled);
            }
            Found::Typed { .. } | Found::Address(_) | Found::Missing => self.pair(linked, at)?,
        };
        match found {
            Found::Typed { id, module } => {
                (first.src, first.imm, second.imm) = (Insn::PSEUDO_BTF_ID, id.0.cast_signed(), 0);
                if let Some(module) = module {
                    filled.fixups.push(Fixup { insn: at, with: FixupWith::ModuleBtf(module.to_owned()) });
                }
            }
            Found::Address(address) => {
                first.imm = (address as u32).cast_signed();
                second.imm = ((address >> 32) as u32).cast_signed();
                filled.reads_symbols = true;
            }
            Found::Kconfig { .. } | Found::Missing => (first.imm, second.imm) = (0, 0),
        }
        Ok(())
    }

    fn kernel_call(
        &mut self,
        linked: &mut Linked,
        at: usize,
        ext: ExternId,
        found: Found<'_>,
        filled: &mut Filled,
    ) -> Result<(), Error> {
        let off = match found {
            Found::Typed { module: Some(module), .. } => {
                let modules = self.modules();
                let place = modules.iter().position(|known| *known == module).unwrap_or(0);
                filled.modules = modules.iter().map(|module| (*module).to_owned()).collect();
                i16::try_from(place.saturating_add(1)).ok()
            }
            _ => Some(0),
        };
        let off = off.ok_or_else(|| self.error(linked, at, "it calls functions of too many kernel modules"))?;
        match (found, linked.insns.get_mut(at)) {
            (Found::Typed { id, .. }, Some(insn)) => {
                (insn.src, insn.imm, insn.off) = (Insn::PSEUDO_KFUNC_CALL, id.0.cast_signed(), off);
            }
            (Found::Missing, Some(insn)) => {
                *insn = poison(POISON_KFUNC.saturating_add(i32::try_from(ext.0).unwrap_or(0)));
            }
            (Found::Kconfig { .. } | Found::Address(_), _) | (_, None) => {
                return Err(self.error(linked, at, "it calls something that is no kernel function"));
            }
        }
        Ok(())
    }

    /// All modules with functions that the object calls. All its externs are looked up for it, so that the numbers
    /// are those of libbpf.
    fn modules(&mut self) -> &[&'a str] {
        let (object, externs) = (self.object, self.externs);
        self.modules.get_or_insert_with(|| {
            let mut modules = Vec::new();
            for (id, ext) in object.externs.iter().enumerate() {
                let found = matches!(ext.kind, ExternKind::Kfunc { .. }).then(|| externs.find(ExternId(id)));
                let Some(Ok(Found::Typed { module: Some(module), .. })) = found else { continue };
                if !modules.contains(&module) {
                    modules.push(module);
                }
            }
            modules
        })
    }

    /// A table of jump targets: instructions of the program's, in a map (libbpf, `create_jt_map`).
    fn jump_table(&mut self, linked: &Linked, at: usize, offset: u64, size: u64) -> Result<MapPlan, Error> {
        self.jumps = self.jumps.saturating_add(size / 8);
        let problem = |problem| self.error(linked, at, problem);
        if self.jumps > MAX_JUMPS {
            return Err(problem("the jump tables of all programs are too large together"));
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        let table = self.object.jump_tables.get(start..end).ok_or_else(|| problem("its jump table is cut off"))?;
        if !offset.is_multiple_of(8) || !size.is_multiple_of(8) {
            return Err(problem("its jump table is not made of 8-byte entries"));
        }
        let part = linked.parts.iter().rfind(|(_, start)| *start <= at);
        let part = part.and_then(|(id, start)| Some((self.object.functions.get(id.0)?, *start as u64)));
        let (function, base) = part.ok_or_else(|| problem("it belongs to no function"))?;
        let mut contents = Vec::with_capacity(table.len().saturating_mul(2));
        for entry in table.chunks_exact(8) {
            let entry = entry.first_chunk().map_or(0, |entry| u64::from_ne_bytes(*entry));
            let target = entry.checked_sub(function.offset).map(|bytes| (bytes / 8).saturating_add(base));
            let target = target.and_then(|target| u32::try_from(target).ok());
            let target = target.ok_or_else(|| problem("its jump table leads out of the program"))?;
            contents.extend(target.to_ne_bytes());
            contents.resize(contents.len().saturating_add(JUMP_VALUE.saturating_sub(4)), 0);
        }
        let value_size = u32::try_from(JUMP_VALUE).unwrap_or(0);
        let entries = u32::try_from(size / 8).unwrap_or(0);
        let map = MapPlan::new(JUMP_TABLES, MapType::INSN_ARRAY, 4, value_size, entries);
        Ok(MapPlan { contents: Some(contents), freeze: true, ..map })
    }

    /// `bpf_probe_read` stands in for its successors on kernels before 5.5.
    fn old_helpers(&self, linked: &mut Linked) {
        for insn in linked.insns.iter_mut().filter(|insn| insn.is_helper_call() && insn.dst == 0) {
            let old = match Helper(insn.imm.cast_unsigned()) {
                Helper::PROBE_READ_KERNEL | Helper::PROBE_READ_USER => Helper::PROBE_READ,
                Helper::PROBE_READ_KERNEL_STR | Helper::PROBE_READ_USER_STR => Helper::PROBE_READ_STR,
                _ => continue,
            };
            if self.kernel.has(Feature::ProbeReadKernel) {
                return;
            }
            insn.imm = old.0.cast_signed();
        }
    }
}

/// An instruction that no verifier accepts where it can be reached; elsewhere it is dead code.
fn poison(imm: i32) -> Insn {
    Insn { code: Insn::CALL, dst: 0, src: 0, off: 0, imm }
}
