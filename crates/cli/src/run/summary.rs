//! The footer: events, losses, and what each program cost.

use std::time::Duration;

use ringfence::{Events, Loaded, Seen};

use super::rows::Rows;
use crate::output;

/// The footer's text, without a line break at its end.
pub fn of(loaded: &Loaded, reader: &Events, rows: &Rows, time: Duration, timed: bool) -> String {
    let mut out = format!("{:.1} s", time.as_secs_f64());
    let all = reader.seen();
    let rings = all.iter().filter(|seen| seen.lost.is_none()).count();
    for seen in &all {
        let lost = lost(seen, loaded, rings);
        out +=
            &format!("\n{}: {} {}, {lost}", seen.map, seen.events, if seen.events == 1 { "event" } else { "events" });
    }
    for note in rows.notes() {
        out += &format!("\n{note}");
    }
    let programs = loaded.programs().iter().filter_map(|program| {
        let info = program.info().ok()?;
        let each = info.run_time_ns.checked_div(info.run_count).unwrap_or(0);
        let (time, each) = if timed {
            (format!("{:.3} ms", info.run_time_ns as f64 / 1e6), format!("{each} ns"))
        } else {
            ("-".into(), "-".into())
        };
        let runs = if timed { info.run_count.to_string() } else { "-".to_owned() };
        Some([program.name().to_owned(), runs, time, each])
    });
    out += "\n";
    out += output::table(["PROGRAM", "RUNS", "TIME", "EACH"], programs).trim_end();
    out
}

/// What is known of an event buffer's losses. A ring buffer's are counted by nobody but the program that found no room; a number
/// is given only where the program says that it counts just that.
fn lost(seen: &Seen, loaded: &Loaded, rings: usize) -> String {
    const NOT_COUNTED: &str = "lost: unknown (a ring buffer does not count what found no room";
    /// Globals that count events without room, as the built-in programs do; and those whose names may mean something else.
    const COUNTERS: &[&str] = &["lost_events", "dropped_events"];
    const MAYBE: &[&str] = &["lost", "dropped", "drops", "lost_count", "drop_count", "dropped_count"];
    let value = |name: &&str| {
        let variable = loaded.variable(name).ok()?;
        let wide = variable.get::<u64>().ok().or_else(|| variable.get::<u32>().ok().map(u64::from))?;
        Some(((*name).to_owned(), wide))
    };
    match (seen.lost, COUNTERS.iter().find_map(value)) {
        (Some(lost), _) if seen.lost_is_least => {
            format!("at least {lost} lost (before Linux 6.0 the kernel tells of losses only with the next event)")
        }
        (Some(lost), _) => format!("{lost} lost"),
        (None, Some((name, lost))) if rings == 1 => format!("{lost} lost (`{name}`)"),
        (None, Some((name, lost))) => format!("{NOT_COUNTED}; of all {rings} of them `{name}` says {lost})"),
        (None, None) => {
            let maybe = MAYBE.iter().find_map(value).map(|(name, says)| format!("; the program's `{name}` is {says}"));
            let full = seen.fullest.saturating_mul(100).checked_div(seen.size);
            let full = full.map(|full| format!("; when read it was at most {full}% full")).unwrap_or_default();
            format!("{NOT_COUNTED}{}{full})", maybe.unwrap_or_default())
        }
    }
}
