//! `ringfence profile`: where time goes, by stack.

mod metrics;
mod report;
mod target;
mod top;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringfence_tools::profile::{self, Clock, Folded, Options, Profile, Profiler};

use crate::exit::{Exit, Failure};
use crate::filter::Whose;
use crate::live;
use crate::metrics::Asked;
use crate::run::{duration, say};
use crate::tool::{Until, failure};
use target::{Kind, Target};
use top::Top;

/// Samples a second: what the kernel allows is `kernel.perf_event_max_sample_rate`, which it lowers by itself.
const FREQUENCIES: std::ops::RangeInclusive<i64> = 1..=20_000;

/// Says where time goes, by stack: on the CPUs, or off them with --off-cpu.
///
/// Samples every CPU, counts stacks of kernel and programs in the kernel, gives them names at the end. Ctrl-C or --for ends it.
/// Nothing is left in the kernel.
#[derive(clap::Args)]
pub struct Args {
    /// Samples a second on each CPU.
    #[arg(short = 'F', long, value_name = "N", default_value_t = 99, conflicts_with = "off_cpu",
          value_parser = clap::value_parser!(u32).range(FREQUENCIES))]
    frequency: u32,
    #[command(flatten)]
    whose: Whose,
    /// How stacks of programs are walked: by tables made of their .eh_frame where they have no frame pointers (auto), by frame pointers
    /// alone (fp), by tables wherever there are any (dwarf).
    #[arg(long, value_enum, default_value_t)]
    unwind: Unwind,
    /// Time that threads wait, by where they left the CPU, instead of time on it.
    #[arg(long)]
    off_cpu: bool,
    /// With --off-cpu: leave out waits shorter than this (10us, 5ms).
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "off_cpu")]
    min_wait: Option<Duration>,
    /// End by itself after this time (5s, 2m); else at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// table, json, folded, svg or pprof on stdout; or a file, its kind by its end: .folded .svg .pprof .pb.gz .json .txt. Several times
    /// for several.
    #[arg(short, long, value_name = "KIND|FILE", value_parser = Target::parse, default_value = "table")]
    output: Vec<Target>,
    /// Serve the numbers as Prometheus metrics at this address (or port of this machine), under /metrics, while it measures.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::metrics::address)]
    metrics: Option<SocketAddr>,
    /// Functions in the table.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Compare with an earlier run, written as FILE.folded: shares in the table, colours in the flame graph.
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    /// Measure nothing: show a run that was written as FILE.folded (from any tool).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["frequency", "pid", "comm", "uid", "cgroup", "container", "off_cpu", "unwind", "duration", "metrics"])]
    read: Option<PathBuf>,
}

/// `--unwind`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Unwind {
    #[default]
    Auto,
    Fp,
    Dwarf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    target::check(&args.output)?;
    let before = args.diff.as_deref().map(read).transpose()?;
    let shown = match &args.read {
        Some(file) => report::Shown::read(read(file)?, file, before),
        None => report::Shown::measured(measure(args)?, args.off_cpu, before),
    };
    shown.write(&args.output, args.top)
}

fn read(path: &std::path::Path) -> Result<Folded, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(Exit::Error, format_args!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| fail(&error))?;
    Folded::parse(&String::from_utf8_lossy(&text)).map_err(|error| fail(&error))
}

fn measure(args: &Args) -> Result<Profile, Failure> {
    let options = Options {
        frequency: args.frequency,
        off_cpu: args.off_cpu,
        shortest_wait: args.min_wait.unwrap_or_default(),
        unwind: match args.unwind {
            Unwind::Auto => profile::Unwind::Auto,
            Unwind::Fp => profile::Unwind::Pointers,
            Unwind::Dwarf => profile::Unwind::Tables,
        },
        filter: args.whose.filter()?,
    };
    let mut until = Until::new(args.duration)?;
    let metrics = args.metrics.map(Asked::start).transpose()?;
    let profiler = Profiler::start(&options).map_err(failure)?;
    until.start();
    let what = match profiler.clock() {
        Clock::Cycles => format!("{} samples a second on each CPU (hardware cycles)", args.frequency),
        Clock::Software => {
            format!(
                "{} samples a second on each CPU (software clock: this machine has no hardware counters)",
                args.frequency
            )
        }
        Clock::Switches => "time off the CPUs (sched_switch)".to_owned(),
    };
    say(&format!("profile: {what}; {}", until.words()));
    if args.unwind == Unwind::Dwarf && !profiler.has_tables() {
        say("--unwind dwarf is for x86-64 and Linux 5.15 (bpf_task_pt_regs): stacks are walked by frame pointers here");
    }
    if let Some(metrics) = &metrics {
        say(&format!("metrics are at {}", metrics.url()));
    }
    let mut running = Running { profiler, metrics };
    let table = args.output.iter().any(|target| target.file.is_none() && target.kind == Kind::Table);
    if table && live::wanted() {
        live::run(&mut Top::new(&mut running)?, &until)?;
    } else {
        while let Some(time) = until.turn() {
            running.work(time)?;
        }
    }
    running.profiler.finish().map_err(failure)
}

/// A measurement that may be asked for its numbers.
struct Running {
    profiler: Profiler,
    metrics: Option<Asked>,
}

impl Running {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        self.profiler.run(time).map_err(failure)?;
        match &self.metrics {
            Some(metrics) => metrics.turn(|page| {
                metrics::fill(page, &self.profiler.so_far().map_err(failure)?);
                Ok(())
            }),
            None => Ok(()),
        }
    }
}
