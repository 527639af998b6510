//! `ringfence trace`: what happens at places of the kernel and of programs, with its arguments.

mod live;
mod metrics;
mod stacks;
mod summary;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_tools::trace::{Options, Prepared, Spec, Tracer};

use crate::events::{Choice, Choices};
use crate::exit::Failure;
use crate::filter::Whose;
use crate::metrics::Asked;
use crate::output::{Format, Wrote};
use crate::run::rows::Rows;
use crate::run::wanted::Shape;
use crate::run::{count, duration, say};
use crate::tool::{Until, failure};
use live::Display;

/// The longest time between an event and its row.
const TICK: Duration = Duration::from_millis(200);
/// Turns at the end: nothing is sent any more.
const MOST_TURNS: usize = 100_000;

/// Shows what happens at places of the kernel and of programs, with its arguments. Ctrl-C or --for ends it.
///
/// SPEC is one of
///   syscalls:openat, syscalls:open*    system calls with their returns
///   sched:sched_switch, sched:*        tracepoints, by category and name
///   kprobe:tcp_connect, kprobe:tcp_*   functions of the kernel; kretprobe: with what they give
///   uprobe:FILE:FUNCTION               a function of a program or library; uretprobe: with what it gives.
///                                      FUNCTION(name:str,count:u32)=TYPE says what it takes and gives,
///                                      where the program's debug information does not
///   usdt:FILE:PROVIDER:NAME            a static probe
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// What to watch.
    #[arg(required = true, value_name = "SPEC")]
    specs: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    /// Show this member of what an argument of a kernel function leads to, instead of the usual ones: `sk->__sk_common.skc_daddr`.
    #[arg(long = "arg", value_name = "ARG->MEMBER")]
    paths: Vec<String>,
    /// Show the stack at each event; with --count-by, count by it, too.
    #[arg(long, value_enum, value_name = "SIDE")]
    stack: Option<Side>,
    /// Show how long calls take, as histograms that are counted in the kernel, instead of each event.
    #[arg(long, conflicts_with_all = ["condition", "fields", "sort", "count_by", "top", "rate", "stack"])]
    latency: bool,
    /// End by itself after this time (5s, 2m); else at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How to print events: a table, JSON (one object a line) or YAML (one document an event).
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Print numbers as they are: no addresses, times, error names by the names of fields.
    #[arg(long)]
    raw: bool,
    /// Size of the buffer between the kernel and this command: 512K, 8M (8: the same), up to 1024M.
    #[arg(long, value_name = "SIZE", default_value = "512K", value_parser = size)]
    buffer: u32,
    /// Serve counts, durations and what --count-by has as Prometheus metrics at this address (or port of this machine), under /metrics.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::metrics::address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Side {
    Kernel,
    User,
    Both,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let specs: Vec<Spec> =
        args.specs.iter().map(|text| Spec::parse(text)).collect::<Result<_, _>>().map_err(failure)?;
    let options = Options {
        specs,
        paths: args.paths.clone(),
        filter: args.whose.filter()?,
        kernel_stack: matches!(args.stack, Some(Side::Kernel | Side::Both)),
        user_stack: matches!(args.stack, Some(Side::User | Side::Both)),
        durations: args.latency || args.shape.names("duration_ns"),
        histogram: args.latency,
        myself: false,
        buffer: args.buffer,
    };
    let prepared = Prepared::of(&options).map_err(failure)?;
    let choices = choices(&prepared);
    let mut shape = args.shape.clone();
    if args.output == Format::Table {
        shape = shape.or_fields(brief(&prepared));
    }
    let wanted = shape.bind(&choices, true, args.raw)?;
    let mut until = Until::new(args.duration)?;
    let metrics = args.metrics.map(Asked::start).transpose()?;
    let tracer = prepared.start().map_err(failure)?;
    until.start();
    let names: Vec<String> = tracer.targets().iter().map(|target| target.name.clone()).collect();
    let stacks = args.stack.map(|_| stacks::behind(tracer.targets().to_vec(), options.clone()));
    let rows = Rows::of_places(args.output, names.iter().map(String::as_str), &choices, wanted, args.raw, stacks);
    begin(&tracer, &until);
    if let Some(metrics) = &metrics {
        say(&format!("metrics are at {}", metrics.url()));
    }
    let mut running = Running { tracer, rows, metrics, latency: args.latency };
    let collects = args.latency || args.shape.collects();
    let wrote = if collects && args.output == Format::Table && crate::live::wanted() {
        crate::live::run(&mut Display::new(&mut running), &until)?;
        Wrote::All
    } else {
        running.print(&until)?
    };
    running.finish(wrote, args.output)
}

/// What is watched, and how, on stderr.
fn begin(tracer: &Tracer, until: &Until) {
    const MOST: usize = 8;
    let targets = tracer.targets();
    for target in targets.iter().take(MOST) {
        say(&format!("{}: by {}", target.name, target.how));
    }
    if targets.len() > MOST {
        say(&format!("and {} more", targets.len() - MOST));
    }
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for target in targets {
        for note in &target.notes {
            match notes.iter_mut().find(|(other, _)| other == note) {
                Some((_, of)) => of.push(&target.name),
                None => notes.push((note, vec![&target.name])),
            }
        }
    }
    for (note, of) in notes {
        let more = if of.len() > 1 { format!(" and {} more", of.len() - 1) } else { String::new() };
        say(&format!("{}{more}: {note}", of.first().unwrap_or(&"")));
    }
    say(&format!("trace: {}; {}", count(targets.len(), "place"), until.words()));
}

/// A run that may be asked for its numbers.
struct Running {
    tracer: Tracer,
    rows: Rows,
    metrics: Option<Asked>,
    latency: bool,
}

impl Running {
    /// Takes events for at most this long.
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let rows = &mut self.rows;
            self.tracer.poll(left.min(TICK), |event| rows.event(event.target, event.bytes)).map_err(failure)?;
            if let Some(metrics) = &self.metrics {
                metrics.turn(|page| metrics::fill(page, &self.tracer, &self.rows, self.latency).map_err(failure))?;
            }
            if self.rows.waits() || Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Prints events until the end, or until nobody reads them.
    fn print(&mut self, until: &Until) -> Result<Wrote, Failure> {
        while let Some(time) = until.turn() {
            self.work(time.min(TICK))?;
            if self.rows.flush()? != Wrote::All {
                return Ok(Wrote::NobodyReads);
            }
        }
        Ok(Wrote::All)
    }

    /// Takes everything off; prints the rest of what was sent, and what was collected.
    fn finish(mut self, wrote: Wrote, format: Format) -> Result<(), Failure> {
        self.tracer.stop();
        let time = self.tracer.elapsed();
        let mut wrote = wrote;
        for _ in 0..MOST_TURNS {
            let rows = &mut self.rows;
            let events =
                self.tracer.poll(Duration::ZERO, |event| rows.event(event.target, event.bytes)).map_err(failure)?;
            if events == 0 || wrote != Wrote::All {
                break;
            }
            wrote = self.rows.flush()?;
        }
        if wrote == Wrote::All {
            self.rows.collected(true);
            wrote = self.rows.flush()?;
        }
        if wrote == Wrote::All && self.latency {
            crate::output::write(summary::latency(&self.tracer, format)?.as_bytes())?;
        }
        let summary = summary::of(&self.tracer, &self.rows, time).map_err(failure)?;
        let places = count(self.tracer.targets().len(), "place");
        drop(self);
        say(&summary);
        say(&format!("{places} let go, nothing is left in the kernel"));
        Ok(())
    }
}

/// Bytes: `512K`, `8M`, `8`.
fn size(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 10),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 20),
    };
    let bytes = number.parse::<u32>().ok().and_then(|number| number.checked_mul(1 << unit));
    bytes.filter(|bytes| (64 << 10..=1 << 30).contains(bytes)).ok_or_else(|| "from 64K to 1024M".to_owned())
}

fn choices(prepared: &Prepared) -> Choices {
    let typed = prepared.targets().iter().map(|target| Choice {
        map: target.name.clone(),
        size: None,
        tag: None,
        types: target.types.clone(),
        ty: target.ty,
        least: None,
    });
    Choices { typed: typed.collect(), ..Choices::default() }
}

/// What a table shows where nothing is said: when, who, and all of the event's own fields.
fn brief(prepared: &Prepared) -> Vec<String> {
    let mut fields: Vec<String> = ["ts_ns", "pid", "comm"].map(str::to_owned).to_vec();
    for field in prepared.targets().iter().flat_map(|target| &target.fields) {
        if !fields.contains(field) {
            fields.push(field.clone());
        }
    }
    fields
}
