//! Types out of DWARF: equal to what the compiler says, and to BTF where both have them.

mod common;

use std::time::Duration;

use common::{compile, map, object};
use ringfence_btf::{Btf, Def, Kind, TypeId};
use ringfence_object::{Object, Role, debug_types};
use ringfence_testing::all_objects;

const PATHS: [&str; 23] = [
    "time",
    "pid",
    "comm",
    "inner",
    "inner.b",
    "kind",
    "sign",
    "wide",
    "either",
    "address",
    "call",
    "guarded",
    "done",
    "next",
    "opaque",
    "matrix",
    "x",
    "y",
    "z",
    "tight",
    "tight.i",
    "rest",
    "matrix[1][2]",
];

fn values(btf: &Btf, ty: TypeId) -> Vec<(&str, i64)> {
    let Def::Enum(body) = btf.resolve(ty).unwrap().def else { panic!("{ty} is no enum") };
    body.values().map(|value| value.map(|value| (value.name, value.value)).unwrap()).collect()
}

#[test]
fn members_are_where_the_compiler_puts_them() {
    for flags in [&[][..], &["-gdwarf-4"], &["-gdwarf-3"], &["-gdwarf-2"], &["-target", "bpfeb"]] {
        let Some(bytes) = compile("events.c", flags) else { return };
        let object = Object::parse("events.o", &bytes).unwrap();
        assert_eq!(
            object.btf.as_ref().unwrap().find("event", Kind::Struct),
            None,
            "BTF has it: the test tests nothing"
        );
        let btf = debug_types(&bytes).unwrap().unwrap();
        let event = btf.find("event", Kind::Struct).unwrap();
        let big = flags.contains(&"bpfeb");
        let Role::Data(data) = &map(&object, ".rodata.expected").1.role else { panic!("it is data") };
        let numbers = data.bytes.chunks_exact(8).map(|n| n.try_into().unwrap());
        let expected: Vec<u64> = numbers.map(if big { u64::from_be_bytes } else { u64::from_le_bytes }).collect();
        assert_eq!(btf.size_of(event).unwrap(), expected[0], "{flags:?}");
        assert_eq!(expected.len(), PATHS.len() + 1);
        for (path, offset) in PATHS.iter().zip(&expected[1..]) {
            assert_eq!(btf.find_member(event, path).unwrap().bit_offset, offset * 8, "{path} {flags:?}");
        }
        let after = btf.find_member(event, "either").unwrap().bit_offset + 64;
        for (name, start, width) in [("low", 0, 3), ("high", 3, 7), ("far", 10, 40)] {
            let field = btf.find_member(event, name).unwrap();
            assert_eq!(
                (field.bit_offset - after, field.bit_size, field.bitfield),
                (start, width, true),
                "{name} {flags:?}"
            );
        }
        let ty = |path| btf.find_member(event, path).unwrap().ty;
        assert_eq!(values(&btf, ty("kind")), [("OPEN", 1), ("CLOSE", 2), ("LAST", 0xffff_ffff)]);
        assert_eq!(values(&btf, ty("sign")), [("MINUS", -7), ("PLUS", 7)]);
        assert_eq!(values(&btf, ty("wide")), [("WIDE", 0x123_4567_89ab)]);
        assert_eq!(btf.c_declaration(ty("call"), "call"), "int (*call)(int, const char *, ...)");
        assert_eq!(btf.c_declaration(ty("matrix"), "matrix"), "int matrix[2][3]");
        assert_eq!(btf.c_declaration(ty("guarded"), "g"), "const volatile int g");
        assert_eq!(btf.c_declaration(ty("comm"), "comm"), "char comm[16]");
        assert_eq!(btf.c_declaration(ty("done"), "done"), "_Bool done");
        assert_eq!(btf.c_declaration(ty("time"), "time"), "__u64 time");
        assert_eq!(btf.c_declaration(ty("opaque"), "o"), "struct opaque *o");
    }
}

#[test]
fn no_debugging_information_is_no_error() {
    let Some(bytes) = compile("events.c", &["-g0"]) else { return };
    assert!(debug_types(&bytes).unwrap().is_none());
    assert!(debug_types(b"text").is_err());
}

/// Bytes, and name, first bit and bits of each member.
type Layout<'a> = (u32, Vec<(&'a str, u64, u64)>);

fn layout(btf: &Btf, id: TypeId) -> Option<Layout<'_>> {
    let (Def::Struct(body) | Def::Union(body)) = btf.get(id).unwrap().def else { return None };
    let members = body.members().map(|member| {
        let member = member.unwrap();
        let (offset, bits) = btf.bitfield(&member).unwrap_or((member.bit_offset.into(), 0));
        (member.name, offset, bits)
    });
    Some((body.size, members.collect()))
}

#[test]
fn equal_to_btf_where_both_have_a_type() {
    let (mut compared, mut with_dwarf) = (0, 0);
    for path in all_objects().into_iter().step_by(7) {
        let bytes = std::fs::read(&path).unwrap();
        let Ok(object) = Object::parse("real.o", &bytes) else { continue };
        let Some(dwarf) = debug_types(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display())) else {
            continue;
        };
        with_dwarf += 1;
        let btf = object.btf.unwrap();
        for ty in btf.own_types().map(Result::unwrap).filter(|ty| !ty.name.is_empty()) {
            let Some(ours) = layout(&btf, ty.id) else { continue };
            let theirs: Vec<_> = dwarf.named(ty.name).into_iter().filter_map(|id| layout(&dwarf, id)).collect();
            if !theirs.is_empty() {
                assert!(theirs.contains(&ours), "{} {}: {ours:?} {theirs:?}", path.display(), ty.name);
                compared += 1;
            }
        }
    }
    println!("{compared} structs of {with_dwarf} objects are the same in BTF and DWARF");
    assert!(with_dwarf == 0 || compared > 100, "{compared} of {with_dwarf} objects");
}

#[test]
fn damage_is_an_error_or_other_types() {
    let Some(bytes) = compile("events.c", &[]) else { return };
    let debug: Vec<usize> = {
        // From about where .debug_info starts (version 5, compile unit, addresses of 8 bytes) to the end.
        let start = bytes.windows(4).position(|w| w == b"\x05\0\x01\x08").unwrap_or(0);
        (start.saturating_sub(512)..bytes.len()).collect()
    };
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let (mut errors, mut types) = (0, 0);
    for _ in 0..5000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + next() % 4 {
            let at = debug[next() % debug.len()];
            damaged[at] = [0, 0xff, 0x80, 1, next() as u8][next() % 5];
        }
        let start = ringfence_testing::worked();
        match debug_types(&damaged) {
            Ok(Some(btf)) => types += usize::from(!btf.is_empty()),
            Ok(None) => {}
            Err(_) => errors += 1,
        }
        assert!(ringfence_testing::worked() - start < Duration::from_secs(1));
    }
    assert!(errors > 100 && types > 100, "{errors} errors, {types} read");
    assert!(object("events.c", &[]).is_some());
}
