//! `cargo xtask kernels`: Debian's cloud kernels and their raw BTF, in target/kernels. Downloaded, never installed.
//!
//! Each has `vmlinuz`, `vmlinux` (for QEMU, which boots it without a decompressor), `btf`, `config`, `modules/` and
//! `release`. A kernel that the mirror has dropped is skipped with a visible line.

mod apt;
mod image;

use crate::tools::{KERNELS, bytes, cache, command, link, names, target};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let mut wanted = names(arguments)?;
    if wanted.is_empty() {
        wanted = KERNELS.iter().map(ToString::to_string).collect();
    }
    let dir = dir()?;
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    link(&dir, &place())?;
    let mut apt = None;
    for series in wanted {
        match make(&dir, &series, &mut apt) {
            Ok(release) => eprintln!("kernels: {series}: {release}"),
            Err(error) => eprintln!("kernels: MISSING {series}: {error:#}"),
        }
    }
    Ok(())
}

fn dir() -> Result<PathBuf> {
    Ok(cache()?.join("kernels"))
}

/// Where the kernels are: the value of `RINGFENCE_KERNELS`.
pub(crate) fn place() -> PathBuf {
    target().join("kernels")
}

/// Raw BTF of a kernel that [`run`] fetched.
pub(crate) fn btf(series: &str) -> Result<PathBuf> {
    let btf = dir()?.join(series).join("btf");
    ensure!(btf.exists(), "kernel {series} is not there; `cargo xtask kernels {series}` fetches it");
    Ok(btf)
}

/// The kernels that are there, of those that tests run against.
pub(crate) fn present() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().copied().filter(|series| btf(series).is_ok())
}

/// Fetches one kernel unless it is there; its release.
fn make(dir: &Path, series: &str, apt: &mut Option<apt::Apt>) -> Result<String> {
    let place = dir.join(series);
    if !place.join("btf").exists() {
        let apt = match apt {
            Some(apt) => apt,
            None => apt.insert(apt::Apt::open(&dir.join(".apt"))?),
        };
        // Under another name until it is whole.
        let unfinished = dir.join(format!(".{series}"));
        fs::remove_dir_all(&unfinished).ok();
        fs::create_dir_all(&unfinished)?;
        fetch(apt, series, &unfinished)?;
        fs::remove_dir_all(&place).ok();
        fs::rename(&unfinished, &place)?;
    }
    Ok(fs::read_to_string(place.join("release"))?.trim().to_string())
}

fn fetch(apt: &apt::Apt, series: &str, place: &Path) -> Result<()> {
    let image = apt.newest_image(series)?;
    let release = image.trim_start_matches("linux-image-");
    // From 6.19 on the image is in parts: linux-binary has vmlinuz, linux-base the config, linux-modules the rest.
    let parts = ["linux-binary-", "linux-modules-", "linux-base-"].map(|part| format!("{part}{release}"));
    let packages = std::iter::once(image.clone()).chain(parts).filter(|package| apt.has(package));
    let unpacked = place.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    for package in packages {
        let file = apt.download(&package, place)?;
        bytes(command("dpkg-deb", ["-x"]).arg(&file).arg(&unpacked))?;
        fs::remove_file(file)?;
    }

    let modules = place.join("modules");
    for lib in ["lib/modules", "usr/lib/modules"].map(|lib| unpacked.join(lib).join(release)) {
        if lib.is_dir() {
            fs::rename(lib, &modules)?;
        }
    }
    fs::create_dir_all(&modules)?;
    for name in ["vmlinuz", "config"] {
        for file in [unpacked.join(format!("boot/{name}-{release}")), modules.join(name)] {
            if file.is_file() {
                fs::rename(file, place.join(name))?;
            }
        }
    }
    fs::remove_dir_all(&unpacked)?;

    let vmlinuz = fs::read(place.join("vmlinuz")).context("no vmlinuz in the packages")?;
    let vmlinux = image::unpack(&vmlinuz)?;
    fs::write(place.join("btf"), image::btf(&vmlinux)?)?;
    fs::write(place.join("vmlinux"), vmlinux)?;
    fs::write(place.join("release"), release)?;
    Ok(())
}
