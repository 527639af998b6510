//! Where time goes, by stack: on a CPU (samples), or off it (waits).
//!
//! ```no_run
//! use std::time::Duration;
//! use ringfence_tools::profile::{Options, Profiler};
//!
//! # fn show() -> ringfence_tools::Result<()> {
//! let mut profiler = Profiler::start(&Options::default())?;
//! profiler.run(Duration::from_secs(5))?;
//! let profile = profiler.finish()?; // everything is taken off here
//! for function in profile.hottest().iter().take(10) {
//!     println!("{:5.1}% {}", 100.0 * function.own_share, function.symbol.function);
//! }
//! # Ok(())
//! # }
//! ```

mod cfi;
mod flame;
mod folded;
mod pprof;
mod raw;
mod report;
mod walk;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use ringfence::hook::{Often, PerfEvent};
use ringfence::{Events, Kernel, Kind, Link, Loaded, Settings};
use rustix::time::{ClockId, clock_gettime};

use crate::cost::Meter;
use crate::error::Result;
use crate::filter::Filter;
use crate::symbols::Symbols;
pub use flame::Flame;
pub use folded::{Change, Folded};
use raw::{Counters, Process, Programs, Stack, Tables};
pub use report::{Frame, Hot, Profile, Row, Summary};
use walk::Walker;
pub use walk::{Made, Unwind};

/// How often the kernel's table is emptied, least and most.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long programs may still write into a table that they have been told to leave: far longer than any runs.
const GRACE: Duration = Duration::from_millis(10);
/// How often it is looked whether tables are ready that are being made.
const SOON: Duration = Duration::from_millis(10);
/// Entries of a table, least and most: a stack takes 2 KiB, and there are two tables.
const ENTRIES: (u64, u64) = (512, 4096);
/// Different stacks that are kept over a whole run.
const MOST_STACKS: usize = 1 << 20;

/// What is measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Samples a second, on every CPU. 99 and not 100: nothing that happens a hundred times a second is always or never met.
    pub frequency: u32,
    /// Time off a CPU, by where it was left, instead of time on it.
    pub off_cpu: bool,
    /// Waits shorter than this are not counted.
    pub shortest_wait: Duration,
    /// How stacks of programs are walked.
    pub unwind: Unwind,
    /// Whose.
    pub filter: Filter,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            frequency: 99,
            off_cpu: false,
            shortest_wait: Duration::ZERO,
            unwind: Unwind::default(),
            filter: Filter::default(),
        }
    }
}

/// What makes samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The processor's counter of cycles: sees code that has interrupts off, and counts nothing while the CPU is halted.
    Cycles,
    /// The kernel's timer (`cpu-clock`), where there is no counter, as in most virtual machines.
    Software,
    /// Each switch from one task to another.
    Switches,
}

/// A stack as it was counted, by addresses.
#[derive(Clone, Debug)]
struct Counted {
    count: u64,
    ns: u64,
    stack: Option<Addresses>,
}

#[derive(Clone, Debug)]
struct Addresses {
    image: (u32, u64),
    comm: String,
    kernel: Box<[u64]>,
    user: Box<[u64]>,
    preempted: bool,
    kernel_task: bool,
    walked: Walked,
}

/// How a user stack was walked (`WALK_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walked {
    /// By frame pointers.
    Pointers,
    /// By tables, to where the thread began.
    Whole,
    /// By tables, not to its end.
    Cut(Cut),
}

/// Why a walk by tables ended early.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cut {
    /// There are more frames than are read.
    Deep,
    /// At an address where nothing was mapped when the process was looked at.
    Unmapped,
    /// At code whose table has no rule for it, or none that the kernel side can follow.
    NoRule,
    /// At code without a table, and without a frame pointer.
    NoPointer,
    /// At memory that cannot be read, or is no stack.
    Unread,
}

impl Walked {
    fn of(number: u8) -> Walked {
        match number {
            0 => Walked::Pointers,
            1 => Walked::Whole,
            2 => Walked::Cut(Cut::Deep),
            3 => Walked::Cut(Cut::Unmapped),
            4 => Walked::Cut(Cut::NoRule),
            5 => Walked::Cut(Cut::NoPointer),
            _ => Walked::Cut(Cut::Unread),
        }
    }
}

/// A running measurement. Dropping it takes everything off.
#[derive(Debug)]
pub struct Profiler {
    links: Vec<Link>,
    events: Events,
    tables: Tables,
    clock: Clock,
    frequency: u32,
    stacks: HashMap<u64, Counted>,
    symbols: Symbols,
    walker: Walker,
    /// How many samples had been seen when the table was emptied last.
    emptied: u64,
    /// Of further stacks than are kept.
    lost_many: u64,
    /// Processes that had ended when they were looked at.
    missed: u64,
    started: Instant,
    interval: Duration,
    next: Instant,
    meter: Meter,
    loaded: Loaded,
}

impl Profiler {
    /// Loads and attaches.
    ///
    /// # Errors
    /// The filter names something that is not there; the kernel refuses (CAP_BPF and CAP_PERFMON are needed).
    pub fn start(options: &Options) -> Result<Profiler> {
        let kernel = Kernel::running();
        let mut programs = Programs::open()?;
        let sampler = if options.off_cpu { "off_cpu" } else { "on_cpu" };
        let cpus =
            kernel.possible_cpus().map_err(|source| ringfence::Error::Kernel { object: "profile".into(), source })?;
        let (entries, interval) = room(options, cpus);
        let shortest = u64::try_from(options.shortest_wait.as_nanos()).unwrap_or(u64::MAX);
        let settings = Settings::new()
            .only([sampler, "on_exec", "on_exit"])
            .map_entries("stacks_a", entries)
            .map_entries("stacks_b", entries)
            // Waits are remembered only where they are counted.
            .map_entries("waits", if options.off_cpu { 16_384 } else { 1 })
            .map_entries("mapped_files", if options.unwind == Unwind::Pointers { 1 } else { 1024 });
        *programs.settings() = options.filter.settings(settings)?;
        programs.rodata().set_shortest_ns(shortest).set_unwind_tables(options.unwind != Unwind::Pointers);
        let mut meter = Meter::start();
        let loaded = programs.load()?;
        let tables = Tables::open(&loaded)?;
        let walker = Walker::new(options.unwind, &kernel, &loaded)?;
        let loaded = loaded.0;
        let events = loaded.events("processes")?;
        let mut links = vec![loaded.attach("on_exec")?, loaded.attach("on_exit")?];
        let program = loaded.program(sampler)?;
        let clock = if options.off_cpu {
            links.push(loaded.attach(sampler)?);
            Clock::Switches
        } else {
            let often = Often::PerSecond(u64::from(options.frequency));
            match PerfEvent::cycles(often).on_each_cpu(program) {
                Ok(many) => {
                    links.extend(many);
                    Clock::Cycles
                }
                Err(error) if error.kind() == Kind::Unsupported => {
                    links.extend(PerfEvent::cpu_clock(often).on_each_cpu(program)?);
                    Clock::Software
                }
                Err(error) => return Err(error.into()),
            }
        };
        let now = Instant::now();
        meter.loaded();
        Ok(Profiler {
            links,
            events,
            tables,
            clock,
            frequency: options.frequency,
            stacks: HashMap::new(),
            symbols: Symbols::new(),
            walker,
            emptied: 0,
            lost_many: 0,
            missed: 0,
            started: now,
            interval,
            next: now + interval,
            meter,
            loaded,
        })
    }

    /// What makes samples.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether stacks of code without frame pointers are walked: on x86-64, by kernels with `bpf_task_pt_regs` (5.15).
    pub fn has_tables(&self) -> bool {
        self.walker.works()
    }

    /// How long it has been running.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Samples, or waits, that were counted so far.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self) -> Result<u64> {
        Ok(self.tables.counters()?.taken)
    }

    /// Watches for this long: looks at processes as they appear, and empties the kernel's tables each second.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= self.next {
                self.empty()?;
                self.next = Instant::now() + self.interval;
            }
            if now >= end {
                return Ok(());
            }
            self.watch(self.next.min(end).saturating_duration_since(now))?;
        }
    }

    /// Looks at processes of which a stack was seen for the first time, and makes tables for those of which many were.
    fn watch(&mut self, time: Duration) -> Result<()> {
        let mut seen = Vec::new();
        // Every sample until a table is there ends early.
        let time = if self.walker.is_reading() { time.min(SOON) } else { time };
        self.events.poll(Some(time), |event| {
            seen.extend(event.read::<Process>().map(|process| ((process.pid, process.image), process.busy != 0)));
        })?;
        for (image, busy) in seen {
            if busy || self.symbols.remember(image) {
                self.walker.seen(&self.symbols, image, busy)?;
            } else {
                self.missed += 1;
            }
        }
        self.walker.turn(&self.symbols)?;
        Ok(())
    }

    fn empty(&mut self) -> Result<()> {
        // Where nothing was seen there is nothing to read, which is most of the cost at rest.
        let counters = self.tables.counters()?;
        let seen = counters.samples - counters.idle.min(counters.samples) + counters.taken + counters.lost_full;
        let seen = seen.saturating_sub(counters.filtered);
        if std::mem::replace(&mut self.emptied, seen) == seen && !self.links.is_empty() {
            return Ok(());
        }
        let left = self.tables.switch()?;
        self.watch(GRACE)?;
        for entry in left.drain()? {
            let (hash, stack) = entry?;
            add(&mut self.stacks, &mut self.lost_many, hash, &stack);
            if stack.known != 0 && stack.kernel_task == 0 && stack.image != 0 {
                let image = (stack.pid, stack.image);
                if self.symbols.follow(image, stack.user_frames()) {
                    self.walker.tell(&self.symbols, image)?;
                }
            }
        }
        Ok(())
    }

    /// Takes everything off, and makes a profile of what was seen.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn finish(mut self) -> Result<Profile> {
        self.links.clear();
        let time = self.started.elapsed();
        self.empty()?;
        self.empty()?;
        self.still_waiting()?;
        let counters = self.tables.counters()?;
        let summary = Summary { time, ..self.summary(counters)? };
        let Profiler { stacks, mut symbols, loaded, tables, walker, events, meter, .. } = self;
        // From here on nothing of ours is in the kernel.
        drop((loaded, tables, walker, events, meter));
        Ok(Profile::of(stacks.values(), &mut symbols, summary))
    }

    /// A picture of what was seen so far; the measurement goes on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn so_far(&mut self) -> Result<Profile> {
        let summary = self.summary(self.tables.counters()?)?;
        Ok(Profile::of(self.stacks.values(), &mut self.symbols, summary))
    }

    fn summary(&self, counters: Counters) -> Result<Summary> {
        let cost = self.meter.read(&self.loaded)?;
        Ok(Summary {
            clock: self.clock,
            frequency: self.frequency,
            time: self.started.elapsed(),
            samples: counters.samples,
            idle: counters.idle,
            filtered: counters.filtered,
            taken: counters.taken,
            lost_full: counters.lost_full,
            lost_waits: counters.lost_tasks,
            lost_many: self.lost_many,
            missed_processes: self.missed + counters.lost_images,
            tables: self.walker.made(),
            own_cpu: cost.own_cpu,
            in_kernel: cost.in_kernel,
            ..Summary::default()
        })
    }

    /// Waits that have not ended count up to now.
    fn still_waiting(&mut self) -> Result<()> {
        if self.clock != Clock::Switches {
            return Ok(());
        }
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        for entry in self.tables.waits.drain()? {
            let (_, waiting) = entry?;
            if let Some(counted) = self.stacks.get_mut(&waiting.hash) {
                counted.count += 1;
                counted.ns += now.saturating_sub(waiting.since);
            }
        }
        Ok(())
    }
}

fn add(stacks: &mut HashMap<u64, Counted>, lost: &mut u64, hash: u64, stack: &Stack) {
    let full = stacks.len() >= MOST_STACKS;
    let counted = match stacks.entry(hash) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(_) if full => {
            *lost += stack.count;
            return;
        }
        Entry::Vacant(entry) => entry.insert(Counted { count: 0, ns: 0, stack: None }),
    };
    counted.count += stack.count;
    counted.ns += stack.ns;
    if counted.stack.is_none() && stack.known != 0 {
        counted.stack = Some(Addresses {
            image: (stack.pid, stack.image),
            comm: stack.comm_text().into_owned(),
            kernel: stack.kernel_frames().into(),
            user: stack.user_frames().into(),
            preempted: stack.preempted != 0,
            kernel_task: stack.kernel_task != 0,
            walked: Walked::of(stack.walked),
        });
    }
}

/// Entries of a table, and how often it is emptied: so that there is room for as many different stacks as there can be samples
/// until then, and half as many again.
fn room(options: &Options, cpus: u32) -> (u32, Duration) {
    let (least, most) = ENTRIES;
    let a_second = u64::from(options.frequency) * u64::from(cpus) * 3 / 2;
    // How many different waits a second has is not known beforehand.
    let wanted = if options.off_cpu { most } else { a_second.next_power_of_two().clamp(least, most) };
    let until_full = Duration::from_millis(wanted * 1000 / a_second.max(1));
    let interval = if options.off_cpu { INTERVALS.1 } else { until_full.clamp(INTERVALS.0, INTERVALS.1) };
    (u32::try_from(wanted).unwrap_or(u32::MAX), interval)
}
