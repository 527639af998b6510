//! What a function of a program takes and gives, where the program has its debug information.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use gimli::{AttributeValue, DebuggingInformationEntry, DwAt, EndianSlice, RunTimeEndian, UnitOffset};
use object::{CompressionFormat, Object as _, ObjectSection as _, ReadCache};

use super::spec::{Reading, TEXT};

/// Bytes of one section, and of all.
const MOST_BYTES: u64 = 256 << 20;
/// How long the function is looked for: programs of this size can be told of by hand.
const MOST_TIME: Duration = Duration::from_secs(3);
/// Entries between two looks at the clock.
const BETWEEN: usize = 1 << 16;
/// Names for a type that stand in front of it.
const MOST_ALIASES: usize = 16;
const MOST_ARGUMENTS: usize = 16;

/// Sections that are read; of `.debug_line` units want the start.
const NEEDED: &[&str] = &[
    ".debug_info",
    ".debug_abbrev",
    ".debug_str",
    ".debug_line",
    ".debug_line_str",
    ".debug_str_offsets",
    ".debug_addr",
];

type Bytes<'a> = EndianSlice<'a, RunTimeEndian>;
type Dwarf<'a> = gimli::Dwarf<Bytes<'a>>;
type Unit<'a> = gimli::Unit<Bytes<'a>>;
type Entry<'a> = DebuggingInformationEntry<Bytes<'a>>;

/// A function as its source has it, as far as registers hold it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Signature {
    /// The register of the first one.
    pub(super) first: u8,
    pub(super) arguments: Vec<(String, Reading)>,
    pub(super) ret: Option<Reading>,
}

/// What a type is to the rules of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Void,
    Plain(Reading),
    /// In registers of its own.
    Float,
    /// Of so many bytes.
    Struct(u64),
    Unknown,
}

/// What a program says of a function; `None`: it says nothing that can be made use of.
pub(super) fn signature(file: &str, function: &str) -> Option<Signature> {
    let cache = ReadCache::new(File::open(file).ok()?);
    let image = object::File::parse(&cache).ok()?;
    if image.section_by_name(".debug_info").is_some() {
        return in_image(&image, function);
    }
    let id = image.build_id().ok()??;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (start, rest) = hex.split_at_checked(2)?;
    let cache = ReadCache::new(File::open(format!("/usr/lib/debug/.build-id/{start}/{rest}.debug")).ok()?);
    in_image(&object::File::parse(&cache).ok()?, function)
}

fn in_image<'a>(image: &'a object::File<'a, &'a ReadCache<File>>, function: &str) -> Option<Signature> {
    let endian = if image.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let load = |id: gimli::SectionId| Ok::<_, gimli::Error>(section(image, id.name()).unwrap_or_default());
    let sections = gimli::DwarfSections::load(load).ok()?;
    let dwarf = sections.borrow(|data| EndianSlice::new(data, endian));
    let deadline = Instant::now() + MOST_TIME;
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let Ok(unit) = dwarf.unit(header) else { continue };
        if let Some(signature) = in_unit(&dwarf, &unit, function, deadline) {
            return Some(signature);
        }
        if Instant::now() > deadline {
            return None;
        }
    }
    None
}

fn section<'a>(image: &object::File<'a, &'a ReadCache<File>>, name: &str) -> Option<Cow<'a, [u8]>> {
    let section = image.section_by_name(name).filter(|_| NEEDED.contains(&name))?;
    let data = section.compressed_data().ok()?;
    if data.uncompressed_size > MOST_BYTES {
        return None;
    }
    match data.format {
        CompressionFormat::None => Some(Cow::Borrowed(data.data)),
        CompressionFormat::Zlib => {
            let mut bytes = Vec::new();
            flate2::read::ZlibDecoder::new(data.data).take(data.uncompressed_size).read_to_end(&mut bytes).ok()?;
            Some(Cow::Owned(bytes))
        }
        _ => None,
    }
}

fn text<'a>(dwarf: &Dwarf<'a>, unit: &Unit<'a>, entry: &Entry<'a>, name: DwAt) -> Option<&'a str> {
    let value = entry.attr_value(name)?;
    dwarf.attr_string(unit, value).ok()?.to_string().ok()
}

fn flag(entry: &Entry<'_>, name: DwAt) -> bool {
    matches!(entry.attr_value(name), Some(AttributeValue::Flag(true)))
}

fn reference(entry: &Entry<'_>, name: DwAt) -> Option<UnitOffset> {
    match entry.attr_value(name)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}

/// Looks through one unit.
fn in_unit(dwarf: &Dwarf<'_>, unit: &Unit<'_>, function: &str, deadline: Instant) -> Option<Signature> {
    let last = function.rsplit_once("::").map_or(function, |(_, last)| last);
    let mut cursor = unit.entries();
    let mut language = gimli::DW_LANG_C;
    // What is around an entry: depth and name.
    let mut around: Vec<(isize, String)> = Vec::new();
    // Functions of that path that are only declared.
    let mut declared: HashSet<UnitOffset> = HashSet::new();
    let mut seen = 0usize;
    while let Ok(Some(entry)) = cursor.next_dfs() {
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(BETWEEN) && Instant::now() > deadline {
            return None;
        }
        let depth = entry.depth();
        while around.last().is_some_and(|(of, _)| *of >= depth) {
            around.pop();
        }
        match entry.tag() {
            gimli::DW_TAG_compile_unit => {
                if let Some(AttributeValue::Language(of)) = entry.attr_value(gimli::DW_AT_language) {
                    language = of;
                }
            }
            gimli::DW_TAG_namespace | gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => {
                let name = text(dwarf, unit, entry, gimli::DW_AT_name).unwrap_or_default();
                around.push((depth, name.to_owned()));
            }
            gimli::DW_TAG_subprogram => {
                let specified = reference(entry, gimli::DW_AT_specification).is_some_and(|of| declared.contains(&of));
                let named = || {
                    let name = text(dwarf, unit, entry, gimli::DW_AT_name)?;
                    let linked = text(dwarf, unit, entry, gimli::DW_AT_linkage_name);
                    (name == function || linked == Some(function) || name == last && is(&around, function))
                        .then_some(())
                };
                if !specified && named().is_none() {
                    continue;
                }
                if flag(entry, gimli::DW_AT_declaration) {
                    declared.insert(entry.offset());
                    continue;
                }
                let of = entry.offset();
                return signature_at(dwarf, unit, of, language);
            }
            _ => {}
        }
    }
    None
}

/// Whether what is around a function makes its path.
fn is(around: &[(isize, String)], function: &str) -> bool {
    let Some((path, _)) = function.rsplit_once("::") else { return around.is_empty() };
    path.split("::").eq(around.iter().map(|(_, name)| name.as_str()))
}

/// By the entry of a function.
fn signature_at(dwarf: &Dwarf<'_>, unit: &Unit<'_>, at: UnitOffset, language: gimli::DwLang) -> Option<Signature> {
    let mut cursor = unit.entries_at_offset(at).ok()?;
    let function = cursor.next_dfs().ok()??.clone();
    // Its type stands at its declaration, where it has one.
    let declared = reference(&function, gimli::DW_AT_specification).and_then(|at| unit.entry(at).ok());
    let ret = [Some(&function), declared.as_ref()].into_iter().flatten();
    let ret = ret.filter_map(|entry| reference(entry, gimli::DW_AT_type)).next();
    let ret = ret.map_or(Kind::Void, |at| kind(dwarf, unit, at));
    let rust = language == gimli::DW_LANG_Rust;
    let c = matches!(
        language,
        gimli::DW_LANG_C | gimli::DW_LANG_C89 | gimli::DW_LANG_C99 | gimli::DW_LANG_C11 | gimli::DW_LANG_C17
    );
    let mut signature = Signature::default();
    match ret {
        // The caller says where it goes.
        Kind::Struct(17..) => signature.first = 1,
        // Of C++ it depends on how it is copied, of Rust on what is in it.
        Kind::Struct(_) if !c => return None,
        Kind::Unknown => return None,
        Kind::Plain(reading) => signature.ret = Some(reading),
        Kind::Struct(_) | Kind::Void | Kind::Float => {}
    }
    while let Ok(Some(entry)) = cursor.next_dfs() {
        if entry.depth() <= function.depth() {
            break;
        }
        let nested = entry.depth() > function.depth() + 1;
        // Go has what a function gives among them.
        if nested || entry.tag() != gimli::DW_TAG_formal_parameter || flag(entry, gimli::DW_AT_variable_parameter) {
            continue;
        }
        let name = text(dwarf, unit, entry, gimli::DW_AT_name).filter(|name| !name.is_empty());
        let name = name.map_or_else(|| format!("arg{}", signature.arguments.len()), str::to_owned);
        let Some(at) = reference(entry, gimli::DW_AT_type) else { break };
        let reading = match kind(dwarf, unit, at) {
            Kind::Plain(reading) => reading,
            Kind::Struct(17..) if rust => Reading::Pointer,
            Kind::Struct(17..) if c => continue,
            Kind::Float => continue,
            Kind::Struct(_) | Kind::Void | Kind::Unknown => break,
        };
        if signature.arguments.len() >= MOST_ARGUMENTS {
            break;
        }
        signature.arguments.push((name, reading));
    }
    // Programs with no more than lines say nothing of arguments, either.
    let nothing = signature.arguments.is_empty() && ret == Kind::Void;
    (!nothing).then_some(signature)
}

/// What a type is, behind its other names.
fn kind(dwarf: &Dwarf<'_>, unit: &Unit<'_>, at: UnitOffset) -> Kind {
    let Some(entry) = behind_names(unit, at) else { return Kind::Void };
    let size = entry.attr_value(gimli::DW_AT_byte_size).and_then(|value| value.udata_value());
    match entry.tag() {
        gimli::DW_TAG_base_type => {
            let bytes = match size {
                Some(bytes @ (1 | 2 | 4 | 8)) => bytes as u16,
                _ => return Kind::Unknown,
            };
            match entry.attr_value(gimli::DW_AT_encoding) {
                Some(AttributeValue::Encoding(gimli::DW_ATE_boolean)) => Kind::Plain(Reading::Bool),
                Some(AttributeValue::Encoding(gimli::DW_ATE_float)) => Kind::Float,
                Some(AttributeValue::Encoding(gimli::DW_ATE_signed | gimli::DW_ATE_signed_char)) => {
                    Kind::Plain(Reading::Number { bytes, signed: true })
                }
                Some(AttributeValue::Encoding(_)) => Kind::Plain(Reading::Number { bytes, signed: false }),
                _ => Kind::Unknown,
            }
        }
        gimli::DW_TAG_enumeration_type => match size {
            Some(bytes @ (1 | 2 | 4 | 8)) => Kind::Plain(Reading::Number { bytes: bytes as u16, signed: true }),
            _ => Kind::Unknown,
        },
        gimli::DW_TAG_pointer_type => {
            let is_text =
                reference(&entry, gimli::DW_AT_type).and_then(|at| behind_names(unit, at)).is_some_and(|to| {
                    to.tag() == gimli::DW_TAG_base_type
                        && text(dwarf, unit, &to, gimli::DW_AT_name).is_some_and(|name| name == "char")
                        && to.attr_value(gimli::DW_AT_byte_size).and_then(|value| value.udata_value()) == Some(1)
                });
            Kind::Plain(if is_text { Reading::Text(TEXT) } else { Reading::Pointer })
        }
        gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type | gimli::DW_TAG_subroutine_type => {
            Kind::Plain(Reading::Pointer)
        }
        gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type => {
            match text(dwarf, unit, &entry, gimli::DW_AT_name) {
                // Of Rust, and of Go.
                Some("&str" | "&mut str" | "string") if size == Some(16) => Kind::Plain(Reading::Sized(TEXT)),
                _ => size.map_or(Kind::Unknown, Kind::Struct),
            }
        }
        _ => Kind::Unknown,
    }
}

/// `None`: `void`.
fn behind_names<'a>(unit: &Unit<'a>, mut at: UnitOffset) -> Option<Entry<'a>> {
    for _ in 0..MOST_ALIASES {
        let entry = unit.entry(at).ok()?;
        match entry.tag() {
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type => at = reference(&entry, gimli::DW_AT_type)?,
            _ => return Some(entry),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn arguments(signature: &Signature) -> Vec<(&str, &str)> {
        signature.arguments.iter().map(|(name, reading)| (name.as_str(), reading.name())).collect()
    }

    #[test]
    fn of_rust() {
        let dir = tempfile::tempdir().expect("a directory");
        let (source, file) = (dir.path().join("a.rs"), dir.path().join("a.so"));
        let text = "pub mod demo {\n\
            #[inline(never)] pub fn known(name: &str, times: u32, ratio: f64, flag: bool) -> u64 { 1 }\n\
            #[inline(never)] pub fn owned(count: i8) -> String { String::new() }\n}\n\
            #[unsafe(no_mangle)] pub extern \"C\" fn all() { demo::known(\"\", 1, 1.0, true); demo::owned(1); }\n";
        std::fs::write(&source, text).expect("a source");
        let arguments_of_rustc = ["--edition=2024", "--crate-type=cdylib", "-Cdebuginfo=2", "-Awarnings", "-o"];
        match Command::new("rustc").args(arguments_of_rustc).arg(&file).arg(&source).status() {
            Err(error) => return println!("skipped: rustc: {error}"),
            Ok(status) => assert!(status.success()),
        }
        let of = |function: &str| signature(&file.display().to_string(), function);
        let known = of("a::demo::known").expect("a signature");
        assert_eq!(arguments(&known), [("name", "strn"), ("times", "u32"), ("flag", "bool")]);
        assert_eq!(known.ret.map(Reading::name), Some("u64"));
        let owned = of("a::demo::owned").expect("a signature");
        assert_eq!((owned.first, arguments(&owned)), (1, vec![("count", "i8")]));
        assert_eq!(of("a::demo::no"), None);
    }

    #[test]
    fn of_c() {
        let dir = tempfile::tempdir().expect("a directory");
        let (source, file) = (dir.path().join("a.c"), dir.path().join("a.so"));
        let text = "struct big { long a[4]; }; typedef const char *name; enum kind { A, B };\n\
            struct big plain(name text, double d, enum kind kind, struct big big, void *p) { return big; }\n\
            void nothing(unsigned char c, _Bool b) {}\n\
            struct two { int a, b; } two(struct two x, int y) { return x; }\n";
        std::fs::write(&source, text).expect("a source");
        match Command::new("clang-19").args(["-g", "-shared", "-o"]).arg(&file).arg(&source).status() {
            Err(error) => return println!("skipped: clang-19: {error}"),
            Ok(status) => assert!(status.success()),
        }
        let of = |function: &str| signature(&file.display().to_string(), function).expect("a signature");
        // What it gives is written to where the first register says; floating point numbers and structs are elsewhere.
        let plain = of("plain");
        assert_eq!((plain.first, plain.ret), (1, None));
        assert_eq!(arguments(&plain), [("text", "str"), ("kind", "i32"), ("p", "ptr")]);
        assert_eq!(arguments(&of("nothing")), [("c", "u8"), ("b", "bool")]);
        assert_eq!(arguments(&of("two")), []);
    }
}
