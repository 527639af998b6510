//! How long finding types by name takes: `cargo run --release -p ringfence-btf --example lookup -- FILE...`
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfence_btf::{Btf, Kind};

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    for path in std::env::args().skip(1) {
        let bytes = Arc::new(std::fs::read(&path).unwrap());
        let whole = Btf::parse(bytes.clone()).unwrap();
        let own = whole.own_types().map(Result::unwrap).filter(|ty| !ty.name.is_empty());
        let named: Vec<(String, Kind)> = own.map(|ty| (ty.name.to_owned(), ty.def.kind())).collect();
        println!("{path}: {} types", whole.len());
        let index = (0..51).map(|_| {
            let btf = Btf::parse(bytes.clone()).unwrap();
            let start = Instant::now();
            black_box(btf.len());
            start.elapsed()
        });
        println!("  index                {:.3} ms", median(index.collect()));
        for functions in [false, true] {
            let named: Vec<_> = named.iter().filter(|(_, kind)| functions || *kind != Kind::Func).collect();
            println!("  {}", if functions { "types and functions" } else { "types" });
            for count in [1, 4, 20, 100] {
                let step = named.len() / count;
                let names = (0..count).map(|n| named[n * step + step / 2]).map(|(name, kind)| (name.as_str(), *kind));
                let names: Vec<(&str, Kind)> = names.collect();
                measure(&bytes, &names);
            }
        }
    }
}

fn measure(bytes: &Arc<Vec<u8>>, names: &[(&str, Kind)]) {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..51 {
        let btf = Btf::parse(bytes.clone()).unwrap();
        for times in [&mut cold, &mut warm] {
            let start = Instant::now();
            for (name, kind) in names {
                black_box(btf.find(name, *kind));
            }
            times.push(start.elapsed());
        }
    }
    println!("  {:3} names: first {:.3} ms, again {:.4} ms", names.len(), median(cold), median(warm));
}
