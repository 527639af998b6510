//! Real objects: those of packages and of the kernel's own tests.

mod common;

use std::collections::BTreeMap;

use common::check_indexes;
use object::elf;
use object::read::elf::{ElfFile64, Rel, SectionHeader, Sym};
use ringfence_object::{Error, Object, Role};
use ringfence_testing::all_objects;

/// Objects that are parts of a program and become loadable by linking only, or are made to be refused.
const REFUSED: &[(&str, &str)] = &[
    ("linked_maps1.bpf.o", "another file declares it"),
    ("linked_maps2.bpf.o", "another file declares it"),
    ("test_subskeleton_lib.bpf.o", "another file declares it"),
    ("test_pinning_invalid.bpf.o", "attribute pinning: 2"),
    // Written for tc's own loader, with a number in `maps` that only that one knows.
    ("test_sk_assign.bpf.o", "its definition has 2 in word 6"),
];

/// Functions that cannot be used, by object: parts of a program again, and tests of what a loader refuses.
const PROBLEMS: &[(&str, &str)] = &[
    ("linked_funcs1.bpf.o", "bpftool gen object"),
    ("linked_funcs2.bpf.o", "bpftool gen object"),
    ("linked_vars1.bpf.o", "bpftool gen object"),
    ("linked_vars2.bpf.o", "bpftool gen object"),
    ("test_subskeleton.bpf.o", "bpftool gen object"),
    ("test_usdt_multispec.bpf.o", "bpftool gen object"),
    ("exceptions_fail.bpf.o", "two exception callbacks"),
];

/// What another reader of ELF files finds.
#[derive(Default, Debug, PartialEq, Eq)]
struct Found {
    /// Names of the programs by section index and offset.
    programs: BTreeMap<(usize, u64), String>,
    /// Names of the maps that are symbols, sorted.
    declared: Vec<String>,
    /// Sections that are data maps, in order.
    data: Vec<String>,
    /// Relocations of functions.
    relocations: usize,
}

fn other_reader(bytes: &[u8]) -> Found {
    let file = ElfFile64::<object::Endianness>::parse(bytes).expect("it is ELF");
    let endian = file.endian();
    let table = file.elf_section_table();
    let name = |header: &elf::SectionHeader64<object::Endianness>| {
        String::from_utf8_lossy(table.section_name(endian, header).expect("sections have names")).into_owned()
    };
    let headers: Vec<_> = table.iter().collect();
    let code = |at: usize| {
        headers.get(at).is_some_and(|h| {
            h.sh_flags(endian).0 & elf::SHF_EXECINSTR.0 != 0
                && h.sh_size(endian) > 0
                && h.sh_type(endian) == elf::SHT_PROGBITS
        })
    };
    let symbols = file.elf_symbol_table();
    let mut found = Found::default();
    let mut functions = Vec::new();
    for symbol in symbols.iter() {
        let at = usize::from(symbol.st_shndx(endian).0);
        let Some(section) = headers.get(at) else { continue };
        let text = String::from_utf8_lossy(symbols.symbol_name(endian, symbol).expect("a name")).into_owned();
        if symbol.st_type() == elf::STT_FUNC && code(at) {
            let start = symbol.st_value(endian);
            functions.push((at, start, start + symbol.st_size(endian)));
            if name(section) != ".text" {
                found.programs.insert((at, start), text);
            }
        } else if symbol.st_type() == elf::STT_OBJECT {
            match name(section).as_str() {
                ".maps" | "maps" | ".struct_ops" | ".struct_ops.link" | "?.struct_ops" | "?.struct_ops.link" => {
                    found.declared.push(text);
                }
                _ => {}
            }
        }
    }
    found.declared.sort();
    for header in &headers {
        let name = name(header);
        let is = |prefix: &str| name == prefix || name.starts_with(&format!("{prefix}."));
        let data = is(".data") || is(".rodata") || is(".bss");
        if data && header.sh_size(endian) > 0 {
            found.data.push(name);
        }
        let of = header.sh_info(endian) as usize;
        if header.sh_type(endian) == elf::SHT_REL && code(of) {
            let (records, _) = header.rel(endian, bytes).expect("it holds relocations").expect("it holds relocations");
            let inside =
                |at: u64| functions.iter().any(|(section, start, end)| *section == of && (*start..*end).contains(&at));
            found.relocations += records.iter().filter(|rel| inside(rel.r_offset(endian))).count();
        }
    }
    found
}

#[test]
fn every_real_object_opens() {
    let (mut programs, mut maps) = (0, 0);
    for path in all_objects() {
        let bytes = std::fs::read(&path).expect("the object can be read");
        let file = path.file_name().expect("it has a name").to_string_lossy();
        let object = match (Object::parse(&file, &bytes), REFUSED.iter().find(|(name, _)| *name == file)) {
            (Ok(object), None) => object,
            (Err(error), Some((_, cause))) => {
                assert!(error.to_string().contains(cause), "{error}");
                continue;
            }
            (Ok(_), Some(_)) => panic!("{file} should be refused"),
            (Err(error), None) => panic!("{error}"),
        };
        let known = PROBLEMS.iter().find(|(name, _)| *name == file);
        let problems: Vec<_> = object.functions.iter().filter_map(|function| function.problem.as_ref()).collect();
        match known {
            Some((_, cause)) => assert!(problems.iter().any(|p| p.to_string().contains(cause)), "{file}: {problems:?}"),
            None => assert!(problems.is_empty(), "{file}: {problems:?}"),
        }

        let other = other_reader(&bytes);
        let ours: Vec<_> = object.programs.iter().map(|program| program.name.clone()).collect();
        assert_eq!(ours, other.programs.into_values().collect::<Vec<_>>(), "{file}");
        let is_declared = |role: &Role| matches!(role, Role::Declared | Role::Legacy | Role::StructOps(_));
        let arena = |role: &Role| matches!(role, Role::Data(data) if data.arena);
        let declared = object.maps.iter().filter(|map| is_declared(&map.role) || arena(&map.role));
        let mut declared: Vec<_> = declared.map(|map| map.name.clone()).collect();
        declared.sort();
        assert_eq!(declared, other.declared, "{file}");
        let data = object.maps.iter().filter(|map| matches!(map.role, Role::Data(_)) && !arena(&map.role));
        assert_eq!(data.map(|map| map.section.clone()).collect::<Vec<_>>(), other.data, "{file}");
        if known.is_none() {
            // Calls inside one section have no relocation; so there may be more of ours.
            let ours: usize = object.functions.iter().map(|function| function.relocs.len()).sum();
            assert!(ours >= other.relocations, "{file}: {ours} of {} relocations", other.relocations);
        }
        check_indexes(&object);
        for global in &object.globals {
            let size = match &object.maps[global.map.0].role {
                Role::Data(data) => data.bytes.len(),
                other => panic!("{file}: {} is in {other:?}", global.name),
            };
            assert!(global.offset as usize + global.size as usize <= size, "{file}: {}", global.name);
        }
        programs += object.programs.len();
        maps += object.maps.len();
    }
    println!("{programs} programs and {maps} maps");
}

#[test]
fn packages_have_what_libbpf_finds() {
    // Programs and maps as libbpf 1.7 counts them.
    let expected = [
        ("bindsnoop.o", 4, 5),
        ("biolatency.o", 6, 6),
        ("capable.o", 2, 8),
        ("klockstat.o", 47, 5),
        ("opensnoop.o", 4, 3),
        ("tcptracer.o", 7, 4),
        ("xdp-dispatcher.o", 2, 1),
    ];
    for path in all_objects() {
        let file = path.file_name().expect("it has a name").to_string_lossy();
        let Some((_, programs, maps)) = expected.iter().find(|(name, ..)| *name == file) else { continue };
        let object = Object::parse(&file, &std::fs::read(&path).expect("the object can be read"));
        let object = object.unwrap_or_else(|error: Error| panic!("{error}"));
        assert_eq!((object.programs.len(), object.maps.len()), (*programs, *maps), "{file}");
    }
}
