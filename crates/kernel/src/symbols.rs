//! Addresses of the kernel's symbols.

use std::collections::HashMap;
use std::io::Read;

use crate::{Error, errno};

/// Wrappers of bpf(2) by architecture (libbpf, arch_specific_syscall_pfx).
pub(crate) const SYSCALL_WRAPPERS: [&str; 8] = [
    "__x64_sys_bpf",
    "__arm64_sys_bpf",
    "__ia32_sys_bpf",
    "__s390x_sys_bpf",
    "__arm_sys_bpf",
    "__mips_sys_bpf",
    "__riscv_sys_bpf",
    "__powerpc_sys_bpf",
];

/// What kallsyms says of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Nothing.
    No,
    /// One address; 0 when addresses are hidden.
    At(u64),
    /// Two or more.
    Several(u64, u64),
}

/// What was found, and whether any address at all was shown.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pub(crate) found: HashMap<String, Found>,
    pub(crate) addresses: bool,
}

/// Bytes asked of the kernel at once; it gives less.
const CHUNK: usize = 1 << 16;
/// Longest line that is waited for. KSYM_NAME_LEN is 512.
const MAX_LINE: usize = 4096;

/// One pass over /proc/kallsyms for all these names. The kernel makes its 5 MB of text anew at each reading, in
/// 30 ms or so, of which 3 are spent here.
pub(crate) fn search(names: &[&str]) -> Result<Symbols, Error> {
    let open = std::fs::File::open("/proc/kallsyms");
    open.and_then(|file| search_in(file, names)).map_err(|error| Error::Read {
        path: "/proc/kallsyms".to_owned(),
        cause: errno(&error),
        hint: "addresses of kernel symbols are read there: mount proc (`mount -t proc proc /proc`); the kernel needs CONFIG_KALLSYMS",
    })
}

fn search_in(mut text: impl Read, names: &[&str]) -> std::io::Result<Symbols> {
    let mut symbols = Symbols::default();
    symbols.found.extend(names.iter().map(|name| ((*name).to_owned(), Found::No)));
    let mut buffer = vec![0; CHUNK + MAX_LINE];
    let mut kept = 0;
    loop {
        let count = text.read(buffer.get_mut(kept..).unwrap_or_default())?;
        let filled = buffer.get(..kept + count).unwrap_or_default();
        let whole = match memchr::memrchr(b'\n', filled) {
            Some(last) => last + 1,
            None if count == 0 => filled.len(),
            None => 0,
        };
        for line in filled.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n') {
            symbols.offer(line);
        }
        let end = kept + count;
        if count == 0 {
            return Ok(symbols);
        }
        // A line that fills the whole buffer is none of kallsyms'.
        kept = if whole == 0 && end == buffer.len() { 0 } else { end - whole };
        buffer.copy_within(end - kept..end, 0);
    }
}

impl Symbols {
    /// `ffffffff81000000 T name`, and for modules a tab and `[module]`.
    fn offer(&mut self, line: &[u8]) {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (Some(address), Some(_), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return };
        let name = name.split(|byte| *byte == b'\t').next().unwrap_or_default();
        self.addresses |= address.iter().any(|digit| *digit != b'0');
        // ThinLTO gives static functions a suffix (libbpf, bpf_object__read_kallsyms_file).
        let llvm = memchr::memchr(b'.', name).and_then(|_| memchr::memmem::find(name, b".llvm."));
        let name = llvm.and_then(|end| name.get(..end)).unwrap_or(name);
        let Ok(name) = std::str::from_utf8(name) else { return };
        let Some(found) = self.found.get_mut(name) else { return };
        let Some(address) = std::str::from_utf8(address).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            return;
        };
        *found = match *found {
            Found::No => Found::At(address),
            Found::At(first) if first != address => Found::Several(first, address),
            same => same,
        };
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use super::{Found, search_in};

    const TEXT: &str = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\nffffffff81000010 t twice\n\
                        ffffffff81000020 t twice\nffffffff81000030 t same\nffffffff81000030 t same\n\
                        ffffffff81000040 t lto.llvm.123456\nffffffffc0000000 t in_module\t[some_module]\n\
                        ffffffff81000050 t prefix_more\nffffffff81000060 T last";

    /// Gives a few bytes at a time, so that lines are torn everywhere.
    struct Torn<'a>(&'a [u8], usize);

    impl std::io::Read for Torn<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            let (now, later) = self.0.split_at(count);
            into[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn lines() {
        let names = ["_stext", "twice", "same", "lto", "in_module", "prefix", "last", "fixed_percpu_data"];
        for step in [1, 2, 7, 64, 10_000] {
            let symbols = search_in(Torn(TEXT.as_bytes(), step), &names).unwrap();
            assert!(symbols.addresses);
            let of = |name| symbols.found[name];
            assert_eq!(of("_stext"), Found::At(0xffff_ffff_8100_0000));
            assert_eq!(of("twice"), Found::Several(0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020));
            assert_eq!(of("same"), Found::At(0xffff_ffff_8100_0030));
            assert_eq!(of("lto"), Found::At(0xffff_ffff_8100_0040));
            assert_eq!(of("in_module"), Found::At(0xffff_ffff_c000_0000));
            assert_eq!(of("prefix"), Found::No);
            assert_eq!(of("last"), Found::At(0xffff_ffff_8100_0060));
            assert_eq!(of("fixed_percpu_data"), Found::At(0));
        }
    }

    #[test]
    fn what_is_no_kallsyms() {
        let long = vec![b'a'; 1 << 18];
        assert_eq!(search_in(&long[..], &["a"]).unwrap().found["a"], Found::No);
        let hidden = "0000000000000000 T a\n0000000000000000 T b\n";
        let symbols = search_in(hidden.as_bytes(), &["a"]).unwrap();
        assert_eq!((symbols.found["a"], symbols.addresses), (Found::At(0), false));
        assert_eq!(search_in(&b"zz T a\n\n T a\nx"[..], &["a"]).unwrap().found["a"], Found::No);
    }
}
