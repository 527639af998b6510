//! Names for addresses: the kernel's functions, and files that processes have mapped.

use std::cell::OnceCell;

/// Code of one function is never longer; what lies further behind the last one is no code.
const LONGEST: u64 = 1 << 20;
/// Kernel addresses are negative.
const KERNEL: u64 = 1 << 63;

/// Read when first asked for.
#[derive(Default)]
pub struct Symbols {
    kernel: OnceCell<Vec<(u64, String)>>,
}

impl Symbols {
    /// `function+0x10 [module]`; `None`: it is no code of the kernel's, or addresses are hidden.
    pub fn kernel(&self, address: u64) -> Option<String> {
        if address < KERNEL {
            return None;
        }
        let all = self.kernel.get_or_init(|| {
            let mut all: Vec<_> =
                std::fs::read_to_string("/proc/kallsyms").unwrap_or_default().lines().filter_map(parse).collect();
            all.sort_unstable_by_key(|(address, _)| *address);
            all
        });
        let (start, name) = &all[..all.partition_point(|(start, _)| *start <= address)].last()?;
        let behind = address - start;
        let (name, module) =
            name.split_once('\t').map_or((name.as_str(), String::new()), |(name, module)| (name, format!(" {module}")));
        (behind < LONGEST).then(|| format!("{name}+{behind:#x}{module}"))
    }
}

/// What a process has mapped; nothing, where it has ended.
pub fn mappings(process: Option<u32>) -> String {
    process.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()).unwrap_or_default()
}

/// `libc.so.6+0x10`, by the place in the file; the number where nothing of a file is mapped.
pub fn user(mappings: &str, address: u64) -> String {
    mappings.lines().find_map(|line| mapped(line, address)).unwrap_or_else(|| format!("{address:#x}"))
}

/// `ffffffff81000000 T name [module]`.
fn parse(line: &str) -> Option<(u64, String)> {
    let mut parts = line.split_ascii_whitespace();
    let address = u64::from_str_radix(parts.next()?, 16).ok().filter(|address| *address != 0)?;
    parts.next().filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
    let name = parts.next()?;
    Some((address, parts.next().map_or_else(|| name.to_owned(), |module| format!("{name}\t{module}"))))
}

/// `7f00-7f10 r-xp 00001000 08:01 123 /usr/lib/libc.so.6`.
fn mapped(line: &str, address: u64) -> Option<String> {
    let mut parts = line.split_ascii_whitespace();
    let (start, end) = parts.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let offset = u64::from_str_radix(parts.nth(1)?, 16).ok()?;
    let path = parts.nth(2)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    (start..end).contains(&address).then(|| format!("{name}+{:#x}", address - start + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(parse("ffffffff81000000 T _text"), Some((0xffff_ffff_8100_0000, "_text".to_owned())));
        assert_eq!(parse("ffffffffc0000000 t f\t[mod]"), Some((0xffff_ffff_c000_0000, "f\t[mod]".to_owned())));
        assert_eq!(parse("0000000000000000 T hidden"), None);
        assert_eq!(parse("ffffffff81000000 D data"), None);
        let line = "7f00-7f10 r-xp 00001000 08:01 123    /usr/lib/libc.so.6";
        assert_eq!(mapped(line, 0x7f08).as_deref(), Some("libc.so.6+0x1008"));
        assert_eq!(mapped(line, 0x7f10), None);
    }

    #[test]
    fn code_of_the_kernel() {
        let symbols = Symbols::default();
        assert_eq!(symbols.kernel(0x1000), None);
        let own = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let line = own.lines().find(|line| line.contains("r-xp") && line.contains('/')).expect("code");
        let start = u64::from_str_radix(line.split('-').next().expect("a start"), 16).expect("a number");
        let shown = user(&mappings(Some(std::process::id())), start + 1);
        assert!(shown.contains('+'), "{shown}");
        assert_eq!(user(&mappings(None), 16), "0x10");
    }
}
