//! `cargo xtask bench`: Ringfence beside libbpf and aya, in turn within one run. Ratios are taken round by round,
//! because the machine is never the same for long; medians are quoted.

mod load;
mod page;
mod profile;
mod rest;
mod table;
mod trace;

use crate::objects::{clang, libbpf_headers};
use crate::tools::{bytes, cargo, command, finish, root, run as execute, target};
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::path::{Path, PathBuf};

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let names = || {
        format!(
            "load, profile, rest, trace, {}",
            table::BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ")
        )
    };
    let what = arguments.subcommand()?.with_context(|| format!("which one? {}", names()))?;
    let rounds: usize = arguments.opt_value_from_str("--rounds")?.unwrap_or(31);
    let write = arguments.contains("--write");
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    finish(arguments)?;
    let section = match table::BENCHES.iter().find(|bench| bench.name == what) {
        Some(bench) => bench.measure(&build()?, rounds)?,
        None if what == "load" => load::measure(&build()?, rounds)?,
        // Each round takes most of a minute.
        None if what == "profile" => profile::measure(rounds.min(5), ringfence)?,
        None if what == "trace" => trace::measure(rounds.min(7), ringfence)?,
        None if what == "rest" => rest::measure(ringfence)?,
        None => bail!("there is no `bench {what}`: {}", names()),
    };
    print!("{section}");
    if write {
        page::replace(&root().join("docs/benchmarks.md"), &section)?;
    }
    Ok(())
}

/// Builds what is measured; where the programs are.
fn build() -> Result<PathBuf> {
    let place = target().join("benches");
    let mut build = cargo(["build", "--release", "--locked", "--quiet", "--manifest-path", "benches/Cargo.toml"]);
    execute(build.arg("--target-dir").arg(&place))?;
    Ok(place.join("release"))
}

/// Compiles a BPF program of the benchmarks.
fn compile(source: &Path, object: &Path) -> Result<()> {
    let (libbpf, _) = libbpf_headers()?;
    let mut clang = command(clang()?, ["-g", "-O2", "--target=bpf", "-mcpu=v3", "-I"]);
    clang.arg(libbpf);
    for include in ["/usr/include/x86_64-linux-gnu", "/usr/include"] {
        clang.args(["-idirafter", include]);
    }
    bytes(clang.arg("-c").arg(source).arg("-o").arg(object))?;
    Ok(())
}

/// The middle value, or the mean of the middle two.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (half, 1) => values[half],
        (half, _) => (values[half - 1] + values[half]) / 2.0,
    }
}

/// Median of the ratios round by round.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_means() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
        // A round in which the machine was busy spoils both sides of its ratio alike.
        assert_eq!(ratio(&[1.0, 10.0, 1.0], &[2.0, 20.0, 2.0]), 0.5);
        assert!((geometric_mean(&[0.5, 2.0]) - 1.0).abs() < 1e-9);
    }
}
