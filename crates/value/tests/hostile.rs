//! Damaged types and random records: an error or valid output, never a panic, never without end.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use ringfence_btf::{Btf, TypeId};
use ringfence_value::{Clock, Histogram, Layout, Options, Row};

static TYPES: LazyLock<Vec<u8>> = LazyLock::new(|| common::btf_bytes("bpfel"));

/// Everything that a layout does with a record, checked where there is something to check.
fn exercise(layout: &Layout, record: &[u8]) {
    let clock = Clock { now_ns: 1, offset_ns: i64::MIN, zone_seconds: i32::MIN };
    let (mut json, mut row) = (Vec::new(), Row::new());
    let done = layout.json(record, &mut json);
    assert_eq!(done.is_err(), record.len() < layout.need());
    assert_eq!(layout.row(record, Some(&clock), &mut row).is_err(), done.is_err());
    if done.is_ok() {
        let read: Result<serde_json::Value, _> = serde_json::from_slice(&json);
        assert!(read.is_ok(), "{:?}: {}", read, String::from_utf8_lossy(&json));
        assert_eq!(row.len(), layout.columns().len());
        let value = layout.value(record).unwrap();
        Histogram::find(&value);
        layout.yaml(record, &mut String::new()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 20_000 }))]

    #[test]
    fn random_records(record in prop::collection::vec(any::<u8>(), 0..200), raw: bool, least: Option<u8>) {
        let least = least.map(usize::from);
        static BTF: LazyLock<Btf> = LazyLock::new(|| Btf::parse(Arc::new(TYPES.clone())).unwrap());
        for id in 1..BTF.len() {
            let layout = Layout::compile_with(&BTF, TypeId(id), Options { raw, least });
            if let Some(layout) = layout.ok().filter(|layout| layout.size() <= 4096) {
                exercise(&layout, &record);
            }
        }
    }

    #[test]
    fn damaged_types(
        damage in prop::collection::vec((24usize..4_000, any::<u8>()), 1..8),
        record in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = TYPES.clone();
        let len = bytes.len();
        for (at, value) in damage {
            bytes[at % len] = value;
        }
        if let Ok(btf) = Btf::parse(Arc::new(bytes)) {
            for id in 0..btf.len().min(200) {
                if let Ok(layout) = Layout::compile(&btf, TypeId(id)) {
                    exercise(&layout, &record);
                }
            }
        }
    }
}
