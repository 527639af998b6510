//! struct_ops: a structure of the object's in terms of the kernel's.

mod common;

use common::{function, left_out, map, planned, problem, program, small_kernel};
use ringfence_btf::Kind;
use ringfence_plan::{Error, LoadTarget, Settings};
use ringfence_uapi::{AttachType, MapType};

#[test]
fn members_go_by_name() {
    let Some(object) = common::object("struct_ops.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let types = kernel.btf().unwrap().unwrap().clone();
    let plan = planned(&object, &kernel, &Settings::new());
    let ops = map(&plan, "ops");
    let converted = ops.struct_ops.as_ref().expect("it is a struct_ops map");
    assert_eq!(ops.kind, MapType::STRUCT_OPS);
    assert_eq!(ops.flags & 1 << 13, 1 << 13, "BPF_F_LINK");
    let wrapper = types.find("bpf_struct_ops_tiny_ops", Kind::Struct).unwrap();
    assert_eq!((converted.btf_vmlinux_value, converted.module.as_deref()), (wrapper, None));
    // refcnt; data at 8: new_member, start at 8, flags at 16, stop at 24, other at 32.
    assert_eq!((ops.key_size, ops.value_size, ops.max_entries), (4, 48, 1));
    assert_eq!(converted.value[24..28], 0x1122_3344u32.to_le_bytes());
    assert_eq!(converted.value.iter().filter(|byte| **byte != 0).count(), 4);
    assert_eq!(converted.programs, [(16, function(&object, "start")), (32, function(&object, "stop"))]);

    let structure = types.find("tiny_ops", Kind::Struct).unwrap();
    let target = LoadTarget::Btf { id: structure, module: None };
    assert_eq!((&program(&plan, "start").target, program(&plan, "start").attach_type), (&target, AttachType(1)));
    assert_eq!((&program(&plan, "stop").target, program(&plan, "stop").attach_type), (&target, AttachType(3)));
    assert_eq!(program(&plan, "stop").flags, 1 << 4);
    let LoadTarget::Unknown(reason) = &program(&plan, "spare").target else { panic!() };
    assert!(reason.contains("no struct_ops map names it"), "{reason}");
}

#[test]
fn a_member_that_the_kernel_lacks_must_be_zero() {
    let Some(object) = common::object("struct_ops.c", &["-DGONE"]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let plan = planned(&object, &kernel, &Settings::new());
    let Error::StructOps { map, problem: text } = problem(&plan, "start") else { panic!() };
    assert_eq!(map, "ops");
    assert!(text.contains("no member old_member"), "{text}");
    assert!(left_out(&plan, "ops").contains("old_member"));
    assert!(plan.programs.iter().all(|program| program.name != "start" && program.name != "stop"));
    program(&plan, "plain");
}

#[test]
fn a_kernel_without_the_structure() {
    let Some(object) = common::object("struct_ops.c", &[]) else { return };
    let Some(types) = common::object("programs.c", &[]) else { return };
    let kernel = ringfence_kernel::Kernel::from_btf(types.btf.unwrap());
    let plan = planned(&object, &kernel, &Settings::new());
    let text = problem(&plan, "stop").to_string();
    assert!(text.contains("no struct bpf_struct_ops_tiny_ops"), "{text}");
}

#[test]
fn programs_go_with_their_maps() {
    let Some(object) = common::object("struct_ops.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let names = |settings: &Settings| -> (Vec<String>, Vec<String>) {
        let plan = planned(&object, &kernel, settings);
        let maps = plan.maps.into_iter().filter(|map| map.struct_ops.is_some()).map(|map| map.name).collect();
        (plan.programs.into_iter().map(|program| program.name).collect(), maps)
    };
    let both = |programs: &[&str], maps: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        (own(programs), own(maps))
    };
    assert_eq!(names(&Settings::new()), both(&["start", "stop", "spare", "plain"], &["ops"]));
    // A map that is wanted brings its programs with it, and one that is not takes them along.
    assert_eq!(names(&Settings::new().only(["start"])), both(&["start", "stop"], &["ops", "again"]));
    assert_eq!(names(&Settings::new().only(["plain"])), both(&["plain"], &[]));
    assert_eq!(names(&Settings::new().map("ops", false)), both(&["spare", "plain"], &[]));
    let again = Settings::new().map("ops", false).map("again", true);
    assert_eq!(names(&again), both(&["start", "spare", "plain"], &["again"]));
    assert_eq!(names(&Settings::new().program("stop", false)), both(&["spare", "plain"], &[]));
}

#[test]
fn its_shape_is_the_kernel_s() {
    let Some(object) = common::object("struct_ops.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let error = ringfence_plan::plan(&object, &kernel, &Settings::new().map_entries("ops", 3)).unwrap_err();
    assert!(error.to_string().contains("as the kernel wants it"), "{error}");
}

#[test]
fn members_are_set() {
    let Some(object) = common::object("struct_ops.c", &["-DGONE"]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    // The member that the kernel lacks is cleared; the program of one member serves another table.
    let settings = Settings::new()
        .global("ops.old_member", 0u32)
        .global("ops.flags", 5u32)
        .global("ops.stop", "")
        .map("again", true)
        .global("again.stop", "stop");
    let plan = planned(&object, &kernel, &settings);
    let ops = map(&plan, "ops").struct_ops.as_ref().unwrap();
    assert_eq!(ops.value[24..28], 5u32.to_le_bytes());
    assert_eq!(ops.programs, [(16, function(&object, "start"))]);
    let again = map(&plan, "again").struct_ops.as_ref().unwrap();
    assert_eq!(again.programs, [(16, function(&object, "start")), (32, function(&object, "stop"))]);

    let without = planned(&object, &kernel, &Settings::new().global("ops.old_member", 0u32).global("ops.stop", ""));
    assert!(left_out(&without, "stop").contains("took it out"));

    let refused = |path: &str, value: ringfence_plan::Value| {
        ringfence_plan::plan(&object, &kernel, &Settings::new().global(path, value)).unwrap_err().to_string()
    };
    assert!(refused("ops.start", 1u32.into()).contains("the program's name"));
    assert!(refused("ops.start", "stat".into()).contains("start"));
    assert!(refused("ops.begin", "start".into()).contains("no such member"));
    assert!(refused("ops.flags", (1u64 << 32).into()).contains("does not fit"));
    let plain = planned(&object, &kernel, &Settings::new().global("ops.old_member", 0u32).global("ops.stop", "plain"));
    assert!(left_out(&plain, "ops").contains("no struct_ops program"));
}
