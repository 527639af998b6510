//! Any types, any record, and the record's text as a condition and a path: two bytes say how long the record is, the record follows, the rest is BTF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_btf::{Btf, Kind};
use ringfence_value::{Filter, Layout, Options, Path, Row};
use std::sync::Arc;

const TYPES: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first_chunk() else { return };
    let Some((record, types)) = bytes.split_at_checked(usize::from(u16::from_le_bytes(*size))) else { return };
    let Ok(btf) = Btf::parse(Arc::new(types.to_vec())) else { return };
    for ty in btf.own_types().take(TYPES).flatten() {
        if !matches!(ty.def.kind(), Kind::Struct | Kind::Union | Kind::Array | Kind::Int | Kind::Enum) {
            continue;
        }
        for least in [None, Some(0)] {
            let options = Options { least, ..Options::default() };
            let Ok(layout) = Layout::compile_with(&btf, ty.id, options) else { continue };
            let (mut json, mut row, mut yaml) = (Vec::new(), Row::new(), String::new());
            let fits = record.len() >= layout.need();
            assert_eq!(layout.json(record, &mut json).is_ok(), fits);
            assert_eq!(layout.row(record, None, &mut row).is_ok(), fits);
            assert_eq!(layout.yaml(record, &mut yaml).is_ok(), fits);
            assert_eq!(layout.value(record).is_ok(), fits);
            if let Ok(text) = std::str::from_utf8(record) {
                match Filter::parse(text).and_then(|filter| filter.bind([&layout])) {
                    Ok(conditions) => assert_eq!(conditions.iter().filter(|one| one.holds(types)).count() / 2, 0),
                    Err(error) => assert_eq!(error.to_string().lines().count(), 3),
                }
            }
            for name in layout.fields().iter().take(8) {
                let Some(path) = Path::parse(name) else { continue };
                let Ok(chosen) = layout.select([&path]) else { continue };
                json.clear();
                assert_eq!(chosen.json(record, &mut json).is_ok(), fits);
                layout.field(&path).ok().map(|field| field.sort_key(record));
            }
            if fits {
                assert!(std::str::from_utf8(&json).is_ok());
                assert_eq!(row.len(), layout.columns().len());
            }
        }
    }
});
