//! What BPF sources include: libbpf's headers from the locked crate, the types of a kernel from its BTF.

use crate::tools::{cache, cargo, command, root, text};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The compiler of everything BPF in this tree.
pub(crate) const CLANG: &str = "clang-19";

const LIBBPF: &[&str] =
    &["bpf_core_read.h", "bpf_endian.h", "bpf_helper_defs.h", "bpf_helpers.h", "bpf_tracing.h", "usdt.bpf.h"];

/// A directory to include with libbpf's headers in `bpf/`, and their version.
pub(crate) fn libbpf_headers() -> Result<(PathBuf, String)> {
    let manifest = root().join("oracle/Cargo.toml");
    let metadata = text(cargo(["metadata", "--format-version=1", "--locked", "--manifest-path"]).arg(manifest))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let package =
        packages.iter().find(|package| package["name"] == "libbpf-sys").context("oracle has no libbpf-sys")?;
    let field = |name| package[name].as_str().context("cargo metadata has changed");
    let (version, manifest) = (field("version")?.replace('+', "-"), field("manifest_path")?);
    let source = Path::new(manifest).parent().context("no parent")?.join("libbpf/src");
    let include = cache()?.join("include").join(format!("libbpf-{version}"));
    fs::create_dir_all(include.join("bpf"))?;
    for header in LIBBPF {
        fs::copy(source.join(header), include.join("bpf").join(header)).with_context(|| header.to_string())?;
    }
    Ok((include, version))
}

/// Writes the types of raw BTF as C.
pub(super) fn vmlinux_h(btf: &Path, header: &Path) -> Result<()> {
    let c = text(command("bpftool", ["btf", "dump", "file"]).arg(btf).args(["format", "c"]))?;
    fs::write(header, c + "\n").with_context(|| header.display().to_string())
}
