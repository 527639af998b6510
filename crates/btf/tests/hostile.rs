//! Bytes that are not what they should be: an error, no panic, and never without end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects, missing_docs)]

#[path = "common/exercise.rs"]
mod exercise;

use std::sync::Arc;

use exercise::exercise;
use proptest::prelude::*;
use ringfence_btf::{
    Array, Btf, Builder, Def, Enumerator, Error, Int, Kind, Linkage, Member, New, Param, SectionVar, TypeId,
};

const INT: New<'_> = New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false });

fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member<'_> {
    Member { name, ty, bit_offset, bit_size: 0 }
}

/// Every kind, and some of them around each other.
fn sample() -> Builder {
    let mut b = Builder::new();
    let int = b.add("int", INT);
    let ptr = b.add("", New::Ptr(int));
    let array = b.add("", New::Array(Array { element: ptr, index: int, len: 3 }));
    let inner = b.add("", New::Union { size: 8, members: &[member("a", int, 0), member("b", ptr, 0)] });
    let bits = [member("n", int, 0), Member { name: "f", ty: int, bit_offset: 32, bit_size: 3 }, member("", inner, 64)];
    let record =
        b.add("record", New::Struct { size: 40, members: &[bits[0], bits[1], bits[2], member("p", array, 128)] });
    let values = [Enumerator { name: "NO", value: -1 }, Enumerator { name: "YES", value: 1 }];
    b.add("answer", New::Enum { size: 4, signed: true, values: &values });
    b.add("large", New::Enum64 { size: 8, signed: false, values: &[Enumerator { name: "L", value: i64::MIN }] });
    b.add("opaque", New::Fwd { is_union: false });
    let name = b.add("record_t", New::Typedef(record));
    let volatile = b.add("", New::Volatile(name));
    let constant = b.add("", New::Const(volatile));
    let restrict = b.add("", New::Restrict(ptr));
    let proto = b.add("", New::FuncProto { ret: int, params: &[Param { name: "r", ty: restrict }] });
    let func = b.add("run", New::Func { proto, linkage: Linkage::Global });
    let var = b.add("counter", New::Var { ty: constant, linkage: Linkage::Static });
    b.add(".bss", New::Datasec { size: 0, vars: &[SectionVar { ty: var, offset: 0, size: 40 }] });
    b.add("double", New::Float { size: 8 });
    b.add("tag", New::DeclTag { ty: func, component: Some(0) });
    b.add("user", New::TypeTag(int));
    b.add("record___old", New::Struct { size: 4, members: &[member("n", int, 0)] });
    b
}

fn words(btf: &[u8]) -> Vec<u32> {
    btf.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn all_kinds_written_and_read() {
    let btf = sample().build().unwrap();
    let kinds: Vec<Kind> = btf.own_types().map(|ty| ty.unwrap().def.kind()).collect();
    assert_eq!(kinds.len(), 20);
    for number in 1..=19 {
        assert!(kinds.contains(&Kind::from_number(number).unwrap()), "{number}");
    }
    assert_eq!(btf.candidates("record").len(), 2);
    assert_eq!(btf.named("record").len(), 1);
    let record = btf.find("record", Kind::Struct).unwrap();
    let field = btf.find_member(record, "f").unwrap();
    assert_eq!((field.bit_offset, field.bit_size, field.bitfield), (32, 3, true));
    assert_eq!(btf.find_member(record, "b").unwrap().bit_offset, 64);
    assert_eq!(btf.member_at(record, 24).unwrap().0, "p[1]");
    assert_eq!(btf.member_at(record, 4).unwrap().0, "f");
    assert!(btf.member_at(record, 5).is_err());
    assert_eq!(btf.size_of(btf.find("counter", Kind::Var).unwrap()), Ok(40));
    assert_eq!(btf.align_of(record), Ok(8));
    exercise(btf.bytes(), Some(&btf));
}

#[test]
fn c_as_people_write_it() {
    let mut b = sample();
    let (int, ptr) = (TypeId(1), TypeId(2));
    let constant = b.add("", New::Const(int));
    let to_constant = b.add("", New::Ptr(constant));
    let constant_pointer = b.add("", New::Const(to_constant));
    let params = [Param { name: "", ty: constant_pointer }, Param { name: "", ty: TypeId::VOID }];
    let proto = b.add("", New::FuncProto { ret: ptr, params: &params });
    let pointer = b.add("", New::Ptr(proto));
    let table = b.add("", New::Array(Array { element: pointer, index: int, len: 4 }));
    let none = b.add("", New::FuncProto { ret: TypeId::VOID, params: &[] });
    let packed = b.add("", New::Struct { size: 5, members: &[member("a", int, 8)] });
    let far = b.add("far", New::Struct { size: 16, members: &[member("a", int, 0), member("b", int, 64)] });
    let flexible = b.add("", New::Array(Array { element: int, index: int, len: 0 }));
    let tail = b.add("tail", New::Struct { size: 4, members: &[member("n", int, 0), member("rest", flexible, 32)] });
    let btf = b.build().unwrap();
    assert_eq!(btf.c_declaration(constant_pointer, "x"), "const int *const x");
    assert_eq!(btf.c_declaration(constant_pointer, ""), "const int *const");
    assert_eq!(btf.c_declaration(table, "table"), "int *(*table[4])(const int *const, ...)");
    assert_eq!(btf.c_declaration(none, "f"), "void f(void)");
    assert_eq!(btf.c_declaration(btf.find("run", Kind::Func).unwrap(), ""), "int run(int *restrict r)");
    assert_eq!(btf.c_declaration(packed, "p"), "struct {\n\tchar __pad1[1];\n\tint a;\n} __attribute__((packed)) p");
    assert_eq!(btf.c_definition(far), "struct far {\n\tint a;\n\tchar __pad1[4];\n\tint b;\n\tchar __pad2[4];\n};");
    assert_eq!(btf.c_definition(tail), "struct tail {\n\tint n;\n\tint rest[];\n};");
    assert_eq!(
        btf.c_definition(btf.find("record", Kind::Struct).unwrap()),
        "struct record {\n\tint n;\n\tint f: 3;\n\tunion {\n\t\tint a;\n\t\tint *b;\n\t};\n\tint *p[3];\n};"
    );
    assert_eq!(
        btf.c_definition(btf.find("large", Kind::Enum64).unwrap()),
        "enum large {\n\tL = 9223372036854775808ULL,\n};"
    );
}

#[test]
fn headers_that_lie() {
    let good = sample().finish().unwrap();
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        Btf::parse(Arc::new(bytes))
    };
    assert!(Btf::parse(Arc::new(good.clone())).is_ok());
    assert!(matches!(Btf::parse(Arc::new(Vec::new())), Err(Error::Header(_))));
    assert!(matches!(Btf::parse(Arc::new(good[..20].to_vec())), Err(Error::Header(_))));
    assert!(matches!(Btf::parse(Arc::new(good[..good.len() - 1].to_vec())), Err(Error::Header(_))));
    for (at, value) in
        [(0, 0), (4, u32::MAX), (4, 0), (8, u32::MAX), (12, u32::MAX), (16, u32::MAX), (20, u32::MAX), (20, 4)]
    {
        assert!(matches!(with(at, value), Err(Error::Header(_))), "{at} {value}");
    }
    // The section ends in the middle of a type.
    let cut = with(12, 16).unwrap();
    assert_eq!(cut.len(), 2);
    let cut = with(12, 20).unwrap();
    assert!(matches!(cut.get(TypeId(1)), Err(Error::BadType { id: TypeId(2), .. })));
}

#[test]
fn types_that_never_end() {
    let mut b = Builder::new();
    let int = b.add("int", INT);
    let circle = b.add("a", New::Typedef(TypeId(3)));
    b.add("b", New::Typedef(circle));
    let itself = b.add("self", New::Struct { size: 8, members: &[member("x", TypeId(4), 0), member("y", int, 0)] });
    let nameless = b.add("", New::Struct { size: 8, members: &[member("", TypeId(5), 0), member("", TypeId(5), 0)] });
    let mut huge = int;
    for _ in 0..8 {
        huge = b.add("", New::Array(Array { element: huge, index: int, len: u32::MAX }));
    }
    let mut doubled = int;
    for _ in 0..50 {
        doubled = b.add("", New::Struct { size: 8, members: &[member("", doubled, 0), member("b", doubled, 0)] });
    }
    let mut proto = int;
    for _ in 0..50 {
        let param = Param { name: "p", ty: proto };
        proto = b.add("", New::FuncProto { ret: proto, params: &[param, param, param] });
    }
    let mut chain = int;
    for n in 0..100_000 {
        chain = b.add(if n % 2 == 0 { "t" } else { "" }, New::Typedef(chain));
        chain = b.add("", New::Ptr(chain));
    }
    let btf = b.build().unwrap();
    assert_eq!(btf.resolve(circle).map(|ty| ty.id), Err(Error::TooDeep(circle)));
    assert_eq!(btf.size_of(circle), Err(Error::TooDeep(circle)));
    assert!(matches!(btf.align_of(itself), Err(Error::TooDeep(_))));
    assert!(matches!(btf.align_of(doubled), Err(Error::TooDeep(_))));
    assert!(matches!(btf.size_of(huge), Err(Error::NoSize(..))));
    for id in [nameless, doubled] {
        assert!(btf.find_member(id, "nothing").is_err());
    }
    for id in [circle, itself, nameless, huge, doubled, proto, chain] {
        assert!(btf.c_declaration(id, "x").len() < 64 << 20);
        assert!(btf.c_definition(id).len() < 64 << 20);
        assert!(btf.c_header(&[id]).len() < 64 << 20);
    }
}

#[test]
fn names_that_never_end() {
    let mut b = Builder::new();
    let long = "x".repeat(4 << 20);
    b.add(&long, INT);
    let mut bytes = b.finish().unwrap();
    // Many types share the long string.
    let mut all = words(&bytes[..24]);
    let record = words(&bytes[24..40]);
    let many: Vec<u32> = (0..3_000u32).flat_map(|n| [record[0] + n, record[1], record[2], record[3]]).collect();
    let strings = bytes.split_off(40);
    all[3] = many.len() as u32 * 4;
    all[4] = all[3];
    let bytes: Vec<u8> = all.iter().chain(&many).flat_map(|word| word.to_ne_bytes()).chain(strings).collect();
    let btf = Btf::parse(Arc::new(bytes)).unwrap();
    assert!(btf.own_types().all(|ty| matches!(ty, Err(Error::BadString(_)))));
    assert_eq!(btf.named("xxxxxxxxxx"), []);
    assert_eq!(btf.candidates(&"x".repeat(5000)), []);
}

#[test]
fn split_on_the_wrong_base() {
    let base = sample().build().unwrap();
    let mut split = Builder::split(&base);
    let ptr = split.add("", New::Ptr(TypeId(5)));
    let own = split.add("own", New::Struct { size: 8, members: &[member("p", ptr, 0)] });
    let bytes = Arc::new(split.finish().unwrap());
    let right = Btf::parse_split(bytes.clone(), &base).unwrap();
    assert_eq!(right.c_definition(own), "struct own {\n\tstruct record *p;\n};");
    assert_eq!(right.find("record", Kind::Struct), Some(TypeId(5)));
    assert_eq!(right.find_own("record", Kind::Struct), None);
    assert_eq!(right.named("own"), [own]);
    assert_eq!(right.candidates("record"), []);
    let mut small = Builder::new();
    small.add("int", INT);
    let wrong = Btf::parse_split(bytes.clone(), &small.build().unwrap()).unwrap();
    assert_eq!(wrong.get(own).map(|ty| ty.id), Err(Error::NoSuchType(own)));
    exercise(&bytes, Some(&wrong));
    // Changing it keeps numbers and strings.
    let mut copy = Builder::copy_of(&right).unwrap();
    let name = copy.string("own");
    assert_eq!(copy.string("own"), name);
    copy.replace(ptr, "", New::FuncProto { ret: ptr, params: &[Param { name: "own", ty: own }] }).unwrap();
    let changed = copy.build().unwrap();
    assert!(matches!(changed.get(ptr).unwrap().def, Def::FuncProto(_)));
    assert_eq!(changed.string(name), Ok("own"));
    assert_eq!(changed.get(own).unwrap().name, "own");
    assert_eq!(changed.get(TypeId(5)).unwrap().name, "record");
}

#[test]
fn kinds_and_counts_of_newer_kernels() {
    let mut b = Builder::new();
    let int = b.add("int", INT);
    let members: Vec<Member<'_>> = (0..70_000).map(|n| member("m", int, n * 32)).collect();
    let many = b.add("many", New::Struct { size: 280_000, members: &members });
    let last = b.add("last", New::Typedef(int));
    let bytes = b.finish().unwrap();
    let btf = Btf::parse(Arc::new(bytes.clone())).unwrap();
    let Def::Struct(body) = btf.get(many).unwrap().def else { panic!() };
    assert_eq!(body.len(), 70_000);
    // The same with a kind that does not exist yet, without and with its layout told (Linux 7.1).
    let mut unknown = bytes.clone();
    unknown[24 + 16 + 7] = 30;
    let btf = Btf::parse(Arc::new(unknown.clone())).unwrap();
    assert!(matches!(btf.get(int), Err(Error::BadType { id, .. }) if id == many));
    let mut layouts = [0u8; 31 * 4];
    layouts[30 * 4 + 1] = 12;
    let mut told = unknown;
    let types_and_strings = told.len() as u32 - 24;
    told[4..8].copy_from_slice(&32u32.to_ne_bytes());
    told.splice(24..24, types_and_strings.to_ne_bytes().into_iter().chain(124u32.to_ne_bytes()));
    told.extend(layouts);
    let btf = Btf::parse(Arc::new(told)).unwrap();
    assert_eq!(btf.get(last).unwrap().name, "last");
    assert!(matches!(btf.get(many), Err(Error::BadType { id, .. }) if id == many));
    assert_eq!(btf.find("last", Kind::Typedef), Some(last));
}

#[test]
fn the_other_byte_order() {
    let btf = sample().build().unwrap();
    let bytes = btf.bytes();
    let strings = 24 + words(bytes)[3] as usize;
    let mut swapped: Vec<u8> = bytes[..strings].chunks_exact(4).flat_map(|w| [w[3], w[2], w[1], w[0]]).collect();
    // The first word is a u16 and two bytes.
    swapped[..4].copy_from_slice(&[bytes[1], bytes[0], bytes[2], bytes[3]]);
    swapped.extend(&bytes[strings..]);
    let other = Btf::parse(Arc::new(swapped)).unwrap();
    assert_ne!(other.is_big_endian(), btf.is_big_endian());
    assert_eq!(other.find("record", Kind::Struct), btf.find("record", Kind::Struct));
    let ids: Vec<TypeId> = (1..btf.len()).map(TypeId).collect();
    assert_eq!(other.c_header(&ids), btf.c_header(&ids));
    assert_eq!(Builder::copy_of(&other).unwrap().finish().unwrap(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_change_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let base = sample().build().unwrap();
        let mut bytes = base.bytes().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let len = cut.index(bytes.len());
            bytes.truncate(len);
        }
        exercise(&bytes, Some(&base));
    }

    #[test]
    fn any_words_are_survived(types in prop::collection::vec((0u32..40, 1u32..20, 0u32..4, 0u32..30), 0..200)) {
        // Heads of types that are likely to make sense, to get behind the first checks.
        let mut words: Vec<u32> = Vec::new();
        for (name, kind, records, ty) in types {
            words.extend([name, kind << 24 | records, ty]);
        }
        let strings = "\0a\0b___c\0int\0long unsigned int\0record\0x\0";
        let length = words.len() as u32 * 4;
        let mut bytes = vec![];
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, length, length, strings.len() as u32].iter().chain(&words) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(strings.bytes());
        exercise(&bytes, None);
    }
}
