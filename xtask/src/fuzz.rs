//! `cargo xtask fuzz`: libFuzzer on the stable toolchain. See fuzz/README.md.

use crate::objects;
use crate::tools::{self, cargo, command, cores, files, finish, root, run as execute, target};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};
use pico_args::Arguments;
use ringfence_btf::{Btf, Def, Type};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What cargo-fuzz passes for `--sanitizer none`: all of it known to the stable compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Larger objects teach nothing new and are slow.
const SEED_BYTES: usize = 32 << 10;

/// Turns the bytes of an object into an input; `None`: it makes none.
type Seed = fn(&[u8]) -> Option<Vec<u8>>;

const TARGETS: &[(&str, Seed)] = &[
    ("object", |object| Some(object.to_vec())),
    ("btf", btf),
    ("c", c),
    ("flow", |object| Some(object.to_vec())),
    ("plan", |object| Some([&[0], object].concat())),
    // A record of 64 bytes, then the types.
    ("value", |object| Some([[64, 0].as_slice(), [0x41; 64].as_slice(), &btf(object)?].concat())),
];

fn btf(object: &[u8]) -> Option<Vec<u8>> {
    Some(object::File::parse(object).ok()?.section_by_name(".BTF")?.data().ok()?.to_vec())
}

/// The types of an object as a header, behind one of them.
fn c(object: &[u8]) -> Option<Vec<u8>> {
    let types = Btf::parse(Arc::new(btf(object)?)).ok()?;
    let named = |ty: &Type<'_>| matches!(ty.def, Def::Struct(_)) && !ty.name.is_empty();
    let header: String = types.own_types().flatten().filter(named).map(|ty| types.c_definition(ty.id) + "\n").collect();
    let first = types.own_types().flatten().find(named)?;
    Some(format!("struct {}[2]\n{header}", first.name).into_bytes())
}

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let seconds: u64 = arguments.opt_value_from_fn("--for", seconds)?.unwrap_or(60);
    let input: Option<PathBuf> = arguments.opt_value_from_str("--input")?;
    let name = arguments.subcommand()?;
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let known = TARGETS.iter().find(|(known, _)| Some(*known) == name.as_deref());
    let (name, seed) = known.with_context(|| format!("name a target: {}", names.join(", ")))?;
    finish(arguments)?;

    let program = build(name)?;
    let folder = |kind| root().join("fuzz").join(kind).join(name);
    let (corpus, artifacts) = (folder("corpus"), folder("artifacts"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let mut fuzz = command(&program.to_string_lossy(), ["-timeout=5", "-rss_limit_mb=500"]);
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    if let Some(input) = input {
        return execute(fuzz.arg(input.canonicalize()?));
    }
    if fs::read_dir(&corpus)?.next().is_none() {
        eprintln!("fuzz: {} seeds", plant(&corpus, *seed)?);
    }
    fuzz.arg(format!("-fork={}", cores())).arg(format!("-max_total_time={seconds}")).arg("-max_len=65536");
    execute(fuzz.arg(&corpus)).with_context(|| format!("findings are in {}", artifacts.display()))?;
    eprintln!("fuzz: {name}: nothing found in {seconds} s, {} inputs in the corpus", fs::read_dir(&corpus)?.count());
    Ok(())
}

fn build(name: &str) -> Result<PathBuf> {
    let host = tools::text(&mut command("rustc", ["--print", "host-tuple"]))?;
    let place = target().join("fuzz");
    let mut build = cargo(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bin", name]);
    // With a target named, the flags are not used for build scripts and procedural macros.
    build.arg("--target-dir").arg(&place).args(["--target", &host]).env("RUSTFLAGS", FLAGS);
    execute(&mut build)?;
    Ok(place.join(host).join("release").join(name))
}

/// Fills an empty corpus.
fn plant(corpus: &Path, seed: Seed) -> Result<usize> {
    let mut count = 0;
    for set in objects::SETS {
        for file in files(&objects::place().join(set), ".o")? {
            let object = fs::read(&file)?;
            if let Some(input) = seed(&object).filter(|input| input.len() <= SEED_BYTES) {
                fs::write(corpus.join(format!("{set}-{}", tools::name(&file))), input)?;
                count += 1;
            }
        }
    }
    ensure!(count > 0, "no objects to make seeds from; `cargo xtask objects` makes them");
    Ok(count)
}

/// `90`, `90s`, `30m`.
fn seconds(text: &str) -> Result<u64> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => anyhow::bail!("{text}: a time is like 90s, 30m or 1h"),
    };
    Ok(number.parse::<u64>()? * unit)
}
