//! Any bytes as BTF: everything that can be asked of each type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_btf::{Btf, Builder, Def};
use std::sync::Arc;

/// Questions are cheap, but a damaged file can hold a million types.
const TYPES: usize = 2000;
const SLOW: usize = 50;

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::parse(Arc::new(bytes.to_vec())) else { return };
    ask(&btf);
    if let Ok(split) = Btf::parse_split(Arc::new(bytes.to_vec()), &btf) {
        ask(&split);
    }
    // What can be copied can be read again, and says the same.
    if let Ok(copy) = Builder::copy_of(&btf).and_then(Builder::build) {
        assert_eq!(copy.len(), btf.len());
        for (ours, theirs) in btf.own_types().zip(copy.own_types()).take(TYPES) {
            let (Ok(ours), Ok(theirs)) = (ours, theirs) else { continue };
            assert_eq!(ours.name, theirs.name);
            assert_eq!(btf.size_of(ours.id).ok(), copy.size_of(theirs.id).ok());
        }
    }
});

fn ask(btf: &Btf) {
    for (number, ty) in btf.own_types().take(TYPES).enumerate() {
        let Ok(ty) = ty else { continue };
        let id = ty.id;
        let _ = (btf.size_of(id), btf.align_of(id), btf.resolve(id), btf.strip_modifiers(id));
        // Each of these looks at many other types.
        if number < SLOW {
            let _ = (btf.find(ty.name, ty.def.kind()), btf.candidates(ty.name), btf.named(ty.name));
            let _ = (btf.c_declaration(id, "x"), btf.c_definition(id));
        }
        match &ty.def {
            Def::Struct(composite) | Def::Union(composite) => {
                for member in composite.members().take(SLOW).flatten() {
                    let _ = btf.find_member(id, member.name);
                }
            }
            Def::Enum(found) => found.values().flatten().for_each(drop),
            Def::FuncProto(proto) => proto.params().flatten().for_each(drop),
            Def::Datasec(section) => section.vars().for_each(drop),
            _ => {}
        }
    }
}
