//! C as `Btf::parse_c` reads it, beside what a compiler makes of it.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use ringfence_btf::{Btf, CError, Def, Kind, TypeId};

const TEXT: &str = include_str!("parse_c.c");

/// A type in words: sizes, places, names and kinds of all that it holds.
fn shape(btf: &Btf, id: TypeId, out: &mut String, depth: usize) {
    let ty = btf.resolve(id).unwrap();
    let size = btf.size_of(id).unwrap_or(0);
    match ty.def {
        Def::Struct(body) | Def::Union(body) => {
            *out += &format!("{:?} of {size}\n", ty.def.kind());
            for member in body.members().map(Result::unwrap) {
                *out += &format!("{:depth$}{} at {}:{} ", "", member.name, member.bit_offset, member.bit_size);
                shape(btf, member.ty, out, depth + 1);
            }
        }
        Def::Array(array) => {
            *out += &format!("array of {} ", array.len);
            shape(btf, array.element, out, depth);
        }
        Def::Enum(body) => {
            let values: Vec<_> = body.values().map(Result::unwrap).map(|value| (value.name, value.value)).collect();
            *out += &format!("{:?} of {size}, {values:?}\n", ty.def.kind());
        }
        Def::Int(int) => *out += &format!("{} of {size}, signed {}\n", ty.name, int.signed),
        _ => *out += &format!("{:?} of {size}\n", ty.def.kind()),
    }
}

fn shapes(btf: &Btf) -> BTreeMap<(Kind, String), String> {
    let mut all = BTreeMap::new();
    for ty in btf.own_types().map(Result::unwrap) {
        if matches!(ty.def, Def::Struct(_) | Def::Union(_) | Def::Enum(_) | Def::Typedef(_)) && !ty.name.is_empty() {
            let mut text = String::new();
            shape(btf, ty.id, &mut text, 1);
            all.insert((ty.def.kind(), ty.name.to_owned()), text);
        }
    }
    all
}

/// The same text compiled, with a use of each type that keeps it.
#[test]
fn a_compiler_agrees() {
    let (ours, errors) = Btf::parse_c(TEXT, None).unwrap();
    assert_eq!(errors, []);
    let ours = shapes(&ours);
    let mut source = TEXT.replace("#include \"not there.h\"", "");
    for (n, (kind, name)) in ours.keys().enumerate() {
        let keyword = match kind {
            Kind::Struct => "struct ",
            Kind::Union => "union ",
            Kind::Enum | Kind::Enum64 => "enum ",
            _ => "",
        };
        source += &format!("{keyword}{name} *keep{n};\n");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parse_c.bpf.c");
    std::fs::write(&path, source).unwrap();
    let Some(elf) = ringfence_testing::compile(&path, &["-target", "bpfel", "-Wno-everything"]) else { return };
    let file = object::File::parse(&*elf).unwrap();
    let section = object::ObjectSection::data(&object::Object::section_by_name(&file, ".BTF").unwrap()).unwrap();
    let theirs = shapes(&Btf::parse(Arc::new(section.to_vec())).unwrap());
    for (name, ours) in &ours {
        assert_eq!(theirs.get(name), Some(ours), "{name:?}");
    }
    assert!(ours.len() > 25, "{ours:#?}");
}

/// A kernel's types as a header, read again.
#[test]
fn a_whole_kernel() {
    let Ok(dir) = std::env::var("RINGFENCE_KERNELS") else {
        println!("skipped: RINGFENCE_KERNELS is not set");
        return;
    };
    let Ok(bytes) = std::fs::read(Path::new(&dir).join("6.12/btf")) else {
        println!("skipped: the types of 6.12");
        return;
    };
    let kernel = Btf::parse(Arc::new(bytes)).unwrap();
    let wanted: Vec<TypeId> = kernel
        .own_types()
        .flatten()
        .filter(|ty| matches!(ty.def, Def::Struct(_) | Def::Union(_)) && !ty.name.is_empty())
        .map(|ty| ty.id)
        .collect();
    let text = kernel.c_header(&wanted);
    let (read, errors) = Btf::parse_c(&text, None).unwrap();
    assert_eq!(errors, []);
    let mut same = 0;
    for id in wanted {
        let name = kernel.get(id).unwrap().name;
        if kernel.named(name).len() > 1 {
            continue;
        }
        let kind = kernel.get(id).unwrap().def.kind();
        let again = read.find(name, kind).unwrap_or_else(|| panic!("{name}"));
        let (mut theirs, mut ours) = (String::new(), String::new());
        let members = |btf: &Btf, id| match btf.get(id).unwrap().def {
            Def::Struct(body) | Def::Union(body) => body
                .members()
                .flatten()
                .filter(|m| !m.name.starts_with("__pad"))
                .map(|m| (m.name.to_owned(), m.bit_offset))
                .collect(),
            _ => Vec::new(),
        };
        theirs += &format!("{} {:?}", kernel.size_of(id).unwrap(), members(&kernel, id));
        ours += &format!("{} {:?}", read.size_of(again).unwrap(), members(&read, again));
        assert_eq!(ours, theirs, "{name}");
        same += 1;
    }
    assert!(same > 5000, "{same}");
}

#[test]
fn single_types() {
    let (base, _) = Btf::parse_c(TEXT, None).unwrap();
    let of = |text: &str| Btf::parse_c_type(text, Some(&base)).map(|(btf, id)| btf.size_of(id).unwrap());
    assert_eq!(of("struct { u32 pid; char comm[16]; }"), Ok(20));
    assert_eq!(of("struct plain[4];"), Ok(48 * 4));
    assert_eq!(of("__u64"), Ok(8));
    assert_eq!(of("struct { struct plain a; enum verdict v; with_both_t *p; }"), Ok(64));
    assert_eq!(of("union { struct bits a; __be32 b[20]; }"), Ok(80));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let error = |text: &str| Btf::parse_c_type(text, None).unwrap_err();
    let said = |text: &str| error(text).to_string();
    assert_eq!(
        said("struct {\n  u32 pid;\n  foo x;\n}"),
        "line 3, column 3: no type `foo` is known; files that the text includes are not read"
    );
    assert_eq!(said("struct { u32 pid }"), "line 1, column 18: `;` is missing, here is `}`");
    assert_eq!(said("struct { u32 a"), "line 1, column 14: `;` is missing, and the text ends behind `a`");
    assert!(said("struct event").contains("only declared, or void, has no size"));
    assert!(said("struct { struct event e; }").contains("only declared, or void, has no size"));
    assert!(said("struct { u8 a : 9; }").contains("bit-field"));
    assert!(said("struct { char a[1 << 40]; }").contains("as long"));
    assert!(said("struct { char a[1 / 0]; }").contains("no value"));
    assert!(said("struct { char a[-1]; }").contains("as long"));
    assert!(said("struct { char a[N]; }").contains("the value of `N` is not known"));
    assert!(said("u32 x y").contains("the type ends before"));
    assert!(said("").contains("no text"));
    assert!(said(&"struct { ".repeat(1000)).contains("too deep"));
    assert!(said(&format!("char a[{}1", "(".repeat(1000))).contains("too deep"));
    assert!(
        said("struct { struct a { int x; } a; struct a { int y; } b; }")
            .starts_with("line 1, column 40: `a` is defined")
    );
    // 2^31 times nothing.
    let nothing = (1..32).map(|n| format!("#define a{n} a{0} a{0}\n", n - 1)).collect::<String>();
    assert!(said(&format!("#define a0\n{nothing}a31 int")).contains("come to too much"));
    // A declaration that is not understood is passed over, and no other.
    let (btf, errors) = Btf::parse_c("struct a { unknown x; };\nstruct b { int y; };", None).unwrap();
    assert_eq!(errors, [CError { line: 1, column: 12, what: errors[0].what.clone() }]);
    assert!(btf.find("b", Kind::Struct).is_some() && btf.find("a", Kind::Struct).is_none());
    let twice = "struct a { int x; };\nstruct a { unknown y; struct b { int z; } b; };\nstruct a { char c; };";
    let (btf, errors) = Btf::parse_c(twice, None).unwrap();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(btf.size_of(btf.find("a", Kind::Struct).unwrap()).unwrap(), 4);
    assert!(btf.find("b", Kind::Struct).is_none());
}

proptest! {
    /// Text with holes, and text that is nothing.
    #[test]
    fn nothing_panics(at in 0..TEXT.len(), cut in 0..40_usize, put in "[a-z0-9{}()\\[\\];:,*#\"'/\\\\ \n=<>-]{0,12}") {
        let mut text = TEXT.to_owned();
        text.replace_range(at..(at + cut).min(TEXT.len()), &put);
        let _ = Btf::parse_c(&text, None);
        let _ = Btf::parse_c_type(&put, None);
    }
}
