//! Static probes (USDT): notes in `.note.stapsdt`, one for each place where a probe was compiled in.
//!
//! <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>

use object::ReadRef;
use object::elf::NoteType;
use object::read::elf::{ElfFile, FileHeader, SectionHeader};

const SECTION: &[u8] = b".note.stapsdt";
/// A section of one byte, of which each note holds the address at link time: prelink moves it and not the notes.
const BASE: &[u8] = b".stapsdt.base";
const TYPE: NoteType = NoteType(3);

/// A place of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) provider: String,
    pub(crate) name: String,
    /// Where its arguments are: `-4@%esi 8@-24(%rbp)`.
    pub(crate) arguments: String,
    /// Address of the place.
    pub(crate) address: u64,
    /// Address of the counter of those who look at it; `None`: it has none.
    pub(crate) semaphore: Option<u64>,
}

pub(super) fn read<'a, H, R>(elf: &ElfFile<'a, H, R>) -> object::Result<Vec<Note>>
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let (endian, data, sections) = (elf.endian(), elf.data(), elf.elf_section_table());
    let base = sections.section_by_name(endian, BASE).map(|(_, section)| section.sh_addr(endian).into());
    let Some((_, section)) = sections.section_by_name(endian, SECTION) else { return Ok(Vec::new()) };
    let Some(mut raw) = section.notes(endian, data)? else { return Ok(Vec::new()) };
    let wide = elf.elf_header().is_class_64();
    let big = elf.elf_header().is_big_endian();
    let mut notes = Vec::new();
    while let Some(note) = raw.next()? {
        if note.name() == b"stapsdt"
            && note.n_type(endian) == TYPE
            && let Some(note) = parse(note.desc(), wide, big, base)
        {
            notes.push(note);
        }
    }
    Ok(notes)
}

/// Three addresses, then three strings.
fn parse(mut desc: &[u8], wide: bool, big: bool, base: Option<u64>) -> Option<Note> {
    let [address, linked, semaphore] = [(); 3].map(|()| word(&mut desc, wide, big));
    // What prelink has moved, it has moved by this.
    let moved = match (base, linked?) {
        (Some(base), linked) if base != 0 && linked != 0 => base.wrapping_sub(linked),
        _ => 0,
    };
    let [provider, name, arguments] = [(); 3].map(|()| string(&mut desc));
    Some(Note {
        provider: provider?,
        name: name?,
        // A `:` stands where the compiler knew of no arguments.
        arguments: arguments.filter(|text| !text.starts_with(':')).unwrap_or_default(),
        address: address?.wrapping_add(moved),
        semaphore: semaphore.filter(|address| *address != 0).map(|address| address.wrapping_add(moved)),
    })
}

fn word(desc: &mut &[u8], wide: bool, big: bool) -> Option<u64> {
    let (word, rest) = desc.split_at_checked(if wide { 8 } else { 4 })?;
    *desc = rest;
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(if big { word.iter().fold(0, fold) } else { word.iter().rev().fold(0, fold) })
}

fn string(desc: &mut &[u8]) -> Option<String> {
    let end = desc.iter().position(|byte| *byte == 0)?;
    let (text, rest) = desc.split_at(end);
    *desc = &rest[1..];
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(words: [u64; 3], text: &[u8]) -> Vec<u8> {
        let mut bytes = words.map(u64::to_le_bytes).concat();
        bytes.extend(text);
        bytes
    }

    #[test]
    fn notes_are_read() {
        let bytes = desc([0x1000, 0x2000, 0x3000], b"p\0n\08@%rax\0");
        let note = parse(&bytes, true, false, Some(0x2000)).unwrap();
        let want = Note {
            provider: "p".to_owned(),
            name: "n".to_owned(),
            arguments: "8@%rax".to_owned(),
            address: 0x1000,
            semaphore: Some(0x3000),
        };
        assert_eq!(note, want);
        let moved = parse(&bytes, true, false, Some(0x2100)).unwrap();
        assert_eq!((moved.address, moved.semaphore), (0x1100, Some(0x3100)));
        let none = parse(&desc([0x1000, 0, 0], b"p\0n\0:\0"), true, false, None).unwrap();
        assert_eq!((none.arguments.as_str(), none.semaphore), ("", None));
    }

    #[test]
    fn torn_notes_are_left_out() {
        let bytes = desc([1, 2, 3], b"p\0n\0a\0");
        for end in 0..bytes.len() - 2 {
            assert!(parse(&bytes[..end], true, false, None).is_none_or(|note| note.arguments.is_empty()), "{end}");
        }
    }
}
