//! What it costs to take programs off, and to have many verified: `links OBJECT ROUNDS`. A line for each reading: case,
//! library, milliseconds. Libraries take turns.

use anyhow::{Context, Result};
use libbpf_rs::ObjectBuilder;
use ringfence::hook::{Hook, Tracepoint};
use ringfence::{Links, Loader};
use std::time::{Duration, Instant};

const TRACEPOINTS: [&str; 16] = [
    "sys_enter_openat",
    "sys_exit_openat",
    "sys_enter_openat2",
    "sys_exit_openat2",
    "sys_enter_close",
    "sys_exit_close",
    "sys_enter_read",
    "sys_exit_read",
    "sys_enter_write",
    "sys_exit_write",
    "sys_enter_dup",
    "sys_exit_dup",
    "sys_enter_bpf",
    "sys_exit_bpf",
    "sys_enter_chdir",
    "sys_exit_chdir",
];

/// Time to load, and to take 16 links of one program off.
fn together(file: &str) -> Result<(Duration, Duration)> {
    ringfence(file, |loader| loader, drop)
}

/// The same by one thread, and one link after another.
fn in_turn(file: &str) -> Result<(Duration, Duration)> {
    ringfence(file, |loader| loader.threads(1), |links| links.into_iter().for_each(drop))
}

fn ringfence(
    file: &str,
    choose: for<'a> fn(Loader<'a>) -> Loader<'a>,
    close: fn(Links),
) -> Result<(Duration, Duration)> {
    let kernel = ringfence::Kernel::running();
    let start = Instant::now();
    let object = ringfence::open(file)?;
    let plan = ringfence::plan(&object, &kernel, &ringfence::Settings::new())?;
    let loaded = choose(Loader::new(&plan, &kernel)).load()?;
    let load = start.elapsed();
    let program = loaded.program("nothing")?;
    let links = TRACEPOINTS.iter().map(|name| Tracepoint::new("syscalls", name).attach(program));
    let links: Links = links.collect::<ringfence::Result<_>>()?;
    let start = Instant::now();
    close(links);
    Ok((load, start.elapsed()))
}

fn libbpf(file: &str) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let object = ObjectBuilder::default().open_file(file)?.load()?;
    let load = start.elapsed();
    let program = object.progs_mut().find(|program| program.name() == "nothing").context("no program `nothing`")?;
    let links = TRACEPOINTS.iter().map(|name| program.attach_tracepoint(libbpf_rs::TracepointCategory::Syscalls, name));
    let links: Vec<libbpf_rs::Link> = links.collect::<std::result::Result<_, _>>()?;
    let start = Instant::now();
    drop(links);
    Ok((load, start.elapsed()))
}

type Measure = fn(&str) -> Result<(Duration, Duration)>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("usage: links OBJECT ROUNDS")?;
    let rounds: usize = arguments.next().context("usage: links OBJECT ROUNDS")?.parse()?;
    let libraries: [(&str, Measure); 3] = [("ringfence", together), ("in-turn", in_turn), ("libbpf", libbpf)];
    for round in 0..=rounds {
        for turn in 0..libraries.len() {
            let (library, measure) = libraries[(round + turn) % libraries.len()];
            let (load, close) = measure(&file).context(library)?;
            // The first round warms caches, and is not counted.
            if round > 0 {
                println!("load_64_programs {library} {}", load.as_secs_f64() * 1e3);
                println!("close_16_links {library} {}", close.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(())
}
