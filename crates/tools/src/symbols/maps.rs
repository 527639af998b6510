//! `/proc/PID/maps`: where a process has which code.

use std::ops::Range;

/// Executable mappings of one process that are kept. JIT compilers have thousands, next to each other.
const MOST: usize = 65_536;

/// A piece of a process's address space that holds code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mapping<F> {
    pub(super) addresses: Range<u64>,
    /// Where in the file it begins.
    pub(super) offset: u64,
    pub(super) what: What<F>,
}

/// What is mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What<F> {
    /// A file.
    File(F),
    /// The kernel's own code in user space.
    Vdso,
    /// Memory without a file: code that was made by a JIT compiler.
    Anonymous,
}

/// A file as `maps` names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Named {
    /// `major:minor`.
    pub(super) device: String,
    pub(super) inode: u64,
    /// As the process sees it; ends with ` (deleted)` when it is gone.
    pub(super) path: String,
}

/// The executable mappings, in the order of their addresses. What makes no sense is passed over.
pub(super) fn parse(text: &str) -> Vec<Mapping<Named>> {
    text.lines().filter_map(line).take(MOST).collect()
}

fn line(line: &str) -> Option<Mapping<Named>> {
    let mut rest = line;
    let mut word = || {
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = behind.trim_start_matches(' ');
        word
    };
    let (addresses, rights, offset, device, inode) = (word(), word(), word(), word(), word());
    if rights.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (addresses, inode) = (hex(start)?..hex(end)?, inode.parse().ok()?);
    let what = match rest {
        "[vdso]" => What::Vdso,
        // Old emulation that no program calls.
        "[vsyscall]" => return None,
        path if inode != 0 => What::File(Named { device: device.to_owned(), inode, path: path.to_owned() }),
        _ => What::Anonymous,
    };
    Some(Mapping { addresses, offset: hex(offset)?, what })
}

/// The mapping that an address lies in.
pub(super) fn at<F>(mappings: &[Mapping<F>], address: u64) -> Option<&Mapping<F>> {
    let behind = mappings.partition_point(|mapping| mapping.addresses.start <= address);
    let mapping = mappings.get(behind.checked_sub(1)?)?;
    mapping.addresses.contains(&address).then_some(mapping)
}

/// Newer mappings, and of the older ones those whose place is still free: a library that was closed may be in a stack.
pub(super) fn merge<F>(newer: Vec<Mapping<F>>, older: Vec<Mapping<F>>) -> Vec<Mapping<F>> {
    let overlaps = |old: &Mapping<F>| {
        let next = newer.partition_point(|new| new.addresses.end <= old.addresses.start);
        newer.get(next).is_some_and(|new| new.addresses.start < old.addresses.end)
    };
    let mut all: Vec<_> = older.into_iter().filter(|old| !overlaps(old)).collect();
    all.extend(newer);
    all.sort_by_key(|mapping| mapping.addresses.start);
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c2a00000-55d0c2a02000 r--p 00000000 fe:01 123                        /bin/a b
55d0c2a02000-55d0c2a06000 r-xp 00002000 fe:01 123                        /bin/a b
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00001000 fe:01 9                          /lib/gone.so (deleted)
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
nonsense
";

    #[test]
    fn lines_are_read() {
        let all = parse(TEXT);
        let file = |path: &str, inode| What::File(Named { device: "fe:01".into(), inode, path: path.into() });
        let kinds: Vec<_> = all.iter().map(|mapping| mapping.what.clone()).collect();
        assert_eq!(kinds, [file("/bin/a b", 123), What::Anonymous, file("/lib/gone.so (deleted)", 9), What::Vdso]);
        assert_eq!(all.first().map(|mapping| mapping.offset), Some(0x2000));
        assert_eq!(at(&all, 0x55d0c2a02000).map(|mapping| &mapping.what), kinds.first());
        assert_eq!(at(&all, 0x55d0c2a06000), None);
        assert_eq!(at(&all, 0), None);
    }

    #[test]
    fn newer_mappings_win() {
        let mapping = |addresses, offset| Mapping::<()> { addresses, offset, what: What::Anonymous };
        let merged = merge(vec![mapping(10..20, 1)], vec![mapping(0..10, 2), mapping(15..30, 3), mapping(30..40, 4)]);
        assert_eq!(merged, [mapping(0..10, 2), mapping(10..20, 1), mapping(30..40, 4)]);
    }
}
