//! Histograms that programs keep in maps: arrays named `slots`.

use std::fmt::Write as _;

use crate::layout::{Layout, Leaf, What};
use crate::{Value, text};

/// What a slot's number stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scale {
    /// Slot `i` counts values from 2^i up to below 2^(i+1); slot 0 also counts 0.
    Log2,
    /// Slot `i` counts what the program calls `i`. True of any array, so it is what is shown when nothing is known.
    #[default]
    Linear,
}

/// The slots of one histogram and what it is the histogram of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Where it was found: names and indexes from the root, `hists[3]`; empty for the root.
    pub path: String,
    /// The members beside the slots: `comm=bash`.
    pub beside: String,
    /// Counts.
    pub slots: Vec<u64>,
}

impl Layout {
    /// Records of this type hold at least one histogram: an array of counters named `slots`.
    pub fn has_histogram(&self) -> bool {
        self.steps.iter().enumerate().any(|(at, step)| {
            let element = self.steps.get(at.saturating_add(1)).map(|step| step.what);
            is_slots(&step.name)
                && matches!(step.what, What::List { rest: false, len: 4.., .. })
                && matches!(element, Some(What::Leaf(Leaf::Unsigned(_))))
        })
    }
}

fn is_slots(name: &str) -> bool {
    name == "slots"
}

impl Histogram {
    /// Every histogram in a value, in the order of the source.
    pub fn find(value: &Value) -> Vec<Histogram> {
        let mut found = Vec::new();
        search(value, String::new(), &mut found);
        found
    }

    /// Adds the counts of another one, slot by slot: values of a per-CPU map.
    pub fn add(&mut self, other: &Histogram) {
        self.slots.resize(self.slots.len().max(other.slots.len()), 0);
        for (slot, more) in self.slots.iter_mut().zip(&other.slots) {
            *slot = slot.saturating_add(*more);
        }
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|count| *count == 0)
    }

    /// Draws it: a line for each slot up to the last one in use. `unit` stands above the values: `usecs`.
    pub fn draw(&self, scale: Scale, unit: &str, out: &mut String) {
        const STARS: usize = 40;
        let Some(last) = self.slots.iter().rposition(|count| *count != 0) else {
            out.push_str("     (nothing counted)\n");
            return;
        };
        let most = self.slots.iter().copied().max().unwrap_or(1).max(1);
        // Slots from 2^32 on need twenty digits.
        let digits = if scale == Scale::Log2 && last >= 32 { 20 } else { 10 };
        let width = match scale {
            Scale::Log2 => {
                if digits == 20 {
                    44
                } else {
                    24
                }
            }
            Scale::Linear => digits,
        };
        _ = writeln!(out, "{unit:>width$} : count     distribution");
        for (n, count) in self.slots.iter().enumerate().take(last.saturating_add(1)) {
            match scale {
                Scale::Log2 => {
                    let (low, high) = bounds(n);
                    _ = write!(out, "{low:>digits$} -> {high:<digits$}");
                }
                Scale::Linear => _ = write!(out, "{n:>digits$}"),
            }
            let share = u128::from(*count).saturating_mul(STARS as u128).checked_div(most.into()).unwrap_or(0);
            let stars = usize::try_from(share).unwrap_or(STARS).min(STARS);
            _ = write!(out, " : {count:<8} |");
            out.extend(std::iter::repeat_n('*', stars));
            out.extend(std::iter::repeat_n(' ', STARS.saturating_sub(stars)));
            out.push_str("|\n");
        }
    }
}

/// Least and greatest value of a log2 slot.
fn bounds(slot: usize) -> (u64, u64) {
    let power = u32::try_from(slot).ok().and_then(|slot| 1u64.checked_shl(slot));
    match (slot, power) {
        (0, _) => (0, 1),
        (_, Some(low)) => (low, low.wrapping_sub(1).saturating_add(low)),
        (_, None) => (u64::MAX, u64::MAX),
    }
}

fn search(value: &Value, path: String, found: &mut Vec<Histogram>) {
    match value {
        Value::Record(members) => {
            for (name, member) in members {
                let slots = member.as_list().filter(|list| is_slots(name) && list.len() >= 4);
                if let Some(slots) = slots.and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()) {
                    found.push(Histogram { path: path.clone(), beside: beside(members), slots });
                } else {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    search(member, path, found);
                }
            }
        }
        Value::List(elements) => {
            for (n, element) in elements.iter().enumerate() {
                if matches!(element, Value::Record(_) | Value::List(_)) {
                    search(element, format!("{path}[{n}]"), found);
                }
            }
        }
        _ => {}
    }
}

fn beside(members: &[(String, Value)]) -> String {
    let mut out = String::new();
    for (name, value) in members.iter().filter(|(_, value)| !matches!(value, Value::List(_) | Value::Record(_))) {
        let space = if out.is_empty() { "" } else { " " };
        text::push_fmt(&mut out, format_args!("{space}{name}={value}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(slots: &[u64]) -> Value {
        Value::List(slots.iter().map(|n| Value::Unsigned(*n)).collect())
    }

    #[test]
    fn found_where_they_are() {
        let hist = |n, comm: &str| {
            Value::Record(vec![("slots".into(), numbers(&[0, n, 0, 1])), ("comm".into(), Value::Text(comm.into()))])
        };
        let value = Value::Record(vec![
            ("hists".into(), Value::List(vec![hist(1, "a"), hist(2, "b")])),
            ("slots".into(), Value::Unsigned(3)),
        ]);
        let found = Histogram::find(&value);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found.last(),
            Some(&Histogram { path: "hists[1]".into(), beside: "comm=b".into(), slots: vec![0, 2, 0, 1] })
        );
    }

    #[test]
    fn drawn() {
        let histogram = Histogram { path: String::new(), beside: String::new(), slots: vec![1, 0, 4, 2, 0, 0] };
        let mut out = String::new();
        histogram.draw(Scale::Log2, "usecs", &mut out);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines,
            [
                "                   usecs : count     distribution",
                "         0 -> 1          : 1        |**********                              |",
                "         2 -> 3          : 0        |                                        |",
                "         4 -> 7          : 4        |****************************************|",
                "         8 -> 15         : 2        |********************                    |",
            ]
        );
    }

    #[test]
    fn the_last_slots_do_not_overflow() {
        assert_eq!(bounds(63), (1 << 63, u64::MAX));
        assert_eq!(bounds(64), (u64::MAX, u64::MAX));
        let full = Histogram { path: String::new(), beside: String::new(), slots: vec![u64::MAX; 70] };
        let mut out = String::new();
        full.draw(Scale::Log2, "", &mut out);
        assert_eq!(out.lines().count(), 71);
    }
}
