//! The one change that is ever made to an object: its externs become weak.

const SECTION_HEADER: usize = 64;
const SYMBOL: usize = 24;
const SYMTAB: u32 = 2;
const GLOBAL: u8 = 1;
const WEAK: u8 = 2;

fn word(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + size)?;
    Some(bytes.iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte)))
}

/// Makes the undefined symbols of a little-endian 64-bit ELF file weak. `None`: it is not one.
pub fn make_externs_weak(elf: &mut [u8]) -> Option<()> {
    let (headers, count) = (word(elf, 40, 8)?, word(elf, 60, 2)?);
    for header in (0..count).map(|index| headers + index * SECTION_HEADER) {
        if word(elf, header + 4, 4)? != SYMTAB as usize {
            continue;
        }
        let (start, size) = (word(elf, header + 24, 8)?, word(elf, header + 32, 8)?);
        for symbol in elf.get_mut(start..start + size)?.chunks_exact_mut(SYMBOL) {
            let undefined = symbol[6] == 0 && symbol[7] == 0;
            if undefined && symbol[4] >> 4 == GLOBAL {
                symbol[4] = WEAK << 4 | symbol[4] & 0xf;
            }
        }
    }
    Some(())
}
