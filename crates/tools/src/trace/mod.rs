//! What happens at places of the kernel and of programs: tracepoints, system calls, functions, static probes, with their arguments.
//!
//! ```no_run
//! use std::time::Duration;
//! use ringfence_tools::trace::{Options, Prepared, Spec};
//!
//! # fn show() -> ringfence_tools::Result<()> {
//! let options = Options { specs: vec![Spec::parse("syscalls:openat")?], ..Options::default() };
//! let prepared = Prepared::of(&options)?; // nothing is loaded yet; the types of the events are known
//! let mut tracer = prepared.start()?;
//! tracer.poll(Duration::from_secs(1), |event| println!("{}: {} bytes", event.target, event.bytes.len()))?;
//! # Ok(())
//! # }
//! ```

mod dwarf;
mod format;
mod function;
mod functions;
mod raw;
mod record;
mod spec;
mod target;
mod user;

use std::time::{Duration, Instant};

use ringfence::hook::{Kprobe, KprobeMulti, Tracepoint, Uprobe, Usdt};
use ringfence::{Events, Kernel, Link, Loader, Map, PerCpuTable};

use crate::cost::Meter;
use crate::error::Result;
use crate::filter::Filter;
use raw::{Counters, Loaded, Programs, REGISTERS};
pub use spec::Spec;
use target::Hook;
pub use target::Target;

/// Bytes of the buffer for events: memory that counts twice, since both halves of it are mapped one behind the other.
const BUFFER: u32 = 512 << 10;
/// A part of it that wakes the reader; less is read after a short time.
const WAKE_PART: u32 = 16;
/// Calls that may be under way at a place.
const CALLS: u32 = 16_384;
/// Frames of a stack, on each side.
const DEPTH: u32 = 64;

/// What is watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The places.
    pub specs: Vec<Spec>,
    /// Members to be read instead of the usual ones: `sk->__sk_common.skc_daddr`.
    pub paths: Vec<String>,
    /// Whose events are taken.
    pub filter: Filter,
    /// Stacks of the kernel are taken with each event.
    pub kernel_stack: bool,
    /// Stacks of programs are taken with each event.
    pub user_stack: bool,
    /// How long kernel functions take is measured, which costs a probe more; of system calls and user functions it is known anyway.
    pub durations: bool,
    /// Durations are counted in the kernel, and no events are sent.
    pub histogram: bool,
    /// What this process does is watched, too: whoever prints events would otherwise make more of them.
    pub myself: bool,
    /// Bytes of the buffer for events, rounded up to a power of two; 0: 512 KiB.
    pub buffer: u32,
}

/// An event, lent while it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Of which place: its number in [`Prepared::targets`].
    pub target: usize,
    /// As the target's type says.
    pub bytes: &'a [u8],
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

impl Event<'_> {
    fn number(&self, at: usize) -> u32 {
        number(self.bytes, at)
    }
}

/// What was seen of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// How often it was reached; of calls that are watched until they return, the returns.
    pub reached: u64,
    /// Of them, those that the filter does not want, and this tool's own.
    pub filtered: u64,
    /// Of them, those that were sent, or counted by their duration.
    pub sent: u64,
    /// Of them, those that found no room in the buffer.
    pub lost: u64,
    /// Returns without their call: it began before, or found no room.
    pub unpaired: u64,
    /// Calls that had not returned.
    pub under_way: u64,
    /// Runs that the kernel left out because a program was running already; `None`: it does not count them (before 5.12).
    pub missed: Option<u64>,
    /// Time that programs took, while the kernel measured it.
    pub time: Option<Duration>,
}

/// Places that were found, before anything is loaded.
#[derive(Debug)]
pub struct Prepared {
    options: Options,
    kernel: Kernel,
    targets: Vec<Target>,
}

impl Prepared {
    /// Looks for the places, and decides what is read there.
    ///
    /// # Errors
    /// A place is not there; the message has near names.
    pub fn of(options: &Options) -> Result<Prepared> {
        let kernel = Kernel::running();
        let targets = target::all(options, &kernel)?;
        Ok(Prepared { options: options.clone(), kernel, targets })
    }

    /// The places.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Loads and attaches.
    ///
    /// # Errors
    /// The filter names something that is not there; the kernel refuses (CAP_BPF and CAP_PERFMON are needed).
    pub fn start(mut self) -> Result<Tracer> {
        let mut meter = Meter::start();
        let mut places: Vec<Place> = Vec::new();
        let mut buffer: Option<Map> = None;
        let mut targets = std::mem::take(&mut self.targets);
        for (number, target) in targets.iter_mut().enumerate() {
            let loaded = self.load(number, target, buffer.as_ref())?;
            if buffer.is_none() {
                buffer = Some(loaded.maps().events()?.clone());
            }
            let (totals, durations) = (loaded.maps().totals()?, loaded.maps().durations()?);
            places.push(Place { loaded, totals, durations });
        }
        let events = Events::new(buffer.as_ref())?;
        let mut links = Vec::new();
        for (place, target) in places.iter().zip(&mut targets) {
            attach(place, target, &mut links)?;
        }
        // Loading is over: from now on it is the work itself.
        meter.loaded();
        Ok(Tracer { links, events, places, targets, started: Instant::now(), meter })
    }

    /// Loads the object for one place: by the best kind of program that this kernel takes.
    fn load(&self, number: usize, target: &mut Target, buffer: Option<&Map>) -> Result<Loaded> {
        let error = match self.try_load(number, target, buffer) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => error,
        };
        let Some(other) = target.otherwise() else { return Err(error) };
        let loaded = self.try_load(number, &other, buffer)?;
        *target = other;
        Ok(loaded)
    }

    fn try_load(&self, number: usize, target: &Target, buffer: Option<&Map>) -> Result<Loaded> {
        let mut programs = Programs::open()?;
        let (names, function): (&[&str], _) = match &target.hook {
            Hook::Tracepoint { .. } | Hook::SyscallStart { .. } => (&["on_tracepoint"], None),
            Hook::Syscall { .. } => (&["on_sys_enter", "on_sys_exit"], None),
            Hook::Uprobe { .. } if target.sleeps => (&["on_user_function"], None),
            Hook::UprobePair { .. } if target.sleeps => (&["on_function_enter", "on_user_function_return"], None),
            Hook::Usdt { .. } if target.sleeps => (&["on_usdt_sleeping"], None),
            Hook::Kprobe { .. } | Hook::Uprobe { .. } => (&["on_function"], None),
            Hook::KprobePair { .. } | Hook::UprobePair { .. } => (&["on_function_enter", "on_function_return"], None),
            Hook::Functions { .. } => (&["on_functions"], None),
            Hook::FunctionPairs { .. } => (&["on_functions_enter", "on_functions_return"], None),
            Hook::Fentry { function } => (&["on_fentry"], Some(function)),
            Hook::Fexit { function } => (&["on_fexit"], Some(function)),
            Hook::Usdt { .. } => (&["on_usdt"], None),
        };
        let options = &self.options;
        let bytes = if options.buffer == 0 { BUFFER } else { options.buffer }.next_power_of_two();
        let pairs = names.len() > 1;
        let mut settings = options
            .filter
            .settings(std::mem::take(programs.settings()))?
            .only(names.iter().copied())
            .map_entries("events", bytes)
            .map_entries("calls", if pairs { CALLS } else { 1 });
        if let (Some(function), [program]) = (function, names) {
            settings = settings.attach_target(*program, function.clone());
        }
        let is_usdt = matches!(target.hook, Hook::Usdt { .. });
        if !is_usdt {
            settings = settings.map_entries("__bpf_usdt_specs", 1).map_entries("__bpf_usdt_ip_to_spec_id", 1);
        }
        *programs.settings() = settings;
        let mut steps = [raw::Step::default(); 32];
        for (to, step) in steps.iter_mut().zip(&target.done.steps) {
            *to = *step;
        }
        let mut size = target.done.size;
        let mut stack = |wanted: bool| {
            let at = size;
            let bytes = if wanted && !options.histogram { DEPTH * 8 } else { 0 };
            size += bytes;
            (at, bytes)
        };
        let (kernel, user) = (stack(options.kernel_stack), stack(options.user_stack));
        let mut globals = programs.rodata();
        let go = matches!(target.hook, Hook::Uprobe { go: true, .. });
        REGISTERS.set(&mut globals, go);
        globals
            .set_steps(steps)
            .set_step_count(target.done.steps.len() as u32)
            .set_target(number as u32)
            .set_record_size(size)
            .set_kernel_at(kernel.0)
            .set_kernel_bytes(kernel.1)
            .set_user_at(user.0)
            .set_user_bytes(user.1)
            .set_argument_count(target.arguments.into())
            .set_own_pid(if options.myself { 0 } else { std::process::id() })
            .set_may_sleep(target.sleeps)
            .set_histogram(options.histogram)
            // Who a stack belongs to may end at any time: it is looked at at once.
            .set_wake_bytes(if options.user_stack { 0 } else { bytes / WAKE_PART });
        let settings = programs.settings().clone();
        let plan = ringfence::plan(programs.object(), &self.kernel, &settings)?;
        let mut loader = Loader::new(&plan, &self.kernel);
        if let Some(map) = buffer {
            loader = loader.map("events", map);
        }
        Ok(Loaded(loader.load()?))
    }
}

/// Attaches the programs of one place. Those at returns first: what was called before has no beginning, and is counted as such.
fn attach(place: &Place, target: &mut Target, links: &mut Vec<Link>) -> Result<()> {
    let programs = place.loaded.programs();
    let notes = &mut target.notes;
    let mut add = |link: Link| {
        for notice in link.notices() {
            if !notes.contains(notice) {
                notes.push(notice.clone());
            }
        }
        links.push(link);
    };
    match &target.hook {
        Hook::Tracepoint { category, name } => {
            add(programs.on_tracepoint()?.attach_to(&Tracepoint::new(category, name))?);
        }
        Hook::SyscallStart { name } => {
            add(programs.on_tracepoint()?.attach_to(&Tracepoint::new("syscalls", &format!("sys_enter_{name}")))?);
        }
        Hook::Syscall { name } => {
            let at = |end: &str| Tracepoint::new("syscalls", &format!("sys_{end}_{name}"));
            add(programs.on_sys_exit()?.attach_to(&at("exit"))?);
            add(programs.on_sys_enter()?.attach_to(&at("enter"))?);
        }
        Hook::Kprobe { function } => add(programs.on_function()?.attach_to(&Kprobe::new(function))?),
        Hook::KprobePair { function } => {
            add(programs.on_function_return()?.attach_to(&Kprobe::new(function).at_return())?);
            add(programs.on_function_enter()?.attach_to(&Kprobe::new(function))?);
        }
        Hook::Functions { functions } => {
            add(programs.on_functions()?.attach_to(&numbered(functions))?);
        }
        Hook::FunctionPairs { functions } => {
            add(programs.on_functions_return()?.attach_to(&numbered(functions).at_return())?);
            add(programs.on_functions_enter()?.attach_to(&numbered(functions))?);
        }
        Hook::Fentry { .. } => add(programs.on_fentry()?.attach()?),
        Hook::Fexit { .. } => add(programs.on_fexit()?.attach()?),
        Hook::Uprobe { file, function, .. } => {
            let program = if target.sleeps { programs.on_user_function()? } else { programs.on_function()? };
            add(program.attach_to(&Uprobe::new(file, function))?);
        }
        Hook::UprobePair { file, function } => {
            let program =
                if target.sleeps { programs.on_user_function_return()? } else { programs.on_function_return()? };
            add(program.attach_to(&Uprobe::new(file, function).at_return())?);
            add(programs.on_function_enter()?.attach_to(&Uprobe::new(file, function))?);
        }
        Hook::Usdt { file, provider, name } => {
            let program = if target.sleeps { programs.on_usdt_sleeping()? } else { programs.on_usdt()? };
            add(program.attach_to(&Usdt::new(file, provider, name))?);
        }
    }
    Ok(())
}

/// Functions whose programs get their numbers.
fn numbered(functions: &[String]) -> KprobeMulti {
    KprobeMulti::functions(functions).cookies(0..functions.len() as u64)
}

#[derive(Debug)]
struct Place {
    loaded: Loaded,
    totals: PerCpuTable<u32, Counters>,
    durations: PerCpuTable<u32, u64>,
}

/// A run that is going on. Dropped, it takes everything off.
#[derive(Debug)]
pub struct Tracer {
    links: Vec<Link>,
    events: Events,
    places: Vec<Place>,
    targets: Vec<Target>,
    started: Instant,
    meter: Meter,
}

impl Tracer {
    /// The places, with what they are watched by now.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Hands out events for up to this long; gives how many.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll(&mut self, time: Duration, mut each: impl FnMut(Event<'_>)) -> Result<usize> {
        Ok(self.events.poll(Some(time), |event| {
            each(Event { target: number(event.bytes, record::TARGET) as usize, bytes: event.bytes });
        })?)
    }

    /// Takes everything off. What was sent until now can still be read.
    pub fn stop(&mut self) {
        // Each waits for the kernel.
        let links: Vec<Link> = self.links.drain(..).collect();
        std::thread::scope(|scope| {
            for link in links {
                scope.spawn(move || drop(link));
            }
        });
    }

    /// What was seen of each place, in their order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        self.places
            .iter()
            .map(|place| {
                let counters = raw::sum(&place.totals)?;
                let (mut missed, mut time) = (Some(0), 0);
                for program in place.loaded.0.programs() {
                    let info = program.info()?;
                    missed = missed.zip(info.recursion_misses).map(|(all, one)| all + one);
                    time += info.run_time_ns;
                }
                Ok(Seen {
                    reached: counters.runs,
                    filtered: counters.filtered,
                    sent: counters.taken,
                    lost: counters.lost,
                    unpaired: counters.unpaired,
                    under_way: counters.entered.saturating_sub(counters.taken + counters.lost),
                    missed,
                    time: self.meter.measures_programs().then(|| Duration::from_nanos(time)),
                })
            })
            .collect()
    }

    /// How many calls took 2^n nanoseconds or more, and less than twice that, of each place.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn durations(&self) -> Result<Vec<[u64; 64]>> {
        self.places
            .iter()
            .map(|place| {
                let mut slots = [0; 64];
                for (key, slot) in (0u32..).zip(&mut slots) {
                    *slot = place.durations.get(&key)?.iter().flat_map(|values| values.iter()).sum();
                }
                Ok(slots)
            })
            .collect()
    }

    /// Since everything was attached.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time on a CPU that this process has taken since everything was attached.
    pub fn own_cpu(&self) -> Duration {
        self.meter.own_cpu()
    }
}

/// What a stack of an event is: addresses, innermost first.
impl Event<'_> {
    /// Of the kernel. `at`: bytes of the record without stacks.
    fn frames(&self, at: usize, bytes: u32) -> Vec<u64> {
        let bytes = usize::try_from(bytes.cast_signed()).unwrap_or(0);
        let words = self.bytes.get(at..).and_then(|rest| rest.get(..bytes)).unwrap_or_default();
        words.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?))).collect()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.number(8)
    }
}

impl Target {
    /// Addresses of the kernel's stack and of the program's, where they were asked for.
    pub fn stacks(&self, options: &Options, event: Event<'_>) -> (Vec<u64>, Vec<u64>) {
        let at = self.done.size as usize;
        let behind = at + if options.kernel_stack { DEPTH as usize * 8 } else { 0 };
        let kernel = if options.kernel_stack { event.frames(at, event.number(record::KERNEL)) } else { Vec::new() };
        let user = if options.user_stack { event.frames(behind, event.number(record::USER)) } else { Vec::new() };
        (kernel, user)
    }
}
