//! The footer: events, losses, and what each program cost.

use std::time::Duration;

use ringfence::{Events, Loaded};

use super::rows::Rows;
use crate::output;

/// The footer's text, without a line break at its end.
pub fn of(loaded: &Loaded, reader: &Events, rows: &Rows, time: Duration, timed: bool) -> String {
    let mut out = format!("{:.1} s", time.as_secs_f64());
    for seen in reader.seen() {
        let lost = match seen.lost {
            Some(lost) => format!("{lost} lost"),
            None => counted_by_program(loaded)
                .unwrap_or_else(|| "lost: not counted (a ring buffer does not count what found no room)".to_owned()),
        };
        out += &format!("\n{}: {} events, {lost}", seen.map, seen.events);
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

/// Losses that the programs count themselves, in a global named `lost_*` or `dropped*`, as the built-in ones do.
fn counted_by_program(loaded: &Loaded) -> Option<String> {
    let counters = ["lost_events", "dropped_events", "lost", "dropped"];
    let name = counters.iter().find(|name| loaded.variable(name).is_ok())?;
    let lost: u64 = loaded.variable(name).ok()?.get().ok()?;
    Some(format!("{lost} lost (`{name}`)"))
}
