//! `ringfence run`: load, attach, print what the programs say, take everything off.

mod collect;
mod maps;
mod meaning;
mod metrics;
mod place;
pub mod rows;
pub mod stacks;
mod summary;
mod twice;
mod view;
pub mod wanted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfence::printk::Printk;
use ringfence::{Events, Kernel, Loaded, Loader, Settings};
use ringfence_plan::Attach;
use ringfence_uapi::MapType;

pub use place::namespace;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Wrote};
use crate::{events, source};

/// The longest time between an event and its row, when nothing else wakes us.
const TICK: Duration = Duration::from_millis(200);
/// Turns at the end, of some thousand events each: nothing sends any more, so that they come to an end.
const MOST_TURNS: usize = 100_000;

/// Loads and attaches an object, prints what it says; Ctrl-C takes everything off again.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    named: source::Named,
    /// End by itself after this time (5s, 2m); else at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Type of the events of a map: a type of the object (`events=event`), C (`events=struct { u32 pid; char comm[16]; }`)
    /// or a type of a header (`events=tool.h:event`). May be given several times.
    #[arg(long, value_name = "MAP=TYPE", value_parser = source::pair)]
    event: Vec<(String, String)>,
    /// How to print events: a table, JSON (one object a line) or YAML (one document an event).
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Set a global variable before the load; members and elements too (`cfg.pid=1`, `ids[2]=7`).
    #[arg(long, value_name = "GLOBAL=VALUE", value_parser = source::pair)]
    set: Vec<(String, String)>,
    /// Load this program and no other. May be given several times.
    #[arg(long, value_name = "PROGRAM")]
    only: Vec<String>,
    /// Entries of a map for which the object leaves that to its user.
    #[arg(long, value_name = "MAP=N", value_parser = entries)]
    entries: Vec<(String, u32)>,
    /// The licence of an object that has no licence section (`GPL`, `Dual MIT/GPL`).
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    #[command(flatten)]
    places: place::Places,
    /// Leave out, and name, what cannot be loaded or attached here instead of giving up.
    #[arg(long)]
    keep_going: bool,
    /// Print maps, too, of an object that sends events: most are what its programs remember between two of them.
    #[arg(long)]
    maps: bool,
    /// How often to print maps (of objects that send no events, or with --maps); on a terminal also what --sort and --count-by have.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    interval: Duration,
    /// Print numbers as they are: no addresses, times, error names by the names of members.
    #[arg(long)]
    raw: bool,
    /// Serve maps and counts of events as Prometheus metrics at this address (or port of this machine), under /metrics.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::metrics::address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    shape: wanted::Shape,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let spelled = || text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    seconds.or_else(spelled).ok_or_else(|| "a time such as 5s, 500ms, 2m is wanted".to_owned())
}

fn entries(text: &str) -> Result<(String, u32), String> {
    let (map, number) = source::pair(text)?;
    let number = number.parse().map_err(|_| format!("{number} is no number of entries"))?;
    Ok((map, number))
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let source = source::open(&args.named)?;
    let choices = events::choose(&source, &args.event)?;
    let wanted = args.shape.bind(&choices, events::sends(&source), args.raw)?;
    let stop = stop_flag()?;
    let kernel = Kernel::running();

    let settings = args.set.iter().fold(Settings::new(), |settings, (name, text)| settings.global_text(name, text));
    let entries = args.entries.iter();
    let settings = entries.fold(settings, |settings, (map, number)| settings.map_entries(map, *number));
    let settings = stacks(&source.object, settings, &args.entries);
    let settings = if args.only.is_empty() { settings } else { settings.only(args.only.iter().cloned()) };
    let settings = args.license.iter().fold(settings, |settings, text| settings.license(text));
    let mut plan = ringfence::plan(&source.object, &kernel, &settings).map_err(|error| failure(&error))?;
    // Who says what to load knows what is left out; where nothing is left, the load says why.
    let some = args.only.is_empty() && !plan.programs.is_empty();
    for left_out in plan.left_out.iter().filter(|_| some) {
        say(&format!("{} is left out: {}", left_out.name, left_out.reason));
    }
    if args.keep_going {
        let settings = without_refused(&plan, &kernel, settings);
        plan = ringfence::plan(&source.object, &kernel, &settings).map_err(|error| failure(&error))?;
    }
    let statistics = ringfence::run_time_statistics();
    let loaded = load(&plan, &kernel, args)?;
    let readable: Vec<_> =
        loaded.maps().iter().filter(|map| matches!(map.kind(), MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)).collect();
    let mut reader = Events::new(readable.iter().copied()).map_err(|error| failure(&error))?;
    let mut rows = rows::Rows::new(args.output, readable.iter().copied(), &choices, wanted, args.raw);
    let contents = if readable.is_empty() || args.maps {
        maps::Contents::of(&loaded, &source.object, args.output, args.raw)
    } else {
        maps::Contents::none()
    };
    let measured = |address| {
        let all = maps::Contents::of(&loaded, &source.object, args.output, args.raw);
        metrics::Metrics::start(address, all)
    };
    let mut metrics = args.metrics.map(measured).transpose()?;
    // Opened before the programs are attached, so that their first line is not missed.
    let printk = Printk::needed(&plan).then(|| Printk::open(&plan, &loaded));
    let mut printk = printk.transpose().map_err(|error| failure(&error))?;
    let links = attach(&loaded, args)?;
    for notice in loaded.notices() {
        say(notice);
    }
    choices.doubts.iter().for_each(|doubt| say(doubt));
    let programs = loaded.programs().iter().filter(|program| links.iter().any(|link| link.program() == program.name()));
    let places: Vec<_> = programs.map(|program| (program.name(), program.section())).collect();
    if let Some(notice) = twice::notice(&places) {
        say(&notice);
    }
    let attached = attached(&links, &loaded);
    say(&format!("{}: {attached} attached; Ctrl-C ends", source.label));

    if let Some(metrics) = &metrics {
        say(&format!("metrics are at {}", metrics.url()));
    }

    let started = Instant::now();
    let mut next_maps = started + args.interval;
    let mut wrote = Wrote::All;
    while !stop.load(Ordering::Relaxed) && wrote == Wrote::All {
        let left = args.duration.map(|all| all.saturating_sub(started.elapsed()));
        if left == Some(Duration::ZERO) {
            break;
        }
        wrote = step(&mut reader, &mut rows, printk.as_mut(), left.map_or(TICK, |left| left.min(TICK)))?;
        if let Some(metrics) = &mut metrics {
            metrics.publish(&reader, &rows, &loaded, statistics.is_ok());
        }
        if Instant::now() >= next_maps && wrote == Wrote::All {
            rows.collected(false);
            wrote = contents.write()?;
            next_maps = Instant::now() + args.interval;
        }
    }
    // First no more events, then the rest of those that were sent.
    drop(links);
    for _ in 0..MOST_TURNS {
        let before = reader.seen();
        if wrote == Wrote::All {
            wrote = step(&mut reader, &mut rows, printk.as_mut(), Duration::ZERO)?;
        }
        if wrote != Wrote::All || reader.seen() == before {
            break;
        }
    }
    if wrote == Wrote::All {
        rows.collected(true);
        rows.flush()?;
        contents.write()?;
    }
    let summary = summary::of(&loaded, &reader, &rows, started.elapsed(), statistics.is_ok());
    drop((reader, contents, metrics, printk, loaded, statistics));
    say(&summary);
    say(&format!("{attached} taken off, nothing is left in the kernel"));
    Ok(())
}

/// Room for stacks where the object leaves that to its user: what the kernel records unless it was told otherwise.
fn stacks(object: &ringfence::Object, settings: Settings, entries: &[(String, u32)]) -> Settings {
    /// `PERF_MAX_STACK_DEPTH`: more only where `kernel.perf_event_max_stack` was raised.
    const FRAMES: u32 = 127;
    const STACKS: u32 = 10_240;
    let maps = object.maps.iter().filter(|map| map.kind == MapType::STACK_TRACE);
    maps.fold(settings, |settings, map| {
        let settings = if map.value_size == 0 { settings.map_value_size(&map.name, FRAMES * 8) } else { settings };
        let given = map.max_entries > 0 || entries.iter().any(|(name, _)| *name == map.name);
        if given { settings } else { settings.map_entries(&map.name, STACKS) }
    })
}

/// One turn: events, then what programs printed.
fn step(
    reader: &mut Events,
    rows: &mut rows::Rows,
    printk: Option<&mut Printk>,
    wait: Duration,
) -> Result<Wrote, Failure> {
    reader.poll(Some(wait), |event| rows.event(event.source, event.bytes)).map_err(|error| failure(&error))?;
    if let Some(printk) = printk {
        let now = Some(Duration::ZERO);
        printk.poll(now, |message| rows.printk(&message)).map_err(|error| failure(&error))?;
    }
    rows.flush()
}

/// Leaves out, and names, the programs that cannot be loaded; if that is all of them, none: the load says why.
fn without_refused(plan: &ringfence::Plan, kernel: &Kernel, settings: Settings) -> Settings {
    let results = Loader::new(plan, kernel).load_each();
    if results.iter().all(|(_, result)| result.is_err()) {
        return settings;
    }
    let refused = results.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    refused.fold(settings, |settings, (name, error)| {
        say(&format!("left out: {error}"));
        settings.program(name, false)
    })
}

fn load(plan: &ringfence::Plan, kernel: &Kernel, args: &Args) -> Result<Loaded, Failure> {
    ringfence::load(plan, kernel).map_err(|error| {
        let failure = failure(&error);
        let hint = match plan_error(&error) {
            Some(ringfence_plan::Error::Map { map, .. }) => format!("\n  --entries {map}=N gives it one"),
            _ if plan.programs.len() > 1 && args.only.is_empty() && failure.exit != Exit::Permission => {
                "\n  --only PROGRAM loads some of the programs".to_owned()
            }
            _ => String::new(),
        };
        Failure { message: failure.message + &hint, ..failure }
    })
}

fn attach(loaded: &Loaded, args: &Args) -> Result<Vec<ringfence::Link>, Failure> {
    let mut links = Vec::new();
    for program in loaded.programs() {
        let attached = match program.attach_place() {
            Attach::ByUser { what } => match args.places.attach(program) {
                Some(attached) => attached,
                None => {
                    let (name, argument) = (program.name(), place::argument(program));
                    say(&format!("{name} is loaded but not attached: its section does not name {what}{argument}"));
                    continue;
                }
            },
            Attach::Nothing | Attach::StructOps => continue,
            _ => program.attach(),
        };
        match attached {
            Ok(link) => {
                link.notices().iter().for_each(|notice| say(&format!("{}: {notice}", program.name())));
                links.push(link);
            }
            Err(error) if args.keep_going => say(&format!("left out: {error}")),
            Err(error) => return Err(failure(&error)),
        }
    }
    for map in loaded.maps().iter().filter(|map| map.kind() == MapType::STRUCT_OPS) {
        match loaded.register(map.name()) {
            Ok(link) => links.push(link),
            Err(error) if args.keep_going => say(&format!("left out: {error}")),
            Err(error) => return Err(failure(&error)),
        }
    }
    if links.is_empty() {
        say("nothing is attached: no program's section names a place");
    }
    Ok(links)
}

/// What is attached, in words.
fn attached(links: &[ringfence::Link], loaded: &Loaded) -> String {
    let is_program = |link: &&ringfence::Link| loaded.programs().iter().any(|program| program.name() == link.program());
    let programs = links.iter().filter(is_program).count();
    let maps = links.len() - programs;
    let kinds = [(programs, "program"), (maps, "struct_ops map")];
    let some: Vec<String> =
        kinds.iter().filter(|(number, _)| *number > 0).map(|(number, kind)| count(*number, kind)).collect();
    if some.is_empty() { count(0, "program") } else { some.join(" and ") }
}

/// Set by Ctrl-C and SIGTERM.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// The library's error as the command's.
pub fn failure(error: &ringfence::Error) -> Failure {
    let exit = match error.kind() {
        ringfence::Kind::Refused => Exit::Refused,
        ringfence::Kind::Unsupported => Exit::Unsupported,
        ringfence::Kind::Permission => Exit::Permission,
        _ if is_usage(error) => Exit::Usage,
        _ => Exit::Error,
    };
    Failure::new(exit, error)
}

fn plan_error(error: &ringfence::Error) -> Option<&ringfence_plan::Error> {
    match error {
        ringfence::Error::Plan { source, .. } => Some(source),
        _ => None,
    }
}

/// What the user asked for is at fault: a name that the object does not have, a value that does not fit.
fn is_usage(error: &ringfence::Error) -> bool {
    use ringfence_plan::Error;
    let settings = |error: &Error| {
        matches!(error, Error::NoSuch { .. } | Error::Global { .. } | Error::Map { .. } | Error::KconfigText { .. })
    };
    matches!(error, ringfence::Error::Plan { program: None, .. }) && plan_error(error).is_some_and(settings)
}

/// A note to the user, on stderr. Nobody listening is no reason to stop.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
