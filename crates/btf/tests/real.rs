//! Against the types of real kernels.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects, missing_docs)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;

use common::{kernels, read};
use ringfence_btf::{Builder, Kind, TypeId, essential_name};

#[test]
fn every_kind_as_often_as_bpftool_says() {
    for path in kernels() {
        let output = match Command::new("bpftool").args(["btf", "dump", "file"]).arg(&path).output() {
            Ok(output) if output.status.success() => output,
            other => {
                eprintln!("skipped: bpftool on {}: {:?}", path.display(), other.map(|o| o.status));
                continue;
            }
        };
        let mut expected: BTreeMap<String, usize> = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('[')) {
            *expected.entry(line.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
        }
        let btf = read(&path);
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for ty in btf.own_types() {
            let kind = format!("{:?}", ty.unwrap().def.kind());
            let name = match kind.as_str() {
                "FuncProto" => "FUNC_PROTO".to_owned(),
                "DeclTag" => "DECL_TAG".to_owned(),
                "TypeTag" => "TYPE_TAG".to_owned(),
                other => other.to_uppercase(),
            };
            *counted.entry(name).or_default() += 1;
        }
        assert_eq!(counted, expected, "{}", path.display());
    }
}

#[test]
fn names_as_found_one_by_one() {
    for path in kernels() {
        let btf = read(&path);
        let mut exact: HashMap<&str, Vec<TypeId>> = HashMap::new();
        let mut essential: HashMap<&str, Vec<TypeId>> = HashMap::new();
        for ty in btf.own_types().map(Result::unwrap).filter(|ty| !ty.name.is_empty()) {
            exact.entry(ty.name).or_default().push(ty.id);
            let same = essential.entry(essential_name(ty.name)).or_default();
            if ty.def.kind() != Kind::Func {
                same.push(ty.id);
            }
        }
        let flavoured = exact.keys().filter(|name| essential_name(name) != **name);
        let mut names: Vec<&str> =
            exact.keys().copied().enumerate().filter(|(n, _)| n % 50 == 0).map(|(_, s)| s).collect();
        names.extend(flavoured.clone());
        names.extend(flavoured.map(|name| essential_name(name)));
        names.extend(exact.keys().filter(|name| name.len() <= 4));
        names.extend(["no_such_type", "x", "", "task", "task_struct___none"]);
        let fresh = read(&path);
        for name in &names {
            assert_eq!(fresh.named(name), exact.get(name).cloned().unwrap_or_default(), "{name}");
            assert_eq!(fresh.candidates(name), essential.get(name).cloned().unwrap_or_default(), "{name}");
        }
        let task = fresh.find("task_struct", Kind::Struct).unwrap();
        assert_eq!(fresh.get(task).unwrap().name, "task_struct");
        assert_eq!(fresh.find("task_struct", Kind::Union), None);
        assert_eq!(fresh.pointer_size(), 8);
    }
}

#[test]
fn a_copy_is_the_same() {
    for path in kernels() {
        let btf = read(&path);
        let copy = Builder::copy_of(&btf).unwrap().finish().unwrap();
        assert!(copy == btf.bytes(), "{}", path.display());
    }
}

#[test]
fn every_size_and_alignment_is_known() {
    for path in kernels() {
        let btf = read(&path);
        let mut checked = 0;
        for ty in btf.own_types().map(Result::unwrap) {
            if let ringfence_btf::Def::Struct(body) = ty.def {
                assert_eq!(btf.size_of(ty.id).unwrap(), u64::from(body.size));
                let align = btf.align_of(ty.id).unwrap();
                assert!(align.is_power_of_two() && u64::from(body.size) % align == 0, "{}", ty.name);
                checked += 1;
            }
        }
        assert!(checked > 1000);
        let task = btf.find("task_struct", Kind::Struct).unwrap();
        let comm = btf.find_member(task, "comm").unwrap();
        assert_eq!((comm.bit_size, comm.bit_offset % 8), (128, 0));
        let third = btf.find_member(task, "comm[3]").unwrap();
        assert_eq!((third.bit_offset, third.bit_size), (comm.bit_offset + 24, 8));
        assert!(btf.find_member(task, "comm[16]").is_err());
        assert!(
            btf.find_member(task, "se.vruntime").unwrap().bit_offset > btf.find_member(task, "se").unwrap().bit_offset
        );
    }
}
