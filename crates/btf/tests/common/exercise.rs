//! Asks everything of bytes that may be anything. For the tests and for the fuzz target.

use std::hint::black_box;
use std::sync::Arc;

use ringfence_btf::{Btf, Builder, Def, Kind, TypeId};

/// Types of which everything is asked: a fuzzer's input has fewer, and hostile ones cost time each.
const MANY: usize = 200;

/// Reads `bytes` as BTF, and as split BTF on `base`.
pub(crate) fn exercise(bytes: &[u8], base: Option<&Btf>) {
    let bytes = Arc::new(bytes.to_vec());
    if let Ok(btf) = Btf::parse(bytes.clone()) {
        ask(&btf);
    }
    if let Some(Ok(btf)) = base.map(|base| Btf::parse_split(bytes, base)) {
        ask(&btf);
    }
}

fn ask(btf: &Btf) {
    black_box((btf.is_empty(), btf.pointer_size(), btf.is_big_endian()));
    let mut ids: Vec<TypeId> = (0..btf.len().min(20)).map(TypeId).collect();
    ids.extend([TypeId(btf.len()), TypeId(u32::MAX)]);
    for ty in btf.own_types().take(MANY) {
        let Ok(ty) = ty else { continue };
        ids.push(ty.id);
        match ty.def {
            Def::Struct(body) | Def::Union(body) => {
                for member in body.members().take(MANY).flatten() {
                    black_box(btf.find_member(ty.id, member.name).is_ok());
                    black_box(btf.find_member(ty.id, &format!("{0}.{0}[1].{0}", member.name)).is_ok());
                    black_box(btf.member_at(ty.id, u64::from(member.bit_offset / 8)).is_ok());
                }
            }
            Def::Enum(body) => drop(black_box(body.values().collect::<Vec<_>>())),
            Def::FuncProto(body) => drop(black_box(body.params().collect::<Vec<_>>())),
            Def::Datasec(body) => drop(black_box(body.vars().collect::<Vec<_>>())),
            _ => {}
        }
        black_box((btf.find(ty.name, Kind::Struct), btf.named(ty.name), btf.candidates(ty.name)));
    }
    for id in &ids {
        black_box((btf.get(*id).is_ok(), btf.resolve(*id).is_ok(), btf.strip_modifiers(*id).is_ok()));
        black_box((btf.size_of(*id).is_ok(), btf.align_of(*id).is_ok()));
    }
    for id in ids.iter().step_by(7) {
        black_box((btf.c_declaration(*id, "x"), btf.c_definition(*id)));
    }
    black_box(btf.c_header(&ids));
    if let Ok(mut copy) = Builder::copy_of(btf) {
        for id in &ids {
            let _ = copy.set_size(*id, 8);
            let _ = copy.set_linkage(*id, ringfence_btf::Linkage::Static);
            let _ = copy.set_var(*id, 0, ringfence_btf::SectionVar { ty: TypeId(1), offset: 0, size: 4 });
        }
        let _ = copy.replace(TypeId(2), "replaced", ringfence_btf::New::Typedef(TypeId(1)));
        copy.string("task_struct");
        black_box(copy.build().is_ok());
    }
}
