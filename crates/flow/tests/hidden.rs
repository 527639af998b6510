//! Records whose struct is in the object's types, which the recovery is not told: what it finds in the code, held against
//! the struct.
#![allow(missing_docs)]

mod fields;

use std::collections::BTreeMap;
use std::path::Path;

use fields::{Score, hide, of_type};
use ringfence_flow::{Basis, Layout, Types, contents, event_types, layouts};
use ringfence_object::Object;
use ringfence_testing::all_objects;

/// Scores by the set that an object is of, with how many layouts they are of.
#[derive(Default)]
struct Sums(BTreeMap<String, (usize, Score)>);

impl Sums {
    fn add(&mut self, set: &str, score: &Score) {
        let (count, sum) = self.0.entry(set.to_owned()).or_default();
        *count += 1;
        sum.add(score);
    }

    fn check(&self, what: &str) {
        for (set, (count, sum)) in &self.0 {
            println!("{set}: {count} {what} of {} fields, {} placed, {} named", sum.fields, sum.placed, sum.named);
            assert!(sum.wrong.is_empty(), "{set}: {sum:?}");
        }
    }
}

#[test]
fn structs_that_are_known() {
    let mut sums = Sums::default();
    for path in all_objects() {
        let set = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok(object) = Object::parse(&path.file_stem().unwrap_or_default().to_string_lossy(), &bytes) else {
            continue;
        };
        for choice in event_types(&object, None) {
            let Some(chosen) = choice.chosen.as_ref().filter(|chosen| {
                chosen.types == Types::Object
                    && matches!(chosen.basis, Basis::Source | Basis::Data)
                    && !choice.ambiguous
            }) else {
                continue;
            };
            let facts = of_type(object.btf.as_ref().unwrap(), chosen.ty);
            let mut object = object.clone();
            hide(&mut object, chosen.ty);
            let all = layouts(&object);
            let is_it = |l: &&Layout| {
                let sent = |call: &(_, _)| choice.outputs.iter().any(|output| (output.function, output.insn) == *call);
                l.map == choice.map && l.size == choice.size && l.calls.iter().any(sent)
            };
            let Some(layout) = all.iter().find(is_it) else { continue };
            let score = Score::of(&object, layout, &facts);
            sums.add(&set, &score);
        }
    }
    sums.check("records");
}

/// The values of maps, with no map's type told.
#[test]
fn values_of_maps() {
    let mut sums = Sums::default();
    for path in all_objects() {
        let set = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok(object) = Object::parse(&path.file_stem().unwrap_or_default().to_string_lossy(), &bytes) else {
            continue;
        };
        let mut hidden = object.clone();
        for map in &mut hidden.maps {
            map.value_type = None;
        }
        for layout in contents(&hidden) {
            let map = &object.maps[layout.map.0];
            let (Some(btf), Some(ty)) = (object.btf.as_ref(), map.value_type) else { continue };
            let facts = of_type(btf, ty);
            if facts.is_empty() || !matches!(map.role, ringfence_object::Role::Declared) {
                continue;
            }
            let score = Score::of(&hidden, &layout, &facts);
            sums.add(&set, &score);
        }
    }
    sums.check("values");
}
