//! Loads objects with Ringfence. Executing the finished plan is the kernel's share: BTF, maps and programs.

use ringfence_plan::Settings;
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let kernel = ringfence::Kernel::running();
    ringfence_benches::load_each(|object| {
        let object = ringfence::open(object)?;
        let plan = ringfence_plan::plan(&object, &kernel, &Settings::new())?;
        let start = Instant::now();
        let loaded = ringfence::load(&plan, &kernel)?;
        Ok((loaded, start.elapsed()))
    })
}
