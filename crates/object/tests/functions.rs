//! Functions, programs and what their instructions refer to, in objects compiled here.

mod common;

use common::{compile, function, names, object, targets};
use ringfence_object::{CoreKind, ExternKind, KconfigType, Object, Visibility};

/// Clang up to version 8 wrote symbols without type and size.
#[test]
fn functions_whose_symbols_say_nothing() {
    let Some(bytes) = compile("relocs.c", &[]) else { return };
    let object = Object::parse("new.o", &bytes).expect("it is sound");
    let old = Object::parse("old.o", &without_types(bytes)).expect("it is sound");
    let shape = |object: &Object| -> Vec<(String, String, u64, usize)> {
        let functions = object.functions.iter();
        functions.map(|f| (f.name.clone(), f.section.clone(), f.offset, f.insns.len())).collect()
    };
    assert_eq!(shape(&old), shape(&object));
    assert!(old.functions.iter().all(|function| function.problem.is_none()));
}

/// The file with `STT_NOTYPE` and no size in each symbol of a function.
fn without_types(mut bytes: Vec<u8>) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize, len: usize| {
        bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let headers = common::Headers::of(&bytes);
    let symbols = *headers.list.iter().find(|at| headers.kind(&bytes, **at) == 2).expect("a symbol table");
    let (start, size) = (number(&bytes, symbols + 24, 8), number(&bytes, symbols + 32, 8));
    for symbol in (start..start + size).step_by(24) {
        if bytes[symbol + 4] & 15 == 2 {
            bytes[symbol + 4] &= 0xf0;
            bytes[symbol + 16..symbol + 24].fill(0);
        }
    }
    bytes
}

#[test]
fn instructions_refer_to_maps_data_and_functions() {
    let Some(object) = object("relocs.c", &[]) else { return };
    assert_eq!(names(&object.programs, |p| &p.name), ["maps_and_data", "calls", "callbacks"]);
    assert_eq!(object.programs[2].section, "raw_tp/sys_enter");
    assert_eq!(
        names(&object.programs.iter().map(|p| p.autoload.to_string()).collect::<Vec<_>>(), |s| s),
        ["true", "true", "false"]
    );
    assert_eq!(object.license.as_deref(), Some("GPL"));
    assert_eq!(object.version, Some(0x060c00));
    assert_eq!(object.notices, Vec::<String>::new());
    assert!(object.functions.iter().all(|f| f.problem.is_none() && f.btf.is_some() && !f.lines.is_empty()));

    let mut found = targets(&object, "maps_and_data");
    found.sort();
    found.dedup();
    let offset = |name: &str| {
        let global = object.globals.iter().find(|global| global.name == name).expect("the variable is listed");
        format!("data {}+{}", object.maps[global.map.0].section, global.offset)
    };
    let mut expected: Vec<String> =
        ["in_bss", "static_bss", "of_us", "custom", "in_rodata", "custom_bss", "hidden_data"]
            .into_iter()
            .map(offset)
            .chain(["map first".into(), "map second".into()])
            .collect();
    expected.sort();
    assert_eq!(found, expected);

    assert_eq!(targets(&object, "calls"), ["call global_sub", "call static_sub", "call weak_sub", "call hidden_sub"]);
    assert_eq!(targets(&object, "hidden_sub"), ["call calls_static"]);
    assert_eq!(targets(&object, "calls_static"), ["call static_sub"]);
    assert_eq!(
        targets(&object, "callbacks"),
        ["address static_callback", "address global_callback", "data .rodata.str1.1+0"]
    );
    let visibility = |name| (function(&object, name).visibility, function(&object, name).weak);
    assert_eq!(visibility("global_sub"), (Visibility::Global, false));
    assert_eq!(visibility("static_sub"), (Visibility::Static, false));
    assert_eq!(visibility("weak_sub"), (Visibility::Global, true));
    assert_eq!(visibility("hidden_sub"), (Visibility::Hidden, false));
}

/// Two functions of one section call each other without a relocation, and with one against the section.
#[test]
fn relocations_are_relative_to_their_function() {
    let Some(object) = object("relocs.c", &[]) else { return };
    for function in &object.functions {
        for reloc in &function.relocs {
            let insn = function.insns[reloc.insn];
            assert!(insn.is_ld_imm64() || insn.is_subprogram_call(), "{}: {insn}", function.name);
        }
        assert!(function.lines.iter().all(|line| line.insn < function.insns.len()), "{}", function.name);
    }
}

#[test]
fn big_endian_objects_read_the_same() {
    let (Some(little), Some(big)) = (compile("relocs.c", &[]), compile("relocs.c", &["-target", "bpfeb"])) else {
        return;
    };
    let little = Object::parse("relocs.o", &little).expect("it is sound");
    let big = Object::parse("relocs.o", &big).expect("it is sound");
    assert!(big.big_endian && !little.big_endian);
    assert!(big.btf.as_ref().expect("it has types").is_big_endian());
    assert_eq!(big.version, little.version);
    assert_eq!(names(&big.maps, |m| &m.name), names(&little.maps, |m| &m.name));
    for (big_function, function) in big.functions.iter().zip(&little.functions) {
        assert_eq!(big_function.name, function.name);
        assert_eq!(big_function.insns, function.insns);
        assert_eq!(big_function.relocs, function.relocs);
        assert_eq!(big_function.lines, function.lines);
    }
    assert_eq!(big.globals, little.globals);
    assert_eq!(big.datasecs, little.datasecs);
}

#[test]
fn core_relocations_of_every_kind() {
    let Some(object) = object("core.c", &[]) else { return };
    let btf = object.btf.as_ref().expect("it has types");
    let kinds = function(&object, "kinds");
    let mut found: Vec<_> = kinds.core.iter().map(|core| core.kind).collect();
    found.sort_by_key(|kind| *kind as u32);
    found.dedup();
    let all: Vec<_> = CoreKind::ALL.into_iter().filter(|kind| *kind != CoreKind::FieldExists).collect();
    assert_eq!(found, all);
    let sub = function(&object, "sub");
    let [core] = &sub.core[..] else { panic!("{:?}", sub.core) };
    assert_eq!((core.kind, core.access.as_str()), (CoreKind::FieldExists, "0:1:1:1"));
    assert_eq!(btf.get(core.ty).expect("the type is there").name, "parent");
    assert!(core.insn < sub.insns.len());
}

#[test]
fn externs_in_libbpfs_order_and_layout() {
    let Some(object) = object("externs.c", &[]) else { return };
    let kconfig = |e: &ringfence_object::Extern| match e.kind {
        ExternKind::Kconfig { value, size, offset } => Some((e.name.clone(), value, size, offset)),
        _ => None,
    };
    // Largest alignment first, then the smallest size, then by name; each at the next aligned place.
    let expected = [
        ("CONFIG_HZ", KconfigType::Int { signed: false }, 8, 0),
        ("CONFIG_TRI", KconfigType::Tristate, 4, 8),
        ("LINUX_KERNEL_VERSION", KconfigType::Int { signed: false }, 4, 12),
        ("CONFIG_SHORT", KconfigType::Int { signed: true }, 2, 16),
        ("CONFIG_A_CHAR", KconfigType::Char, 1, 18),
        ("CONFIG_BPF_JIT", KconfigType::Bool, 1, 19),
        ("CONFIG_DEFAULT_HOSTNAME", KconfigType::CharArray, 5, 20),
    ];
    let expected = expected.map(|(name, value, size, offset)| (name.to_owned(), value, size, offset));
    assert_eq!(object.externs.iter().filter_map(kconfig).collect::<Vec<_>>(), expected);
    let map = object.maps.iter().find(|map| map.section == ".kconfig").expect("it has a map");
    assert_eq!((map.name.as_str(), map.value_size), ("externs.kconfig", 25));

    let ksyms: Vec<_> = object.externs.iter().skip(7).map(|e| (e.name.as_str(), e.weak)).collect();
    assert_eq!(
        ksyms,
        [
            ("jiffies", false),
            ("maybe_release", true),
            ("not_there", true),
            ("runqueues", false),
            ("task_from_pid", false)
        ]
    );
    let kind = |name: &str| object.externs.iter().find(|e| e.name == name).expect("it is listed").kind;
    assert!(matches!(kind("jiffies"), ExternKind::Ksym));
    assert!(matches!(kind("runqueues"), ExternKind::TypedKsym { .. }));
    assert!(matches!(kind("task_from_pid"), ExternKind::Kfunc { .. }));
    assert!(object.externs.iter().find(|e| e.name == "CONFIG_BPF_JIT").expect("it is listed").weak);
    assert!(targets(&object, "program").contains(&"extern maybe_release".to_owned()));
    assert!(targets(&object, "program").contains(&"extern CONFIG_HZ".to_owned()));

    let layout = |name: &str| object.datasecs.iter().find(|d| d.name == name).expect("it has a layout");
    assert_eq!(layout(".kconfig").size, 25);
    assert_eq!(layout(".ksyms").size, 20);
    let offsets: Vec<_> = layout(".ksyms").vars.iter().map(|var| (var.offset, var.size)).collect();
    assert_eq!(offsets, [(0, 4), (4, 4), (8, 4), (12, 4), (16, 4)]);
}

/// What one program refers to does not keep the others from being used.
#[test]
fn an_extern_that_means_nothing_is_its_programs_problem() {
    for (flag, cause) in [("-DNO_SECTION", "nowhere"), ("-DBAD_TYPE", "CONFIG_STRUCT")] {
        let Some(object) = object("externs.c", &[flag]) else { return };
        assert_eq!(function(&object, "program").problem, None);
        let problem = function(&object, "other").problem.as_ref().expect("it cannot be loaded").to_string();
        assert!(problem.contains(cause) && problem.contains("function other"), "{problem}");
    }
}

#[test]
fn one_bad_function_does_not_hide_the_others() {
    let Some(object) = object("problems.c", &[]) else { return };
    let problem = |name| function(&object, name).problem.as_ref().map(ToString::to_string);
    assert_eq!(problem("good"), None);
    assert_eq!(problem("throws"), None);
    for (name, cause) in [
        ("static_entry", "static"),
        ("reads_other", "wrong_place is in section .other"),
        ("reads_common", "-fno-common"),
        ("calls_nothing", "bpftool gen object"),
        ("throws_wrong", "missing is not in the object"),
        ("throws_hidden", "secret must be global and not hidden"),
    ] {
        let problem = problem(name).unwrap_or_else(|| panic!("{name} has no problem"));
        assert!(problem.contains(cause) && problem.contains(name) && problem.contains("problems.o"), "{problem}");
    }
    let throws = object.programs.iter().find(|p| p.name == "throws").expect("it is a program");
    let callback = throws.exception_callback.expect("it has a callback");
    assert_eq!(object.functions[callback.0].name, "handle");
    assert!(object.tags.iter().any(|tag| tag.text == "exception_callback:handle" && tag.component.is_none()));
}

#[test]
fn jump_tables_aliases_and_functions_without_bounds() {
    let Some(object) = object("jump_table.s", &[]) else { return };
    assert_eq!(targets(&object, "jumps"), ["table 8+16"]);
    assert_eq!(object.jump_tables.len(), 24);
    assert_eq!(object.jump_tables[8], 8);
    assert_eq!(function(&object, "same").insns, function(&object, "jumps").insns);
    assert_eq!(targets(&object, "same"), ["table 8+16"]);
    assert_eq!(function(&object, "outer").insns.len(), 3);
    let problem = |name| function(&object, name).problem.as_ref().expect("it has a problem").to_string();
    assert!(problem("no_size").contains(".size"), "{}", problem("no_size"));
    assert!(problem("overlaps").contains("overlaps function outer"), "{}", problem("overlaps"));
    assert!(object.notices.iter().any(|notice| notice.contains(".BTF") && notice.contains("-g")));
}

#[test]
fn code_without_optimisation_is_noticed() {
    let Some(object) = object("relocs.c", &["-O0"]) else { return };
    let notice = object.notices.iter().find(|notice| notice.contains("callx")).expect("it is said");
    assert!(notice.contains("clang -target bpf -O2 -g -c"), "{notice}");
}

#[test]
fn functions_without_a_section_are_no_programs() {
    let Some(object) = object("no_section.c", &[]) else { return };
    assert_eq!((object.functions.len(), object.programs.len()), (1, 0));
    assert!(object.notices.iter().any(|notice| notice.contains("SEC(")), "{:?}", object.notices);
}
