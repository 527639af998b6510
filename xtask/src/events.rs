//! `cargo xtask events`: which struct Ringfence takes the events of libbpf-tools for, compared with the tools' headers and
//! with docs/events.md. The test of `crates/flow` that holds the truth does it, so that it runs with all others, too.

use crate::tools::{cargo, finish, run as execute};
use crate::{objects, test};
use anyhow::{Result, ensure};
use pico_args::Arguments;

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let write = arguments.contains("--write");
    finish(arguments)?;
    let objects = objects::place().join("libbpf-tools");
    ensure!(objects.exists(), "{} is missing; `cargo xtask objects` makes it", objects.display());
    let mut check =
        cargo(["test", "--quiet", "--locked", "--package", "ringfence-flow", "--test", "real", "libbpf_tools"]);
    if write {
        check.env("RINGFENCE_WRITE", "1");
    }
    execute(test::with_material(&mut check))
}
