//! A run as metrics: all since its start.

use ringfence_tools::trace::Tracer;

use crate::metrics::{Kind, Labels, Page, Sample, label};
use crate::run::rows::Rows;

/// Lines of --count-by that have series.
const MOST_LINES: usize = 1000;

/// Puts it on a page.
pub fn fill(page: &mut Page, tracer: &Tracer, rows: &Rows, latency: bool) -> ringfence_tools::Result<()> {
    let all = tracer.seen()?;
    for (target, seen) in tracer.targets().iter().zip(&all) {
        let probe = ("probe", target.name.as_str());
        page.counter("ringfence_trace_events", "How often a place was reached.", &[probe], seen.reached);
        let help = "Events that were sent, or counted by their duration.";
        page.counter("ringfence_trace_taken", help, &[probe], seen.sent);
        let help = "Events that were not taken, by the reason.";
        let reasons = [("filtered", seen.filtered), ("no call seen", seen.unpaired)];
        for (reason, number) in reasons {
            page.counter("ringfence_trace_left_out", help, &[probe, ("reason", reason)], number);
        }
        let help = "Events that were lost, by the reason.";
        let reasons = [("buffer full", Some(seen.lost)), ("a program was running", seen.missed)];
        for (reason, number) in reasons.into_iter().filter_map(|(reason, number)| Some((reason, number?))) {
            page.counter("ringfence_trace_lost", help, &[probe, ("reason", reason)], number);
        }
    }
    if latency {
        let help = "How long calls took, in nanoseconds.";
        for (target, slots) in tracer.targets().iter().zip(tracer.durations()?) {
            // Slot n counts what is below 2^(n+1); the last one all that is above.
            let bound = |n: u32| (n < 63).then(|| (2u64 << n) - 1);
            let slots = (0u32..).zip(slots).map(|(n, count)| (bound(n), count)).collect();
            let labels: Labels = vec![label("probe", &target.name)];
            page.add("ringfence_trace_duration_ns", Kind::Histogram, help, labels, Sample::Slots(slots));
        }
    }
    let counts = rows.label_counts(MOST_LINES);
    for (cells, number) in counts.lines {
        let labels: Labels = counts.columns.iter().zip(&cells).map(|(name, cell)| label(name, cell)).collect();
        let help = "Events by what --count-by names.";
        page.add("ringfence_trace_count", Kind::Counter, help, labels, Sample::Integer(number.into()));
    }
    let time = all.iter().map(|seen| seen.time).sum::<Option<std::time::Duration>>();
    let runs = all.iter().map(|seen| seen.reached).sum();
    page.cost("trace", tracer.own_cpu(), time.map(|time| (time, runs)));
    Ok(())
}
