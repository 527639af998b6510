//! The kernel's own BPF test programs: compiled from Debian's kernel source, as its Makefile does.

use super::headers::{libbpf_headers, vmlinux_h};
use super::{cached, clang, version};
use crate::kernels;
use crate::tools::{bytes, cache, command, files, parallel, run};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const SERIES: &str = "6.12";
/// Raised when the flags below change: objects compiled with the old ones are then left alone.
const RECIPE: u32 = 1;

const PROGRAMS: &str = "tools/testing/selftests/bpf/progs";

pub(super) fn make() -> Result<PathBuf> {
    let package = format!("linux-source-{SERIES}");
    let version = version(&package)?;
    let name = format!("selftests-{version}-r{RECIPE}");
    let (dir, complete) = cached(&name)?;
    if complete {
        return Ok(dir);
    }
    let clang = clang()?;
    let (libbpf, _) = libbpf_headers()?;
    let source = source(&package, &version)?;
    let btf = kernels::btf(SERIES)?;
    vmlinux_h(&btf, &source.join("vmlinux.h"))?;

    let sources = files(&source.join(PROGRAMS), ".c")?;
    ensure!(!sources.is_empty(), "{package} has no {PROGRAMS}");
    eprintln!("objects: compiling {} self-tests (minutes, once)", sources.len());
    let failures: Vec<String> = parallel(&sources, |file| compile(clang, &source, &libbpf, file, &dir))
        .into_iter()
        .filter_map(|compiled| compiled.err().map(|error| format!("{error:#}")))
        .collect();
    for failure in &failures {
        eprintln!("objects: selftests: {}", failure.lines().take(3).collect::<Vec<_>>().join(" | "));
    }
    ensure!(failures.len() < sources.len(), "none of the self-tests compiles");
    fs::write(dir.join(".complete"), failures.join("\n"))?;
    fs::remove_dir_all(&source)?;
    Ok(dir)
}

/// The parts of the kernel's source that the programs need.
fn source(package: &str, version: &str) -> Result<PathBuf> {
    let source = cache()?.join("source").join(format!("{package}-{version}"));
    let archive = format!("/usr/src/{package}.tar.xz");
    ensure!(Path::new(&archive).exists(), "there is no {archive}");
    fs::create_dir_all(&source)?;
    eprintln!("objects: unpacking {archive}");
    let wanted = ["tools/testing/selftests/bpf", "tools/include"].map(|part| format!("{package}/{part}"));
    run(command("tar", ["-xJf", &archive, "--strip-components=1", "-C"]).arg(&source).args(wanted))?;
    Ok(source)
}

fn compile(clang: &str, source: &Path, libbpf: &Path, file: &Path, dir: &Path) -> Result<()> {
    let name = file.file_stem().context("no name")?.to_string_lossy().into_owned();
    let object = dir.join(format!("{name}.bpf.o"));
    if object.exists() {
        return Ok(());
    }
    let unfinished = dir.join(format!("{name}.tmp"));
    let mut clang = command(clang, ["-g", "-O2", "--target=bpf", "-mcpu=v3", "-mlittle-endian", "-Wno-everything"]);
    clang.args(["-D__TARGET_ARCH_x86", "-DENABLE_ATOMICS_TESTS"]);
    for include in ["", "tools/testing/selftests/bpf", "tools/include/uapi", "tools/include"] {
        clang.arg("-I").arg(source.join(include));
    }
    clang.arg("-I").arg(libbpf);
    // A BPF target has no system headers of its own; the Makefile hands over the host's too.
    for include in ["/usr/include/x86_64-linux-gnu", "/usr/include"] {
        clang.args(["-idirafter", include]);
    }
    bytes(clang.arg("-c").arg(file).arg("-o").arg(&unfinished)).with_context(|| name.clone())?;
    fs::rename(unfinished, object)?;
    Ok(())
}
