//! The time on a processor that each object takes (other load does not count), the slowest last:
//! `cargo run --release -p ringfence-flow --example slowest FILE...`.
use ringfence_object::Object;
use ringfence_testing::worked as ran;
use std::time::Duration;

fn main() {
    let mut all: Vec<(Duration, Duration, Duration, Duration, String)> = Vec::new();
    for path in std::env::args().skip(1) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let start = ran();
        let Ok(object) = Object::parse(&path, &bytes) else { continue };
        let parsing = ran() - start;
        let start = ran();
        std::hint::black_box(ringfence_flow::layouts(&object));
        let layouts = ran() - start;
        let start = ran();
        std::hint::black_box(ringfence_flow::event_types(&object, None));
        let events = ran() - start;
        let start = ran();
        std::hint::black_box(ringfence_flow::outputs(&object));
        all.push((layouts, events, ran() - start, parsing, path));
    }
    all.sort();
    for (layouts, events, outputs, parsing, path) in &all {
        println!("layouts {layouts:?} events {events:?} outputs {outputs:?} parse {parsing:?} {path}");
    }
}
