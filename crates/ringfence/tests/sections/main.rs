//! Every section name: its program loaded, attached, and its effect read from a map, or the kernel's reason why not.
//!
//! `cargo xtask vm` runs this on other kernels and writes docs/sections.md from the lines that it prints. With
//! `RINGFENCE_SECTION=xdp` only names that begin so are tried.

#[path = "../common/mod.rs"]
mod common;

mod cgroup;
mod net;
mod probe;
mod row;
mod trace;

use std::time::{Duration, Instant};

use row::{Outcome, Row};

/// All rows, a family after another.
fn rows() -> impl Iterator<Item = &'static Row> {
    [probe::ROWS, trace::ROWS, net::ROWS, cgroup::ROWS].into_iter().flatten()
}

#[test]
fn every_section_has_one_row() {
    let mut rows: Vec<&str> = rows().map(|row| row.section).collect();
    let mut sections: Vec<&str> = ringfence_object::SECTIONS.iter().map(|def| def.name).collect();
    rows.sort_unstable();
    sections.sort_unstable();
    assert_eq!(rows, sections);
}

#[test]
fn every_section() {
    let wanted = std::env::var("RINGFENCE_SECTION").unwrap_or_default();
    let mut failed = Vec::new();
    for def in ringfence_object::SECTIONS.iter().filter(|def| def.name.starts_with(&wanted)) {
        let row = rows().find(|row| row.section == def.name).expect("every section has a row");
        let start = Instant::now();
        let outcome = row.try_it();
        if start.elapsed() > Duration::from_secs(1) {
            println!("{} took {} ms", row.section, start.elapsed().as_millis());
        }
        // The lines are read by `cargo xtask vm`.
        println!("section\t{}\t{outcome}", row.section);
        if let Outcome::Failed(why) = outcome {
            failed.push(format!("{}: {why}", row.section));
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
