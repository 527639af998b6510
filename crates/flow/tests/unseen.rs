//! Records in ways that no rule was made for: how much of them is found, and that nothing of it is wrong.
#![allow(missing_docs)]

mod fields;

use std::path::Path;

use fields::{Score, parse_facts};
use ringfence_flow::{Layout, layouts};
use ringfence_object::Object;

/// Map, and what is true of its records. Records of one size that nothing tells apart are of no known struct.
const TRUTH: &[(&str, &[&str])] = &[
    ("dyn_whole", &["when 0 8 n, who 8 4 n, core_id 12 4 n, name 16 16 t"]),
    ("dyn_data", &["tid 0 4 n, uid 4 4 n, start 8 8 n"]),
    ("dyn_parts", &["at 0 8 n, cgroup 8 8 n, code 16 4 n, path 20 36 t"]),
    ("kept", &["start 0 8 n, duration 8 8 n, pid 16 4 n, ret 20 4 n, file 24 32 t, bytes 56 8 n"]),
    ("copied", &["ts 0 8 n, flags 8 4 n, mode 12 4 n, fd 16 8 n, tgid 24 4 n, fname 28 60 t"]),
    (
        "nested",
        &["time 0 8 n, pid 8 4 n, cpu 12 4 n, type 16 1 n, latency 24 8 n, major 32 4 n, minor 36 4 n, disk 40 12 t"],
    ),
    (
        "kinds",
        &[
            "kind 0 4 n, parent 4 4 n, child 8 4 n, cpu 12 4 n, ts 16 8 n",
            "kind 0 4 n, pid 4 4 n, ts 8 8 n, inode 16 8 n",
            "kind 0 4 n, pid 4 4 n, code 8 4 n, signal 12 4 n, lifetime 16 8 n",
        ],
    ),
    ("filled", &["pid 0 4 n, ppid 4 4 n, flags 8 8 n, comm 16 16 t, pcomm 32 16 t"]),
    (
        "perf",
        &["ts 0 8 n, saddr_v4 8 4 n, saddr_v6 8 16 b, daddr_v4 24 4 n, daddr_v6 24 16 b, sport 40 2 n, dport 42 2 n, \
           family 44 2 n, old_state 46 1 n, new_state 47 1 n, pid 48 4 n"],
    ),
    ("counts", &["packets 0 8 n, bytes 8 8 n, drops 16 4 n, last_cpu 20 4 n, last_seen 24 8 n"]),
    ("argv", &["ts 0 8 n, pid 8 4 n, uid 12 4 n, argc 16 4 n, size 20 4 n, args 24 512 t"]),
    ("same", &["none 0 0 s"]),
    ("bits", &["ts 0 8 n, whole 12 4 n"]),
    ("arrays", &["ts 0 8 n, counts 8 16 b, pairs 24 24 b, stack 48 64 b, n 112 4 n, size 116 4 n"]),
    ("once", &["target 0 4 n, sender 4 4 n, sig 8 4 n, ret 12 4 n, when_ns 16 8 n, who 24 16 t, ok 40 1 n"]),
    ("flagged", &["id 0 8 n, flags 8 2 n, len 10 2 n, mark 12 4 n, proto 16 1 n, dir 17 1 n"]),
];

#[test]
fn much_is_right_and_nothing_wrong() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/unseen.c");
    for level in ["-O1", "-O2", "-O3"] {
        for cpu in ["-mcpu=v1", "-mcpu=v2", "-mcpu=v3", "-mcpu=v4"] {
            let Some(elf) = ringfence_testing::compile(&source, &["-target", "bpfel", level, cpu]) else { return };
            let object = Object::parse("unseen.o", &elf).unwrap();
            let all = layouts(&object);
            let mut sum = Score::default();
            for (map, truths) in TRUTH {
                let of_map = |layout: &&Layout| object.maps[layout.map.0].name == *map;
                let found: Vec<&Layout> = all.iter().filter(of_map).collect();
                for truth in *truths {
                    // The layout that fits best.
                    let facts = parse_facts(truth);
                    let scores = found.iter().map(|layout| Score::of(&object, layout, &facts));
                    let missed = Score { fields: facts.len(), ..Score::default() };
                    let score =
                        scores.min_by_key(|score| (score.wrong.len() + score.misnamed.len(), 99 - score.placed));
                    let score = score.unwrap_or(missed);
                    if std::env::var_os("RINGFENCE_SHOW").is_some() {
                        print!("{level} {cpu} {}", score.row(map));
                    }
                    sum.add(&score);
                }
            }
            println!(
                "{level} {cpu}: {} of {} placed, {} named, wrong {:?}, misnamed {:?}",
                sum.placed, sum.fields, sum.named, sum.wrong, sum.misnamed
            );
        }
    }
}
