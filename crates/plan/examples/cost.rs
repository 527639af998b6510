//! What planning costs: `cost OBJECT...` prints, in microseconds, parsing, the first plan with a fresh kernel, and the
//! median of further plans.

use std::time::Instant;

use ringfence_kernel::Kernel;
use ringfence_object::Object;
use ringfence_plan::{Settings, plan};

const ROUNDS: usize = 51;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>8} {:>8} {:>8}  object", "parse", "first", "further");
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        let start = Instant::now();
        let object = Object::parse(name, &bytes)?;
        let parse = start.elapsed();
        let kernel = Kernel::running();
        let settings = Settings::new().fill_sizes(true);
        let start = Instant::now();
        plan(&object, &kernel, &settings)?;
        let first = start.elapsed();
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            std::hint::black_box(plan(&object, &kernel, &settings)?);
            rounds.push(start.elapsed());
        }
        rounds.sort_unstable();
        let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
        println!("{:>8} {:>8} {:>8}  {name}", parse.as_micros(), first.as_micros(), median.as_micros());
    }
    Ok(())
}
