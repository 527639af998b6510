//! Loads objects with libbpf, as its users in Rust do.

use libbpf_rs::ObjectBuilder;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    ringfence_benches::load_each(|object| Ok((ObjectBuilder::default().open_file(object)?.load()?, Duration::ZERO)))
}
