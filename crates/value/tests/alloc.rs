//! What a record costs in the steady state: no allocation, whatever is made of it.
#![allow(missing_docs)]

mod common;

use ringfence_value::{Clock, Filter, Layout, Path, Row};

#[test]
fn nothing_is_allocated_for_a_record() {
    // The counter counts.
    assert!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8]))).count_total > 0);
    let btf = common::btf("bpfel");
    let clock = Clock { now_ns: 1 << 40, offset_ns: 0, zone_seconds: 0 };
    for name in ["scalars", "nested", "net", "both", "times", "asked", "buffer"] {
        let layout = Layout::compile(&btf, common::named(&btf, name)).unwrap();
        let record: Vec<u8> = (0..layout.size()).map(|n| (n * 37) as u8).collect();
        let (mut json, mut row) = (Vec::with_capacity(1 << 16), Row::new());
        layout.row(&record, Some(&clock), &mut row).unwrap();
        let counts = allocation_counter::measure(|| {
            for _ in 0..1000 {
                json.clear();
                layout.json(&record, &mut json).unwrap();
                layout.row(&record, Some(&clock), &mut row).unwrap();
            }
        });
        assert_eq!(counts.count_total, 0, "{name}");
    }
}

#[test]
fn nothing_is_allocated_for_a_condition() {
    let btf = common::btf("bpfel");
    let layout = Layout::compile(&btf, common::named(&btf, "asked")).unwrap();
    let record = vec![1; layout.size()];
    let text = "(pid == 5 || comm ~ '*a*b' || comm != 'x') && !(daddr == 10.0.0.0/8) && mac != 02:00:00:00:00:00 && share < 2.5";
    let condition = Filter::parse(text).unwrap().bind([&layout]).unwrap().remove(0);
    let chosen = layout.select(&[Path::parse("path[1].x").unwrap(), Path::parse("comm").unwrap()]).unwrap();
    let pid = layout.field(&Path::parse("pid").unwrap()).unwrap();
    let mut json = Vec::with_capacity(1 << 12);
    let counts = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(condition.holds(&record));
            json.clear();
            chosen.json(&record, &mut json).unwrap();
            pid.sort_key(&record);
        }
    });
    assert_eq!(counts.count_total, 0);
}
