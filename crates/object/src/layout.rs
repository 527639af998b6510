//! What each section of the file is for.

use object::elf::{SHT_NOBITS, SHT_PROGBITS, SHT_REL};

use crate::Error;
use crate::elf::Elf;

/// What a section is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Functions.
    Code,
    /// `.data` and `.data.*`.
    Data,
    /// `.rodata` and `.rodata.*`.
    Rodata,
    /// `.bss` and `.bss.*`.
    Bss,
    /// `.maps`.
    Maps,
    /// `maps`.
    LegacyMaps,
    /// `.struct_ops`, `.struct_ops.link`, and both with a leading `?`.
    StructOps,
    /// `.addr_space.1`.
    Arena,
    /// `.jumptables`.
    JumpTables,
    License,
    Version,
    Btf,
    BtfExt,
    /// Relocations of the section of this index.
    Relocations(usize),
    /// Nothing that a loader looks at.
    Other,
}

/// What each section of the file is for, by its index (libbpf, `bpf_object__elf_collect`).
pub(crate) struct Layout {
    parts: Vec<Part>,
}

impl Layout {
    pub(crate) fn of(elf: &Elf<'_>) -> Layout {
        let mut layout = Layout { parts: Vec::with_capacity(elf.sections.len()) };
        for section in &elf.sections {
            let with_suffix = |name: &str| {
                section.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let part = match (section.name, section.kind) {
                ("license", SHT_PROGBITS) => Part::License,
                ("version", SHT_PROGBITS) => Part::Version,
                (".maps", SHT_PROGBITS) => Part::Maps,
                ("maps", SHT_PROGBITS) => Part::LegacyMaps,
                (".BTF", SHT_PROGBITS) => Part::Btf,
                (".BTF.ext", SHT_PROGBITS) => Part::BtfExt,
                (name, SHT_REL) if !name.starts_with(".rel.debug_") => Part::Relocations(section.info),
                (_, SHT_NOBITS) if with_suffix(".bss") && section.size > 0 => Part::Bss,
                (name, SHT_PROGBITS) if section.size > 0 => match name {
                    _ if section.exec => Part::Code,
                    _ if with_suffix(".data") => Part::Data,
                    _ if with_suffix(".rodata") => Part::Rodata,
                    ".struct_ops" | ".struct_ops.link" | "?.struct_ops" | "?.struct_ops.link" => Part::StructOps,
                    ".addr_space.1" => Part::Arena,
                    ".jumptables" => Part::JumpTables,
                    _ => Part::Other,
                },
                _ => Part::Other,
            };
            layout.parts.push(part);
        }
        layout
    }

    pub(crate) fn get(&self, section: usize) -> Part {
        self.parts.get(section).copied().unwrap_or(Part::Other)
    }

    pub(crate) fn is_code(&self, section: usize) -> bool {
        self.get(section) == Part::Code
    }

    /// Index and part of every section, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Part)> + '_ {
        self.parts.iter().copied().enumerate()
    }

    /// The section that is this part, of a kind that a file has at most one of.
    pub(crate) fn only(&self, elf: &Elf<'_>, part: Part) -> Result<Option<usize>, Error> {
        let mut found = self.iter().filter(|(_, known)| *known == part).map(|(at, _)| at);
        let first = found.next();
        match (first.and_then(|at| elf.sections.get(at)), found.next()) {
            (Some(section), Some(_)) => Err(elf.damaged(format!("it has two sections {}", section.name))),
            _ => Ok(first),
        }
    }
}
