//! What an ELF file says: functions by name, version and pattern, and where in the file they are.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use object::elf::{
    ET_DYN, ET_EXEC, PF_X, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_LOCAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC,
    SectionType,
};
use object::read::elf::{ElfFile, ElfFile32, ElfFile64, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{FileKind, ReadCacheRange, ReadRef};

use super::{Binary, go, notes, paths};
use crate::error::Cause;
use crate::glob;

/// Most near names that are looked at: only an error is waiting for them.
const MAX_NEAR: usize = 100_000;

/// How much a symbol counts where several have one name (`elf_find_func_offset` of libbpf refuses two that are not weak; a local
/// one beside a global one is another file's).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Bind {
    Local,
    Weak,
    Global,
}

/// A function's symbol.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    address: u64,
    bind: Bind,
    /// Empty: it has none.
    version: String,
    /// Of several versions the one that new programs get.
    default: bool,
    /// Its code chooses another function when the program starts (IFUNC): nobody calls it afterwards.
    chooses: bool,
}

impl Function {
    fn of_go(name: String, address: u64) -> Function {
        Function { name, address, bind: Bind::Global, version: String::new(), default: true, chooses: false }
    }
}

/// A part of the file that is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    address: u64,
    /// Bytes that it has in memory.
    size: u64,
    /// Where it is in the file, and how many bytes of it.
    offset: u64,
    file_size: u64,
    executable: bool,
}

/// A place as a section names it: `malloc`, `malloc+0x10`, `memcpy@GLIBC_2.14`, `0x1234` (an offset in the file).
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
            Some((symbol, version)) if !symbol.is_empty() => {
                Place { symbol, version: Some(version.trim_start_matches('@')), plus }
            }
            _ => Place { symbol, version: None, plus },
        }
    }

    fn is(&self, function: &Function) -> bool {
        function.name == self.symbol && self.version.is_none_or(|version| version == function.version)
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

type Reader<'a> = ReadCacheRange<'a, std::fs::File>;

/// An ELF file by its class.
enum File<'a> {
    Short(ElfFile32<'a, object::Endianness, Reader<'a>>),
    Long(ElfFile64<'a, object::Endianness, Reader<'a>>),
}

/// What an ELF file says.
pub(crate) struct Image<'a> {
    binary: &'a Binary,
    file: File<'a>,
    segments: Vec<Segment>,
    dynamic: OnceCell<Vec<Function>>,
    whole: OnceCell<Vec<Function>>,
}

fn bad(path: &Path, error: object::Error) -> Cause {
    Cause::invalid(format!("{} is no ELF file that makes sense: {error}", path.display()))
}

impl<'a> Image<'a> {
    pub(super) fn new(binary: &'a Binary) -> Result<Image<'a>, Cause> {
        let path = binary.path();
        let bad = |error| bad(path, error);
        let data = binary.cache.range(binary.start, binary.length);
        let (file, (segments, runs)) = match FileKind::parse(data).map_err(bad)? {
            FileKind::Elf32 => {
                let elf = ElfFile32::parse(data).map_err(bad)?;
                let segments = segments(&elf);
                (File::Short(elf), segments)
            }
            FileKind::Elf64 => {
                let elf = ElfFile64::parse(data).map_err(bad)?;
                let segments = segments(&elf);
                (File::Long(elf), segments)
            }
            _ => return Err(Cause::invalid(format!("{} is no ELF file", path.display()))),
        };
        if !runs {
            return Err(Cause::invalid(format!("{} is neither a program nor a shared library", path.display())));
        }
        Ok(Image { binary, file, segments, dynamic: OnceCell::new(), whole: OnceCell::new() })
    }

    /// Offset in the file of a place, as a uprobe wants it.
    pub(crate) fn offset(&self, place: &str) -> Result<u64, Cause> {
        self.offsets(&[place]).pop().unwrap_or_else(|| Err(Cause::invalid("no place was given")))
    }

    /// The same for many, with one pass over the symbols.
    ///
    /// `.dynsym` is asked first, then `.symtab`, as libbpf does (`elf_find_func_offset` of `elf.c`).
    pub(crate) fn offsets(&self, places: &[&str]) -> Vec<Result<u64, Cause>> {
        let mut found: Vec<Option<Result<u64, Cause>>> = Vec::new();
        found.extend(places.iter().map(|place| number(place).map(|offset| self.within(offset))));
        for table in [SHT_DYNSYM, SHT_SYMTAB] {
            let mut wanted: HashMap<&str, Vec<usize>> = HashMap::new();
            for (at, place) in places.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
                wanted.entry(Place::parse(place).symbol).or_default().push(at);
            }
            if wanted.is_empty() {
                break;
            }
            let functions = match self.functions(table) {
                Ok(functions) => functions,
                Err(cause) => return places.iter().map(|_| Err(cause.clone())).collect(),
            };
            let mut candidates: BTreeMap<usize, Vec<&Function>> = BTreeMap::new();
            for function in functions {
                for at in wanted.get(function.name.as_str()).into_iter().flatten() {
                    if Place::parse(places[*at]).is(function) {
                        candidates.entry(*at).or_default().push(function);
                    }
                }
            }
            for (at, candidates) in candidates {
                found[at] = Some(self.choose(places[at], &candidates));
            }
        }
        for (place, found) in places.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            *found = self.demangled(place);
        }
        let found = found.into_iter().zip(places);
        found.map(|(found, place)| found.unwrap_or_else(|| Err(self.missing(&Place::parse(place))))).collect()
    }

    /// Name and offset of every function whose name fits a pattern, each place once, in the order of the file.
    ///
    /// `.symtab` is asked first, then `.dynsym`, as libbpf does (`elf_resolve_pattern_offsets`): the first holds more.
    pub(crate) fn matching(&self, pattern: &str) -> Result<Vec<(String, u64)>, Cause> {
        for table in [SHT_SYMTAB, SHT_DYNSYM] {
            let functions = self.functions(table)?.iter().filter(|function| !function.chooses);
            let fitting = functions.filter(|function| glob::matches(pattern, &function.name));
            // Several names of one function would have the program run several times.
            let places: BTreeMap<u64, &str> = fitting
                .filter_map(|function| Some((self.file_offset(function.address)?, function.name.as_str())))
                .collect();
            if !places.is_empty() {
                return Ok(places.into_iter().map(|(offset, name)| (name.to_owned(), offset)).collect());
            }
        }
        let mut cause = self.missing(&Place { symbol: glob::core(pattern), version: None, plus: 0 });
        cause.why = cause.why.replacen(
            &format!("no function `{}`", glob::core(pattern)),
            &format!("no function `{pattern}`"),
            1,
        );
        Err(cause)
    }

    /// Where the byte at an address is in the file: uprobes count from the file's start.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| segment.executable).find_map(|segment| {
            let inside = address.checked_sub(segment.address).filter(|inside| *inside < segment.file_size)?;
            inside.checked_add(segment.offset)?.checked_add(self.binary.start)
        })
    }

    /// The same for a variable.
    pub(crate) fn data_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| !segment.executable).find_map(|segment| {
            let inside = address.checked_sub(segment.address).filter(|inside| *inside < segment.size)?;
            inside.checked_add(segment.offset)?.checked_add(self.binary.start)
        })
    }

    /// It is loaded at an address that is not known before: a library, and most programs.
    pub(crate) fn is_relocated(&self) -> bool {
        match &self.file {
            File::Short(elf) => elf.elf_header().e_type(elf.endian()) == ET_DYN,
            File::Long(elf) => elf.elf_header().e_type(elf.endian()) == ET_DYN,
        }
    }

    /// It was compiled by Go.
    pub(super) fn is_go(&self) -> bool {
        match &self.file {
            File::Short(elf) => go::is(elf),
            File::Long(elf) => go::is(elf),
        }
    }

    /// The static probes that it declares.
    pub(crate) fn notes(&self) -> Result<Vec<notes::Note>, Cause> {
        let raw = match &self.file {
            File::Long(elf) => notes::read(elf),
            File::Short(_) if cfg!(target_pointer_width = "64") => {
                return Err(Cause::invalid(format!(
                    "{} is a 32-bit program: where its probes have their arguments is not known to a 64-bit kernel",
                    self.binary.path().display()
                )));
            }
            File::Short(elf) => notes::read(elf),
        };
        raw.map_err(|error| bad(self.binary.path(), error))
    }

    fn within(&self, offset: u64) -> Result<u64, Cause> {
        let inside = (offset < self.binary.length).then(|| offset.checked_add(self.binary.start)).flatten();
        inside.ok_or_else(|| {
            Cause::invalid(format!("{} has only {} bytes", self.binary.path().display(), self.binary.length))
        })
    }

    /// A function of Rust or C++ by its path in the source, `demo::work`: its symbol has more in it.
    fn demangled(&self, text: &str) -> Option<Result<u64, Cause>> {
        let place = Place::parse(text);
        let word = paths::word(place.symbol);
        let mut candidates = Vec::new();
        for table in [SHT_SYMTAB, SHT_DYNSYM] {
            let functions = self.functions(table).ok()?.iter().filter(|function| function.name.contains(word));
            candidates
                .extend(functions.filter(|function| paths::path(&function.name).as_deref() == Some(place.symbol)));
        }
        (!candidates.is_empty()).then(|| self.choose(text, &candidates))
    }

    /// One of the symbols that a place may mean.
    fn choose(&self, text: &str, candidates: &[&Function]) -> Result<u64, Cause> {
        let (path, place) = (self.binary.path().display(), Place::parse(text));
        let best = |function: &&&Function| (function.default, function.bind);
        let most = candidates.iter().map(|function| best(&function)).max();
        let mut chosen: Vec<&Function> =
            candidates.iter().filter(|function| Some(best(function)) == most).copied().collect();
        chosen.sort_unstable_by_key(|function| function.address);
        chosen.dedup_by_key(|function| function.address);
        match chosen[..] {
            [function] if function.chooses => {
                let near = self.like(&function.name);
                let cause = Cause::invalid(format!(
                    "`{}` of {path} only chooses one of several functions when a program starts (IFUNC), and nobody calls it later",
                    function.name
                ));
                Err(match near.is_empty() {
                    true => cause.action("name the function that is chosen"),
                    false => cause.action(format!("name the one that is chosen: {}", near.join(", "))),
                })
            }
            [function] => {
                let offset = self.file_offset(function.address).and_then(|offset| offset.checked_add(place.plus));
                offset.ok_or_else(|| Cause::invalid(format!("`{text}` is outside of what is executed of {path}")))
            }
            _ => {
                Err(Cause::invalid(format!("{path} has {} different functions named `{}`", chosen.len(), place.symbol))
                    .action("name it with its version (`NAME@VERSION`), or give its offset in the file"))
            }
        }
    }

    fn missing(&self, place: &Place<'_>) -> Cause {
        let path = self.binary.path().display();
        let tables = || [SHT_DYNSYM, SHT_SYMTAB].into_iter().filter_map(|table| self.functions(table).ok()).flatten();
        if let Some(version) = place.version {
            let mut versions: Vec<&str> = tables()
                .filter(|function| function.name == place.symbol && !function.version.is_empty())
                .map(|function| function.version.as_str())
                .collect();
            versions.sort_unstable();
            versions.dedup();
            if !versions.is_empty() {
                let why = format!("{path} has no version {version} of `{}`", place.symbol);
                return Cause::invalid(why).action(format!("it has {}", versions.join(", ")));
            }
        }
        let near = if place.symbol.contains("::") {
            let paths: Vec<String> =
                tables().take(MAX_NEAR).filter_map(|function| paths::path(&function.name)).collect();
            crate::near::nearest(place.symbol, paths.iter().map(String::as_str))
        } else {
            crate::near::nearest(place.symbol, tables().take(MAX_NEAR).map(|function| function.name.as_str()))
        };
        let mut why = format!("{path} has no function `{}`", place.symbol);
        if !near.is_empty() {
            why += &format!(" (it has {})", near.join(", "));
        }
        Cause::invalid(why).action(match self.functions(SHT_SYMTAB) {
            Ok(functions) if !functions.is_empty() => {
                "functions that were inlined or removed have no symbol: see `nm` for those that are there"
            }
            _ => "the file is stripped of its symbols: give the function's offset in the file, or a file with symbols",
        })
    }

    /// Functions that a chosen one may be: `__memcpy_avx_unaligned` for `memcpy`.
    fn like(&self, name: &str) -> Vec<String> {
        let Ok(functions) = self.functions(SHT_SYMTAB) else { return Vec::new() };
        let prefix = format!("__{name}_");
        let mut names: Vec<String> = functions
            .iter()
            .filter(|function| function.name.starts_with(&prefix) && !function.chooses)
            .map(|function| function.name.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(8);
        names
    }

    fn functions(&self, table: SectionType) -> Result<&[Function], Cause> {
        let cell = if table == SHT_DYNSYM { &self.dynamic } else { &self.whole };
        if let Some(functions) = cell.get() {
            return Ok(functions);
        }
        let read = match &self.file {
            File::Short(elf) => functions(elf, table),
            File::Long(elf) => functions(elf, table),
        };
        let mut read = read.map_err(|error| bad(self.binary.path(), error))?;
        if read.is_empty() && table == SHT_SYMTAB {
            let known = match &self.file {
                File::Short(elf) => go::functions(elf),
                File::Long(elf) => go::functions(elf),
            };
            read.extend(known.into_iter().map(|(name, address)| Function::of_go(name, address)));
        }
        Ok(cell.get_or_init(|| read))
    }
}

/// What is mapped, and whether the file is one that runs.
fn segments<'a, H, R>(elf: &ElfFile<'a, H, R>) -> (Vec<Segment>, bool)
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let endian = elf.endian();
    let loaded = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
    let segments = loaded.map(|header| Segment {
        address: header.p_vaddr(endian).into(),
        size: header.p_memsz(endian).into(),
        offset: header.p_offset(endian).into(),
        file_size: header.p_filesz(endian).into(),
        executable: header.p_flags(endian).0 & PF_X.0 != 0,
    });
    (segments.collect(), matches!(elf.elf_header().e_type(endian), ET_EXEC | ET_DYN))
}

/// The functions of a symbol table; none where there is no such table.
fn functions<'a, H, R>(elf: &ElfFile<'a, H, R>, table: SectionType) -> object::Result<Vec<Function>>
where
    H: FileHeader<Endian = object::Endianness>,
    R: ReadRef<'a>,
{
    let (endian, data, sections) = (elf.endian(), elf.data(), elf.elf_section_table());
    let symbols = sections.symbols(endian, data, table)?;
    if symbols.is_empty() {
        return Ok(Vec::new());
    }
    // At once: a read for each name would be a read for each of a hundred thousand.
    let strings = sections.section(symbols.string_section())?.data(endian, data)?;
    let versions = if table == SHT_DYNSYM { sections.versions(endian, data)? } else { None };
    let mut functions = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let kind = symbol.st_type();
        if !matches!(kind, STT_FUNC | STT_GNU_IFUNC) || symbol.st_shndx(endian) == SHN_UNDEF {
            continue;
        }
        let name = strings.get(symbol.st_name(endian) as usize..).and_then(|rest| rest.split(|byte| *byte == 0).next());
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty()) else {
            continue;
        };
        let of_table = versions.as_ref().map(|versions| versions.version_index(endian, index));
        let known = of_table.and_then(|index| versions.as_ref()?.version(index.index()).ok()?);
        let known = known.map(|version| String::from_utf8_lossy(version.name()).into_owned());
        // `.symtab` may hold the version in the name: memcpy@@GLIBC_2.14.
        let (bare, written) = name.split_once('@').filter(|(bare, _)| !bare.is_empty()).unwrap_or((name, ""));
        functions.push(Function {
            name: bare.to_owned(),
            address: symbol.st_value(endian).into(),
            bind: match symbol.st_bind() {
                STB_LOCAL => Bind::Local,
                STB_WEAK => Bind::Weak,
                _ => Bind::Global,
            },
            version: known.unwrap_or_else(|| written.trim_start_matches('@').to_owned()),
            default: of_table.map_or(written.is_empty() || written.starts_with('@'), |index| !index.is_hidden()),
            chooses: kind == STT_GNU_IFUNC,
        });
    }
    Ok(functions)
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
    fn offsets_are_those_of_the_file() {
        let libc = Binary::open("libc.so.6", None).unwrap();
        let image = libc.image().unwrap();
        let malloc = image.offset("malloc").unwrap();
        assert!(malloc > 0);
        assert_eq!(image.offset("malloc+0x4").unwrap(), malloc + 4);
        assert_eq!(image.offset("0x77").unwrap(), 0x77);
        assert!(image.offset("0xffffffffffff").is_err());
        let error = image.offset("mallocc").unwrap_err();
        assert!(error.why.contains("malloc"), "{error}");
        let [malloc_again, free, wrong] = &image.offsets(&["malloc", "free", "no_such_function_at_all"])[..] else {
            panic!()
        };
        assert_eq!((malloc_again, free.is_ok(), wrong.is_err()), (&Ok(malloc), true, true));
        let matching = image.matching("mallo?").unwrap();
        assert!(matching.iter().any(|(_, offset)| *offset == malloc), "{matching:?}");
        let error = image.matching("no_such_functi*n").unwrap_err();
        assert!(error.why.contains("no function `no_such_functi*n`"), "{error}");
        assert!(Binary::open("/etc/passwd", None).unwrap().image().is_err());
        assert!(Binary::open("/does/not/exist", None).is_err());
    }

    #[test]
    fn versions_are_told_apart() {
        let libc = Binary::open("libc.so.6", None).unwrap();
        let image = libc.image().unwrap();
        let functions = image.functions(SHT_DYNSYM).unwrap();
        // A function of several versions, whichever the machine's library has.
        let old = functions.iter().find(|function| {
            let new =
                |other: &&Function| other.name == function.name && other.default && other.address != function.address;
            !function.default && !function.chooses && functions.iter().any(|other| new(&other))
        });
        let Some(old) = old else { return };
        let offset = |text: String| image.offset(&text).unwrap();
        assert_ne!(offset(old.name.clone()), offset(format!("{}@{}", old.name, old.version)));
        let error = image.offset(&format!("{}@NONE_1.0", old.name)).unwrap_err();
        assert!(error.action.contains(&old.version), "{error}");
    }
}
