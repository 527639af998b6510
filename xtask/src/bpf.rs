//! `cargo xtask bpf`: compiles bpf/*.bpf.c to the objects that lie beside them, byte for byte the same on any machine.
//!
//! The objects are in the tree so that nobody needs a compiler to build or use Ringfence.

use crate::objects::{clang, libbpf_headers};
use crate::tools::{Scratch, bytes, command, files, finish, have, name, root};
use anyhow::{Result, ensure};
use pico_args::Arguments;
use std::fs;
use std::path::Path;

const STRIP: &str = "llvm-strip-19";

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let check = arguments.contains("--check");
    finish(arguments)?;
    let clang = clang()?;
    ensure!(have(STRIP), "{STRIP} is not installed; `cargo xtask setup` does");
    let (libbpf, _) = libbpf_headers()?;
    let scratch = Scratch::new("bpf")?;
    let mut different = Vec::new();
    let sources = files(&root().join("bpf"), ".bpf.c")?;
    for source in &sources {
        let place = source.with_extension("o");
        let object = compile(clang, source, &libbpf, scratch.path())?;
        if check && fs::read(&place).ok().as_ref() != Some(&object) {
            different.push(name(&place));
        } else if !check {
            fs::write(&place, object)?;
            eprintln!("bpf: {}", name(&place));
        }
    }
    ensure!(different.is_empty(), "not what their sources compile to: {}; run `cargo xtask bpf`", different.join(" "));
    eprintln!("bpf: {} objects", sources.len());
    Ok(())
}

/// Compiles one source the way that users' sources are.
fn compile(clang: &str, source: &Path, libbpf: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let builder = ringfence_build::Builder::new(source).clang(clang).include(libbpf).flag("-Werror");
    let module = builder.big_endian(false).out_dir(scratch).build()?;
    let object = module.with_extension("bpf.o");
    // DWARF is for debuggers of user space: what a loader reads is in .BTF and .BTF.ext.
    bytes(command(STRIP, ["-g"]).arg(&object))?;
    Ok(fs::read(object)?)
}
