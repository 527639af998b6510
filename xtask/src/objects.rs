//! `cargo xtask objects`: real BPF objects to test with, in target/objects.
//!
//! Debian's tools carry theirs inside the program; the kernel's self-tests are compiled. Each set is kept in the
//! user's cache under a name that says what it was made from, so that a second run has nothing to do.

mod carve;
mod headers;
mod selftests;

use headers::CLANG;
pub(crate) use headers::libbpf_headers;

use crate::tools::{self, cache, command, finish, have, link, target, text};
use anyhow::{Context, Result};
use pico_args::Arguments;
use std::fs;
use std::path::{Path, PathBuf};

/// A set of objects that Debian packages hold.
struct Packaged {
    name: &'static str,
    /// The first gives the set its version.
    packages: &'static [&'static str],
}

const PACKAGED: &[Packaged] = &[
    Packaged { name: "libbpf-tools", packages: &["libbpf-tools"] },
    Packaged { name: "xdp-tools", packages: &["xdp-tools", "libxdp1"] },
];

/// Where the sets are: the value of `RINGFENCE_OBJECTS`.
pub(crate) fn place() -> PathBuf {
    target().join("objects")
}

/// The sets, by the names of their directories.
pub(crate) const SETS: &[&str] = &["libbpf-tools", "xdp-tools", "selftests"];

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    finish(arguments)?;
    for set in PACKAGED {
        report(set.name, packaged(set));
    }
    report("selftests", selftests::make());
    Ok(())
}

/// A set that cannot be had is a visible line: the tests that need it say that they were skipped.
fn report(set: &str, made: Result<PathBuf>) {
    let done = made.and_then(|made| {
        link(&made, &place().join(set))?;
        Ok(tools::files(&made, ".o")?.len())
    });
    match done {
        Ok(count) => eprintln!("objects: {set}: {count}"),
        Err(error) => eprintln!("objects: MISSING {set}: {error:#}"),
    }
}

/// Version of an installed Debian package.
fn version(package: &str) -> Result<String> {
    text(&mut command("dpkg-query", ["-W", "-f", "${Version}", package]))
        .with_context(|| format!("{package} is not installed; `cargo xtask setup` does"))
}

/// Directory of a set in the cache, and whether it is complete.
fn cached(name: &str) -> Result<(PathBuf, bool)> {
    let dir = cache()?.join("objects").join(name);
    let complete = dir.join(".complete").exists();
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok((dir, complete))
}

fn packaged(set: &Packaged) -> Result<PathBuf> {
    let first = set.packages.first().context("a set without packages")?;
    let (dir, complete) = cached(&format!("{}-{}", set.name, version(first)?))?;
    if complete {
        return Ok(dir);
    }
    for package in set.packages {
        for file in text(&mut command("dpkg-query", ["-L", package]))?.lines().map(Path::new) {
            // A link is the same tool under another name.
            if file.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                copy(file, &dir)?;
            }
        }
    }
    fs::write(dir.join(".complete"), "")?;
    Ok(dir)
}

/// Copies the objects inside a file: `NAME.o`, `NAME.1.o`, `NAME.2.o`.
fn copy(file: &Path, dir: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".o").unwrap_or(&name);
    for (index, object) in carve::objects(&bytes).into_iter().enumerate() {
        let number = if index == 0 { String::new() } else { format!(".{index}") };
        fs::write(dir.join(format!("{name}{number}.o")), object)?;
    }
    Ok(())
}

/// The clang that compiles BPF here.
pub(crate) fn clang() -> Result<&'static str> {
    have(CLANG).then_some(CLANG).with_context(|| format!("{CLANG} is not installed; `cargo xtask setup` does"))
}
