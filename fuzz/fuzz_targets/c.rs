//! Any text as C: what is understood can be written as C, and read again, and has the same layout.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_btf::{Btf, Def};

/// Types of one text that are looked at: each writes all that it needs.
const TYPES: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // The first line is a type of its own, the others are a header.
    let (ty, header) = text.split_once('\n').unwrap_or((&text, ""));
    let base = Btf::parse_c(header, None).ok().map(|(types, _)| types);
    let _ = Btf::parse_c_type(ty, base.as_ref());
    let Some(types) = base else { return };
    for ty in types.own_types().flatten().take(TYPES) {
        let (Def::Struct(_) | Def::Union(_)) = ty.def else { continue };
        if ty.name.is_empty() {
            continue;
        }
        let size = types.size_of(ty.id).expect("what was read has a size");
        let word = if matches!(ty.def, Def::Union(_)) { "union" } else { "struct" };
        let (again, id) = Btf::parse_c_type(&format!("{word} {}", ty.name), Some(&types)).expect("its name names it");
        assert_eq!(again.size_of(id).ok(), Some(size), "{}", ty.name);
        let _ = (types.c_definition(ty.id), types.c_declaration(ty.id, "x"));
    }
});
