//! Code: which functions a program is made of and in which order, and what is filled in.

mod common;

use common::{function, planned, problem, program, small_kernel};
use ringfence_kernel::Kernel;
use ringfence_object::Target;
use ringfence_plan::{Error, FixupWith, Settings, plan};
use ringfence_uapi::Insn;

/// Where each function starts in a program, by its function records.
fn starts(plan: &ringfence_plan::Plan, object: &ringfence_object::Object, name: &str) -> Vec<(String, u32)> {
    let btf = object.btf.as_ref().unwrap();
    let funcs = program(plan, name).funcs.iter();
    funcs.map(|(insn, ty)| (btf.get(*ty).unwrap().name.to_owned(), *insn)).collect()
}

#[test]
fn functions_follow_in_the_order_of_first_use() {
    let Some(object) = common::object("link.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let len = |name: &str| object.functions[function(&object, name).0].insns.len() as u32;
    let first = starts(&plan, &object, "first");
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["first", "each", "middle", "leaf"]);
    assert_eq!(first[1].1, len("first"));
    assert_eq!(first[2].1, len("first") + len("each"));
    assert_eq!(first[3].1, len("first") + len("each") + len("middle"));
    let linked = program(&plan, "first");
    assert_eq!(linked.insns.len() as u32, first[3].1 + len("leaf"));

    // Every call and every address leads to the function that the object means.
    for (part, start) in &first {
        let source = &object.functions[function(&object, part).0];
        for reloc in &source.relocs {
            let at = *start as usize + reloc.insn;
            let (Target::Call(to) | Target::Address(to)) = reloc.target else { continue };
            let insn = linked.insns[at];
            let expected = first.iter().find(|(name, _)| *name == object.functions[to.0].name).unwrap().1;
            assert_eq!(at as i64 + 1 + i64::from(insn.imm), i64::from(expected), "{part}, instruction {}", reloc.insn);
            let src = if insn.is_ld_imm64() { Insn::PSEUDO_FUNC } else { Insn::PSEUDO_CALL };
            assert_eq!(insn.src, src);
        }
    }
    let second = starts(&plan, &object, "second");
    assert_eq!(second, [("second".to_owned(), 0), ("leaf".to_owned(), len("second"))]);
}

#[test]
fn the_exception_callback_comes_last() {
    let Some(object) = common::object("link.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let throws = starts(&plan, &object, "throws");
    let names: Vec<&str> = throws.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["throws", "leaf", "thrown"]);
}

#[test]
fn lines_are_rebased() {
    let Some(object) = common::object("link.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let first = program(&plan, "first");
    assert!(first.lines.is_sorted_by(|a, b| a.insn < b.insn));
    let btf = object.btf.as_ref().unwrap();
    for (part, start) in starts(&plan, &object, "first") {
        let line = first.lines.iter().find(|line| line.insn == start);
        let line = line.unwrap_or_else(|| panic!("{part} has no line at its start"));
        let source = object.functions[function(&object, &part).0].lines[0];
        assert_eq!((line.file, line.text), (source.file, source.text));
        assert_eq!((line.line_column >> 10, line.line_column & 0x3ff), (source.line, u32::from(source.column)));
        assert!(btf.string(line.file).unwrap().ends_with("link.c"));
    }
}

#[test]
fn maps_and_data_are_left_to_the_executor() {
    let Some(object) = common::object("link.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let first = program(&plan, "first");
    assert!(first.fixups.is_sorted_by_key(|fixup| fixup.insn));
    let counts = plan.maps.iter().position(|map| map.name == "counts").unwrap();
    // One in the program itself, one in the callback that stands behind it.
    assert_eq!(first.fixups.len(), 2);
    for fixup in &first.fixups {
        let FixupWith::Map(map) = &fixup.with else { panic!("{fixup:?}") };
        assert_eq!(map.0, counts);
        let insn = first.insns[fixup.insn];
        assert!(insn.is_ld_imm64());
        assert_eq!((insn.src, insn.imm), (Insn::PSEUDO_MAP_FD, 0));
    }
    let listing = first.listing(&plan);
    assert_eq!(listing.lines().count(), first.insns.len());
    assert_eq!(listing.lines().filter(|line| line.ends_with("map:counts")).count(), 2);
}

#[test]
fn a_map_that_is_left_out_poisons_its_users() {
    let Some(object) = common::object("link.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new().map("counts", false));
    assert!(plan.problems.is_empty());
    assert_eq!(common::left_out(&plan, "counts"), "the settings leave it out");
    let number = object.maps.iter().position(|map| map.name == "counts").unwrap() as i32;
    let first = program(&plan, "first");
    let poison = Insn { code: Insn::CALL, dst: 0, src: 0, off: 0, imm: 2_001_000_000 + number };
    assert_eq!(first.insns.iter().filter(|insn| **insn == poison).count(), 4);
    assert!(first.fixups.is_empty());
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let Some(object) = common::object("externs.c", &[]) else { return };
    let Some(kernel) = small_kernel(&["-DNAMES"]) else { return };
    let settings = Settings::new().kconfig("CONFIG_HZ=250\nCONFIG_SMP=y\nCONFIG_NAME=\"name\"\n");
    let text = |kernel: &Kernel| format!("{:?}", planned(&object, kernel, &settings));
    let first = text(&kernel);
    assert_eq!(first, text(&kernel));
    assert_eq!(first, text(&small_kernel(&["-DNAMES"]).unwrap()));
}

/// The loads of addresses of a program: `(src, imm, imm of the second slot)`.
fn loads(plan: &ringfence_plan::Plan, name: &str) -> Vec<(u8, i32, i32)> {
    let insns = &program(plan, name).insns;
    let pairs = insns.windows(2).filter(|pair| pair[0].is_ld_imm64());
    pairs.map(|pair| (pair[0].src, pair[0].imm, pair[1].imm)).collect()
}

#[test]
fn kernel_variables_and_functions() {
    let Some(object) = common::object("externs.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let types = kernel.btf().unwrap().unwrap().clone();
    let plan = planned(&object, &kernel, &Settings::new());
    let variable = types.find("init_task", ringfence_btf::Kind::Var).unwrap().0 as i32;
    assert_eq!(loads(&plan, "typed"), [(Insn::PSEUDO_BTF_ID, variable, 0)]);
    assert_eq!(loads(&plan, "weak"), [(0, 0, 0)]);

    let add = types.find("kernel_add", ringfence_btf::Kind::Func).unwrap().0 as i32;
    for name in ["calls", "flavour"] {
        let calls: Vec<_> = program(&plan, name).insns.iter().filter(|insn| insn.code == Insn::CALL).collect();
        assert_eq!(calls.len(), 1);
        assert_eq!((calls[0].src, calls[0].imm, calls[0].off), (Insn::PSEUDO_KFUNC_CALL, add, 0), "{name}");
    }
    // A weak function that the kernel lacks: its address is 0, and the call behind the check is poison.
    let gone = object.externs.iter().position(|ext| ext.name == "kernel_gone").unwrap() as i32;
    assert_eq!(loads(&plan, "gone"), [(0, 0, 0)]);
    assert!(program(&plan, "gone").insns.iter().any(|i| i.code == Insn::CALL && i.imm == 2_002_000_000 + gone));

    let Error::Extern { name, problem: text } = problem(&plan, "strong") else { panic!() };
    assert_eq!(name, "no_such_variable");
    assert!(text.contains("variable no_such_variable"), "{text}");
    let Error::Extern { name, problem: text } = problem(&plan, "mismatch") else { panic!() };
    assert_eq!(name, "kernel_other");
    assert!(text.contains("other parameters"), "{text}");
    // Addresses are only known of the running kernel.
    assert!(matches!(problem(&plan, "untyped"), Error::Kernel(_)));
    let field = &program(&plan, "field").insns;
    assert!(field.iter().any(|insn| insn.class() == Insn::LDX && insn.off == 4), "pid is at 4 in that kernel");
}

#[test]
fn symbols_of_the_running_kernel() {
    let Some(object) = common::object("externs.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new().only(["untyped"]));
    assert_eq!(loads(&plan, "untyped"), [(0, 0, 0)]);
}

#[test]
fn configuration_values() {
    let Some(object) = common::object("externs.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let text = "CONFIG_HZ=250\n# comment\nCONFIG_SMP=y\nCONFIG_NAME=\"longer than that\"\nCONFIG_HZ=100\n";
    let plan = planned(&object, &kernel, &Settings::new().kconfig(text).only(["linux_unknown"]));
    let contents = common::map(&plan, "externs.kconfig").contents.as_ref().unwrap();
    let value = |name: &str| {
        let ext = object.externs.iter().find(|ext| ext.name == name).unwrap();
        let ringfence_object::ExternKind::Kconfig { size, offset, .. } = ext.kind else { panic!() };
        &contents[offset as usize..(offset + size) as usize]
    };
    assert_eq!(value("CONFIG_HZ"), 250u32.to_le_bytes());
    assert_eq!(value("CONFIG_SMP"), [1]);
    assert_eq!(value("CONFIG_NAME"), b"longer \0");
    assert!(common::map(&plan, "externs.kconfig").freeze);
    assert!(problem(&plan, "linux_unknown").to_string().contains("LINUX_OTHER"));

    let kernel = Kernel::running();
    let plan = planned(&object, &kernel, &Settings::new().kconfig(text).only(["config", "config_missing"]));
    let insns = &program(&plan, "config").insns;
    assert!(insns.iter().any(|insn| insn.is_ld_imm64() && insn.src == Insn::PSEUDO_MAP_VALUE));
    assert!(problem(&plan, "config_missing").to_string().contains("CONFIG_MISSING"));

    let wrong = plan_error(&object, &Settings::new().kconfig("CONFIG_HZ"));
    assert!(wrong.contains("line 1"), "{wrong}");
    let plan = planned(&object, &kernel, &Settings::new().kconfig("CONFIG_HZ=y\nCONFIG_SMP=y\n").only(["config"]));
    assert!(problem(&plan, "config").to_string().contains("CONFIG_HZ"));
}

fn plan_error(object: &ringfence_object::Object, settings: &Settings) -> String {
    plan(object, &Kernel::running(), settings).expect_err("it is refused").to_string()
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let Some(object) = common::object("long.c", &["-g0"]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new().program("too_long", false));
    assert!(plan.programs.len() >= 50, "{} programs", plan.programs.len());
    assert!(matches!(problem(&plan, "h9"), Error::TooLongTogether));
    assert!(plan.programs.iter().map(|program| program.insns.len()).sum::<usize>() <= 4_000_000);
    let plan = planned(&object, &Kernel::running(), &Settings::new().only(["too_long"]));
    assert!(matches!(problem(&plan, "too_long"), Error::TooLong { .. }));
}
