//! A measurement as metrics: all since its start.

use ringfence_tools::profile::Profile;

use crate::metrics::{Kind, Labels, Page, Sample, label};

/// Functions that have series: the hottest by their own time. The time of all others is one more series.
const MOST_FUNCTIONS: usize = 200;

/// Puts it on a page.
pub fn fill(page: &mut Page, profile: &Profile) {
    let summary = &profile.summary;
    let help = "Samples, or switches, by what became of them.";
    let states = [("counted", summary.taken), ("idle", summary.idle), ("filtered", summary.filtered)];
    for (state, number) in states {
        page.counter("ringfence_profile_samples", help, &[("state", state)], number);
    }
    let help = "What was not counted, or counted without its stack.";
    let reasons = [
        ("table full", summary.lost_full),
        ("too many waits at a time", summary.lost_waits),
        ("too many stacks", summary.lost_many),
        ("stack not seen", summary.lost_stacks),
    ];
    for (reason, number) in reasons {
        page.counter("ringfence_profile_lost", help, &[("reason", reason)], number);
    }
    let (name, help, truncated) = match profile.is_time() {
        true => ("ringfence_profile_off_cpu_seconds", "Time off the CPUs in a function itself.", "seconds"),
        false => ("ringfence_profile_self_samples", "Samples in a function itself.", "samples"),
    };
    let weight = |weight: u64| match profile.is_time() {
        true => Sample::Float(weight as f64 / 1e9),
        false => Sample::Integer(weight.into()),
    };
    let hot = profile.hottest();
    let own = hot.iter().filter(|hot| hot.own > 0);
    let (shown, others): (Vec<_>, Vec<_>) = own.enumerate().partition(|(place, _)| *place < MOST_FUNCTIONS);
    for (_, hot) in shown {
        let side = if hot.kernel { "kernel" } else { "user" };
        let (function, module) = (&*hot.symbol.function, &*hot.symbol.module);
        let labels: Labels = vec![label("function", function), label("module", module), label("side", side)];
        page.add(name, Kind::Counter, help, labels, weight(hot.own));
    }
    let left_out: u64 = others.iter().map(|(_, hot)| hot.own).sum();
    let functions = u64::try_from(others.len()).unwrap_or(u64::MAX);
    let help = "Functions without a series, because there are more than are exported.";
    page.gauge("ringfence_profile_functions_left_out", help, &[], functions);
    let (name, help) = (format!("ringfence_profile_left_out_{truncated}"), "What the functions without a series have.");
    page.add(&name, Kind::Gauge, help, Labels::new(), weight(left_out));
    let help = "Stacks of programs, by weight as that of functions: all, and those cut short.";
    let name = format!("ringfence_profile_user_stack_{truncated}");
    for (which, number) in [("all", summary.user), ("cut short", summary.truncated)] {
        page.add(&name, Kind::Counter, help, vec![label("which", which)], weight(number));
    }
    page.cost("profile", summary.own_cpu, summary.in_kernel);
}
