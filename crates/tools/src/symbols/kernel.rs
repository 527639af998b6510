//! `/proc/kallsyms`: the kernel's functions, by address.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Code of one function is never longer; what lies further behind the last one is no code.
const LONGEST: u64 = 1 << 20;
/// Kernel addresses are negative.
const KERNEL: u64 = 1 << 63;
/// Bytes of all names that are kept.
const MOST_NAMES: usize = 64 << 20;

/// A place in a function of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The function.
    pub function: &'a str,
    /// The module, as the kernel writes it: `[nf_tables]`; `[bpf]` for BPF programs.
    pub module: Option<&'a str>,
    /// Bytes behind its start.
    pub offset: u64,
}

/// All functions, in as little memory as that takes.
#[derive(Debug, Default)]
pub(super) struct Functions {
    /// Sorted by address.
    starts: Vec<Start>,
    names: String,
    /// Few.
    modules: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    address: u64,
    name: u32,
    len: u16,
    /// From 1; 0: the kernel itself.
    module: u16,
}

impl Functions {
    /// None where addresses are hidden (kernel.kptr_restrict, no CAP_SYSLOG).
    pub(super) fn read() -> Functions {
        let mut all = Functions::default();
        let Ok(file) = File::open("/proc/kallsyms") else { return all };
        let (mut reader, mut line) = (BufReader::with_capacity(64 << 10, file), String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) && all.names.len() < MOST_NAMES {
            all.add(&line);
            line.clear();
        }
        all.starts.sort_by_key(|start| start.address);
        all.starts.shrink_to_fit();
        all.names.shrink_to_fit();
        all
    }

    /// `ffffffff81000000 T name\t[module]`.
    fn add(&mut self, line: &str) -> Option<()> {
        let mut parts = line.split_ascii_whitespace();
        let address = u64::from_str_radix(parts.next()?, 16).ok().filter(|address| *address != 0)?;
        parts.next().filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
        let name = parts.next()?;
        let module = match parts.next() {
            None => 0,
            // They come one after the other.
            Some(module) => {
                if self.modules.last().is_none_or(|last| last != module) {
                    self.modules.push(module.to_owned());
                }
                u16::try_from(self.modules.len()).unwrap_or(0)
            }
        };
        let (start, len) = (u32::try_from(self.names.len()).ok()?, u16::try_from(name.len()).ok()?);
        self.names.push_str(name);
        self.starts.push(Start { address, name: start, len, module });
        Some(())
    }

    /// `None`: it is no code of the kernel's.
    pub(super) fn at(&self, address: u64) -> Option<Place<'_>> {
        if address < KERNEL {
            return None;
        }
        let behind = self.starts.partition_point(|start| start.address <= address);
        let start = self.starts.get(behind.checked_sub(1)?)?;
        // Of several names at one place the first is the one that the kernel gives (`get_symbol_pos`).
        let first = self.starts.partition_point(|other| other.address < start.address);
        let start = self.starts.get(first)?;
        let offset = address - start.address;
        let from = usize::try_from(start.name).ok()?;
        let function = self.names.get(from..from + usize::from(start.len))?;
        let module = usize::from(start.module).checked_sub(1).and_then(|at| self.modules.get(at)).map(String::as_str);
        (offset < LONGEST).then_some(Place { function, module, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_address() {
        let mut all = Functions::default();
        for line in [
            "ffffffff81000000 T _text",
            "ffffffff81000000 T _stext",
            "0000000000000000 T hidden",
            "ffffffff81000010 D data",
            "ffffffffc0000000 t f\t[mod]",
        ] {
            all.add(line);
        }
        let at = |address| all.at(address).map(|place| (place.function, place.module, place.offset));
        assert_eq!(at(0xffff_ffff_8100_0020), Some(("_text", None, 0x20)));
        assert_eq!(at(0xffff_ffff_c000_0001), Some(("f", Some("[mod]"), 1)));
        // No code is so long, and user space is not the kernel.
        assert_eq!(at(0xffff_ffff_c010_0000), None);
        assert_eq!(at(0x1000), None);
    }
}
