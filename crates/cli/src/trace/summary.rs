//! What a run comes to: counts, losses, costs, histograms.

use std::time::Duration;

use ringfence_tools::trace::{Seen, Tracer};
use serde_json::json;

use crate::exit::Failure;
use crate::output::{self, Format};
use crate::run::rows::Rows;
use crate::tool::failure;

/// The footer, without a line break at its end.
pub fn of(tracer: &Tracer, rows: &Rows, time: Duration) -> ringfence_tools::Result<String> {
    let all = tracer.seen()?;
    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    let mut out = format!(
        "{:.1} s; {} events, {} not wanted, {} shown or counted, lost: {}",
        time.as_secs_f64(),
        sum(|seen| seen.reached),
        sum(|seen| seen.filtered),
        sum(|seen| seen.sent),
        lost(&all),
    );
    let unpaired = sum(|seen| seen.unpaired);
    if unpaired > 0 {
        out += &format!("\n{unpaired} returns of calls that began before, or found no room");
    }
    let under_way = sum(|seen| seen.under_way);
    if under_way > 0 {
        out += &format!("\n{under_way} calls had not returned");
    }
    for note in rows.notes() {
        out += &format!("\n{note}");
    }
    let rows = tracer.targets().iter().zip(&all).filter(|(_, seen)| seen.reached > 0 || all.len() <= 8);
    if all.len() > 1 {
        let rows = rows.map(|(target, seen)| {
            let lost = seen.lost + seen.missed.unwrap_or(0);
            [target.name.clone(), seen.reached.to_string(), seen.sent.to_string(), lost.to_string()]
        });
        out += "\n";
        out += output::table(["PROBE", "REACHED", "SHOWN", "LOST"], rows).trim_end();
    }
    let own = tracer.own_cpu();
    let share = 100.0 * own.as_secs_f64() / time.as_secs_f64().max(1e-9);
    let kernel: Option<Duration> = all.iter().map(|seen| seen.time).sum();
    let kernel = match kernel {
        Some(kernel) => {
            let runs = sum(|seen| seen.reached).max(1);
            let each = kernel.as_nanos() / u128::from(runs);
            format!("{:.1} ms in the kernel ({each} ns each)", kernel.as_secs_f64() * 1e3)
        }
        None => "time in the kernel is not known (kernel.bpf_stats_enabled)".to_owned(),
    };
    out += &format!("\nown cost: {:.1} ms CPU ({share:.2}% of one), {kernel}", own.as_secs_f64() * 1e3);
    Ok(out)
}

/// What was lost, in words.
pub fn lost(all: &[Seen]) -> String {
    let full: u64 = all.iter().map(|seen| seen.lost).sum();
    let missed: Option<u64> = all.iter().map(|seen| seen.missed).sum();
    match (full, missed) {
        (0, Some(0)) => "nothing".to_owned(),
        (0, None) => "nothing; this kernel does not count what it leaves out while a program runs".to_owned(),
        (full, missed) => {
            let missed = missed.filter(|missed| *missed > 0);
            let missed = missed.map(|missed| format!("{missed} left out by the kernel while a program ran"));
            let full = (full > 0).then(|| format!("{full} without room in the buffer (--buffer)"));
            full.into_iter().chain(missed).collect::<Vec<_>>().join(", ")
        }
    }
}

/// How long calls took.
pub fn latency(tracer: &Tracer, format: Format) -> Result<String, Failure> {
    let mut text = String::new();
    for (target, slots) in tracer.targets().iter().zip(tracer.durations().map_err(failure)?) {
        let total: u64 = slots.iter().sum();
        let end = slots.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let counts = slots.get(..end).unwrap_or_default();
        match format {
            Format::Table if total == 0 => text += &format!("{}: no call returned\n", target.name),
            Format::Table => {
                text += &format!("{}: {total} calls\n", target.name);
                draw(counts, &mut text);
            }
            Format::Json | Format::Yaml => {
                let buckets: Vec<_> = (0u32..)
                    .zip(counts)
                    .filter(|(_, count)| **count > 0)
                    .map(|(n, count)| json!({ "from_ns": if n == 0 { 0 } else { 1u64 << n }, "to_ns": 2u64 << n, "count": count }))
                    .collect();
                let value = json!({ "_probe": target.name, "calls": total, "duration_ns": buckets });
                if format == Format::Json {
                    text += &format!("{value}\n");
                } else {
                    text += "---\n";
                    text += &output::yaml(&value)?;
                }
            }
        }
    }
    Ok(text)
}

/// A line for each power of two between the fastest and the slowest.
fn draw(counts: &[u64], out: &mut String) {
    const STARS: u64 = 40;
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    for (n, count) in (0u32..).zip(counts).skip(first) {
        let from = if n == 0 { 0 } else { 1 << n };
        let stars = "*".repeat((u128::from(*count) * u128::from(STARS) / u128::from(most)) as usize);
        let line = format!("{:>8} .. {:<8} {count:>9} |{stars}", short(from), short(2 << n));
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// `512 ns`, `1.0 us`, `2.1 ms`.
fn short(ns: u64) -> String {
    const UNITS: &[(u64, &str)] = &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match UNITS.iter().find(|(unit, _)| ns >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", ns as f64 / *unit as f64),
        None => format!("{ns} ns"),
    }
}
