//! `ringfence trace`: what happens at places of the kernel and of programs, with its arguments.

mod stacks;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfence_tools::trace::{Options, Prepared, Spec, Tracer};

use crate::events::{Choice, Choices};
use crate::exit::{Exit, Failure};
use crate::filter::FilterArgs;
use crate::output::{self, Format, Wrote};
use crate::run::rows::Rows;
use crate::run::wanted::Shape;
use crate::run::{count, duration, failure as library_failure, say, stop_flag};

/// The longest time between an event and its row.
const TICK: Duration = Duration::from_millis(100);
/// Turns at the end: nothing is sent any more.
const MOST_TURNS: usize = 100_000;

/// Shows what happens at places of the kernel and of programs, with its arguments. Ctrl-C or --for ends it.
///
/// SPEC is one of
///   syscalls:openat               a system call with its return; patterns as `syscalls:open*`
///   sched:sched_switch, sched:*   tracepoints, by category and name
///   kprobe:tcp_connect            a function of the kernel; kretprobe: with what it gives
///   uprobe:FILE:FUNCTION          a function of a program or library; uretprobe: with what it gives.
///                                 FUNCTION(name:str,count:u32)=TYPE says what it takes and gives
///   usdt:FILE:PROVIDER:NAME       a static probe
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// What to watch.
    #[arg(required = true, value_name = "SPEC")]
    specs: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show this member of what an argument of a kernel function leads to, instead of the usual ones: `sk->__sk_common.skc_daddr`.
    #[arg(long = "arg", value_name = "ARG->MEMBER")]
    paths: Vec<String>,
    /// Show the stack at each event.
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
    /// On a terminal, how often to print what --latency, --sort and --count-by have.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    interval: Duration,
    /// Print numbers as they are: no addresses, times, error names by the names of fields.
    #[arg(long)]
    raw: bool,
    /// Mebibytes of the buffer between the kernel and this command.
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    buffer: u32,
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
        filter: args.filter.filter().map_err(failure)?,
        kernel_stack: matches!(args.stack, Some(Side::Kernel | Side::Both)),
        user_stack: matches!(args.stack, Some(Side::User | Side::Both)),
        durations: args.latency || args.shape.names("duration_ns"),
        histogram: args.latency,
        myself: false,
        buffer: args.buffer << 20,
    };
    let prepared = Prepared::of(&options).map_err(failure)?;
    let choices = choices(&prepared);
    let mut shape = args.shape.clone();
    if args.output == Format::Table {
        shape = shape.or_fields(brief(&prepared));
    }
    let wanted = shape.bind(&choices, true, args.raw)?;
    let stop = stop_flag()?;
    let mut tracer = prepared.start().map_err(failure)?;
    let names: Vec<String> = tracer.targets().iter().map(|target| target.name.clone()).collect();
    let stacks = args.stack.map(|_| stacks::behind(tracer.targets().to_vec(), options.clone()));
    let mut rows = Rows::of_places(args.output, names.iter().map(String::as_str), &choices, wanted, stacks);
    begin(&tracer, args);
    let wrote = watch(&mut tracer, &mut rows, args, &stop)?;
    tracer.stop();
    let time = tracer.elapsed();
    if wrote == Wrote::All {
        finish(&mut tracer, &mut rows, args)?;
    }
    let summary = summary::of(&tracer, &rows, time).map_err(failure)?;
    let places = count(tracer.targets().len(), "place");
    drop(tracer);
    say(&summary);
    say(&format!("{places} let go, nothing is left in the kernel"));
    Ok(())
}

/// What is watched, and how, on stderr.
fn begin(tracer: &Tracer, args: &Args) {
    const MOST: usize = 8;
    let end = args.duration.map_or("Ctrl-C ends".to_owned(), |time| format!("for {:.1} s", time.as_secs_f64()));
    let targets = tracer.targets();
    for target in targets.iter().take(MOST) {
        say(&format!("{}: by {}", target.name, target.how));
    }
    if targets.len() > MOST {
        say(&format!("and {} more", targets.len() - MOST));
    }
    for target in targets {
        target.notes.iter().for_each(|note| say(&format!("{}: {note}", target.name)));
    }
    say(&format!("trace: {}; {end}", count(targets.len(), "place")));
}

fn watch(tracer: &mut Tracer, rows: &mut Rows, args: &Args, stop: &AtomicBool) -> Result<Wrote, Failure> {
    let started = Instant::now();
    let mut next = started + args.interval;
    let mut wrote = Wrote::All;
    while !stop.load(Ordering::Relaxed) && wrote == Wrote::All {
        let left = args.duration.map(|all| all.saturating_sub(started.elapsed()));
        if left == Some(Duration::ZERO) {
            break;
        }
        let time = left.map_or(TICK, |left| left.min(TICK));
        tracer.poll(time, |event| rows.event(event.target, event.bytes)).map_err(failure)?;
        wrote = rows.flush()?;
        if Instant::now() >= next && wrote == Wrote::All {
            next = Instant::now() + args.interval;
            rows.collected(false);
            wrote = rows.flush()?;
            if args.latency && output::terminal_width().is_some() {
                wrote = summary::latency(tracer, args.output)?;
            }
        }
    }
    Ok(wrote)
}

/// The rest of what was sent, and what was collected.
fn finish(tracer: &mut Tracer, rows: &mut Rows, args: &Args) -> Result<(), Failure> {
    for _ in 0..MOST_TURNS {
        let events = tracer.poll(Duration::ZERO, |event| rows.event(event.target, event.bytes)).map_err(failure)?;
        if events == 0 || rows.flush()? != Wrote::All {
            break;
        }
    }
    rows.collected(true);
    rows.flush()?;
    if args.latency {
        summary::latency(tracer, args.output)?;
    }
    Ok(())
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

fn failure(error: ringfence_tools::Error) -> Failure {
    use ringfence_tools::Error;
    match &error {
        Error::Library(error) => library_failure(error),
        Error::LongName { .. } | Error::Spec { .. } => Failure::usage(error),
        _ => Failure::new(Exit::Error, error),
    }
}
