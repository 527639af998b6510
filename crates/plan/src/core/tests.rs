#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use ringfence_btf::{Array, Builder, Enumerator, Int, Member, New, Param};

use super::*;

/// Types of one side, with the few that every test needs.
struct Types {
    builder: Builder,
    int: TypeId,
    u32: TypeId,
    u64: TypeId,
    u8: TypeId,
}

fn int(size: u32, signed: bool) -> New<'static> {
    New::Int(Int { size, bits: (size * 8) as u8, offset: 0, signed, char: false, bool: false })
}

fn member(name: &'static str, ty: TypeId, bit_offset: u32) -> Member<'static> {
    Member { name, ty, bit_offset, bit_size: 0 }
}

fn bits(name: &'static str, ty: TypeId, bit_offset: u32, bit_size: u8) -> Member<'static> {
    Member { name, ty, bit_offset, bit_size }
}

impl Types {
    fn new() -> Types {
        let mut builder = Builder::new();
        let names = [("int", 4, true), ("unsigned int", 4, false), ("unsigned long", 8, false), ("u8", 1, false)];
        let [int, u32, u64, u8] = names.map(|(name, size, signed)| builder.add(name, int(size, signed)));
        Types { builder, int, u32, u64, u8 }
    }

    fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> TypeId {
        self.builder.add(name, New::Struct { size, members })
    }

    fn array(&mut self, element: TypeId, len: u32) -> TypeId {
        let index = self.u32;
        self.builder.add("", New::Array(Array { element, index, len }))
    }

    fn pointer(&mut self, to: TypeId) -> TypeId {
        self.builder.add("", New::Ptr(to))
    }

    fn enumeration(&mut self, name: &str, values: &[(&str, i64)]) -> TypeId {
        let values: Vec<Enumerator<'_>> =
            values.iter().map(|(name, value)| Enumerator { name, value: *value }).collect();
        self.builder.add(name, New::Enum { size: 4, signed: false, values: &values })
    }

    fn btf(self) -> Btf {
        self.builder.build().unwrap()
    }
}

fn reloc(kind: CoreKind, ty: TypeId, access: &str) -> CoreReloc {
    CoreReloc { insn: 0, ty, access: access.to_owned(), kind }
}

/// `r1 = imm`.
fn mov(imm: i32) -> Insn {
    Insn { code: 0xb7, dst: 1, src: 0, off: 0, imm }
}

/// `r1 = *(uN *)(r2 + off)`.
fn load(bytes: u32, off: i16) -> Insn {
    let size = match bytes {
        1 => 0x10,
        2 => 0x08,
        4 => 0x00,
        _ => 0x18,
    };
    Insn { code: 0x61 & !0x18 | size, dst: 1, src: 2, off, imm: 0 }
}

fn wide(value: u64) -> [Insn; 2] {
    let first = Insn { code: Insn::LD_IMM64, dst: 1, src: 0, off: 0, imm: value as u32 as i32 };
    [first, Insn { imm: (value >> 32) as u32 as i32, ..Insn::default() }]
}

const BAD_RELO: Insn = Insn { code: 0x85, dst: 0, src: 0, off: 0, imm: 195896080 };

fn relocate(local: &Btf, main: &Btf, reloc: &CoreReloc, insns: &mut [Insn]) -> Result<(), Error> {
    Relocator::with(local, Targets::Given { main, modules: &[] }).apply(reloc, insns)
}

/// Relocates `r1 = from`, and reads the number again; `None`: poisoned.
fn answer(local: &Btf, main: &Btf, kind: CoreKind, ty: TypeId, access: &str, from: i32) -> Option<i32> {
    let mut insns = [mov(from)];
    relocate(local, main, &reloc(kind, ty, access), &mut insns).unwrap();
    (insns[0] != BAD_RELO).then_some(insns[0].imm)
}

use CoreKind::*;

#[test]
fn a_field_moves_into_an_anonymous_struct_of_the_kernel() {
    let mut types = Types::new();
    let (a, b) = (member("a", types.int, 0), member("b", types.int, 32));
    let root = types.structure("task___mine", 8, &[a, b]);
    let local = types.btf();

    let mut types = Types::new();
    let (b, filler) = (member("b", types.int, 64), member("x", types.u64, 0));
    let inner = types.structure("", 12, &[filler, b]);
    let (filler, inner) = (member("y", types.u64, 0), member("", inner, 64));
    types.structure("task", 24, &[filler, inner]);
    let main = types.btf();

    assert_eq!(answer(&local, &main, FieldByteOffset, root, "0:1", 4), Some(16));
    assert_eq!(answer(&local, &main, FieldByteSize, root, "0:1", 4), Some(4));
    assert_eq!(answer(&local, &main, FieldExists, root, "0:1", 1), Some(1));
    assert_eq!(answer(&local, &main, FieldSigned, root, "0:1", 1), Some(1));
    assert_eq!(answer(&local, &main, FieldLshiftU64, root, "0:1", 32), Some(32));
    assert_eq!(answer(&local, &main, FieldRshiftU64, root, "0:1", 32), Some(32));
    assert_eq!(answer(&local, &main, TypeSize, root, "0", 8), Some(24));
    // `(s + 1)->b`: the second element counts by the kernel's size.
    assert_eq!(answer(&local, &main, FieldByteOffset, root, "1:1", 12), Some(24 + 16));
    // `a` is missing.
    assert_eq!(answer(&local, &main, FieldByteOffset, root, "0:0", 0), None);
    assert_eq!(answer(&local, &main, FieldExists, root, "0:0", 1), Some(0));

    let mut insns = [load(4, 4), mov(7)];
    relocate(&local, &main, &reloc(FieldByteOffset, root, "0:1"), &mut insns).unwrap();
    assert_eq!(insns, [load(4, 16), mov(7)]);
}

#[test]
fn loads_become_wider_only_where_the_value_survives() {
    let mut types = Types::new();
    let void = types.pointer(TypeId::VOID);
    let members = [("u", types.u32, 0), ("i", types.int, 32), ("p", void, 64), ("grown", types.u32, 128)];
    let members: Vec<Member<'_>> = members.iter().map(|(name, ty, at)| member(name, *ty, *at)).collect();
    let root = types.structure("s", 24, &members);
    let local = types.btf();

    let mut types = Types::new();
    let long = types.builder.add("long", int(8, true));
    let void = types.pointer(TypeId::VOID);
    let odd = types.structure("odd", 3, &[]);
    let members = [("u", types.u64, 0), ("i", long, 64), ("p", void, 128), ("grown", odd, 192)];
    let members: Vec<Member<'_>> = members.iter().map(|(name, ty, at)| member(name, *ty, *at)).collect();
    types.structure("s", 32, &members);
    let main = types.btf();

    let run = |access: &str, insn: Insn| {
        let mut insns = [insn];
        relocate(&local, &main, &reloc(FieldByteOffset, root, access), &mut insns).map(|()| insns[0])
    };
    assert_eq!(run("0:0", load(4, 0)).unwrap(), load(8, 0));
    assert_eq!(run("0:1", load(4, 4)).unwrap(), BAD_RELO, "a signed field is not sign-extended by a load");
    assert_eq!(run("0:1", mov(4)).unwrap(), mov(8), "its address can be taken all the same");
    assert_eq!(run("0:2", load(8, 8)).unwrap(), load(8, 16));
    assert_eq!(run("0:3", load(4, 16)).unwrap(), BAD_RELO, "a struct is no integer");
    let error = run("0:0", load(2, 0)).unwrap_err().to_string();
    assert!(error.contains("struct s.u (0:0 @ offset 0)") && error.contains("4 bytes"), "{error}");
    let error = run("0:2", load(8, 12)).unwrap_err().to_string();
    assert!(error.contains("holds 12 where its own types say 8"), "{error}");
}

#[test]
fn a_32_bit_kernels_pointer_is_loaded_narrower() {
    let mut types = Types::new();
    let void = types.pointer(TypeId::VOID);
    let members = [member("a", types.u64, 0), member("p", void, 64)];
    let root = types.structure("s", 16, &members);
    let local = types.btf();

    let mut builder = Builder::new();
    builder.add("unsigned long", int(4, false));
    let void = builder.add("", New::Ptr(TypeId::VOID));
    builder.add("s", New::Struct { size: 4, members: &[member("p", void, 0)] });
    let main = builder.build().unwrap();

    let mut insns = [load(8, 8)];
    relocate(&local, &main, &reloc(FieldByteOffset, root, "0:1"), &mut insns).unwrap();
    assert_eq!(insns, [load(4, 0)]);
}

#[test]
fn bit_fields_are_read_by_the_smallest_load_that_holds_them() {
    let mut types = Types::new();
    let members = [bits("a", types.u32, 0, 3), bits("b", types.int, 3, 5), bits("c", types.u8, 8, 1)];
    let root = types.structure("s", 4, &members);
    let local = types.btf();

    let mut types = Types::new();
    let members = [
        bits("a", types.u8, 37, 6), // crosses a byte: needs 2
        bits("b", types.int, 64, 9),
        member("c", types.u64, 128), // a bit-field no more
    ];
    types.structure("s", 24, &members);
    let main = types.btf();

    let ask = |kind, access: &str, from| answer(&local, &main, kind, root, access, from);
    assert_eq!(ask(FieldByteOffset, "0:0", 0), Some(4));
    assert_eq!(ask(FieldByteSize, "0:0", 4), Some(2));
    assert_eq!(ask(FieldLshiftU64, "0:0", 61), Some(64 - (5 + 6)));
    assert_eq!(ask(FieldRshiftU64, "0:0", 61), Some(64 - 6));
    assert_eq!(ask(FieldSigned, "0:0", 0), Some(0));
    assert_eq!(ask(FieldByteOffset, "0:1", 0), Some(8));
    assert_eq!(ask(FieldByteSize, "0:1", 99), Some(4), "a bit-field's load width is the compiler's choice");
    assert_eq!(ask(FieldLshiftU64, "0:1", 56), Some(64 - 9));
    assert_eq!(ask(FieldSigned, "0:1", 1), Some(1));
    assert_eq!(ask(FieldByteOffset, "0:2", 1), Some(16));
    assert_eq!(ask(FieldByteSize, "0:2", 1), Some(8));
    assert_eq!(ask(FieldLshiftU64, "0:2", 63), Some(0));
    assert_eq!(ask(FieldRshiftU64, "0:2", 63), Some(0));
    let wrong_shift = relocate(&local, &main, &reloc(FieldRshiftU64, root, "0:0"), &mut [mov(60)]);
    assert!(matches!(wrong_shift, Err(Error { why: Cause::Misfit(_), .. })));
}

#[test]
fn array_elements_stay_within_bounds_and_flexible_arrays_have_none() {
    let mut types = Types::new();
    let (int, u8) = (types.int, types.u8);
    let row = types.array(int, 4);
    let (grid, flexible, text) = (types.array(row, 3), types.array(u8, 0), types.array(u8, 16));
    let members = [member("grid", grid, 0), member("text", text, 384), member("tail", flexible, 512)];
    let root = types.structure("s", 64, &members);
    let local = types.btf();

    let mut types = Types::new();
    let (int, u8) = (types.int, types.u8);
    let row = types.array(int, 8);
    let (grid, flexible, text) = (types.array(row, 2), types.array(u8, 0), types.array(u8, 0));
    let members = [member("grid", grid, 0), member("tail", flexible, 512), member("text", text, 512)];
    types.structure("s", 64, &members);
    let main = types.btf();

    let ask = |access: &str, from| answer(&local, &main, FieldByteOffset, root, access, from);
    assert_eq!(ask("0:0:1:2", 24), Some(8 * 4 + 2 * 4));
    assert_eq!(ask("0:0:2:2", 40), None, "the kernel has two rows");
    assert_eq!(ask("0:1:9", 57), Some(64 + 9), "flexible in the kernel");
    assert_eq!(ask("0:2:5", 69), None, "of no length in the kernel, but not the last member");
    assert!(matches!(
        relocate(&local, &main, &reloc(FieldByteOffset, root, "0:0:3:0"), &mut [mov(0)]),
        Err(Error { why: Cause::BadPath { .. }, .. })
    ));
    // A load of an element has the element's width.
    let mut insns = [load(4, 24)];
    relocate(&local, &main, &reloc(FieldByteOffset, root, "0:0:1:2"), &mut insns).unwrap();
    assert_eq!(insns, [load(4, 40)]);
    // An index has no sign and no shift.
    assert!(matches!(
        relocate(&local, &main, &reloc(FieldSigned, root, "0:0:1:2"), &mut [mov(1)]),
        Err(Error { why: Cause::Unanswerable { .. }, .. })
    ));
}

#[test]
fn enumerators_are_found_by_name_in_enums_of_either_width() {
    let mut types = Types::new();
    let root = types.enumeration("state", &[("DEAD", 1), ("ALIVE___now", 0x8000_0000), ("UNDEAD", 3)]);
    let local = types.btf();

    let mut types = Types::new();
    let values = [Enumerator { name: "ALIVE", value: 0x1234_5678_9abc }, Enumerator { name: "DEAD", value: -1 }];
    types.builder.add("state___v2", New::Enum64 { size: 8, signed: true, values: &values });
    let main = types.btf();

    let run = |kind, access: &str, from: u64| {
        let mut insns = wide(from);
        relocate(&local, &main, &reloc(kind, root, access), &mut insns).unwrap();
        insns
    };
    assert_eq!(run(EnumvalValue, "0", 1), wide(u64::MAX));
    assert_eq!(run(EnumvalValue, "1", 0x8000_0000), wide(0x1234_5678_9abc));
    assert_eq!(run(EnumvalValue, "2", 3), [BAD_RELO, BAD_RELO], "both halves");
    assert_eq!(run(EnumvalExists, "2", 1), wide(0));
    assert_eq!(run(EnumvalExists, "1", 1), wide(1));
    let too_large = relocate(&local, &main, &reloc(EnumvalValue, root, "1"), &mut [mov(i32::MIN)]);
    assert!(matches!(too_large, Err(Error { why: Cause::Misfit(_), .. })));
    let beyond = relocate(&local, &main, &reloc(EnumvalValue, root, "3"), &mut wide(0));
    assert!(matches!(beyond, Err(Error { why: Cause::BadPath { .. }, .. })));
}

#[test]
fn enumerators_of_unknown_sign_keep_the_sign_that_the_program_sees() {
    let signed_or_not = |signed, value| {
        let mut builder = Builder::new();
        let values = [Enumerator { name: "A", value }, Enumerator { name: "B", value: 1 }];
        let root = builder.add("e", New::Enum { size: 4, signed, values: &values });
        (builder.build().unwrap(), root)
    };
    let run = |local: &(Btf, TypeId), main: &(Btf, TypeId), from: i64| {
        let mut insns = wide(from as u64);
        relocate(&local.0, &main.0, &reloc(EnumvalValue, local.1, "0"), &mut insns).unwrap();
        i64::from(insns[1].imm) << 32 | i64::from(insns[0].imm as u32)
    };
    // Compilers before clang 15, and kernels built before, record no signs: all enums look unsigned there.
    let (signed, unsigned) = (signed_or_not(true, -5), signed_or_not(false, 0xffff_fffb));
    assert_eq!(run(&signed, &signed, -5), -5);
    assert_eq!(run(&unsigned, &unsigned, 0xffff_fffb), 0xffff_fffb);
    assert_eq!(run(&signed, &unsigned, -5), -5, "an old kernel");
    assert_eq!(run(&unsigned, &signed, -5), -5, "an old compiler");
    assert_eq!(run(&unsigned, &unsigned, -5), -5, "both old");
}

#[test]
fn types_exist_have_numbers_and_match() {
    let mut types = Types::new();
    let members = [member("a", types.int, 0)];
    let same = types.structure("same", 4, &members);
    let missing = types.structure("missing", 4, &members);
    let changed = types.structure("changed", 4, &members);
    let handle = types.builder.add("handle", New::Typedef(same));
    let local = types.btf();

    let mut types = Types::new();
    let members = [member("z", types.u8, 0), member("a", types.int, 32)];
    let there = types.structure("same", 8, &members);
    let wider = member("a", types.u64, 0);
    types.structure("changed", 8, &[wider]);
    let void = types.pointer(TypeId::VOID);
    types.builder.add("handle", New::Typedef(void));
    let main = types.btf();

    let ask = |kind, ty, from| answer(&local, &main, kind, ty, "0", from);
    assert_eq!(ask(TypeExists, same, 1), Some(1));
    assert_eq!(ask(TypeExists, missing, 1), Some(0));
    assert_eq!(ask(TypeMatches, same, 1), Some(1));
    assert_eq!(ask(TypeMatches, changed, 1), Some(0));
    assert_eq!(ask(TypeExists, changed, 1), Some(1));
    assert_eq!(ask(TypeExists, handle, 1), Some(0), "a pointer is no struct");
    assert_eq!(ask(TypeSize, same, 4), Some(8));
    assert_eq!(ask(TypeSize, missing, 4), Some(0));
    assert_eq!(ask(TypeIdTarget, same, 77), Some(there.0 as i32));
    assert_eq!(ask(TypeIdTarget, missing, 77), Some(0));
    assert_eq!(ask(TypeIdLocal, same, 77), Some(same.0 as i32), "whatever the linker left there");
    assert!(matches!(
        relocate(&local, &main, &reloc(TypeExists, same, "0:0"), &mut [mov(1)]),
        Err(Error { why: Cause::BadPath { .. }, .. })
    ));
}

#[test]
fn candidates_that_disagree_are_an_error_unless_the_program_told_them_apart() {
    let mut types = Types::new();
    let members = [member("both", types.int, 0), member("one", types.int, 32)];
    let root = types.structure("s", 8, &members);
    let local = types.btf();

    let mut types = Types::new();
    let members = [member("both", types.int, 32), member("one", types.int, 0)];
    types.structure("s", 8, &members[..1]);
    let members = [member("both", types.int, 64), member("one", types.int, 0)];
    types.structure("s___2", 12, &members);
    let main = types.btf();

    let mut relocator = Relocator::with(&local, Targets::Given { main: &main, modules: &[] });
    let both = reloc(FieldByteOffset, root, "0:0");
    let error = relocator.apply(&both, &mut [mov(0)]).unwrap_err().to_string();
    assert!(error.contains("instruction 0 depends on struct s.both (0:0 @ offset 0): the kernel"), "{error}");
    assert!(error.contains("struct s.both (0:0 @ offset 4) gives 4"), "{error}");
    assert!(error.contains("struct s___2.both (0:0 @ offset 8) gives 8"), "{error}");

    let mut insns = [mov(4)];
    relocator.apply(&reloc(FieldByteOffset, root, "0:1"), &mut insns).unwrap();
    assert_eq!(insns, [mov(0)]);
    let mut insns = [mov(0)];
    relocator.apply(&both, &mut insns).unwrap();
    assert_eq!(insns, [mov(8)]);
}

#[test]
fn modules_are_asked_only_where_the_kernel_has_no_such_type() {
    let mut types = Types::new();
    let members = [member("a", types.int, 0)];
    let kernel_has = types.structure("kernel_has", 4, &members);
    let module_has = types.structure("module_has", 4, &members);
    let local = types.btf();

    let mut types = Types::new();
    let members = [member("b", types.int, 0)];
    types.structure("kernel_has", 4, &members);
    let main = types.btf();

    let mut builder = Builder::split(&main);
    let int = main.find("int", btf::Kind::Int).unwrap();
    let members = [member("x", int, 0), member("a", int, 32)];
    builder.add("kernel_has", New::Struct { size: 8, members: &members });
    builder.add("module_has", New::Struct { size: 8, members: &members });
    let modules = [builder.build().unwrap()];

    let mut relocator = Relocator::with(&local, Targets::Given { main: &main, modules: &modules });
    let mut insns = [mov(0)];
    relocator.apply(&reloc(FieldByteOffset, module_has, "0:0"), &mut insns).unwrap();
    assert_eq!(insns, [mov(4)]);
    relocator.apply(&reloc(FieldByteOffset, kernel_has, "0:0"), &mut insns[..]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(insns, [BAD_RELO]);
}

#[test]
fn paths_and_instructions_that_make_no_sense_are_errors() {
    let mut types = Types::new();
    let members = [member("a", types.int, 0)];
    let root = types.structure("s", 4, &members);
    let nameless = types.structure("", 4, &members);
    let local = types.btf();
    for access in ["", ":", "0:", "x", "0:-1", "0:1", "0:0:0", "0:4294967296", &"0:".repeat(70), "-1", " 0"] {
        let got = relocate(&local, &local, &reloc(FieldByteOffset, root, access), &mut [mov(0)]);
        assert!(matches!(got, Err(Error { why: Cause::BadPath { .. }, .. })), "{access:?}: {got:?}");
    }
    let got = relocate(&local, &local, &reloc(FieldByteOffset, nameless, "0:0"), &mut [mov(0)]);
    assert!(matches!(got, Err(Error { why: Cause::Anonymous, .. })), "{got:?}");
    let got = relocate(&local, &local, &reloc(FieldByteOffset, TypeId(99), "0:0"), &mut [mov(0)]);
    assert!(matches!(got, Err(Error { why: Cause::Btf(btf::Error::NoSuchType(_)), .. })), "{got:?}");

    let good = reloc(FieldByteOffset, root, "0:0");
    let misfit = |insns: &mut [Insn], at| match relocate(&local, &local, &CoreReloc { insn: at, ..good.clone() }, insns)
        .unwrap_err()
        .why
    {
        Cause::Misfit(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(misfit(&mut [mov(0)], 1), Misfit::NoInsn);
    assert!(matches!(misfit(&mut [Insn { code: Insn::EXIT, ..Insn::default() }], 0), Misfit::Kind(_)));
    assert!(matches!(misfit(&mut [Insn { code: 0xbf, ..mov(0) }], 0), Misfit::Kind(_)), "r1 = r2");
    assert!(matches!(misfit(&mut wide(0)[..1], 0), Misfit::Pseudo(_)));
    assert!(matches!(misfit(&mut [Insn { src: 1, ..wide(0)[0] }, wide(0)[1]], 0), Misfit::Pseudo(_)));
}

#[test]
fn types_that_unfold_without_end_stop() {
    // Each anonymous struct holds two of the next one: 2^60 members in all.
    let mut types = Types::new();
    let members = [member("a", types.int, 0)];
    let root = types.structure("evil", 4, &members);
    let local = types.btf();

    let mut types = Types::new();
    let mut inner = types.structure("", 8, &[]);
    for _ in 0..60 {
        inner = types.structure("", 8, &[member("", inner, 0), member("", inner, 0)]);
    }
    types.structure("evil", 8, &[member("", inner, 0)]);
    let main = types.btf();
    let mut relocator = Relocator::with(&local, Targets::Given { main: &main, modules: &[] });
    relocator.fuel = Fuel(50_000);
    let got = relocator.apply(&reloc(FieldByteOffset, root, "0:0"), &mut [mov(0)]);
    assert!(matches!(got, Err(Error { why: Cause::Btf(btf::Error::TooDeep(_)), .. })), "{got:?}");

    // Prototypes with two parameters of their own type.
    let mut builder = Builder::new();
    let root = TypeId(1);
    let (proto, pointer) = (TypeId(2), TypeId(3));
    builder.add("evil", New::Typedef(proto));
    let params = [Param { name: "a", ty: pointer }; 2];
    builder.add("", New::FuncProto { ret: TypeId::VOID, params: &params });
    builder.add("", New::Ptr(proto));
    let both = builder.build().unwrap();
    for kind in [TypeExists, TypeMatches] {
        let got = relocate(&both, &both, &reloc(kind, root, "0"), &mut [mov(1)]);
        assert!(matches!(got, Err(Error { why: Cause::Btf(btf::Error::TooDeep(_)), .. })), "{got:?}");
    }
}

#[test]
fn matching_looks_at_structure_and_compatibility_does_not() {
    let build = |inner_name: &'static str, signed: bool, len: u32, fwd: bool| {
        let mut types = Types::new();
        let number = types.builder.add("number", int(4, signed));
        let array = types.array(number, len);
        let inner = if fwd {
            types.builder.add("inner", New::Fwd { is_union: false })
        } else {
            types.structure("inner", 4, &[member(inner_name, number, 0)])
        };
        let pointer = types.pointer(inner);
        let root = types.structure("root", 64, &[member("array", array, 0), member("p", pointer, 256)]);
        (types.btf(), root)
    };
    let (local, root) = build("a", false, 4, false);
    let same = |(target, id): (Btf, TypeId)| {
        assert!(compatible(&local, root, &target, id).unwrap());
        compat::Pair { local: &local, target: &target }.matches(root, id, &mut Fuel::new()).unwrap()
    };
    assert!(same(build("a", false, 4, false)));
    assert!(same(build("b", false, 4, false)), "behind a pointer members do not matter");
    assert!(same(build("a", false, 4, true)), "and a declaration will do");
    assert!(!same(build("a", true, 4, false)), "signedness");
    assert!(!same(build("a", false, 5, false)), "array length");
}

proptest::proptest! {
    /// Damaged types on both sides, any path, any instruction: an answer or an error, and soon.
    #[test]
    fn nothing_makes_it_panic(
        damage in proptest::collection::vec((0usize..4000, proptest::num::u8::ANY), 0..12),
        damage_local in proptest::bool::ANY,
        root in 0u32..40,
        kind in 0usize..13,
        path in "0(:[0-9]{1,2}){0,6}",
        insn in proptest::array::uniform8(proptest::num::u8::ANY),
    ) {
        let good = some_of_everything();
        let mut bytes = good.bytes().to_vec();
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(24 + at) {
                *place = byte;
            }
        }
        let Ok(bad) = Btf::parse(std::sync::Arc::new(bytes)) else { return Ok(()) };
        let (local, main) = if damage_local { (&bad, &good) } else { (&good, &bad) };
        let insn = Insn::from_bytes(insn, false);
        for access in [path.as_str(), "0"] {
            let mut insns = [insn, Insn::default()];
            let _ = relocate(local, main, &reloc(CoreKind::ALL[kind], TypeId(root), access), &mut insns);
            let mut insns = [mov(0), Insn::default()];
            let _ = relocate(local, main, &reloc(CoreKind::ALL[kind], TypeId(root), access), &mut insns);
        }
    }
}

fn some_of_everything() -> Btf {
    let mut types = Types::new();
    let (int, u8, u64) = (types.int, types.u8, types.u64);
    let void = types.pointer(TypeId::VOID);
    let text = types.array(u8, 16);
    let tail = types.array(u64, 0);
    let inner = types.structure("", 16, &[member("x", int, 0), bits("y", int, 32, 3), member("z", void, 64)]);
    let union = types.builder.add("", New::Union { size: 16, members: &[member("", inner, 0), member("w", u64, 0)] });
    let members = [member("", union, 0), member("text", text, 128), member("tail", tail, 256)];
    let outer = types.structure("outer", 32, &members);
    let rows = types.array(outer, 4);
    types.structure("table", 128, &[member("rows", rows, 0)]);
    types.enumeration("state", &[("ON", 1), ("OFF", 2)]);
    let values = [Enumerator { name: "BIG", value: 1 << 40 }];
    types.builder.add("wide", New::Enum64 { size: 8, signed: false, values: &values });
    let alias = types.builder.add("alias", New::Typedef(outer));
    let constant = types.builder.add("", New::Const(alias));
    let pointer = types.pointer(constant);
    let params = [Param { name: "a", ty: pointer }, Param { name: "b", ty: int }];
    let proto = types.builder.add("", New::FuncProto { ret: pointer, params: &params });
    let callback = types.pointer(proto);
    types.builder.add("callback", New::Typedef(callback));
    types.builder.add("later", New::Fwd { is_union: true });
    types.builder.add("real", New::Float { size: 8 });
    types.btf()
}
