//! The time that each object takes, the slowest last: `cargo run --release -p ringfence-flow --example slowest FILE...`.
use ringfence_object::Object;
use std::time::{Duration, Instant};

fn main() {
    let mut all: Vec<(Duration, Duration, Duration, Duration, String)> = Vec::new();
    for path in std::env::args().skip(1) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let parsing = Instant::now();
        let Ok(object) = Object::parse(&path, &bytes) else { continue };
        let parsing = parsing.elapsed();
        let start = Instant::now();
        std::hint::black_box(ringfence_flow::layouts(&object));
        let layouts = start.elapsed();
        let start = Instant::now();
        std::hint::black_box(ringfence_flow::event_types(&object, None));
        let events = start.elapsed();
        let start = Instant::now();
        std::hint::black_box(ringfence_flow::outputs(&object));
        all.push((layouts, events, start.elapsed(), parsing, path));
    }
    all.sort();
    for (layouts, events, outputs, parsing, path) in &all {
        println!("layouts {layouts:?} events {events:?} outputs {outputs:?} parse {parsing:?} {path}");
    }
}
