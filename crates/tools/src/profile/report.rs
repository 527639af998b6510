//! What a measurement comes to: stacks with functions instead of addresses, and what is to be known about it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::raw::DEPTH;
use super::{Addresses, Clock, Counted, Cut, Made, Walked};
use crate::symbols::{Symbol, Symbols, base};

/// Functions with which a thread begins. A stack in which none is near the end was not walked to its end.
const ROOTS: &[&str] = &[
    "main",
    "_start",
    "_start_c",
    "__libc_start_main",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "thread_start",
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.mstart",
    "runtime.mcall",
    "runtime.systemstack",
    "runtime.rt0_go",
    "runtime.rt0_go.abi0",
];
/// What the kernel calls to switch to another task.
const SWITCHERS: &[&str] = &[
    "__schedule",
    "schedule",
    "schedule_idle",
    "schedule_preempt_disabled",
    "schedule_timeout",
    "schedule_hrtimeout_range",
    "schedule_hrtimeout_range_clock",
    "preempt_schedule",
    "preempt_schedule_common",
    "preempt_schedule_irq",
    "__cond_resched",
    "io_schedule",
    "io_schedule_timeout",
];
/// How many frames from the end such a function may be.
const NEAR_END: usize = 3;
/// Beginnings of the names of libraries that call `main` and start threads, often without names for the functions that do.
const STARTERS: &[&str] = &["libc.so", "libc-", "libpthread", "ld-musl", "libc.musl", "ld-linux"];

/// A stack with its weight.
#[derive(Clone, Debug)]
pub struct Row {
    /// The process.
    pub pid: u32,
    /// Name of the thread.
    pub comm: String,
    /// Innermost first; the kernel's before those of the program.
    pub frames: Vec<Frame>,
    /// Samples, or waits.
    pub count: u64,
    /// Nanoseconds off a CPU; 0 for samples.
    pub ns: u64,
}

/// A frame: an address, and all functions there.
#[derive(Clone, Debug)]
pub struct Frame {
    /// As it was on the stack; 0 for a frame that says something about the stack and is none.
    pub address: u64,
    /// In the kernel.
    pub kernel: bool,
    /// Innermost first: those that were compiled into the last one. Never empty.
    pub symbols: Rc<[Symbol]>,
}

/// How a measurement went.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// What made samples.
    pub clock: Clock,
    /// Samples a second that were asked for.
    pub frequency: u32,
    /// How long it took.
    pub time: Duration,
    /// Samples on all CPUs, or switches.
    pub samples: u64,
    /// Of them of CPUs with nothing to do.
    pub idle: u64,
    /// Of them of others than was asked for.
    pub filtered: u64,
    /// Samples, or waits, that were counted with their stack.
    pub taken: u64,
    /// Not counted: the kernel's table was full.
    pub lost_full: u64,
    /// Not counted: too many tasks waited at a time.
    pub lost_waits: u64,
    /// Not counted: too many different stacks.
    pub lost_many: u64,
    /// Counted, but their stack is not known.
    pub lost_stacks: u64,
    /// Processes that had ended before their files were looked at: their functions have no names.
    pub missed_processes: u64,
    /// Weight of stacks of programs, and of those the ones that end early: code without frame pointers, and without a table.
    pub user: u64,
    /// See [`Summary::user`].
    pub truncated: u64,
    /// Weight of those that were walked by tables made of `.eh_frame`.
    pub by_tables: u64,
    /// Weight of those of them that end early, by the reason.
    pub cut: BTreeMap<Cut, u64>,
    /// These tables.
    pub tables: Made,
    /// Weight of stacks with as many frames as are read, which may have more.
    pub deep: u64,
    /// Innermost frames without a function, by weight.
    pub unnamed: u64,
    /// CPU time of this process meanwhile.
    pub own_cpu: Duration,
    /// Time in our programs, and how often they ran; `None`: the right to measure that was missing (CAP_SYS_ADMIN).
    pub in_kernel: Option<(Duration, u64)>,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            clock: Clock::Software,
            frequency: 0,
            time: Duration::ZERO,
            samples: 0,
            idle: 0,
            filtered: 0,
            taken: 0,
            lost_full: 0,
            lost_waits: 0,
            lost_many: 0,
            lost_stacks: 0,
            missed_processes: 0,
            user: 0,
            truncated: 0,
            by_tables: 0,
            cut: BTreeMap::new(),
            tables: Made::default(),
            deep: 0,
            unnamed: 0,
            own_cpu: Duration::ZERO,
            in_kernel: None,
        }
    }
}

impl Summary {
    /// All that was not counted.
    pub fn lost(&self) -> u64 {
        self.lost_full + self.lost_waits + self.lost_many + self.lost_stacks
    }
}

/// A function with its weights.
#[derive(Clone, Debug)]
pub struct Hot {
    /// It; file and line are where most of its own time is.
    pub symbol: Symbol,
    /// In the kernel.
    pub kernel: bool,
    /// Samples, or nanoseconds, in the function itself.
    pub own: u64,
    /// The same with all that it calls.
    pub total: u64,
    /// Of all, 0 to 1.
    pub own_share: f64,
    /// Of all, 0 to 1.
    pub total_share: f64,
}

/// A finished measurement.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Every stack.
    pub rows: Vec<Row>,
    /// How it went.
    pub summary: Summary,
}

impl Profile {
    pub(super) fn of<'a>(
        stacks: impl Iterator<Item = &'a Counted>,
        symbols: &mut Symbols,
        mut summary: Summary,
    ) -> Profile {
        let mut rows = Vec::new();
        for counted in stacks.filter(|counted| counted.count > 0) {
            let Some(stack) = &counted.stack else {
                summary.lost_stacks += counted.count;
                summary.taken = summary.taken.saturating_sub(counted.count);
                continue;
            };
            let weight = if summary.clock == Clock::Switches { counted.ns } else { counted.count };
            rows.push(Row {
                pid: stack.image.0,
                comm: stack.comm.clone(),
                frames: frames(stack, symbols, &mut summary, weight),
                count: counted.count,
                ns: counted.ns,
            });
        }
        // The order of a hash table differs from run to run; that of what is written must not.
        rows.sort_by(|a, b| b.weight().cmp(&a.weight()).then_with(|| (a.pid, &a.comm).cmp(&(b.pid, &b.comm))));
        Profile { rows, summary }
    }

    /// What stacks are weighed by: nanoseconds off a CPU, else samples.
    pub fn is_time(&self) -> bool {
        self.summary.clock == Clock::Switches
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(Row::weight).sum()
    }

    /// Every function, the one with most time of its own first.
    pub fn hottest(&self) -> Vec<Hot> {
        /// Its own time, or that of what it calls; file and line.
        type Place<'a> = (bool, &'a Option<Rc<str>>, Option<u32>);
        #[derive(Default)]
        struct Sum<'a> {
            own: u64,
            total: u64,
            /// Weights by line: of its own time, else of where it calls.
            lines: HashMap<Place<'a>, u64>,
            kernel: bool,
            sample: Option<&'a Symbol>,
        }
        let mut sums: HashMap<(&str, &str), Sum<'_>> = HashMap::new();
        let mut seen = HashSet::new();
        for row in &self.rows {
            seen.clear();
            let all = row.frames.iter().flat_map(|frame| frame.symbols.iter().map(move |symbol| (frame, symbol)));
            for (place, (frame, symbol)) in all.enumerate() {
                let key = (&*symbol.function, &*symbol.module);
                let sum = sums.entry(key).or_default();
                sum.kernel = frame.kernel;
                sum.sample = Some(symbol);
                if place == 0 {
                    sum.own += row.weight();
                }
                *sum.lines.entry((place == 0, &symbol.file, symbol.line)).or_default() += row.weight();
                // A function that calls itself is on the stack once.
                if seen.insert(key) {
                    sum.total += row.weight();
                }
            }
        }
        let all = self.total().max(1) as f64;
        let mut hot: Vec<Hot> = sums
            .into_values()
            .filter_map(|sum| {
                let line = sum.lines.iter().max_by_key(|((own, file, line), weight)| (*own, **weight, *file, *line));
                let (file, line) = line.map(|((_, file, line), _)| ((*file).clone(), *line))?;
                Some(Hot {
                    symbol: Symbol { file, line, ..sum.sample?.clone() },
                    kernel: sum.kernel,
                    own: sum.own,
                    total: sum.total,
                    own_share: sum.own as f64 / all,
                    total_share: sum.total as f64 / all,
                })
            })
            .collect();
        hot.sort_by(|a, b| (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| a.symbol.cmp(&b.symbol)));
        hot
    }
}

impl Row {
    /// Nanoseconds off a CPU, else samples.
    pub fn weight(&self) -> u64 {
        if self.ns > 0 { self.ns } else { self.count }
    }
}

fn frames(stack: &Addresses, symbols: &mut Symbols, summary: &mut Summary, weight: u64) -> Vec<Frame> {
    // All but the innermost are return addresses: the call is before them.
    let call = |place: usize, address: u64| if place == 0 { address } else { address.saturating_sub(1) };
    let mut kernel: Vec<Frame> = (stack.kernel.iter().enumerate())
        .map(|(place, address)| Frame {
            address: *address,
            kernel: true,
            symbols: symbols.kernel(call(place, *address)),
        })
        .collect();
    if summary.clock == Clock::Switches {
        // What watches the switch is on its stack too, and how it is done says nothing about why.
        let switches = |frame: &Frame| frame.symbols.iter().any(|symbol| SWITCHERS.contains(&&*symbol.function));
        let switch = kernel.iter().rposition(switches).map_or(0, |last| last + 1);
        kernel.drain(..switch);
    }
    let mut user: Vec<Frame> = (stack.user.iter().enumerate())
        .map(|(place, address)| Frame {
            address: *address,
            kernel: false,
            symbols: symbols.user(stack.image, call(place, *address)),
        })
        .collect();
    if !stack.kernel_task {
        summary.user += weight;
        let deep = stack.user.len() == DEPTH;
        let whole = stack.walked == Walked::Whole || is_whole(&user);
        if let Walked::Cut(why) = stack.walked
            && !whole
        {
            *summary.cut.entry(why).or_default() += weight;
        }
        summary.by_tables += if stack.walked == Walked::Pointers { 0 } else { weight };
        // Behind where a walk went astray lies what happened to be in a register: it leads nowhere.
        let somewhere = user.iter().rposition(|frame| frame.symbols.iter().any(|symbol| !symbol.module.is_empty()));
        if !whole && stack.image.1 != 0 {
            user.truncate(somewhere.map_or(1, |last| last + 1));
        }
        summary.deep += if deep { weight } else { 0 };
        summary.truncated += if deep || whole { 0 } else { weight };
    }
    let mut all = Vec::with_capacity(kernel.len() + user.len() + 1);
    if stack.preempted {
        all.push(note("[preempted]"));
    }
    all.extend(kernel);
    all.extend(user);
    match all.first().and_then(|frame| frame.symbols.first()) {
        Some(symbol) if symbol.known => {}
        Some(_) => summary.unnamed += weight,
        None => {
            summary.unnamed += weight;
            all.push(note("[no stack]"));
        }
    }
    all
}

/// A frame that is none.
fn note(text: &str) -> Frame {
    let symbol =
        Symbol { function: text.into(), module: "".into(), file: None, line: None, inlined: false, known: true };
    Frame { address: 0, kernel: true, symbols: Rc::new([symbol]) }
}

/// The walk of a user stack came to where its thread began.
fn is_whole(frames: &[Frame]) -> bool {
    let near_end = frames.iter().rev().take(NEAR_END).flat_map(|frame| frame.symbols.iter());
    let starts = || {
        let last = frames.last().and_then(|frame| frame.symbols.last());
        last.is_some_and(|last| STARTERS.iter().any(|starter| base(&last.module).starts_with(starter)))
    };
    near_end.map(|symbol| without_version(&symbol.function)).any(|name| ROOTS.contains(&name))
        || (frames.len() > 1 && starts())
}

/// `clone3@@GLIBC_2.34`.
fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}
