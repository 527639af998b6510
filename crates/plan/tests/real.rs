//! Real objects and real kernels: what must hold for every plan, and no panic on damaged input.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_btf::{Btf, Def, Kind};
use ringfence_kernel::Kernel;
use ringfence_object::Object;
use ringfence_plan::{FixupWith, Plan, ProgramPlan, Settings, plan};
use ringfence_uapi::{AttachType, Helper, Insn, MapType, ProgramType};

/// What the kernel checks before it verifies: instructions refer to instructions of the program, records are in order.
fn check(plan: &Plan, program: &ProgramPlan) {
    let name = &program.name;
    let starts: BTreeSet<i64> = program.funcs.iter().map(|(insn, _)| i64::from(*insn)).collect();
    assert!(program.fixups.is_sorted_by_key(|fixup| fixup.insn), "{name}");
    assert!(program.funcs.is_sorted_by_key(|(insn, _)| *insn), "{name}");
    assert!(program.lines.is_sorted_by(|a, b| a.insn < b.insn), "{name}");
    let end = program.insns.len();
    assert!(program.lines.iter().all(|line| (line.insn as usize) < end), "{name}");
    let mut second = false;
    for (at, insn) in program.insns.iter().enumerate() {
        if std::mem::take(&mut second) {
            assert_eq!(insn.code, 0, "{name}, instruction {at}");
            continue;
        }
        second = insn.is_ld_imm64();
        if insn.is_subprogram_call() || second && insn.src == Insn::PSEUDO_FUNC {
            let to = at as i64 + 1 + i64::from(insn.imm);
            assert!((0..end as i64).contains(&to), "{name}, instruction {at} leads to {to}");
            assert!(starts.is_empty() || starts.contains(&to), "{name}, instruction {at} leads to {to}");
        }
    }
    for fixup in &program.fixups {
        let insn = program.insns[fixup.insn];
        assert!(insn.is_ld_imm64(), "{name}, instruction {}", fixup.insn);
        match &fixup.with {
            FixupWith::Map(map) => assert!(map.0 < plan.maps.len()),
            FixupWith::ModuleBtf(_) => assert_eq!(insn.src, Insn::PSEUDO_BTF_ID),
        }
    }
    assert!(program.bind.iter().all(|map| map.0 < plan.maps.len()), "{name}");
    if let Some(btf) = &plan.btf {
        let btf = Btf::parse(std::sync::Arc::new(btf.clone())).expect("the plan's BTF can be read");
        for (_, ty) in &program.funcs {
            assert!(matches!(btf.get(*ty).map(|ty| ty.def), Ok(Def::Func { .. } | Def::Typedef(_))), "{name}: {ty}");
        }
        for line in &program.lines {
            btf.string(line.file).and_then(|_| btf.string(line.text)).expect("lines name strings of the plan's BTF");
        }
    }
}

#[test]
fn every_plan_of_every_real_object_is_sound() {
    let kernels = common::real_kernels();
    let kernels = kernels.into_iter().map(|(release, btf)| (release, Kernel::from_btf(btf)));
    let kernels: Vec<_> = std::iter::once(("running".to_owned(), Kernel::running())).chain(kernels).collect();
    let mut programs = 0;
    let paths = ringfence_testing::all_objects();
    for (number, path) in paths.iter().enumerate() {
        let bytes = std::fs::read(path).expect("it can be read");
        let Ok(object) = Object::parse(&path.file_name().unwrap().to_string_lossy(), &bytes) else { continue };
        // The running kernel each time, the others in turn.
        let other = kernels.iter().skip(1 + number % kernels.len().saturating_sub(1).max(1)).take(1);
        for (release, kernel) in kernels.iter().take(1).chain(other) {
            let start = ringfence_testing::worked();
            let Ok(plan) = plan(&object, kernel, &Settings::new().fill_sizes(true)) else { continue };
            assert!(ringfence_testing::worked() - start < Duration::from_secs(5), "{} on {release}", path.display());
            plan.programs.iter().for_each(|program| check(&plan, program));
            programs += plan.programs.len();
            let contents = plan.maps.iter().filter(|map| map.kind == MapType::ARRAY && map.contents.is_some());
            for map in contents {
                let size = map.contents.as_ref().map(Vec::len);
                assert_eq!(size, Some(map.value_size as usize), "{}: {}", path.display(), map.name);
            }
        }
    }
    println!("{programs} programs");
}

#[test]
fn the_tables_of_releases_agree_with_real_kernels() {
    for (release, btf) in common::real_kernels() {
        let number = |release: &str| -> (u32, u32) {
            let (major, minor) = release.split_once('.').expect("a release is major.minor");
            (major.parse().expect("a number"), minor.parse().expect("a number"))
        };
        let here = number(&release);
        let values = |name: &str| -> BTreeSet<u32> {
            let id = btf.find(name, Kind::Enum).unwrap_or_else(|| panic!("{release} has no {name}"));
            let Def::Enum(body) = btf.get(id).expect("it is sound").def else { panic!("{name} is no enum") };
            // One that begins so counts the others.
            let values = body.values().map(|value| value.expect("it is sound"));
            values.filter(|value| !value.name.starts_with("__")).map(|value| value.value as u32).collect()
        };
        let compare = |name: &str, known: &[(u32, Option<&'static str>)]| {
            let there = values(name);
            for (value, since) in known {
                let Some(since) = since else { continue };
                let expected = number(since) <= here;
                let found = there.contains(value);
                assert_eq!(found, expected, "{name} {value} came with {since}, says the table; Linux {release}");
            }
        };
        let helpers: Vec<_> = Helper::ALL.iter().map(|(_, id)| (id.0, ringfence_plan::since::helper(*id))).collect();
        compare(Helper::ENUM, &helpers);
        let types: Vec<_> =
            ProgramType::ALL.iter().map(|(_, id)| (id.0, ringfence_plan::since::program_type(*id))).collect();
        compare(ProgramType::ENUM, &types);
        let maps: Vec<_> = MapType::ALL.iter().map(|(_, id)| (id.0, ringfence_plan::since::map_type(*id))).collect();
        compare(MapType::ENUM, &maps);
        let hooks: Vec<_> =
            AttachType::ALL.iter().map(|(_, id)| (id.0, ringfence_plan::since::attach_type(*id))).collect();
        compare(AttachType::ENUM, &hooks);
    }
}

/// Changes that come out the same every time.
struct Changes(u64);

impl Changes {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }
}

#[test]
fn damaged_objects_never_panic() {
    let sources = ["globals.c", "link.c", "externs.c", "programs.c", "maps.c", "struct_ops.c"];
    let Some(types) = common::object("kernel.c", &[]).and_then(|object| object.btf) else { return };
    let kernel = Kernel::from_btf(types);
    let settings = Settings::new().fill_sizes(true).kconfig("CONFIG_HZ=1\n");
    let mut changes = Changes(1);
    for source in sources {
        let Some(bytes) = common::bytes(source, &[]) else { return };
        for _ in 0..400 {
            let mut bytes = bytes.clone();
            for _ in 0..=changes.next(6) {
                let at = changes.next(bytes.len());
                bytes[at] = match changes.next(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at] ^ 1 << changes.next(8),
                    _ => changes.next(256) as u8,
                };
            }
            let Ok(object) = Object::parse("damaged.o", &bytes) else { continue };
            let start = ringfence_testing::worked();
            if let Ok(plan) = plan(&object, &kernel, &settings) {
                plan.programs.iter().for_each(|program| drop(program.listing(&plan)));
                plan.problems.iter().for_each(|problem| drop(problem.error.to_string()));
            }
            assert!(ringfence_testing::worked() - start < Duration::from_secs(1));
        }
    }
}
