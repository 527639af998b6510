//! Functions of the kernel and of programs.

use std::io::Write;
use std::process::Stdio;

use ringfence::hook::{Often, PerfEvent, Uprobe, Usdt};

use crate::common::built;
use crate::row::{Row, Run, Stop};
use crate::trace::{getpriority, open_a_file};

const fn row(section: &'static str, fire: crate::row::Fire) -> Row {
    Row::new("sections_probe", section, fire)
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("kprobe", opening),
    row("kretprobe", opening),
    row("ksyscall", |run| { run.attach()?; getpriority(); Ok(()) }),
    row("kretsyscall", |run| { run.attach()?; getpriority(); Ok(()) }),
    row("kprobe.multi", opening),
    row("kretprobe.multi", opening),
    row("kprobe.session", opening),
    row("uprobe", |run| calling(run, false)),
    row("uprobe.s", |run| calling(run, false)),
    row("uretprobe", |run| calling(run, true)),
    row("uretprobe.s", |run| calling(run, true)),
    row("uprobe.multi", calling_named),
    row("uprobe.multi.s", calling_named),
    row("uretprobe.multi", calling_named),
    row("uretprobe.multi.s", calling_named),
    row("uprobe.session", calling_named),
    row("uprobe.session.s", calling_named),
    row("usdt", starting),
    row("usdt.s", starting),
    row("perf_event", ticking),
];

fn opening(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    open_a_file();
    Ok(())
}

/// The function that the user probes look at.
#[inline(never)]
fn ringfence_test_probed(value: u64) -> u64 {
    std::hint::black_box(value) * 3
}

/// Its symbol, as the compiler has mangled it.
fn probed_symbol() -> String {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let names = elf.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned));
    names.into_iter().find(|name| name.contains("ringfence_test_probed")).unwrap()
}

fn calling(run: &Run, at_return: bool) -> Result<(), Stop> {
    let place = Uprobe::new("/proc/self/exe", &probed_symbol());
    run.attach_to(&if at_return { place.at_return() } else { place })?;
    ringfence_test_probed(std::hint::black_box(1));
    Ok(())
}

/// By the section's name alone.
fn calling_named(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    ringfence_test_probed(std::hint::black_box(1));
    Ok(())
}

/// A program with static probes is run once.
fn starting(run: &Run) -> Result<(), Stop> {
    let program = built("probed");
    let name = program.display().to_string();
    run.attach_to(&Usdt::new(&name, "ringfence", "twelve"))?;
    let mut command = std::process::Command::new(&program);
    command.env("LD_LIBRARY_PATH", program.parent().unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child.wait().unwrap();
    Ok(())
}

fn ticking(run: &Run) -> Result<(), Stop> {
    run.attach_to(&PerfEvent::cpu_clock(Often::PerSecond(1000)))
}
