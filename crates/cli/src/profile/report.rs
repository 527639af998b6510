//! What is printed of a profile.

use std::collections::BTreeMap;
use std::path::Path;

use ringfence_tools::profile::{Clock, Cut, Flame, Folded, Hot, Profile, Summary};
use ringfence_tools::symbols::{Symbol, base};
use serde_json::{Value, json};

use super::target::{Kind, Target};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::run::say;
use crate::tool::failure;

/// A run, and an earlier one to compare it with.
pub struct Shown {
    profile: Option<Profile>,
    folded: Folded,
    before: Option<Folded>,
    title: String,
    unit: &'static str,
}

impl Shown {
    pub fn measured(profile: Profile, off_cpu: bool, before: Option<Folded>) -> Shown {
        let (title, unit) = if off_cpu { ("time off the CPUs", "us") } else { ("time on the CPUs", "samples") };
        Shown { folded: profile.folded(), profile: Some(profile), before, title: title.to_owned(), unit }
    }

    pub fn read(folded: Folded, from: &Path, before: Option<Folded>) -> Shown {
        Shown { profile: None, folded, before, title: from.display().to_string(), unit: "samples" }
    }

    pub fn write(&self, targets: &[Target], top: usize) -> Result<(), Failure> {
        for target in targets {
            // A picture of nothing is no use; the reason is said below.
            if self.folded.is_empty() && target.kind == Kind::Svg {
                say("there is nothing to draw");
                continue;
            }
            let bytes = self.bytes(target, top)?;
            match &target.file {
                None => {
                    output::write(&bytes)?;
                }
                Some(file) => {
                    let fail = |error| Failure::new(Exit::Error, format_args!("{}: {error}", file.display()));
                    std::fs::write(file, bytes).map_err(fail)?;
                    say(&format!("written: {}", file.display()));
                }
            }
        }
        match &self.profile {
            Some(profile) => footer(profile),
            None if self.folded.is_empty() => say("there are no stacks in it"),
            None => {}
        }
        Ok(())
    }

    fn bytes(&self, target: &Target, top: usize) -> Result<Vec<u8>, Failure> {
        Ok(match target.kind {
            Kind::Folded => self.folded.to_string().into_bytes(),
            Kind::Svg => self.svg()?,
            Kind::Pprof => match &self.profile {
                Some(profile) => profile.pprof().map_err(failure)?,
                None => return Err(Failure::usage("--read has no addresses and lines: pprof cannot be made of it")),
            },
            Kind::Json => serde_json::to_string_pretty(&self.json(top))
                .map_err(|error| Failure::new(Exit::Error, error))?
                .into_bytes()
                .into_iter()
                .chain(*b"\n")
                .collect(),
            Kind::Table => {
                let width = if target.file.is_none() { output::terminal_width() } else { None };
                self.table(width, top).into_bytes()
            }
        })
    }

    fn svg(&self) -> Result<Vec<u8>, Failure> {
        let mut notes = Vec::new();
        if let Some(Profile { summary, .. }) = &self.profile {
            notes.push(format!("{}, {:.1} s", clock(summary), summary.time.as_secs_f64()));
            if summary.user > 0 {
                notes.push(format!("user stacks cut short: {}", share(summary.truncated, summary.user)));
            }
        }
        if self.before.is_some() {
            notes.push("since the earlier run: red has grown, blue has shrunk".to_owned());
        }
        let subtitle = notes.join("; ");
        let flame = Flame { title: format!("ringfence profile: {}", self.title), subtitle, unit: self.unit.to_owned() };
        match &self.before {
            Some(before) => flame.draw_since(&self.folded, before).map_err(failure),
            None => flame.draw(&self.folded).map_err(failure),
        }
    }

    fn table(&self, width: Option<usize>, top: usize) -> String {
        if self.folded.is_empty() {
            return String::new();
        }
        if let Some(before) = &self.before {
            let changes = self.folded.since(before);
            let rows = changes.iter().take(top).map(|change| {
                let difference = format!("{:+.1}", 100.0 * (change.now - change.before));
                [percent(change.before), percent(change.now), difference, change.function.clone()]
            });
            return output::table_within(width, ["BEFORE", "NOW", "POINTS", "FUNCTION"], rows.collect(), &[3]);
        }
        match &self.profile {
            Some(profile) => table(&profile.hottest(), profile.is_time(), width, top),
            None => {
                let own = self.folded.since(&Folded::default());
                let rows = own.iter().take(top);
                let rows = rows.map(|change| [percent(change.now), change.function.clone()]);
                output::table_within(width, ["SELF", "FUNCTION"], rows.collect(), &[1])
            }
        }
    }

    fn json(&self, top: usize) -> Value {
        let Some(profile) = &self.profile else {
            let stacks = self
                .folded
                .iter()
                .map(|(stack, weight)| json!({ "stack": stack.split(';').collect::<Vec<_>>(), "weight": weight }));
            return json!({ "stacks": stacks.collect::<Vec<_>>() });
        };
        let hot = profile.hottest();
        let functions = hot.iter().take(top).map(|hot| {
            json!({
                "function": &*hot.symbol.function,
                "module": &*hot.symbol.module,
                "file": hot.symbol.file.as_deref(),
                "line": hot.symbol.line,
                "kernel": hot.kernel,
                "self": hot.own,
                "total": hot.total,
            })
        });
        let stacks = profile.rows.iter().map(|row| {
            let frames = row.frames.iter().rev().flat_map(|frame| frame.symbols.iter().rev().map(move |symbol| (frame, symbol)));
            let frames = frames.map(|(frame, symbol)| {
                json!({
                    "function": &*symbol.function,
                    "module": &*symbol.module,
                    "file": symbol.file.as_deref(),
                    "line": symbol.line,
                    "inlined": symbol.inlined,
                    "kernel": frame.kernel,
                    "address": frame.address,
                })
            });
            json!({ "pid": row.pid, "comm": row.comm, "count": row.count, "ns": row.ns, "frames": frames.collect::<Vec<_>>() })
        });
        json!({
            "summary": summary(&profile.summary, profile),
            "functions": functions.collect::<Vec<_>>(),
            "stacks": stacks.collect::<Vec<_>>(),
        })
    }
}

fn table(hot: &[Hot], is_time: bool, width: Option<usize>, top: usize) -> String {
    let rows = hot.iter().take(top).map(|hot| {
        let own = if is_time { time(hot.own) } else { hot.own.to_string() };
        let (function, module) = (hot.symbol.function.to_string(), base(&hot.symbol.module).to_owned());
        [percent(hot.own_share), percent(hot.total_share), own, module, place(&hot.symbol), function]
    });
    let unit = if is_time { "TIME" } else { "SAMPLES" };
    output::table_within(width, ["SELF", "TOTAL", unit, "IN", "LINE", "FUNCTION"], rows.collect(), &[3, 4, 5])
}

/// A share, from 0 to 1.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// File and line, without the directories.
pub fn place(symbol: &Symbol) -> String {
    match (&symbol.file, symbol.line) {
        (Some(file), Some(line)) => format!("{}:{line}", base(file)),
        (Some(file), None) => base(file).to_owned(),
        (None, _) => String::new(),
    }
}

/// Nanoseconds for people.
pub fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} us", ns / 1000),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn share(part: u64, all: u64) -> String {
    format!("{:.1}%", 100.0 * part as f64 / all.max(1) as f64)
}

pub fn clock(summary: &Summary) -> String {
    match summary.clock {
        Clock::Cycles => format!("hardware cycles, {} Hz", summary.frequency),
        Clock::Software => format!("software clock, {} Hz", summary.frequency),
        Clock::Switches => "sched_switch".to_owned(),
    }
}

/// What is to be known beside the data, on stderr.
fn footer(profile: &Profile) {
    let summary = &profile.summary;
    let (what, all) = if profile.is_time() { ("switches", "waits") } else { ("samples", "samples") };
    let mut lines = vec![format!(
        "{:.1} s ({}): {} {what}; {} counted, {} idle, {} of others",
        summary.time.as_secs_f64(),
        clock(summary),
        summary.samples,
        summary.taken,
        summary.idle,
        summary.filtered,
    )];
    let lost = summary.lost();
    lines.push(match lost {
        0 => "lost: nothing".to_owned(),
        _ => format!(
            "lost: {lost} {all} ({} table full, {} too many waits at a time, {} too many stacks, {} stack not seen)",
            summary.lost_full, summary.lost_waits, summary.lost_many, summary.lost_stacks
        ),
    });
    let total = profile.total();
    if summary.user > 0 {
        let mut line = format!("user stacks cut short: {}", share(summary.truncated, summary.user));
        if summary.truncated > 0 {
            line += match summary.by_tables {
                0 => {
                    " (code without frame pointers: compile with -fno-omit-frame-pointer, Rust: -C force-frame-pointers)"
                }
                _ => " (before tables were there, and where they lead nowhere)",
            };
        }
        if summary.deep > 0 {
            line += &format!("; deeper than 127 frames: {}", share(summary.deep, summary.user));
        }
        lines.push(line);
        let tables = summary.tables;
        if tables.files > 0 {
            let mut line = format!(
                "walked by tables of .eh_frame: {} of user stacks ({} files, {:.1} MB in the kernel)",
                share(summary.by_tables, summary.user),
                tables.files,
                tables.bytes as f64 / 1e6,
            );
            let cut: Vec<_> = summary
                .cut
                .iter()
                .map(|(why, weight)| format!("{} {}", share(*weight, summary.user), reason(*why)))
                .collect();
            if !cut.is_empty() {
                line += &format!("; of them cut short: {}", cut.join(", "));
            }
            if tables.left_out > 0 {
                line += &format!("; no room for {} files", tables.left_out);
            }
            if tables.processes_left_out > 0 {
                line += &format!("; no room for {} processes", tables.processes_left_out);
            }
            lines.push(line);
        }
    }
    if summary.unnamed > 0 {
        lines.push(format!("without a function name: {}", share(summary.unnamed, total)));
    }
    if summary.missed_processes > 0 {
        lines.push(format!("ended before their files were looked at: {} processes", summary.missed_processes));
    }
    let seconds = summary.time.as_secs_f64().max(0.001);
    let percent = |time: std::time::Duration| 100.0 * time.as_secs_f64() / seconds;
    let mut cost = format!("own cost: {:.2}% of a CPU here", percent(summary.own_cpu));
    cost += &match summary.in_kernel {
        Some((time, runs)) => {
            let each = time.as_nanos().checked_div(runs.into()).unwrap_or(0);
            format!(", {:.2}% in the kernel ({each} ns a run)", percent(time))
        }
        None => ", in the kernel: unknown (CAP_SYS_ADMIN)".to_owned(),
    };
    lines.push(cost);
    if profile.rows.is_empty() {
        lines.push(nothing(summary));
    }
    lines.push("taken off, nothing is left in the kernel".to_owned());
    lines.iter().for_each(|line| say(line));
}

/// Why a walk by tables ended early.
fn reason(cut: Cut) -> &'static str {
    match cut {
        Cut::Deep => "more than 127 frames",
        Cut::Unmapped => "at an unknown mapping",
        Cut::NoRule => "at code without a rule",
        Cut::NoPointer => "at code without table and frame pointer",
        Cut::Unread => "at memory that could not be read",
    }
}

/// Why there is nothing to show.
fn nothing(summary: &Summary) -> String {
    match summary.filtered {
        0 => "nothing was seen: the CPUs had nothing to do".to_owned(),
        filtered => format!(
            "nothing of what was asked for was seen ({filtered} of others): it may wait (--off-cpu shows where)"
        ),
    }
}

fn summary(summary: &Summary, profile: &Profile) -> Value {
    json!({
        "clock": match summary.clock { Clock::Cycles => "cycles", Clock::Software => "software", Clock::Switches => "switches" },
        "frequency": summary.frequency,
        "seconds": summary.time.as_secs_f64(),
        "weight": if profile.is_time() { "ns" } else { "samples" },
        "total": profile.total(),
        "seen": summary.samples,
        "counted": summary.taken,
        "idle": summary.idle,
        "filtered": summary.filtered,
        "lost": summary.lost(),
        "user": summary.user,
        "truncated": summary.truncated,
        "by_tables": summary.by_tables,
        "cut": summary.cut.iter().map(|(why, weight)| (reason(*why), *weight)).collect::<BTreeMap<_, _>>(),
        "table_files": summary.tables.files,
        "table_bytes": summary.tables.bytes,
        "table_files_left_out": summary.tables.left_out,
        "table_processes_left_out": summary.tables.processes_left_out,
        "deep": summary.deep,
        "unnamed": summary.unnamed,
        "missed_processes": summary.missed_processes,
        "own_cpu_ns": u64::try_from(summary.own_cpu.as_nanos()).unwrap_or(u64::MAX),
        "in_kernel_ns": summary.in_kernel.map(|(time, _)| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        "in_kernel_runs": summary.in_kernel.map(|(_, runs)| runs),
    })
}
