//! Folded stacks: `thread;outermost;...;innermost 42`, a line each, which every flame graph tool reads.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::Profile;
use crate::error::{Error, Result};

/// Behind functions of the kernel, and behind those compiled into others, as flame graph tools expect it.
const KERNEL: &str = "_[k]";
const INLINED: &str = "_[i]";

/// Stacks as text, with what they weigh: samples, or microseconds off a CPU.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folded(BTreeMap<String, u64>);

/// How much of all a function has, before and now: from 0 to 1.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The function, with the mark of the kernel's or an inlined one.
    pub function: String,
    /// Share of its own time before.
    pub before: f64,
    /// Share of its own time now.
    pub now: f64,
}

impl Profile {
    /// By thread name: the same stack of several processes of a program is one.
    pub fn folded(&self) -> Folded {
        let mut folded = Folded::default();
        for row in &self.rows {
            let mut text = clean(&row.comm);
            for frame in row.frames.iter().rev() {
                for symbol in frame.symbols.iter().rev() {
                    let mark = match (frame.kernel && frame.address != 0, symbol.inlined) {
                        (true, _) => KERNEL,
                        (false, true) => INLINED,
                        (false, false) => "",
                    };
                    let _ = write!(text, ";{}{mark}", clean(&symbol.function));
                }
            }
            let weight = if self.is_time() { row.ns / 1000 } else { row.count };
            if weight > 0 {
                *folded.0.entry(text).or_default() += weight;
            }
        }
        folded
    }
}

/// What would end a frame, a line or a stack elsewhere.
fn clean(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == ';' {
                ':'
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

impl Folded {
    /// Reads what [`Folded`] or another tool has written. Empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// A line has no number at its end.
    pub fn parse(text: &str) -> Result<Folded> {
        let mut folded = Folded::default();
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let stack =
                line.rsplit_once(' ').and_then(|(stack, number)| Some((stack.trim_end(), number.parse().ok()?)));
            let Some((stack, number)) = stack.filter(|(stack, _): &(&str, u64)| !stack.is_empty()) else {
                let text = line.chars().take(80).collect();
                return Err(Error::Folded { line: place + 1, text });
            };
            let sum = folded.0.entry(stack.to_owned()).or_default();
            *sum = sum.saturating_add(number);
        }
        Ok(folded)
    }

    /// Every stack with its weight, in the order of their texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(stack, weight)| (stack.as_str(), *weight))
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, weight| sum.saturating_add(*weight))
    }

    fn shares(&self) -> HashMap<&str, f64> {
        let all = self.total().max(1) as f64;
        let mut shares = HashMap::new();
        for (stack, weight) in self.iter() {
            *shares.entry(stack.rsplit(';').next().unwrap_or(stack)).or_default() += weight as f64 / all;
        }
        shares
    }

    /// Functions whose share of their own time differs from that of an earlier run, the greatest difference first.
    pub fn since(&self, before: &Folded) -> Vec<Change> {
        let (old, new) = (before.shares(), self.shares());
        let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
        names.sort_unstable();
        names.dedup();
        let share = |of: &HashMap<&str, f64>, name: &str| of.get(name).copied().unwrap_or(0.0);
        let change =
            |name: &&str| Change { function: (*name).to_owned(), before: share(&old, name), now: share(&new, name) };
        let mut changes: Vec<Change> = names.iter().map(change).collect();
        changes.sort_by(|a, b| (b.now - b.before).abs().total_cmp(&(a.now - a.before).abs()));
        changes
    }
}

impl std::fmt::Display for Folded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|(stack, weight)| writeln!(f, "{stack} {weight}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_written() {
        let text = "a;b c;d_[k] 3\na;b c 4\n# note\n\na;b c 1\n";
        let folded = Folded::parse(text).expect("folded");
        assert_eq!(folded.to_string(), "a;b c 5\na;b c;d_[k] 3\n");
        assert_eq!(Folded::parse(&folded.to_string()).expect("again"), folded);
        for wrong in ["a;b", "12", "a;b -1", "a;b 1.5"] {
            assert!(matches!(Folded::parse(wrong), Err(Error::Folded { line: 1, .. })), "{wrong}");
        }
    }

    #[test]
    fn changes_are_of_shares() {
        let before = Folded::parse("p;a 50\np;b 50\n").expect("folded");
        let now = Folded::parse("p;a 900\np;x;c 100\n").expect("folded");
        let changes: Vec<_> = now.since(&before).into_iter().map(|change| (change.function, change.now)).collect();
        let texts: Vec<_> = changes.iter().map(|(name, now)| format!("{name} {now:.2}")).collect();
        assert_eq!(texts, ["b 0.00", "a 0.90", "c 0.10"]);
    }
}
