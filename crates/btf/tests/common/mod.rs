//! The kernels whose types the tests look at.

use std::path::PathBuf;
use std::sync::Arc;

use ringfence_btf::Btf;

/// The running kernel's BTF and those of `RINGFENCE_KERNELS`.
pub(crate) fn kernels() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let running = PathBuf::from("/sys/kernel/btf/vmlinux");
    if running.exists() {
        found.push(running);
    } else {
        eprintln!("skipped: the running kernel has no BTF");
    }
    found.extend(ringfence_testing::kernels().into_iter().map(|(_, path)| path));
    found
}

pub(crate) fn read(path: &PathBuf) -> Btf {
    Btf::parse(Arc::new(std::fs::read(path).unwrap())).unwrap()
}
