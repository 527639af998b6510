//! BTF of a C source, compiled when a test asks for it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use object::{Object as _, ObjectSection as _};
use ringfence_btf::{Btf, TypeId};

pub fn btf_bytes(target: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("types.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/types/all.c");
    let done = Command::new("clang-19")
        .args(["-target", target, "-g", "-O2", "-Wno-everything", "-c", "-o"])
        .arg(&out)
        .arg(&source)
        .status()
        .expect("clang-19 runs");
    assert!(done.success());
    let elf = std::fs::read(out).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    file.section_by_name(".BTF").unwrap().data().unwrap().to_vec()
}

pub fn btf(target: &str) -> Btf {
    Btf::parse(Arc::new(btf_bytes(target))).unwrap()
}

/// The struct, union or enum of this name.
pub fn named(btf: &Btf, name: &str) -> TypeId {
    use ringfence_btf::Def::{Enum, Struct, Union};
    let mut types = btf.own_types().map(Result::unwrap);
    types.find(|ty| ty.name == name && matches!(ty.def, Struct(_) | Union(_) | Enum(_))).unwrap().id
}
