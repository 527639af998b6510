//! Records of structs that are in no BTF, filled in many ways, compiled in many ways: what is said of them is true.
#![allow(missing_docs)]

mod fields;

use std::path::Path;

use fields::{Score, parse_facts};
use ringfence_flow::{Certainty, Layout, layouts};
use ringfence_object::Object;

/// Map, and what is true of its records; how many fields must be found. Records of one size are one layout.
const TRUTH: &[(&str, &[&str], usize)] = &[
    ("plain", &["ts 0 8 n, pid 8 4 n, tid 12 4 n, uid 16 4 n, cpu 20 2 n, flag 22 1 n, comm 23 16 t"], 7),
    ("parts", &["ts 0 8 n, cgroup 8 8 n, name 16 32 t, stack_id 48 4 n, code 52 4 n"], 5),
    (
        "tags",
        &[
            "tag 0 4 n, pid 4 4 n, path 8 64 t",
            "tag 0 4 n, pid 4 4 n, code 8 8 n, when 16 8 n",
            "tag 0 4 n, fd 4 4 n, bytes 8 8 n, when 16 8 n",
        ],
        9,
    ),
    ("halves", &["tid 0 4 n, pid 4 4 n, uid 8 4 n, gid 12 4 n, pid_tgid 16 8 n"], 1),
    ("copies", &["a 0 4 n, b 4 4 n, c 8 2 n, d 10 2 n, e 12 4 n, text 16 16 t, addr 32 16 b"], 2),
    ("joined", &["a 0 4 n, b 4 4 n, c 8 2 n, d 10 2 n, e 12 4 n, f 16 8 n"], 1),
    ("macros", &["when 0 8 n, delta 8 8 n, pid 16 4 n, size 20 4 n"], 2),
    ("tails", &["ts 0 8 n, len 8 4 n, cpu 12 4 n, data 16 256 t"], 4),
    ("inits", &["ts 0 8 n, pid 8 4 n, cpu 12 4 n, cookie 16 8 n"], 3),
    ("stack", &["kind 0 1 n, pid 4 4 n, port 8 2 n, ns 16 8 n, comm 24 16 t"], 5),
    ("zeroes", &["a 0 2 n, b 2 2 n, c 4 4 n, d 8 8 n, e 16 4 n, f 20 4 n"], 0),
    // Two events of one size, in one buffer, from one scratch map.
    ("scratch", &["none 16 0 n"], 0),
];

/// What is not right yet: map, and what is said.
const NOT_RIGHT: &[(&str, &str)] = &[];

#[test]
fn nothing_else_is_wrong() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/styles.c");
    for level in ["-O1", "-O2", "-O3"] {
        for cpu in ["-mcpu=v1", "-mcpu=v2", "-mcpu=v3", "-mcpu=v4"] {
            let Some(elf) = ringfence_testing::compile(&source, &["-target", "bpfel", level, cpu]) else { return };
            let object = Object::parse("styles.o", &elf).unwrap();
            let all = layouts(&object);
            for (map, truths, least) in TRUTH {
                let of_map = |layout: &&Layout| object.maps[layout.map.0].name == *map;
                let found: Vec<&Layout> = all.iter().filter(of_map).collect();
                assert!(!found.is_empty(), "{map} {level} {cpu}");
                let mut placed = 0;
                for layout in found {
                    // The struct of this size: the one that fits best.
                    let scores = truths.iter().map(|truth| Score::of(&object, layout, &parse_facts(truth)));
                    let score = scores
                        .min_by_key(|score| (score.wrong.len(), score.misnamed.len(), usize::MAX - score.placed))
                        .unwrap();
                    for said in score.wrong.iter().chain(&score.misnamed) {
                        assert!(NOT_RIGHT.contains(&(*map, said.as_str())), "{map} {level} {cpu}: {score:?}");
                    }
                    placed += score.placed;
                }
                assert!(placed >= *least, "{map} {level} {cpu}: {placed} of {least}");
            }
        }
    }
}

/// A layout is a type like any other.
#[test]
fn a_layout_is_a_type() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/styles.c");
    let Some(elf) = ringfence_testing::compile(&source, &["-target", "bpfel"]) else { return };
    let object = Object::parse("styles.o", &elf).unwrap();
    for layout in layouts(&object) {
        let (types, ty) = layout.to_btf(object.btf.as_ref(), "event").unwrap();
        assert_eq!(types.size_of(ty), Ok(layout.bytes().into()));
        for field in layout.fields.iter().filter(|field| field.certainty < Certainty::Guessed) {
            let (name, member) = types.member_at(ty, field.offset.into()).unwrap();
            assert_eq!(member.bit_offset, u64::from(field.offset) * 8, "{name} {field:?}");
        }
    }
}
