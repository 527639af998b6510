//! Programs of one object that fire at the same place in two ways: mostly two of a kind, of which the object's own user
//! space loads only one. Attached together they count everything twice.

/// Sections of programs, and what makes them run.
const PLACES: &[(&str, &str)] = &[
    ("tp_btf", "tracepoint"),
    ("raw_tp", "tracepoint"),
    ("raw_tracepoint", "tracepoint"),
    ("tp", "tracepoint"),
    ("tracepoint", "tracepoint"),
    ("fentry", "kernel function"),
    ("kprobe", "kernel function"),
    ("fexit", "return of the kernel function"),
    ("kretprobe", "return of the kernel function"),
];

/// The section's kind, what makes it run, and where: `tp_btf`, `tracepoint`, `sched_switch`.
fn place(section: &str) -> Option<(&str, &'static str, &str)> {
    let (kind, target) = section.trim_start_matches('?').split_once('/')?;
    let kind = kind.trim_end_matches(".s");
    let (_, what) = PLACES.iter().find(|(known, _)| *known == kind)?;
    // Of `sched/sched_switch` the name alone tells it from others.
    Some((kind, what, target.rsplit('/').next()?))
}

/// What to say of programs, by name and section, that are attached together.
pub(super) fn notice(programs: &[(&str, &str)]) -> Option<String> {
    let places: Vec<_> = programs.iter().filter_map(|(name, section)| Some((*name, place(section)?))).collect();
    let mut pairs = Vec::new();
    for (at, (one, (kind, what, target))) in places.iter().enumerate() {
        let other = places.iter().skip(at + 1).find(|(_, (k, w, t))| (w, t) == (what, target) && k != kind);
        pairs.extend(other.map(|(other, _)| (*one, *other, *what, *target)));
    }
    let ((one, other, what, target), more) = pairs.split_first()?;
    let more = match more.len() {
        0 => String::new(),
        n => format!(", and {n} more such pair{}", if n == 1 { "" } else { "s" }),
    };
    Some(format!(
        "{one} and {other} both run at the {what} {target}{more}: if they do the same, all is counted twice; \
         `--only PROGRAM`, once for each, attaches those that you name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_in_two_ways() {
        let pairs = [
            ("switch_btf", "tp_btf/sched_switch"),
            ("switch", "raw_tp/sched_switch"),
            ("wakeup", "tp/sched/sched_wakeup"),
            ("wakeup_btf", "?tp_btf/sched_wakeup"),
            ("exit", "raw_tp/sched_process_exit"),
        ];
        let said = notice(&pairs).expect("two pairs");
        assert!(
            said.starts_with("switch_btf and switch both run at the tracepoint sched_switch, and 1 more such pair: ")
        );
        let enter_and_exit = [("enter", "fentry/vfs_read"), ("leave", "kretprobe/vfs_read")];
        assert_eq!(notice(&enter_and_exit), None);
        assert_eq!(notice(&[("a", "kprobe/x"), ("b", "kprobe/x"), ("c", "xdp")]), None);
        assert!(notice(&[("a", "kprobe/x"), ("b", "fentry.s/x")]).is_some());
    }
}
