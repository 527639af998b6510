//! Programs and libraries in user space: finding the file, and the place in the file that a uprobe wants.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use object::elf::{ET_DYN, ET_EXEC, PF_X, PT_LOAD};
use object::read::elf::ElfFile;
use object::{Object, ObjectSymbol, ObjectSymbolTable, ReadCache, ReadRef};

use crate::error::{Cause, Kind};

/// Where libraries are looked for; `@` stands for the machine's triple.
const LIBRARY_DIRS: [&str; 6] = ["/usr/lib64", "/usr/lib", "/lib64", "/lib", "/usr/lib/@", "/lib/@"];
const TRIPLES: [(&str, &str); 4] = [
    ("x86_64", "x86_64-linux-gnu"),
    ("aarch64", "aarch64-linux-gnu"),
    ("riscv64", "riscv64-linux-gnu"),
    ("s390x", "s390x-linux-gnu"),
];

/// The file of a program or library: a path as it stands, a name by `LD_LIBRARY_PATH` and the library directories when it is a
/// library's (`.so` in it), by `PATH` otherwise.
pub(crate) fn find(name: &str) -> Result<PathBuf, Cause> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let library = name.ends_with(".so") || name.contains(".so.");
    let variable = if library { "LD_LIBRARY_PATH" } else { "PATH" };
    let triple = TRIPLES.iter().find(|(arch, _)| *arch == std::env::consts::ARCH).map_or("", |(_, triple)| triple);
    let mut dirs: Vec<PathBuf> = std::env::var_os(variable).map_or(Vec::new(), |v| std::env::split_paths(&v).collect());
    if library {
        dirs.extend(LIBRARY_DIRS.iter().map(|dir| PathBuf::from(dir.replace('@', triple))));
    } else {
        dirs.extend(["/usr/bin", "/usr/sbin"].map(PathBuf::from));
    }
    let usable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && (library || meta.permissions().mode() & 0o111 != 0))
    };
    dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(usable).ok_or_else(|| {
        Cause::invalid(format!("no file `{name}` in {variable} or the system's directories"))
            .action("give its full path")
    })
}

/// A function as a section names it: `malloc`, `malloc+0x10`, `memcpy@GLIBC_2.14`, `0x1234` (an offset in the file).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place<'a> {
    symbol: &'a str,
    version: Option<&'a str>,
    plus: u64,
}

impl<'a> Place<'a> {
    fn parse(text: &'a str) -> Place<'a> {
        let (symbol, plus) = match text.rsplit_once('+') {
            Some((symbol, plus)) if !symbol.is_empty() => match number(plus) {
                Some(plus) => (symbol, plus),
                None => (text, 0),
            },
            _ => (text, 0),
        };
        match symbol.split_once('@') {
            Some((symbol, version)) => Place { symbol, version: Some(version.trim_start_matches('@')), plus },
            None => Place { symbol, version: None, plus },
        }
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Offset in the file of a function, as a uprobe wants it.
///
/// `.dynsym` is asked first, then `.symtab`, as libbpf does (`elf_find_func_offset` of `elf.c`).
pub(crate) fn offset(path: &Path, function: &str) -> Result<u64, Cause> {
    if let Some(offset) = number(function) {
        return Ok(offset);
    }
    let io = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::PermissionDenied { Kind::Permission } else { Kind::Io };
        Cause::new(kind, format!("cannot read {}: {error}", path.display()))
    };
    let file = ReadCache::new(BufReader::new(File::open(path).map_err(io)?));
    let bad =
        |error: object::Error| Cause::invalid(format!("{} is no ELF file that makes sense: {error}", path.display()));
    match object::FileKind::parse(&file).map_err(bad)? {
        object::FileKind::Elf32 => {
            let elf = ElfFile::<object::elf::FileHeader32<object::Endianness>, _>::parse(&file).map_err(bad)?;
            symbol(path, &elf, function)
        }
        object::FileKind::Elf64 => {
            let elf = ElfFile::<object::elf::FileHeader64<object::Endianness>, _>::parse(&file).map_err(bad)?;
            symbol(path, &elf, function)
        }
        _ => Err(Cause::invalid(format!("{} is no ELF file", path.display()))),
    }
}

fn symbol<'a, H, R>(path: &Path, elf: &ElfFile<'a, H, R>, function: &str) -> Result<u64, Cause>
where
    H: object::read::elf::FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let place = Place::parse(function);
    let header = elf.elf_header();
    if !matches!(header.e_type(elf.endian()), ET_EXEC | ET_DYN) {
        return Err(Cause::invalid(format!("{} is neither a program nor a shared library", path.display())));
    }
    let mut near = Vec::new();
    for table in [elf.dynamic_symbol_table(), elf.symbol_table()].into_iter().flatten() {
        let mut found: BTreeSet<(bool, u64)> = BTreeSet::new();
        for symbol in table.symbols() {
            if symbol.kind() != object::SymbolKind::Text || !symbol.is_definition() {
                continue;
            }
            let Ok(name) = symbol.name() else { continue };
            // `.symtab` may hold the version in the name: memcpy@@GLIBC_2.14.
            let (bare, version) = match name.split_once('@') {
                Some((bare, version)) => (bare, Some(version.trim_start_matches('@'))),
                None => (name, None),
            };
            if bare == place.symbol && (place.version.is_none() || version.is_none() || version == place.version) {
                // Local symbols only count where no global one is there.
                found.insert((symbol.is_local(), symbol.address()));
            } else if near.len() < 100_000 {
                near.push(bare.to_owned());
            }
        }
        let global = found.iter().any(|(local, _)| !local);
        let found: Vec<u64> =
            found.iter().filter(|(local, _)| !(global && *local)).map(|(_, address)| *address).collect();
        match found[..] {
            [] => {}
            [address] => {
                return file_offset(elf, address).and_then(|offset| offset.checked_add(place.plus)).ok_or_else(|| {
                    Cause::invalid(format!("`{function}` is outside of what is executed of {}", path.display()))
                });
            }
            _ => {
                return Err(Cause::invalid(format!(
                    "{} has {} different functions named `{}`",
                    path.display(),
                    found.len(),
                    place.symbol
                ))
                .action("name it with its version (`NAME@VERSION`), or give its offset in the file"));
            }
        }
    }
    let stripped = elf.symbol_table().is_none();
    let near = crate::near::nearest(place.symbol, near.iter().map(String::as_str));
    let mut why = format!("{} has no function `{}`", path.display(), place.symbol);
    if !near.is_empty() {
        why += &format!(" (it has {})", near.join(", "));
    }
    Err(Cause::invalid(why).action(match stripped {
        true => "the file is stripped of its symbols: give the function's offset in the file, or a file with symbols",
        false => "functions that were inlined or removed have no symbol: see `nm` for those that are there",
    }))
}

/// Where the byte at an address is in the file: uprobes count from the file's start.
fn file_offset<'a, H, R>(elf: &ElfFile<'a, H, R>, address: u64) -> Option<u64>
where
    H: object::read::elf::FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    use object::read::elf::ProgramHeader;
    let endian = elf.endian();
    elf.elf_program_headers().iter().find_map(|header| {
        let (start, size): (u64, u64) = (header.p_vaddr(endian).into(), header.p_filesz(endian).into());
        let inside = address.checked_sub(start).filter(|inside| *inside < size)?;
        let executable = header.p_type(endian) == PT_LOAD && header.p_flags(endian).0 & PF_X.0 != 0;
        executable.then(|| inside.checked_add(header.p_offset(endian).into())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place = |symbol, version, plus| Place { symbol, version, plus };
        assert_eq!(Place::parse("malloc"), place("malloc", None, 0));
        assert_eq!(Place::parse("malloc+16"), place("malloc", None, 16));
        assert_eq!(Place::parse("malloc+0x10"), place("malloc", None, 16));
        assert_eq!(Place::parse("memcpy@GLIBC_2.14"), place("memcpy", Some("GLIBC_2.14"), 0));
        assert_eq!(Place::parse("memcpy@@GLIBC_2.14+4"), place("memcpy", Some("GLIBC_2.14"), 4));
        assert_eq!(Place::parse("operator+"), place("operator+", None, 0));
        assert_eq!(number("0x1f"), Some(31));
    }

    #[test]
    fn libraries_and_programs_are_found() {
        assert!(find("sh").unwrap().is_absolute());
        assert!(find("libc.so.6").unwrap().to_string_lossy().contains("lib"));
        assert_eq!(find("./x").unwrap(), Path::new("./x"));
        assert_eq!(find("no-such-program-here").unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn offsets_are_those_of_the_file() {
        let libc = find("libc.so.6").unwrap();
        let malloc = offset(&libc, "malloc").unwrap();
        assert!(malloc > 0);
        assert_eq!(offset(&libc, "malloc+0x4").unwrap(), malloc + 4);
        assert_eq!(offset(&libc, "0x77").unwrap(), 0x77);
        let error = offset(&libc, "mallocc").unwrap_err();
        assert!(error.why.contains("malloc"), "{error}");
        assert!(offset(Path::new("/etc/passwd"), "x").is_err());
        assert!(offset(Path::new("/does/not/exist"), "x").is_err());
    }
}
