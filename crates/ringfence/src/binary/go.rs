//! Functions of Go programs: their run-time keeps a table of all, also where the file is stripped of its symbols.
//!
//! src/runtime/symtab.go (`pcHeader`, `functab`, `_func`) of Go 1.18 and later; the format has not changed since but for its number.

use object::ReadRef;
use object::read::elf::{ElfFile, FileHeader, SectionHeader};

/// Of programs that are loaded at a fixed address, and of others.
const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
const BUILD: &[u8] = b".go.buildinfo";
/// Go 1.18 and 1.20.
const NUMBERS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Where programs begin that Go has linked itself.
const STARTS: [&str; 2] = ["_rt0_amd64_linux", "_rt0_arm64_linux"];

/// It was compiled by Go.
pub(super) fn is<'a, H, R>(elf: &ElfFile<'a, H, R>) -> bool
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let sections = elf.elf_section_table();
    let has = |name: &&[u8]| sections.section_by_name(elf.endian(), name).is_some();
    SECTIONS.iter().any(has) || has(&BUILD)
}

/// Name and address of every function; none where the table is not there or of an older Go.
pub(super) fn functions<'a, H, R>(elf: &ElfFile<'a, H, R>) -> Vec<(String, u64)>
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let (endian, sections) = (elf.endian(), elf.elf_section_table());
    let table = SECTIONS.iter().find_map(|name| sections.section_by_name(endian, name));
    let Some(bytes) = table.and_then(|(_, section)| section.data(endian, elf.data()).ok()) else { return Vec::new() };
    let text = sections.section_by_name(endian, b".text").map_or(0, |(_, section)| section.sh_addr(endian).into());
    let Some((start, offsets)) = parse(bytes) else { return Vec::new() };
    let start = match start {
        // Since 1.26, and where it is only known when the program is loaded: that of the section, if the start of the program
        // shows that nothing of C's is before it.
        0 => {
            let entry: u64 = elf.elf_header().e_entry(endian).into();
            let first = offsets.iter().find(|(name, _)| STARTS.contains(&name.as_str()));
            match first.and_then(|(_, offset)| text.checked_add(*offset)) {
                Some(address) if address == entry => text,
                _ => return Vec::new(),
            }
        }
        start => start,
    };
    let place = |(name, offset): (String, u64)| Some((name, start.checked_add(offset)?));
    offsets.into_iter().filter_map(place).collect()
}

/// Where the program's text starts, and the functions as offsets from there.
fn parse(bytes: &[u8]) -> Option<(u64, Vec<(String, u64)>)> {
    let u32_at = |at: u64| {
        let at = usize::try_from(at).ok()?;
        bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
    };
    // Number, two zeroes, size of the smallest instruction, size of a pointer; then eight words.
    let pointer = bytes.get(7).filter(|size| matches!(size, 4 | 8)).copied().map(u64::from)?;
    let word = |index: u64| {
        let at = 8 + index * pointer;
        let low = u64::from(u32_at(at)?);
        if pointer == 8 { Some(low | u64::from(u32_at(at + 4)?) << 32) } else { Some(low) }
    };
    if !NUMBERS.contains(&u32_at(0)?) {
        return None;
    }
    let [count, _files, start, names, _units, _file_names, _pcs, functions] =
        [word(0)?, word(1)?, word(2)?, word(3)?, word(4)?, word(5)?, word(6)?, word(7)?];
    let mut found = Vec::new();
    // Each takes eight bytes here.
    for index in 0..count.min(bytes.len() as u64 / 8) {
        let at = functions.checked_add(index * 8)?;
        let (entry, function) = (u32_at(at)?, u32_at(at + 4)?);
        let name = u64::from(u32_at(functions.checked_add(u64::from(function) + 4)?)?).checked_add(names)?;
        let rest = bytes.get(usize::try_from(name).ok()?..)?;
        let name = rest.get(..rest.iter().take(MAX_NAME).position(|byte| *byte == 0)?)?;
        if let Ok(name) = std::str::from_utf8(name) {
            found.push((name.to_owned(), u64::from(entry)));
        }
    }
    Some((start, found))
}

/// Longest name that is read: those of generic functions are long.
const MAX_NAME: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut bytes = [&0xffff_fff1u32.to_le_bytes()[..], &[0, 0, 1, 8]].concat();
        // Two functions; names behind the header, then the functions.
        let (names, functions) = (72u64, 96u64);
        for word in [2, 0, 0x40_1000, names, 0, 0, 0, functions] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"main.main\0main.(*T).Do\0\0");
        for (entry, function) in [(0u32, 24u32), (0x80, 32), (0x100, 0)] {
            bytes.extend([entry.to_le_bytes(), function.to_le_bytes()].concat());
        }
        for (entry, name) in [(0u32, 0u32), (0x80, 10)] {
            bytes.extend([entry.to_le_bytes(), name.to_le_bytes()].concat());
        }
        bytes
    }

    #[test]
    fn functions_of_a_stripped_program() {
        let (start, functions) = parse(&table()).unwrap();
        assert_eq!(start, 0x40_1000);
        assert_eq!(functions, [("main.main".to_owned(), 0), ("main.(*T).Do".to_owned(), 0x80)]);
    }

    #[test]
    fn damaged_tables() {
        let whole = table();
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(&bytes);
            }
        }
        assert!(parse(b"\xfb\xff\xff\xff\0\0\x01\x08").is_none());
    }
}
