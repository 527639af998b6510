//! Members of a zip archive that are stored as they are: what libraries in an Android package are.
//!
//! The kernel maps them out of the archive itself, so a probe in one is a probe in the archive (`elf_find_func_offset_from_archive`
//! of libbpf).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::unreadable;
use crate::error::Cause;

/// The end record may be followed by a comment of this length.
const MAX_COMMENT: u64 = 0xffff;
/// Longest directory that is read: a hundred thousand members and more.
const MAX_DIRECTORY: u64 = 32 << 20;
const END: (&[u8], usize) = (b"PK\x05\x06", 22);
const ENTRY: (&[u8], usize) = (b"PK\x01\x02", 46);
const LOCAL: (&[u8], usize) = (b"PK\x03\x04", 30);
/// Encrypted, or its length is only told behind it.
const FLAGS_REFUSED: u16 = 1 | 1 << 3;
const STORED: u16 = 0;

/// Where a member's bytes are in the archive: first byte and length.
pub(super) fn member(file: &File, path: &Path, name: &str) -> Result<(u64, u64), Cause> {
    let bad = |what: &str| Cause::invalid(format!("{} is no zip archive that makes sense: {what}", path.display()));
    let io = |error: io::Error| unreadable(path, &error);
    let size = file.metadata().map_err(io)?.len();
    let tail_at = size.saturating_sub(MAX_COMMENT + END.1 as u64);
    let tail = read(file, tail_at, size - tail_at).map_err(io)?;
    let end =
        tail.windows(END.1).rev().find(|end| end.starts_with(END.0)).ok_or_else(|| bad("it has no end record"))?;
    let (length, start) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    if length > MAX_DIRECTORY || start.checked_add(length).is_none_or(|end| end > size) {
        return Err(bad("its directory is outside of it, or too long"));
    }
    let directory = read(file, start, length).map_err(io)?;
    let mut rest = directory.as_slice();
    let mut names = Vec::new();
    while let Some(entry) = rest.get(..ENTRY.1).filter(|entry| entry.starts_with(ENTRY.0)) {
        let [named, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(entry, at)));
        let found = rest.get(ENTRY.1..ENTRY.1 + named).ok_or_else(|| bad("its directory is torn"))?;
        if found == name.as_bytes() {
            if u16_at(entry, 10) != STORED || u16_at(entry, 8) & FLAGS_REFUSED != 0 {
                let why = format!("`{name}` is compressed or encrypted in {}", path.display());
                return Err(Cause::invalid(why).action("the kernel only maps members that are stored as they are"));
            }
            let (at, length) = (u64::from(u32_at(entry, 42)), u64::from(u32_at(entry, 20)));
            let local = read(file, at, LOCAL.1 as u64).map_err(io)?;
            if !local.starts_with(LOCAL.0) {
                return Err(bad("its directory names a place without a member"));
            }
            let data = at + LOCAL.1 as u64 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
            return match data.checked_add(length) {
                Some(end) if end <= size => Ok((data, length)),
                _ => Err(bad("a member reaches over its end")),
            };
        }
        names.push(String::from_utf8_lossy(found).into_owned());
        rest = rest.get(ENTRY.1 + named + extra + comment..).unwrap_or_default();
    }
    let near = crate::near::nearest(name, names.iter().map(String::as_str));
    let cause = Cause::invalid(format!("{} has no member `{name}`", path.display()));
    Err(if near.is_empty() { cause } else { cause.action(format!("it has {}", near.join(", "))) })
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Little-endian; the caller has the whole record.
fn u16_at(record: &[u8], at: usize) -> u16 {
    record.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}
