//! The functions of executable sections, and which of them are programs.

use object::elf::{STB_LOCAL, STB_WEAK, STT_FUNC, STT_NOTYPE};
use ringfence_uapi::Insn;

use crate::elf::{Elf, Home, Symbol};
use crate::layout::Layout;
use crate::{Error, Function, FunctionId, Program, Visibility};

/// Every function, and where each one is.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) list: Vec<Function>,
    /// Where the functions are that have instructions, by section and start.
    places: Vec<Place>,
    /// Other names of a function that is in `places`.
    aliases: Vec<(FunctionId, FunctionId)>,
}

#[derive(Clone, Copy)]
struct Place {
    section: usize,
    start: u64,
    end: u64,
    id: FunctionId,
}

impl Functions {
    pub(crate) fn collect(elf: &Elf<'_>, layout: &Layout) -> Result<Functions, Error> {
        let symbols = elf.symbols().filter_map(|symbol| match symbol.home {
            Home::Section(at) if layout.is_code(at) => Some((at, symbol)),
            _ => None,
        });
        let (mut symbols, others): (Vec<_>, Vec<_>) = symbols.partition(|(_, symbol)| symbol.kind == STT_FUNC);
        if symbols.is_empty() {
            symbols = untyped(elf, others);
        }
        symbols.sort_by_key(|(section, symbol)| (*section, symbol.value));
        let mut functions = Functions::default();
        for (section, symbol) in symbols {
            functions.add(elf, section, symbol)?;
        }
        Ok(functions)
    }

    fn add(&mut self, elf: &Elf<'_>, at: usize, symbol: Symbol<'_>) -> Result<(), Error> {
        let Some(section) = elf.sections.get(at) else { return Ok(()) };
        let id = FunctionId(self.list.len());
        elf.spend(symbol.name.len().saturating_add(section.name.len()).saturating_add(size_of::<Function>()))?;
        let mut function = Function {
            name: symbol.name.into(),
            section: section.name.into(),
            offset: symbol.value,
            visibility: match (symbol.bind, symbol.hidden) {
                (STB_LOCAL, _) => Visibility::Static,
                (_, true) => Visibility::Hidden,
                (_, false) => Visibility::Global,
            },
            weak: symbol.bind == STB_WEAK,
            insns: Vec::new(),
            relocs: Vec::new(),
            core: Vec::new(),
            btf: None,
            lines: Vec::new(),
            problem: None,
        };
        let bytes = elf.bytes(section)?;
        let place = Place { section: at, start: symbol.value, end: symbol.value.saturating_add(symbol.size), id };
        match (code(bytes, symbol), self.places.last().copied()) {
            (Err(what), _) => function.set_problem(elf, what.into()),
            (Ok(_), Some(last)) if last.section == at && (last.start, last.end) == (place.start, place.end) => {
                self.aliases.push((id, last.id));
            }
            (Ok(_), Some(last)) if last.section == at && place.start < last.end => {
                let other = self.list.get(last.id.0).map_or("", |f| &f.name);
                function.set_problem(elf, format!("it overlaps function {other}: the file is damaged"));
            }
            (Ok(code), _) => {
                elf.spend(code.len())?;
                let slots = code.chunks_exact(Insn::SIZE).filter_map(|slot| slot.first_chunk());
                function.insns = slots.map(|slot| Insn::from_bytes(*slot, elf.big_endian())).collect();
                self.places.push(place);
            }
        }
        if function.visibility == Visibility::Static && section.name != ".text" {
            function.set_problem(elf, "a static function cannot be a program; make it global".into());
        }
        self.list.push(function);
        Ok(())
    }

    /// The function that holds this byte of the section, and where it starts.
    pub(crate) fn find(&self, section: usize, offset: u64) -> Option<(FunctionId, u64)> {
        let after = self.places.partition_point(|place| (place.section, place.start) <= (section, offset));
        let place = self.places.get(after.checked_sub(1)?)?;
        (place.section == section && offset < place.end).then_some((place.id, place.start))
    }

    /// The function that starts at this byte of the section.
    pub(crate) fn at(&self, section: usize, offset: u64) -> Option<FunctionId> {
        self.find(section, offset).filter(|(_, start)| *start == offset).map(|(id, _)| id)
    }

    pub(crate) fn get_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        self.list.get_mut(id.0)
    }

    /// Where each function with instructions is: its section and its start.
    pub(crate) fn places(&self) -> impl Iterator<Item = (FunctionId, usize, u64)> + '_ {
        self.places.iter().map(|place| (place.id, place.section, place.start))
    }

    /// Gives each other name of a function what the function has by now.
    pub(crate) fn finish(mut self, elf: &Elf<'_>) -> Result<Vec<Function>, Error> {
        for (alias, id) in std::mem::take(&mut self.aliases) {
            let Some(of) = self.list.get(id.0).cloned() else { continue };
            let records = of.insns.len().saturating_add(of.lines.len()).saturating_add(of.relocs.len());
            let strings: usize = of.core.iter().map(|core| core.access.len().saturating_add(32)).sum();
            elf.spend(records.saturating_mul(24).saturating_add(strings))?;
            if let Some(function) = self.list.get_mut(alias.0) {
                let problem = function.problem.take().or(of.problem);
                *function = Function {
                    name: std::mem::take(&mut function.name),
                    section: std::mem::take(&mut function.section),
                    offset: function.offset,
                    visibility: function.visibility,
                    weak: function.weak,
                    problem,
                    ..of
                };
            }
        }
        Ok(self.list)
    }
}

impl Function {
    /// Remembers the first thing that makes this function unusable.
    pub(crate) fn set_problem(&mut self, elf: &Elf<'_>, what: String) {
        if self.problem.is_none() {
            let (object, function, section) = (elf.file.into(), self.name.clone(), self.section.clone());
            self.problem = Some(Error::Function { object, function, section, what });
        }
    }

    /// As [`Function::set_problem`], at an instruction.
    pub(crate) fn set_problem_at(&mut self, elf: &Elf<'_>, insn: usize, what: String) {
        if self.problem.is_none() {
            let (object, function, section) = (elf.file.into(), self.name.clone(), self.section.clone());
            self.problem = Some(Error::Insn { object, function, section, insn, what });
        }
    }
}

/// The functions among symbols that have neither type nor size, as clang has written them up to version 8: each ends where the
/// next one starts. Labels are not functions.
fn untyped<'a>(elf: &Elf<'a>, symbols: Vec<(usize, Symbol<'a>)>) -> Vec<(usize, Symbol<'a>)> {
    let label = |name: &str| name.is_empty() || name.starts_with(".L") || name.starts_with("LBB");
    let mut found: Vec<_> =
        symbols.into_iter().filter(|(_, symbol)| symbol.kind == STT_NOTYPE && !label(symbol.name)).collect();
    found.sort_by_key(|(section, symbol)| (*section, symbol.value));
    let mut next = None;
    for (section, symbol) in found.iter_mut().rev() {
        let end = match next {
            Some((same, start)) if same == *section => start,
            _ => elf.sections.get(*section).map_or(0, |section| section.size),
        };
        if symbol.size == 0 {
            symbol.size = end.saturating_sub(symbol.value);
        }
        next = Some((*section, symbol.value));
    }
    found
}

/// A function's bytes.
fn code<'a>(section: &'a [u8], symbol: Symbol<'_>) -> Result<&'a [u8], &'static str> {
    if symbol.name.is_empty() {
        return Err("it has no name: the file is damaged");
    }
    if symbol.size == 0 {
        return Err("it has no size; assembly needs a `.size` directive for each function");
    }
    let insn = Insn::SIZE as u64;
    if !symbol.size.is_multiple_of(insn) || !symbol.value.is_multiple_of(insn) {
        return Err("it does not start and end between instructions: the file is damaged");
    }
    let start = usize::try_from(symbol.value).ok();
    let end = symbol.value.checked_add(symbol.size).and_then(|end| usize::try_from(end).ok());
    let bytes = start.zip(end).and_then(|(start, end)| section.get(start..end));
    bytes.ok_or("it ends outside its section: the file is damaged")
}

/// The functions that the kernel may run: all but those of `.text` (libbpf, `prog_is_subprog`).
pub(crate) fn programs(functions: &[Function]) -> Vec<Program> {
    let entries = functions.iter().enumerate().filter(|(_, function)| function.section != ".text");
    let program = |(id, function): (usize, &Function)| Program {
        name: function.name.clone(),
        section: function.section.strip_prefix('?').unwrap_or(&function.section).into(),
        autoload: !function.section.starts_with('?'),
        function: FunctionId(id),
        exception_callback: None,
    };
    entries.map(program).collect()
}
