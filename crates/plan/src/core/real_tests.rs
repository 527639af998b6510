//! Every relocation of every real object at hand, on every kernel at hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfence_object::{Function, Object};

use super::*;

const POISON: i32 = 0x0bad_2310;

fn files(set: &str) -> Vec<(String, PathBuf)> {
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().trim_end_matches(".bpf").to_owned();
    let mut files: Vec<_> = ringfence_testing::objects(set).into_iter().map(|path| (stem(&path), path)).collect();
    files.sort();
    files
}

fn open(path: &Path) -> Option<Object> {
    Object::parse(&path.file_name()?.to_string_lossy(), &std::fs::read(path).unwrap()).ok()
}

fn parse_btf(path: &Path) -> Btf {
    Btf::parse(Arc::new(std::fs::read(path).unwrap())).unwrap()
}

/// The functions' instructions with every relocation applied, and what failed.
fn relocate<'o>(
    object: &'o Object,
    main: &Btf,
    functions: impl IntoIterator<Item = &'o Function>,
) -> (Vec<(&'o Function, Vec<Insn>)>, Vec<Error>) {
    let Some(local) = &object.btf else { return Default::default() };
    let mut relocator = Relocator::with(local, Targets::Given { main, modules: &[] });
    let mut errors = Vec::new();
    let functions = functions.into_iter().map(|function| {
        let mut insns = function.insns.clone();
        errors.extend(function.core.iter().filter_map(|reloc| relocator.apply(reloc, &mut insns).err()));
        (function, insns)
    });
    (functions.collect(), errors)
}

/// The kernel's own tests of the 13 kinds: each `btf__core_reloc_X___Y` is a target for `test_core_reloc_X`, and `Y`
/// tells when the program must not work on it.
#[test]
fn the_self_tests_of_each_kind() {
    let files = files("selftests");
    let mut pairs = 0;
    for (name, path) in &files {
        let Some(subject) = name.strip_prefix("test_core_reloc_") else { continue };
        let subject = subject.trim_end_matches("_direct").trim_end_matches("_probed");
        let object = open(path).unwrap();
        for (target, path) in &files {
            let Some(variant) = target.strip_prefix("btf__core_reloc_").and_then(|rest| rest.strip_prefix(subject))
            else {
                continue;
            };
            if !(variant.is_empty() || variant.starts_with("__")) {
                continue;
            }
            pairs += 1;
            let target = open(path).unwrap().btf.unwrap();
            let (functions, errors) = relocate(&object, &target, &object.functions);
            let poisoned = functions.iter().flat_map(|(_, insns)| insns).any(|insn| insn.imm == POISON);
            if variant.contains("__err_") {
                assert!(poisoned || !errors.is_empty(), "{name} works on {variant}");
            } else {
                assert!(errors.is_empty(), "{name} on {variant}: {errors:?}");
            }
            let one_answer =
                ["___err_too_big_bitfield", "___err_too_deep", "___err_dup_incompat_types", "___err_ambiguous"];
            assert_eq!(errors.is_empty(), !one_answer.contains(&variant), "{name} on {variant}: {errors:?}");
        }
    }
    assert!(pairs > 60 || files.is_empty(), "{pairs} pairs of test and target");
}

/// With RINGFENCE_REFERENCE, a directory of what the reference loader wrote (KERNEL/SET/OBJECT/PROGRAM, and its words
/// in KERNEL/SET/OBJECT.log), the instructions are compared with those; without, they only must not fail.
#[test]
fn every_relocation_of_every_object_on_every_kernel() {
    let reference = std::env::var_os("RINGFENCE_REFERENCE").map(PathBuf::from);
    for (kernel, btf) in ringfence_testing::kernels() {
        let main = parse_btf(&btf);
        for set in ringfence_testing::SETS {
            let (mut count, mut compared, mut differences) = (0, 0, Vec::new());
            let files = files(set);
            for (name, path) in &files {
                // Targets for others, whose own relocations do not matter.
                let Some(object) = open(path).filter(|_| !name.starts_with("btf__")) else { continue };
                let (functions, errors) = relocate(&object, &main, &object.functions);
                assert!(errors.is_empty(), "{name} on {kernel}: {errors:?}");
                count += functions.iter().map(|(function, _)| function.core.len()).sum::<usize>();
                let Some(dir) = reference.as_ref().map(|dir| dir.join(&kernel).join(set).join(name)) else { continue };
                for (function, insns) in functions.iter().filter(|(function, _)| function.section != ".text") {
                    let Ok(text) = std::fs::read_to_string(dir.join(&function.name)) else { continue };
                    let lines: Vec<&str> = text.lines().collect();
                    for reloc in &function.core {
                        let slots = if function.insns[reloc.insn].is_ld_imm64() { 2 } else { 1 };
                        for at in (reloc.insn..).take(slots) {
                            compared += 1;
                            if lines.get(at) != Some(&insns[at].to_string().as_str()) {
                                let theirs = lines.get(at);
                                differences.push(format!("{name} {} {at}: {} {theirs:?}", function.name, insns[at]));
                            }
                        }
                    }
                }
            }
            println!("{kernel} {set}: {count} relocations, {compared} instructions compared");
            assert!(count > 0 || files.is_empty(), "no relocation in {set}");
            assert!(differences.is_empty(), "{differences:#?}");
        }
    }
}
