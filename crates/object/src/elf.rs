//! The ELF file: headers checked, sections named, symbols and relocations as plain values.

use object::elf::{self, FileHeader64, Rel64, SectionHeader64, Sym64};
use object::read::elf::{FileHeader, Rel as _, SectionHeader, Sym as _};
use object::{Endianness, pod};

use std::cell::Cell;
use std::collections::HashMap;

use crate::Error;
use crate::error::COMPILE;

/// Longest name of a section or symbol; the kernel's own symbols end at 512 bytes (`KSYM_NAME_LEN`),
/// sections hold paths of user programs as well.
const MAX_NAME: usize = 8192;

/// `EM_BPF`; old compilers wrote `EM_NONE`.
const EM_BPF: u16 = 247;

/// A checked file.
pub(crate) struct Elf<'a> {
    /// The file's name, for messages.
    pub(crate) file: &'a str,
    /// Every section, the empty first one included, so that indexes are those of the file.
    pub(crate) sections: Vec<Section<'a>>,
    /// Bytes that may still be copied or gone through; see [`Elf::spend`].
    left: Cell<u64>,
    by_name: HashMap<&'a str, usize>,
    endian: Endianness,
    symbols: &'a [Sym64<Endianness>],
    symbol_names: &'a [u8],
}

/// A section header, with its name and bytes.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: elf::SectionType,
    pub(crate) exec: bool,
    /// Bytes in memory; also those of a section without bytes in the file.
    pub(crate) size: u64,
    /// Section to which relocations belong.
    pub(crate) info: usize,
    /// `None`: the section lies outside the file.
    bytes: Option<&'a [u8]>,
}

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// Nowhere in this file.
    Undefined,
    /// In a section.
    Section(usize),
    /// An absolute value, or a common block.
    Special(u16),
}

/// A symbol.
#[derive(Clone, Copy)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) home: Home,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: elf::SymbolType,
    pub(crate) bind: elf::SymbolBind,
    /// `STV_HIDDEN` or `STV_INTERNAL`.
    pub(crate) hidden: bool,
}

impl Symbol<'_> {
    /// Known by its name outside its file.
    pub(crate) fn is_global(&self) -> bool {
        self.bind == elf::STB_GLOBAL || self.bind == elf::STB_WEAK
    }

    /// libbpf, `sym_is_extern`.
    pub(crate) fn is_extern(&self) -> bool {
        self.home == Home::Undefined && self.is_global() && self.kind == elf::STT_NOTYPE
    }
}

/// A place to fill in, and with which symbol.
#[derive(Clone, Copy)]
pub(crate) struct Rel {
    /// Bytes from the start of the section to which it belongs.
    pub(crate) offset: u64,
    /// Index of the symbol.
    pub(crate) symbol: usize,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(file: &'a str, bytes: &'a [u8]) -> Result<Elf<'a>, Error> {
        check_ident(file, bytes)?;
        let damaged = |what: &str| Error::Damaged { object: file.into(), what: what.into() };
        let header = FileHeader64::<Endianness>::parse(bytes).map_err(|e| damaged(&e.to_string()))?;
        let endian = header.endian().map_err(|e| damaged(&e.to_string()))?;
        check_machine(file, header.e_machine(endian).0, header.e_type(endian).0)?;

        let headers = header.section_headers(endian, bytes).map_err(|e| damaged(&e.to_string()))?;
        let data = |header: &SectionHeader64<Endianness>| header.data(endian, bytes).ok();
        let names = header
            .section_strings_index(endian, bytes)
            .ok()
            .and_then(|index| data(headers.get(index.0)?))
            .ok_or_else(|| damaged("the names of its sections are not in it"))?;
        let sections = headers.iter().map(|header| {
            let name =
                name_at(names, header.sh_name(endian)).ok_or_else(|| damaged("a section's name is not in it"))?;
            Ok(Section {
                name,
                kind: header.sh_type(endian),
                exec: header.sh_flags(endian).0 & elf::SHF_EXECINSTR.0 != 0,
                size: header.sh_size(endian),
                info: header.sh_info(endian) as usize,
                bytes: data(header),
            })
        });
        let sections = sections.collect::<Result<Vec<_>, Error>>()?;

        let mut tables = headers.iter().filter(|header| header.sh_type(endian) == elf::SHT_SYMTAB);
        let table = tables.next().ok_or_else(|| Error::NotAnObject {
            object: file.into(),
            what: "stripped of its symbols".into(),
            advice: format!("compile it with `{COMPILE}`; `llvm-strip -g` removes only what debuggers need"),
        })?;
        if tables.next().is_some() {
            return Err(damaged("it has two symbol tables"));
        }
        let symbols = data(table).ok_or_else(|| damaged("its symbol table is not in it"))?;
        let symbols = records(symbols).ok_or_else(|| damaged("its symbol table has a part of a symbol"))?;
        let symbol_names = headers
            .get(table.sh_link(endian) as usize)
            .and_then(data)
            .ok_or_else(|| damaged("the names of its symbols are not in it"))?;
        let left = Cell::new(allowance(bytes));
        let by_name = sections.iter().enumerate().rev().map(|(at, section)| (section.name, at)).collect();
        Ok(Elf { file, sections, left, by_name, endian, symbols, symbol_names })
    }

    pub(crate) fn big_endian(&self) -> bool {
        self.endian == Endianness::Big
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { object: self.file.into(), what: what.into() }
    }

    /// Counts bytes that are copied or gone through. Names and sections can share bytes of the file, so that
    /// a small file could take much memory and time: both are limited to a multiple of the file's size.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), Error> {
        match self.left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(self.damaged("its parts overlap, and are together far larger than the file")),
        }
    }

    /// The first section of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The bytes of a section; none for one that has no bytes in the file.
    pub(crate) fn bytes(&self, section: &Section<'a>) -> Result<&'a [u8], Error> {
        section.bytes.ok_or_else(|| self.damaged(format!("section {} ends outside the file", section.name)))
    }

    pub(crate) fn symbol(&self, index: usize) -> Option<Symbol<'a>> {
        self.symbols.get(index).map(|symbol| self.decode(symbol))
    }

    pub(crate) fn symbols(&self) -> impl ExactSizeIterator<Item = Symbol<'a>> + '_ {
        self.symbols.iter().map(|symbol| self.decode(symbol))
    }

    fn decode(&self, symbol: &Sym64<Endianness>) -> Symbol<'a> {
        let home = symbol.st_shndx(self.endian);
        Symbol {
            // A name outside the table is as good as none: what needs one says so.
            name: name_at(self.symbol_names, symbol.st_name(self.endian)).unwrap_or_default(),
            home: match home.0 {
                0 => Home::Undefined,
                special if special >= elf::SHN_LORESERVE => Home::Special(special),
                section => Home::Section(usize::from(section)),
            },
            value: symbol.st_value(self.endian),
            size: symbol.st_size(self.endian),
            kind: symbol.st_type(),
            bind: symbol.st_bind(),
            hidden: matches!(symbol.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL),
        }
    }

    /// The relocations that a section of kind `SHT_REL` holds.
    pub(crate) fn relocations(&self, section: &Section<'a>) -> Result<impl Iterator<Item = Rel> + use<'a>, Error> {
        let bytes = self.bytes(section)?;
        self.spend(bytes.len())?;
        let records: &[Rel64<Endianness>] =
            records(bytes).ok_or_else(|| self.damaged(format!("section {} has a part of a record", section.name)))?;
        let endian = self.endian;
        Ok(records.iter().map(move |rel| Rel { offset: rel.r_offset(endian), symbol: rel.r_sym(endian) as usize }))
    }

    /// The 8 bytes at this place, as a number.
    pub(crate) fn word64(&self, bytes: &[u8], at: u64) -> Option<u64> {
        let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk::<8>()?;
        Some(if self.big_endian() { u64::from_be_bytes(*bytes) } else { u64::from_le_bytes(*bytes) })
    }
}

/// Names are short and repeated (a section's in each of its functions), so that small files need more.
fn allowance(file: &[u8]) -> u64 {
    const SMALL: u64 = 8 << 20;
    (file.len() as u64).saturating_mul(4).saturating_add(SMALL)
}

fn records<T: object::Pod>(bytes: &[u8]) -> Option<&[T]> {
    pod::slice_from_all_bytes(bytes).ok()
}

/// The text at this offset, up to its NUL. Text that is not UTF-8 has no name.
fn name_at(names: &[u8], offset: u32) -> Option<&str> {
    let rest = names.get(offset as usize..)?;
    let rest = rest.get(..MAX_NAME.min(rest.len()))?;
    let end = memchr::memchr(0, rest)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// Says what a file is that is no 64-bit ELF file.
fn check_ident(file: &str, bytes: &[u8]) -> Result<(), Error> {
    let compile = || format!("compile it with `{COMPILE}`");
    let refuse =
        |what: &str, advice: String| Err(Error::NotAnObject { object: file.into(), what: what.into(), advice });
    match bytes {
        [] => return refuse("empty", compile()),
        [0x7f, b'E', b'L', b'F', ..] => {}
        [b'B', b'C', 0xc0, 0xde, ..] | [0xde, 0xc0, 0x17, 0x0b, ..] => {
            return refuse("LLVM bitcode", format!("{}, without -emit-llvm and -flto", compile()));
        }
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
            return refuse("an archive", "take the object out of it with `ar x`".into());
        }
        [0x9f, 0xeb, 1, ..] | [0xeb, 0x9f, 1, ..] => {
            return refuse("raw BTF", "give the object to load; types of a kernel go in another place".into());
        }
        [0x1f, 0x8b, ..] => return refuse("compressed", "unpack it with `gunzip`".into()),
        _ => {
            let start = bytes.get(..bytes.len().min(512)).unwrap_or_default();
            let text = std::str::from_utf8(start).is_ok_and(|text| !text.contains('\0'));
            return refuse(if text { "text" } else { "no ELF file" }, compile());
        }
    }
    match bytes.get(4..6) {
        Some([2, 1 | 2]) => Ok(()),
        Some([1, _]) => refuse("a 32-bit ELF file", compile()),
        Some(_) => refuse("an ELF file of unknown class or byte order", compile()),
        None => Err(Error::Damaged { object: file.into(), what: "it ends inside the ELF header".into() }),
    }
}

/// Says what an ELF file is that is no relocatable file for BPF.
fn check_machine(file: &str, machine: u16, kind: u16) -> Result<(), Error> {
    let kind_name = match kind {
        1 => "an object",
        2 => "an executable",
        3 => "a shared library or executable",
        4 => "a core dump",
        _ => "an ELF file of unknown kind",
    };
    let advice = format!("compile it with `{COMPILE}`");
    if machine != EM_BPF && machine != 0 {
        let machine = match machine {
            3 => "32-bit x86".into(),
            8 => "MIPS".into(),
            20 | 21 => "POWER".into(),
            22 => "s390".into(),
            40 => "32-bit Arm".into(),
            62 => "x86-64".into(),
            183 => "arm64".into(),
            243 => "RISC-V".into(),
            258 => "LoongArch".into(),
            other => format!("ELF machine {other}"),
        };
        return Err(Error::NotAnObject { object: file.into(), what: format!("{kind_name} for {machine}"), advice });
    }
    if kind != 1 {
        let what = format!("{kind_name} for BPF");
        let advice = format!("{advice}, and link objects with `bpftool gen object`");
        return Err(Error::NotAnObject { object: file.into(), what, advice });
    }
    Ok(())
}
