//! Contents of maps, for objects that send no events, and where they are asked for: printed at an interval and at the end.

use std::fmt::Write as _;

use ringfence::{Loaded, Map, Object};
use ringfence_flow::Side;
use ringfence_uapi::MapType;
use ringfence_value::{Histogram, Layout, Options, Scale, Value, per_cpu};

use super::failure;
use super::meaning::Meanings;
use super::stacks::{self, Stack};
use crate::exit::Failure;
use crate::output::{self, Format, Wrote};

/// Entries of one map that are printed; more are counted.
const MOST_ENTRIES: usize = 10_000;

/// The maps that are worth printing.
pub struct Contents {
    format: Format,
    /// What the slots of histograms stand for in this object.
    pub scale: Scale,
    pub tables: Vec<Table>,
    pub meanings: Meanings,
}

/// An entry as a person reads it.
struct Entry {
    key: Option<Value>,
    values: Vec<Value>,
    stacks: Vec<Stack>,
}

/// A map and the types of its entries.
pub struct Table {
    pub map: Map,
    pub key: Option<Layout>,
    pub value: Layout,
    /// A data section: one entry, whose key says nothing.
    pub data: bool,
}

/// Kinds that hold values which a person can read.
const READABLE: &[MapType] = &[
    MapType::HASH,
    MapType::ARRAY,
    MapType::PERCPU_HASH,
    MapType::PERCPU_ARRAY,
    MapType::LRU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::LPM_TRIE,
];

impl Contents {
    /// Nothing to print.
    pub fn none() -> Contents {
        Contents { format: Format::Table, scale: Scale::Linear, tables: Vec::new(), meanings: Meanings::default() }
    }

    /// The maps of an object that hold values, and its writable globals.
    pub fn of(loaded: &Loaded, object: &Object, format: Format, raw: bool) -> Contents {
        let scale = if ringfence_flow::slot_scale_is_log2(object) { Scale::Log2 } else { Scale::Linear };
        let table = |map: &Map| {
            if !READABLE.contains(&map.kind()) {
                return None;
            }
            // What libbpf's usdt.bpf.h keeps for itself.
            if map.name().starts_with("__bpf_usdt_") {
                return None;
            }
            let data = map.name().contains('.');
            if data && !(map.name().ends_with(".bss") || map.name().contains(".data")) {
                return None;
            }
            let (btf, key, value) = map.btf_types()?;
            let options = Options { raw, ..Options::default() };
            let value = Layout::compile_with(btf, value, options).ok()?;
            let key = Layout::compile_with(btf, key, options).ok();
            Some(Table { map: map.clone(), key, value, data })
        };
        let tables = loaded.maps().iter().filter_map(table).collect();
        Contents { format, scale, tables, meanings: Meanings::of(loaded, object, raw) }
    }

    /// Prints every map as it is now.
    pub fn write(&self) -> Result<Wrote, Failure> {
        let mut out = String::new();
        for table in &self.tables {
            table.write(self.format, self.scale, &self.meanings, &mut out)?;
        }
        if self.format == Format::Table && !out.is_empty() {
            out = format!("--- {}\n{out}", jiff::Zoned::now().strftime("%H:%M:%S"));
        }
        output::write(out.as_bytes())
    }
}

impl Table {
    fn write(&self, format: Format, scale: Scale, meanings: &Meanings, out: &mut String) -> Result<(), Failure> {
        let mut entries = self.map.entries().map_err(|error| failure(&error))?;
        let (mut rows, mut charts, mut documents) = (Vec::new(), String::new(), String::new());
        let (mut count, mut more) = (0usize, 0usize);
        while let Some((key, value)) = entries.next().map_err(|error| failure(&error))? {
            // Slots of arrays that nobody wrote say nothing.
            let is_array = matches!(self.map.kind(), MapType::ARRAY | MapType::PERCPU_ARRAY);
            if is_array && !self.data && value.iter().all(|byte| *byte == 0) {
                continue;
            }
            // A machine gets everything; a person could not read it.
            if format != Format::Table {
                self.document(format, key, value, meanings, &mut documents)?;
                continue;
            }
            if count == MOST_ENTRIES {
                more += 1;
                continue;
            }
            count += 1;
            let key = match &self.key {
                Some(layout) => layout.value(key).ok(),
                None => None,
            };
            let values = self.values(value);
            let name = self.map.name();
            let mut stacks = key.as_ref().map(|key| meanings.stacks(name, Side::Key, key)).unwrap_or_default();
            let key = key.map(|key| meanings.worded(name, Side::Key, &key));
            if self.value.has_histogram() {
                self.chart(scale, key.as_ref(), &values, &mut charts);
                stacks.iter().for_each(|stack| stack.draw(&mut charts));
                // Globals beside it have nothing to do with it.
                let others = values.iter().filter(|_| self.data).filter_map(without_histograms);
                let values: Vec<Value> = others.map(|value| meanings.worded(name, Side::Value, &value)).collect();
                if !values.is_empty() {
                    rows.push(Entry { key: None, values, stacks: Vec::new() });
                }
                continue;
            }
            stacks.extend(values.iter().flat_map(|value| meanings.stacks(name, Side::Value, value)));
            // CPUs' counters are one number.
            let sum = if self.map.is_per_cpu() && !meanings.scalars.has_times(name) { sum(&values) } else { None };
            let values = sum.map_or(values, |sum| vec![sum]);
            let values = values.iter().map(|value| meanings.worded(name, Side::Value, value)).collect();
            rows.push(Entry { key, values, stacks });
        }
        match format {
            Format::Table => {
                if !rows.is_empty() {
                    let _ = write!(out, "{}:\n{}", self.map.name(), self.table(&rows));
                }
                if !charts.is_empty() {
                    let _ = write!(out, "{}:\n{charts}", self.map.name());
                }
                if more > 0 {
                    let _ = writeln!(out, "  and {more} more entries");
                }
            }
            Format::Json | Format::Yaml => out.push_str(&documents),
        }
        Ok(())
    }

    /// The value, or one for each CPU.
    fn values(&self, bytes: &[u8]) -> Vec<Value> {
        if self.map.is_per_cpu() {
            per_cpu(bytes, self.map.value_size() as usize).filter_map(|one| self.value.value(one).ok()).collect()
        } else {
            self.value.value(bytes).into_iter().collect()
        }
    }

    /// One line of JSON, or one YAML document.
    fn document(
        &self,
        format: Format,
        key: &[u8],
        value: &[u8],
        meanings: &Meanings,
        out: &mut String,
    ) -> Result<(), Failure> {
        let mut line = format!("{{\"map\":{}", serde_json::Value::from(self.map.name())).into_bytes();
        if let (Some(layout), false) = (&self.key, self.data) {
            line.extend_from_slice(b",\"key\":");
            let _ = layout.json(key, &mut line);
        }
        if self.map.is_per_cpu() {
            line.extend_from_slice(b",\"per_cpu\":[");
            for (cpu, one) in per_cpu(value, self.map.value_size() as usize).enumerate() {
                line.extend_from_slice(if cpu > 0 { b"," } else { b"" });
                let _ = self.value.json(one, &mut line);
            }
            line.push(b']');
        } else {
            line.extend_from_slice(b",\"value\":");
            let _ = self.value.json(value, &mut line);
        }
        self.beside(key, value, meanings, &mut line);
        line.push(b'}');
        match format {
            Format::Yaml => {
                let object: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
                *out += &format!("---\n{}", output::yaml(&object)?);
            }
            _ => {
                *out += &String::from_utf8_lossy(&line);
                out.push('\n');
            }
        }
        Ok(())
    }

    /// What the numbers of an entry stand for: `_comm`, `_stacks`.
    fn beside(&self, key: &[u8], value: &[u8], meanings: &Meanings, line: &mut Vec<u8>) {
        let name = self.map.name();
        let decoded = |layout: &Layout, bytes: &[u8]| layout.value(bytes).ok();
        let key = self.key.as_ref().and_then(|layout| decoded(layout, key));
        let value = if self.map.is_per_cpu() { None } else { decoded(&self.value, value) };
        let sides: Vec<_> =
            [(Side::Key, key), (Side::Value, value)].into_iter().filter_map(|(side, v)| Some((side, v?))).collect();
        if let Some(command) = sides.iter().find_map(|(side, value)| meanings.scalars.command(name, *side, value)) {
            line.extend_from_slice(format!(",\"_comm\":{}", serde_json::Value::from(command)).as_bytes());
        }
        let stacks = sides.iter().flat_map(|(side, value)| meanings.stacks(name, *side, value)).collect::<Vec<_>>();
        if !stacks.is_empty() {
            line.extend_from_slice(format!(",\"_stacks\":{}", stacks::json(&stacks)).as_bytes());
        }
    }

    fn table(&self, rows: &[Entry]) -> String {
        if self.data {
            return globals(rows);
        }
        let line = |entry: &Entry| {
            let value = entry.values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join("  ");
            let key = entry.key.as_ref().map(|key| key.to_string()).unwrap_or_default();
            [format!("  {key}"), value]
        };
        let text = output::table(["  KEY", "VALUE"], rows.iter().map(line));
        let mut lines = text.lines();
        let mut out = lines.next().unwrap_or_default().to_owned() + "\n";
        for (line, entry) in lines.zip(rows) {
            let _ = writeln!(out, "{line}");
            entry.stacks.iter().for_each(|stack| stack.draw(&mut out));
        }
        out
    }

    fn chart(&self, scale: Scale, key: Option<&Value>, values: &[Value], out: &mut String) {
        let mut all: Vec<Histogram> = Vec::new();
        for value in values {
            for found in Histogram::find(value) {
                match all.iter_mut().find(|known| known.path == found.path) {
                    Some(known) => known.add(&found),
                    None => all.push(found),
                }
            }
        }
        for histogram in all.iter().filter(|histogram| !histogram.is_empty()) {
            let key = key.filter(|_| !self.data).map(|key| key.to_string()).unwrap_or_default();
            let title: Vec<_> = [key.as_str(), &histogram.path, &histogram.beside]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            if !title.is_empty() {
                let _ = writeln!(out, "{}", title.join("  "));
            }
            histogram.draw(scale, "value", out);
        }
    }
}

/// A line for each variable.
fn globals(rows: &[Entry]) -> String {
    let members = rows.iter().flat_map(|entry| &entry.values).flat_map(|value| match value {
        Value::Record(members) => members.as_slice(),
        _ => &[],
    });
    let lines: Vec<_> = members.map(|(name, value)| (name, value.to_string())).collect();
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
}

/// The members in which there is none.
fn without_histograms(value: &Value) -> Option<Value> {
    let Value::Record(members) = value else { return None };
    let plain = |member: &&(String, Value)| Histogram::find(&Value::Record(vec![(*member).clone()])).is_empty();
    let left: Vec<_> = members.iter().filter(plain).cloned().collect();
    (!left.is_empty()).then_some(Value::Record(left))
}

fn sum(values: &[Value]) -> Option<Value> {
    let sum = values.iter().map(Value::as_i64).try_fold(0i64, |sum, value| sum.checked_add(value?))?;
    Some(u64::try_from(sum).map_or(Value::Signed(sum), Value::Unsigned))
}
