//! Every rule of the choice of an event's type, on an object that is compiled here, and the same object damaged.
#![allow(missing_docs)]

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use ringfence_btf::{Btf, Builder, Int, Member, New};
use ringfence_flow::{
    Basis, Certainty, EventChoice, Kind, Meaning, Size, Source, Types, event_types, layouts, outputs, uses,
};
use ringfence_object::{FunctionId, Object};
use ringfence_uapi::Helper;

static ELF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/events.c");
    let flags = ["-target", "bpfel", "-mcpu=v3", "-Wall", "-Werror"];
    ringfence_testing::compile(&source, &flags).expect("clang-19 is installed")
});
static OBJECT: LazyLock<Object> = LazyLock::new(|| Object::parse("events.o", &ELF).unwrap());

/// The choices of a map.
fn choices(map: &str) -> Vec<EventChoice> {
    let mut choices = event_types(&OBJECT, None);
    choices.retain(|choice| OBJECT.maps[choice.map.0].name == map);
    choices
}

/// `(size, type, basis)` of the only choice of a map.
fn choice(map: &str) -> (Size, Option<(String, Basis)>) {
    let choices = choices(map);
    assert_eq!(choices.len(), 1, "{choices:#?}");
    let choice = choices.into_iter().next().unwrap();
    assert!(!choice.ambiguous, "{choice:#?}");
    (choice.size, choice.chosen.map(|chosen| (chosen.name, chosen.basis)))
}

fn is(name: &str, basis: Basis) -> Option<(String, Basis)> {
    Some((name.to_owned(), basis))
}

#[test]
fn the_line_names_it() {
    assert_eq!(choice("reserved"), (Size::Exact(16), is("reserved", Basis::Source)));
    assert_eq!(choice("typedefed"), (Size::Exact(12), is("typedefed_t", Basis::Source)));
}

#[test]
fn the_bytes_have_a_type() {
    assert_eq!(choice("values"), (Size::Exact(56), is("value", Basis::Data)));
    assert_eq!(choice("globals"), (Size::Exact(72), is("global", Basis::Data)));
    assert_eq!(choice("members"), (Size::Between(0, 56), is("typedef_inner_t", Basis::Data)));
}

#[test]
fn a_record_is_one_variable() {
    let field = |map: &str| {
        let layout = choices(map).remove(0).layout.unwrap();
        let [field] = layout.fields.as_slice() else { panic!("{layout:?}") };
        assert!(field.certainty < Certainty::Guessed && choice(map).1.is_none(), "{field:?}");
        (field.shown(), field.offset, field.width, field.meaning)
    };
    assert_eq!(field("number"), ("pid".to_owned(), 0, 4, Meaning::Unsigned));
    assert_eq!(field("difference"), ("delta".to_owned(), 0, 8, Meaning::Signed));
    assert_eq!(field("text"), ("name".to_owned(), 0, 16, Meaning::Text));
    assert_eq!(field("word"), ("when".to_owned(), 0, 8, Meaning::Unsigned));
}

#[test]
fn a_global_keeps_it() {
    assert_eq!(choice("kept"), (Size::Exact(40), is("kept", Basis::Global)));
}

#[test]
fn its_name_is_an_event_s() {
    assert_eq!(choice("named"), (Size::Exact(48), is("by_name_event", Basis::Name)));
}

#[test]
fn size_alone_is_no_reason() {
    assert_eq!(choice("nothing"), (Size::Exact(1234), None));
    assert_eq!(choice("looks"), (Size::Exact(88), None), "struct kernel_event is the kernel's");
    assert_eq!(choice("far"), (Size::Exact(104), None));
    let missing = choices("missing").remove(0);
    assert_eq!((missing.size, missing.chosen), (Size::Exact(48), None), "struct by_name_event has this size");
    assert_eq!(missing.said.as_deref(), Some("struct on_stack"));
}

/// BTF with one struct of 8-byte members, as debug information would have it.
fn debug(name: &str, members: u32) -> Btf {
    let mut builder = Builder::new();
    let int = Int { size: 8, bits: 64, offset: 0, signed: false, char: false, bool: false };
    let ty = builder.add("long long", New::Int(int));
    let names: Vec<String> = (0..members).map(|n| format!("m{n}")).collect();
    let members: Vec<Member<'_>> = names
        .iter()
        .zip((0..).step_by(64))
        .map(|(name, bit_offset)| Member { name, ty, bit_offset, bit_size: 0 })
        .collect();
    builder.add(name, New::Struct { size: members.len() as u32 * 8, members: &members });
    builder.build().unwrap()
}

#[test]
fn debug_information_knows_more() {
    let missing = |debug: &Btf| {
        let mut choices = event_types(&OBJECT, Some(debug));
        choices.retain(|choice| OBJECT.maps[choice.map.0].name == "missing");
        choices.remove(0)
    };
    let found = missing(&debug("on_stack", 6)).chosen.unwrap();
    assert_eq!((found.types, found.basis, &*found.name), (Types::Debug, Basis::Source, "on_stack"));
    assert_eq!(missing(&debug("on_stack", 5)).chosen, None, "another struct of this name");
    assert_eq!(missing(&debug("other_event", 6)).chosen, None);
}

#[test]
fn the_object_s_own_debug_information() {
    let debug = ringfence_object::debug_types(&ELF).unwrap().unwrap();
    let with = event_types(&OBJECT, Some(&debug));
    let without = event_types(&OBJECT, None);
    for (with, without) in with.iter().zip(&without) {
        let name = &*OBJECT.maps[with.map.0].name;
        match name {
            "missing" => assert_eq!(with.chosen.as_ref().unwrap().name, "on_stack"),
            _ => assert_eq!((&with.chosen, with.ambiguous), (&without.chosen, without.ambiguous), "{name}"),
        }
    }
}

#[test]
fn varying_sizes() {
    let cut = choices("cut").remove(0);
    assert_eq!(cut.size, Size::Between(4, 256));
    assert_eq!(cut.chosen.unwrap().name, "heap");
    assert_eq!(cut.least, Some(4));
    let tails = choices("tails").remove(0);
    assert_eq!((tails.size, tails.least), (Size::Exact(32), None));
    assert_eq!(tails.chosen.unwrap().name, "tail");
    let Size::Between(0, most) = choices("counted").remove(0).size else { panic!() };
    assert!((56..=63).contains(&most));
}

#[test]
fn several_are_said() {
    let two = choices("two").remove(0);
    assert_eq!(two.size, Size::Exact(96));
    assert!(two.ambiguous);
    let names: Vec<&str> = two.candidates.iter().map(|candidate| &*candidate.name).collect();
    assert_eq!(names, ["other", "same"]);
    assert_eq!(two.outputs.len(), 2);
}

#[test]
fn one_map_has_records_of_several_sizes() {
    let perf = choices("perf");
    let found: Vec<_> = perf.iter().map(|c| (c.size, c.chosen.as_ref().unwrap().name.as_str())).collect();
    assert_eq!(found, [(Size::Exact(16), "reserved"), (Size::Exact(96), "same")]);
    assert!(perf[0].outputs[0].appended && !perf[1].outputs[0].appended);
    assert!(perf.iter().all(|c| c.outputs[0].kind == Kind::PerfOutput));
    assert!(matches!(perf[0].outputs[0].source, Source::Stack(Some(..=-16))));
}

#[test]
fn through_calls_and_callbacks() {
    assert_eq!(choice("called_a").0, Size::Exact(16));
    assert_eq!(choice("called_b").0, Size::Exact(32));
    assert_eq!(choice("looped").0, Size::Exact(24));
    let inner = choices("rings").remove(0);
    assert_eq!(inner.size, Size::Exact(72));
    assert!(inner.outputs[0].inner);
    // Where a map of maps holds some from the start, their readers get the records.
    assert!(choices("filled").is_empty());
    assert!(["first_ring", "second_ring"].map(|ring| choice(ring).0) == [Size::Exact(80); 2]);
    let called = choices("called_a")[0].outputs[0];
    assert_eq!(OBJECT.functions[called.function.0].name, "send", "told where the call is");
    assert!(called.line.is_some());
}

#[test]
fn what_a_program_reaches() {
    let function = |name: &str| FunctionId(OBJECT.functions.iter().position(|f| f.name == name).unwrap());
    let reached = uses(&OBJECT, function("p_looped"));
    assert_eq!(reached.functions, [function("p_looped"), function("callback")].into());
    assert_eq!(reached.helpers, [Helper::RINGBUF_RESERVE, Helper::RINGBUF_SUBMIT, Helper::LOOP].into());
    let maps: Vec<&str> = reached.maps.iter().map(|id| &*OBJECT.maps[id.0].name).collect();
    assert_eq!(maps, ["looped"]);
    assert_eq!(uses(&OBJECT, FunctionId(usize::MAX)), Default::default());
}

/// File ranges of what the analysis reads: instructions, BTF and BTF.ext.
fn damaged(damage: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = ELF.clone();
    let len = bytes.len();
    for (at, value) in damage {
        bytes[at % len] = *value;
    }
    bytes
}

/// The layouts, as types where they can be.
fn typed(object: &Object) {
    for layout in layouts(object) {
        let _ = layout.to_btf(object.btf.as_ref(), "event");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 20_000 }))]

    #[test]
    fn damaged_objects(damage in prop::collection::vec((64usize..1 << 20, any::<u8>()), 1..12)) {
        if let Ok(object) = Object::parse("events.o", &damaged(&damage)) {
            outputs(&object);
            event_types(&object, object.btf.as_ref());
            typed(&object);
            (0..object.functions.len()).for_each(|n| _ = uses(&object, FunctionId(n)));
        }
    }

    /// Any instructions at all, with the relocations that were there.
    #[test]
    fn random_instructions(random in prop::collection::vec((any::<u8>(), 0u8..12, 0u8..12, -20i16..20, any::<i32>()), 1..200)) {
        let mut object = OBJECT.clone();
        for (n, function) in object.functions.iter_mut().enumerate() {
            for (at, insn) in function.insns.iter_mut().enumerate() {
                let (code, dst, src, off, imm) = random[(at * 7 + n) % random.len()];
                // A fair share of calls, of jumps, and of what was there.
                match code % 4 {
                    0 => (insn.code, insn.src, insn.imm) = (0x85, src % 3, imm % 200),
                    1 => (insn.code, insn.dst, insn.src, insn.off, insn.imm) = (code, dst, src, off, imm),
                    _ => {}
                }
            }
        }
        outputs(&object);
        typed(&object);
    }
}
