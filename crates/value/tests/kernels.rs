//! Every struct and union of real kernels compiles, and decodes any bytes to JSON that reads back.
#![allow(missing_docs)]

use std::sync::Arc;

use ringfence_btf::{Btf, Def};
use ringfence_value::{Error, Layout, Row};

#[test]
fn all_types_of_a_kernel() {
    // One old and one new; a debug build takes some seconds for each.
    for (version, path) in
        ringfence_testing::kernels().iter().filter(|(version, _)| ["5.10", "7.3"].contains(&&**version))
    {
        let btf = Btf::parse(Arc::new(std::fs::read(path).unwrap())).unwrap();
        let record: Vec<u8> = (0..16_384u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let (mut json, mut row, mut done) = (Vec::new(), Row::new(), 0);
        for ty in btf.own_types().map(Result::unwrap) {
            if !matches!(ty.def, Def::Struct(_) | Def::Union(_)) {
                continue;
            }
            let layout = match Layout::compile(&btf, ty.id) {
                Ok(layout) => layout,
                // A flexible array of a type that this kernel only declares.
                Err(Error::NotData(..)) => continue,
                Err(error) => panic!("{}: {error}", ty.name),
            };
            assert_eq!(layout.size() as u64, btf.size_of(ty.id).unwrap(), "{}", ty.name);
            if let Some(record) = record.get(..layout.size()) {
                json.clear();
                layout.json(record, &mut json).unwrap();
                layout.row(record, None, &mut row).unwrap();
                assert_eq!(row.len(), layout.columns().len(), "{}", ty.name);
                done += 1;
                if done % 8 == 0 {
                    let read = serde_json::from_slice::<serde::de::IgnoredAny>(&json);
                    assert!(read.is_ok(), "{}: {read:?}", ty.name);
                }
            }
        }
        println!("{version}: {done} types");
        assert!(done > 5_000);
    }
}
