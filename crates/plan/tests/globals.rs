//! Values for global variables: each fits its type, or is refused with what would fit.

mod common;

use ringfence_kernel::Kernel;
use ringfence_object::Object;
use ringfence_plan::{Error, Settings, Value, plan};

/// Bytes of the section that holds a variable, from the variable on.
fn bytes(object: &Object, settings: &Settings, variable: &str, len: usize) -> Vec<u8> {
    let plan = common::planned(object, &Kernel::running(), settings);
    let global = object.globals.iter().find(|global| global.name == variable).expect("the variable is there");
    let map = plan.maps.iter().find(|map| map.id == Some(global.map)).expect("its section is planned");
    let at = global.offset as usize;
    map.contents.as_ref().expect("it has contents")[at..at + len].to_vec()
}

fn refused(object: &Object, settings: &Settings) -> String {
    plan(object, &Kernel::running(), settings).expect_err("it is refused").to_string()
}

#[test]
fn values_by_type() {
    let Some(object) = common::object("globals.c", &[]) else { return };
    let set = |path: &str, value: Value| Settings::new().global(path, value);
    assert_eq!(bytes(&object, &set("target_pid", 42u32.into()), "target_pid", 4), [42, 0, 0, 0]);
    assert_eq!(bytes(&object, &set("target_pid", u32::MAX.into()), "target_pid", 4), [255; 4]);
    assert_eq!(bytes(&object, &set("level", (-2i64).into()), "level", 4), [254, 255, 255, 255]);
    assert_eq!(bytes(&object, &set("verbose", true.into()), "verbose", 1), [1]);
    assert_eq!(bytes(&object, &set("comm", "bash".into()), "comm", 16), *b"bash\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(bytes(&object, &set("mode", "ON".into()), "mode", 4), [5, 0, 0, 0]);
    assert_eq!(bytes(&object, &set("mode", (-1i32).into()), "mode", 4), [255; 4]);
    assert_eq!(bytes(&object, &set("numbers[2]", u64::MAX.into()), "numbers", 32)[16..24], [255; 8]);
    assert_eq!(bytes(&object, &set("inside", 1u8.into()), "inside", 4), [1, 0, 0, 0]);
    assert_eq!(bytes(&object, &set("letter", 200u8.into()), "letter", 1), [200]);
    assert_eq!(bytes(&object, &set("letter", (-1i8).into()), "letter", 1), [255]);
    assert_eq!(bytes(&object, &set("small", [7u8].into()), "small", 1), [7]);
}

#[test]
fn members_and_elements() {
    let Some(object) = common::object("globals.c", &[]) else { return };
    // int level; struct inner in[2] of 10 bytes; low and high in the word at 24; whole at 32.
    let settings = Settings::new()
        .global("cfg.level", -3)
        .global("cfg.in[1].a", 0x1234u16)
        .global("cfg.in[1].name", "abc")
        .global("cfg.low", 5u8)
        .global("cfg.high", -1)
        .global("cfg.half", 9u32);
    let cfg = bytes(&object, &settings, "cfg", 40);
    assert_eq!(cfg[0..4], (-3i32).to_le_bytes());
    assert_eq!(cfg[14..16], [0x34, 0x12]);
    assert_eq!(cfg[16..24], *b"abc\0\0\0\0\0");
    assert_eq!(cfg[24..28], (5u32 | 0x1fff_ffff << 3).to_le_bytes());
    assert_eq!(cfg[32..40], [9, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn text_is_read_by_the_type() {
    let Some(object) = common::object("globals.c", &[]) else { return };
    let set = |path: &str, text: &str| Settings::new().global_text(path, text);
    assert_eq!(bytes(&object, &set("target_pid", "0xff"), "target_pid", 4), [255, 0, 0, 0]);
    assert_eq!(bytes(&object, &set("level", "-5"), "level", 4), (-5i32).to_le_bytes());
    assert_eq!(bytes(&object, &set("verbose", "yes"), "verbose", 1), [1]);
    assert_eq!(bytes(&object, &set("verbose", "0"), "verbose", 1), [0]);
    assert_eq!(bytes(&object, &set("comm", "0x41"), "comm", 5), *b"0x41\0");
    assert_eq!(bytes(&object, &set("mode", "FAR"), "mode", 4), [255; 4]);
    assert_eq!(bytes(&object, &set("letter", "'x'"), "letter", 1), [b'x']);
    let numbers = bytes(&object, &set("numbers", "1, 2,3,0x4"), "numbers", 32);
    assert_eq!(numbers.chunks(8).map(|n| n[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(object) = common::object("globals.c", &[]) else { return };
    let set = |path: &str, value: Value| refused(&object, &Settings::new().global(path, value));
    let text = |path: &str, text: &str| refused(&object, &Settings::new().global_text(path, text));
    let says = |error: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(error.contains(word), "\"{error}\" does not say \"{word}\""));
    };
    says(set("target_pid", (-1).into()), &["target_pid", "-1", "unsigned 32 bits", "4294967295"]);
    says(set("target_pid", (1u64 << 32).into()), &["does not fit"]);
    says(set("level", (1u32 << 31).into()), &["-2147483648 to 2147483647"]);
    says(set("verbose", 2u8.into()), &["bool", "2"]);
    says(set("small", 256u32.into()), &["8 bits"]);
    says(set("comm", "sixteen letters!".into()), &["15 bytes"]);
    says(set("comm", [1u8, 2].into()), &["16 bytes", "2 were given"]);
    says(set("cfg", 1u8.into()), &["name.member"]);
    says(set("numbers", 1u8.into()), &["name[0]"]);
    says(set("numbers[4]", 1u8.into()), &["4 elements"]);
    says(set("numbers[x]", 1u8.into()), &["index"]);
    says(set("target_pid[0]", 1u8.into()), &["no array"]);
    says(set("cfg.nothing", 1u8.into()), &["no such member"]);
    says(set("cfg.low", 8u8.into()), &["3 bits"]);
    says(set("cfg.high", i32::MAX.into()), &["29 bits"]);
    says(set("pointer", 1u64.into()), &["pointer"]);
    says(set("target_pdi", 1u8.into()), &["no global variable target_pdi", "did you mean target_pid"]);
    says(text("target_pid", "many"), &["\"many\" is no integer"]);
    says(text("target_pid", "--1"), &["no integer"]);
    says(text("verbose", "maybe"), &["neither true nor false"]);
    says(text("mode", "SOME"), &["OFF, ON, FAR"]);
    says(text("numbers", "1,2"), &["4 elements and 2"]);
    says(text("numbers[1", "1"), &["without ]"]);
    let error = plan(&object, &Kernel::running(), &Settings::new().global("mode", "NONE")).unwrap_err();
    assert!(matches!(error, Error::Global { path, .. } if path == "mode"));
}

#[test]
fn a_section_with_room_behind_its_variables() {
    let Some(object) = common::object("globals.c", &[]) else { return };
    let settings = Settings::new().map_value_size(".bss.custom", 64).global("in_bss_custom", 3u32);
    let plan = common::planned(&object, &Kernel::running(), &settings);
    let section = common::map(&plan, ".bss.custom");
    assert_eq!((section.value_size, section.btf_value.0), (64, 0));
    let contents = section.contents.as_ref().expect("it has contents");
    assert_eq!((contents.len(), &contents[..4]), (64, &[3, 0, 0, 0][..]));
    let small = Settings::new().map_value_size(".bss.custom", 2);
    assert!(refused(&object, &small).contains("variables take 4 bytes"));
}
