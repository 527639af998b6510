//! Finds BPF objects inside another file: a program with a libbpf skeleton carries its object as it was compiled.

/// Start of a little-endian 64-bit ELF file.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
const RELOCATABLE: u16 = 1;
const BPF: u16 = 247;
/// `SHT_NOBITS`: takes no room in the file.
const NOBITS: u32 = 8;
const SECTION_HEADER: usize = 64;

/// Every BPF object in `bytes`, in order.
pub(super) fn objects(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let Some(next) = rest.windows(MAGIC.len()).position(|window| window == MAGIC) else { break };
        let rest = &rest[next..];
        let object = length(rest).and_then(|length| rest.get(..length));
        at += next + object.map_or(1, <[u8]>::len);
        found.extend(object);
    }
    found
}

fn u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)).ok()
}

/// Length of the BPF object that `elf` starts with: the end of its last section or of the section headers.
fn length(elf: &[u8]) -> Option<usize> {
    if u16(elf, 16)? != RELOCATABLE || u16(elf, 18)? != BPF {
        return None;
    }
    let (headers, count) = (word(elf, 40)?, usize::from(u16(elf, 60)?));
    let mut end = headers.checked_add(count * SECTION_HEADER)?;
    for header in elf.get(headers..end)?.chunks_exact(SECTION_HEADER) {
        if u32(header, 4)? != NOBITS {
            end = end.max(word(header, 24)?.checked_add(word(header, 32)?)?);
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One section header for `size` bytes behind it.
    fn elf(machine: u16, size: u64) -> Vec<u8> {
        let mut elf = vec![0; 64 + SECTION_HEADER];
        elf[..7].copy_from_slice(MAGIC);
        elf[16..18].copy_from_slice(&RELOCATABLE.to_le_bytes());
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf[40..48].copy_from_slice(&64u64.to_le_bytes());
        elf[60..62].copy_from_slice(&1u16.to_le_bytes());
        elf[64 + 24..64 + 32].copy_from_slice(&128u64.to_le_bytes());
        elf[64 + 32..64 + 40].copy_from_slice(&size.to_le_bytes());
        elf.resize(128 + 5, 7);
        elf
    }

    #[test]
    fn finds_whole_bpf_objects_only() {
        let (bpf, host, torn) = (elf(BPF, 5), elf(62, 5), elf(BPF, 500));
        let file = [b"head".as_slice(), &bpf, &host, b"\x7fELF", &bpf, &torn].concat();
        assert_eq!(objects(&file), [bpf.as_slice(), &bpf]);
        assert!(objects(&[]).is_empty());
    }
}
