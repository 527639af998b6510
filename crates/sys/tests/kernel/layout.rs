//! Every field that is used lies where the kernels have it.

use ringfence_btf::{Btf, Def, Kind, TypeId};
use ringfence_sys::{self as sys, Layout};

/// (name, bit offset, type) of the named members, those of anonymous members included.
fn flatten<'a>(btf: &'a Btf, id: TypeId, base: u32, into: &mut Vec<(&'a str, u32, TypeId)>) {
    if let Def::Struct(composite) | Def::Union(composite) = btf.get(id).unwrap().def {
        for member in composite.members() {
            let member = member.unwrap();
            let at = base + member.bit_offset;
            if member.name.is_empty() && member.bit_size == 0 {
                flatten(btf, member.ty, at, into);
            } else {
                into.push((member.name, at, member.ty));
            }
        }
    }
}

fn size(btf: &Btf, id: TypeId) -> u32 {
    match btf.get(id).unwrap().def {
        Def::Int(int) => int.size,
        Def::Enum(e) => e.size,
        Def::Struct(composite) | Def::Union(composite) => composite.size,
        Def::Array(array) => array.len * size(btf, array.element),
        Def::Typedef(to) | Def::Const(to) | Def::Volatile(to) | Def::TypeTag(to) => size(btf, to),
        other => panic!("{other:?}"),
    }
}

fn root(btf: &Btf, name: &str) -> TypeId {
    btf.find(name, Kind::Struct).or_else(|| btf.find(name, Kind::Union)).unwrap_or_else(|| panic!("no {name}"))
}

/// Names of fields that this kernel does not have yet.
fn compare(kernel: &str, btf: &Btf) -> Vec<String> {
    let mut missing = Vec::new();
    for Layout { root: root_name, path, base, fields } in sys::layout() {
        let mut members = Vec::new();
        flatten(btf, root(btf, root_name), 0, &mut members);
        let mut start = 0;
        let mut absent = false;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            match members.iter().find(|(name, ..)| *name == step).copied() {
                Some((_, at, ty)) => {
                    start = at;
                    members.clear();
                    flatten(btf, ty, at, &mut members);
                }
                None => absent = true,
            }
        }
        if absent {
            missing.push(format!("{root_name}.{path}"));
            continue;
        }
        assert!(path.is_empty() || start == 0 || base == 0 || start as usize == base * 8, "{root_name}.{path}");
        for (name, offset, bytes) in fields.iter().filter(|(name, ..)| !name.starts_with('_')) {
            let name = name.trim_end_matches('_');
            let candidates: Vec<_> = members.iter().filter(|(known, ..)| *known == name).collect();
            if candidates.is_empty() {
                missing.push(format!("{root_name}.{path}.{name}"));
                continue;
            }
            let fits = candidates
                .iter()
                .any(|(_, at, ty)| *at as usize == (base + offset) * 8 && size(btf, *ty) as usize == *bytes);
            assert!(fits, "{kernel}: {root_name}.{path}.{name} is not {bytes} bytes at {}", base + offset);
        }
    }
    let mut members = Vec::new();
    flatten(btf, root(btf, "perf_event_attr"), 0, &mut members);
    for (name, bit) in sys::PERF_EVENT_BITS {
        let (_, at, _) = members.iter().find(|(known, ..)| known == name).unwrap();
        assert_eq!(*at, 40 * 8 + bit, "{kernel}: perf_event_attr.{name}");
    }
    for (name, bytes) in [("bpf_func_info", size_of::<sys::FuncInfo>()), ("bpf_line_info", size_of::<sys::LineInfo>())]
    {
        assert_eq!(size(btf, root(btf, name)) as usize, bytes, "{kernel}: {name}");
    }
    missing
}

#[test]
fn running_kernel() {
    let Ok(bytes) = sys::kernel_btf("vmlinux") else {
        eprintln!("skipped: this kernel has no BTF");
        return;
    };
    compare("running", &Btf::parse(bytes).unwrap());
}

#[test]
fn saved_kernels() {
    for (version, path) in ringfence_testing::kernels() {
        let bytes = std::fs::read(path).unwrap();
        let missing = compare(&version, &Btf::parse(std::sync::Arc::new(bytes)).unwrap());
        // The newest knows every name, so a wrong one in our tables cannot hide.
        if version == "7.3" {
            assert_eq!(missing, Vec::<String>::new());
        } else {
            eprintln!("{version} lacks {missing:?}");
        }
    }
}
