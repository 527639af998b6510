//! What numbers in maps stand for, shown with them: stacks, the commands of processes, durations, functions of the kernel.

use ringfence::{Loaded, Map, Object};
use ringfence_flow::{Quantity, Side};
use ringfence_uapi::MapType;
use ringfence_value::Value;

use super::stacks::{Names, Stack};

/// What the numbers of maps mean: map, side, member, meaning.
#[derive(Clone, Default)]
pub struct Scalars(Vec<(String, Side, String, Quantity)>);

impl Scalars {
    fn of(object: &Object) -> Scalars {
        let scalars = ringfence_flow::scalars(object).into_iter();
        let named = |scalar: ringfence_flow::Scalar| {
            Some((object.maps.get(scalar.map.0)?.name.clone(), scalar.side, scalar.path, scalar.quantity))
        };
        Scalars(scalars.filter_map(named).collect())
    }

    fn within<'a>(&'a self, map: &'a str, side: Side) -> impl Iterator<Item = (&'a str, Quantity)> {
        let here = move |(of, on, ..): &&(String, Side, String, Quantity)| of == map && *on == side;
        self.0.iter().filter(here).map(|(_, _, path, quantity)| (path.as_str(), *quantity))
    }

    /// The values of a map hold times: of several CPUs, the sum says nothing.
    pub fn has_times(&self, map: &str) -> bool {
        self.within(map, Side::Value).any(|(_, quantity)| quantity == Quantity::Time)
    }

    /// The command of the process that a key or value is about, where it runs.
    pub fn command(&self, map: &str, side: Side, value: &Value) -> Option<String> {
        command(self.process(map, side, value)?)
    }

    fn process(&self, map: &str, side: Side, value: &Value) -> Option<u32> {
        self.within(map, side).find_map(|(path, quantity)| {
            let number = leaf(value, path)?.as_u64()?;
            match quantity {
                Quantity::Process => u32::try_from(number).ok(),
                Quantity::ProcessAndThread => u32::try_from(number >> 32).ok(),
                Quantity::Thread
                | Quantity::KernelStack
                | Quantity::UserStack
                | Quantity::Time
                | Quantity::Elapsed(_) => None,
            }
        })
    }
}

/// What is known of the numbers of all maps.
#[derive(Default)]
pub struct Meanings {
    /// Needs no names of functions.
    pub scalars: Scalars,
    /// The map that holds stacks; where there are several, none is known to be meant.
    stacks: Option<Map>,
    names: Names,
    raw: bool,
}

impl Meanings {
    /// `raw`: all numbers are shown as they are.
    pub fn of(loaded: &Loaded, object: &Object, raw: bool) -> Meanings {
        if raw {
            return Meanings { raw, ..Meanings::default() };
        }
        let mut stacks = loaded.maps().iter().filter(|map| map.kind() == MapType::STACK_TRACE);
        let first = stacks.next().filter(|_| stacks.next().is_none());
        Meanings { scalars: Scalars::of(object), stacks: first.cloned(), names: Names::default(), raw }
    }

    /// The stacks that a key or value names.
    pub fn stacks(&self, map: &str, side: Side, value: &Value) -> Vec<Stack> {
        let process = self.scalars.process(map, side, value);
        let stack = |(path, quantity): (&str, Quantity)| {
            let user = match quantity {
                Quantity::KernelStack => false,
                Quantity::UserStack => true,
                Quantity::Process
                | Quantity::Thread
                | Quantity::ProcessAndThread
                | Quantity::Time
                | Quantity::Elapsed(_) => return None,
            };
            // A negative number is the error for which there is no stack.
            let number = u32::try_from(leaf(value, path)?.as_i64()?).ok().filter(|number| number.cast_signed() >= 0)?;
            let words = self.stacks.as_ref()?.lookup(&number.to_ne_bytes()).ok()??;
            let words = words.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
            let frames = self.names.lines(process, words);
            let path = if path.is_empty() { if user { "user" } else { "kernel" } } else { path };
            Some(Stack { path: path.to_owned(), frames })
        };
        self.scalars.within(map, side).filter_map(stack).collect()
    }

    /// The same value, with words in the place of numbers that mean something.
    pub fn worded(&self, map: &str, side: Side, value: &Value) -> Value {
        let mut shown = value.clone();
        if self.raw {
            return shown;
        }
        // The record may say it itself.
        let has_text = ["comm", "task"].iter().any(|name| value.get(name).is_some_and(|text| text.as_str().is_some()));
        for (path, quantity) in self.scalars.within(map, side) {
            let Some(leaf) = leaf_mut(&mut shown, path) else { continue };
            let words = leaf.as_u64().and_then(|number| match quantity {
                Quantity::Process | Quantity::Thread if !has_text => {
                    Some(format!("{number} ({})", command(u32::try_from(number).ok()?)?))
                }
                Quantity::ProcessAndThread => {
                    let (process, thread) = ((number >> 32) as u32, number as u32);
                    let command = command(process).filter(|_| !has_text);
                    Some(format!("{process}/{thread}{}", command.map(|name| format!(" ({name})")).unwrap_or_default()))
                }
                Quantity::Time => ago(number),
                Quantity::Elapsed(unit) => Some(duration(u128::from(number) * u128::from(unit))),
                Quantity::Process | Quantity::Thread | Quantity::KernelStack | Quantity::UserStack => None,
            });
            if let Some(words) = words {
                *leaf = Value::Text(words);
            }
        }
        self.functions(&mut shown);
        shown
    }

    /// Puts the kernel's functions in the place of their addresses.
    fn functions(&self, value: &mut Value) {
        match value {
            Value::Unsigned(address) | Value::Pointer(address) => {
                if let Some(name) = self.names.kernel(*address) {
                    *value = Value::Text(name);
                }
            }
            Value::List(all) => {
                all.iter_mut().for_each(|one| self.functions(one));
                // A stack ends with the first 0.
                if all.iter().any(|one| matches!(one, Value::Text(_))) {
                    let end = all.iter().rposition(|one| *one != Value::Unsigned(0)).map_or(0, |last| last + 1);
                    all.truncate(end);
                }
            }
            Value::Record(members) => members.iter_mut().for_each(|(_, one)| self.functions(one)),
            _ => {}
        }
    }
}

fn leaf<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() { Some(value) } else { value.get(path) }
}

fn leaf_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    if path.is_empty() {
        return Some(value);
    }
    path.split('.').try_fold(value, |value, name| match value {
        Value::Record(members) => members.iter_mut().find(|(n, _)| n == name).map(|(_, value)| value),
        _ => None,
    })
}

fn command(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// How long ago a time of the kernel was; `None`: it was not yet.
fn ago(ns: u64) -> Option<String> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = u64::try_from(now.tv_sec).ok()? * 1_000_000_000 + u64::try_from(now.tv_nsec).ok()?;
    let past = now.checked_sub(ns).filter(|_| ns > 0)?;
    Some(format!("{} ago", duration(past.into())))
}

/// Nanoseconds for people: `812 ns`, `1.25 ms`, `3.0 s`.
fn duration(ns: u128) -> String {
    const UNITS: &[(u128, &str)] = &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match UNITS.iter().find(|(unit, _)| ns >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", ns as f64 / *unit as f64),
        None => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!([0, 812, 1_250_000, 90_000_000_000].map(duration), ["0 ns", "812 ns", "1.25 ms", "90.00 s"]);
    }

    #[test]
    fn words_for_numbers() {
        let pid = std::process::id();
        let scalars = vec![
            ("m".to_owned(), Side::Key, "task.pid".to_owned(), Quantity::Process),
            ("m".to_owned(), Side::Value, String::new(), Quantity::Elapsed(1000)),
        ];
        let meanings = Meanings { scalars: Scalars(scalars), ..Meanings::default() };
        let inner = Value::Record(vec![("pid".to_owned(), Value::Unsigned(pid.into()))]);
        let key = Value::Record(vec![("task".to_owned(), inner)]);
        let shown = meanings.worded("m", Side::Key, &key).to_string();
        assert!(shown.starts_with(&format!("{{task={{pid={pid} (")), "{shown}");
        assert_eq!(meanings.scalars.command("m", Side::Key, &key), command(pid));
        assert_eq!(meanings.worded("m", Side::Value, &Value::Unsigned(1500)).to_string(), "1.50 ms");
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec.cast_unsigned() * 1_000_000_000;
        let times = Scalars(vec![("m".to_owned(), Side::Value, String::new(), Quantity::Time)]);
        assert!(times.has_times("m") && !times.has_times("other"));
        let times = Meanings { scalars: times, ..Meanings::default() };
        let shown = |ns| times.worded("m", Side::Value, &Value::Unsigned(ns)).to_string();
        assert!(shown(now - 5_000_000_000).ends_with(" s ago"), "{}", shown(now - 5_000_000_000));
        assert_eq!((shown(0), shown(u64::MAX - (1 << 63))), ("0".to_owned(), (u64::MAX - (1 << 63)).to_string()));
        assert_eq!(meanings.worded("other", Side::Value, &Value::Unsigned(1500)).to_string(), "1500");
        let raw = Meanings { raw: true, ..meanings };
        assert_eq!(raw.worded("m", Side::Value, &Value::Unsigned(1500)).to_string(), "1500");
    }
}
