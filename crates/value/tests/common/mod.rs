//! BTF of a C source, compiled when a test asks for it.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::path::Path;
use std::sync::Arc;

use object::{Object as _, ObjectSection as _};
use ringfence_btf::{Btf, TypeId};

pub fn btf_bytes(target: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/types/all.c");
    let elf =
        ringfence_testing::compile(&source, &["-target", target, "-Wno-everything"]).expect("clang-19 is installed");
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
