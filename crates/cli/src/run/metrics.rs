//! `run --metrics`: maps and counts of events as metrics.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringfence::{Events, Loaded, Seen};
use ringfence_flow::Side;
use ringfence_uapi::MapType;
use ringfence_value::{Scale, Value, per_cpu};

use super::maps::{Contents, Table};
use super::meaning::Scalars;
use super::rows::{Counts, Rows};
use crate::exit::Failure;
use crate::metrics::{Endpoint, Kind, Labels, Page, Sample, label, name};

/// Series of one map. More keys than that are no metrics; how many were left out is one.
const MOST_SERIES: usize = 2_000;
/// Entries of a map that are read for an answer.
const MOST_ENTRIES: usize = 100_000;
/// Arrays up to this have a series for each element; of longer ones only for what is not zero.
const SMALL_ARRAY: u32 = 256;
/// How old the counts of events may be.
const PUBLISH: Duration = Duration::from_millis(250);

/// The last word of a name that says that the number only grows.
const COUNTERS: &[&str] = &[
    "total", "count", "counts", "counter", "counters", "cnt", "hits", "misses", "packets", "pkts", "bytes", "calls",
    "events", "drops", "dropped", "lost", "errors", "switches",
];

/// Answers until it is dropped.
pub struct Metrics {
    endpoint: Endpoint,
    published: Arc<Mutex<Published>>,
    last: Option<Instant>,
}

/// What the reader of events knows, as of a moment ago.
#[derive(Default)]
struct Published {
    seen: Vec<Seen>,
    left_out: Vec<(&'static str, u64)>,
    counts: Counts,
    programs: Vec<(String, u64, u64)>,
}

impl Metrics {
    /// Listens at an address.
    pub fn start(address: SocketAddr, contents: Contents) -> Result<Metrics, Failure> {
        let published = Arc::new(Mutex::new(Published::default()));
        let source = Arc::clone(&published);
        // The names of functions stay with the thread that prints.
        let Contents { tables, scale, meanings, .. } = contents;
        let scalars = meanings.scalars;
        let endpoint = Endpoint::start(address, move |page| {
            source.lock().unwrap_or_else(PoisonError::into_inner).add(page);
            tables.iter().for_each(|table| add_map(page, table, scale, &scalars));
        })?;
        Ok(Metrics { endpoint, published, last: None })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Takes over the counts of events, now and then. `timed`: the kernel measures programs.
    pub fn publish(&mut self, reader: &Events, rows: &Rows, loaded: &Loaded, timed: bool) {
        if self.last.is_some_and(|last| last.elapsed() < PUBLISH) {
            return;
        }
        self.last = Some(Instant::now());
        let programs = loaded.programs().iter().filter(|_| timed).filter_map(|program| {
            let info = program.info().ok()?;
            Some((program.name().to_owned(), info.run_count, info.run_time_ns))
        });
        let published = Published {
            seen: reader.seen(),
            left_out: rows.left_out().to_vec(),
            counts: rows.label_counts(MOST_SERIES),
            programs: programs.collect(),
        };
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }
}

impl Published {
    fn add(&self, page: &mut Page) {
        let mut counter = |name: &str, help: &str, labels: Labels, value: Sample| {
            page.add(name, Kind::Counter, help, labels, value);
        };
        for seen in &self.seen {
            let map = || vec![label("map", &seen.map)];
            counter("ringfence_events", "Events read from a buffer.", map(), Sample::Integer(seen.events.into()));
            if let Some(lost) = seen.lost {
                let help = "Events for which a perf buffer had no room; of ring buffers nobody but the program knows.";
                counter("ringfence_events_lost", help, map(), Sample::Integer(lost.into()));
            }
        }
        for (reason, number) in &self.left_out {
            let help = "Events that were read and not printed, by the reason.";
            let labels = vec![label("reason", reason)];
            counter("ringfence_events_left_out", help, labels, Sample::Integer((*number).into()));
        }
        for (cells, number) in &self.counts.lines {
            let labels = self.counts.columns.iter().zip(cells).map(|(column, cell)| label(column, cell)).collect();
            let help = "Events by the values of --count-by.";
            counter("ringfence_events_by", help, labels, Sample::Integer((*number).into()));
        }
        for (program, runs, ns) in &self.programs {
            let labels = || vec![label("program", program)];
            counter("ringfence_program_runs", "Runs of a program.", labels(), Sample::Integer((*runs).into()));
            let seconds = Sample::Float(*ns as f64 / 1e9);
            counter("ringfence_program_run_seconds", "Time that a program ran.", labels(), seconds);
        }
        if self.counts.dropped > 0 {
            dropped(page, "--count-by", self.counts.dropped);
        }
    }
}

fn dropped(page: &mut Page, map: &str, number: u64) {
    let help = "Keys that have no series, because there are more than are exported.";
    let sample = Sample::Integer(number.into());
    page.add("ringfence_keys_left_out", Kind::Gauge, help, vec![label("map", map)], sample);
}

/// The series of one map: as many as fit, of the keys that are there now.
fn add_map(page: &mut Page, table: &Table, scale: Scale, scalars: &Scalars) {
    let map = &table.map;
    let Ok(mut entries) = map.entries() else { return };
    let sparse =
        matches!(map.kind(), MapType::ARRAY | MapType::PERCPU_ARRAY) && map.max_entries() > SMALL_ARRAY && !table.data;
    let (mut series, mut read, mut left_out) = (0usize, 0usize, 0u64);
    while let Ok(Some((key, value))) = entries.next() {
        read += 1;
        if read > MOST_ENTRIES {
            left_out += 1;
            break;
        }
        if sparse && value.iter().all(|byte| *byte == 0) {
            continue;
        }
        if series >= MOST_SERIES {
            left_out += 1;
            continue;
        }
        let mut labels = Labels::new();
        if !table.data {
            match table.key.as_ref().and_then(|layout| layout.value(key).ok()) {
                Some(key) => {
                    key_labels("", &key, &mut labels);
                    let command = scalars.command(map.name(), Side::Key, &key);
                    if let Some(command) = command.filter(|_| labels.iter().all(|(name, _)| name != "comm")) {
                        labels.push(label("comm", &command));
                    }
                }
                None => {
                    let mut hex = String::new();
                    ringfence_value::hex_line(key, &mut hex);
                    labels.push(label("key", &hex));
                }
            }
        }
        let start =
            if table.data { "ringfence_global".to_owned() } else { format!("ringfence_map_{}", name(map.name())) };
        let mut walk = Walk { page, map: map.name(), scale, series: 0 };
        if map.is_per_cpu() {
            for one in per_cpu(value, map.value_size() as usize) {
                if let Ok(value) = table.value.value(one) {
                    walk.value(&start, map.name(), &labels, &value);
                }
            }
        } else if let Ok(value) = table.value.value(value) {
            walk.value(&start, map.name(), &labels, &value);
        }
        series += walk.series;
    }
    if left_out > 0 {
        dropped(page, map.name(), left_out);
    }
}

/// The members of a key; a key without members is `key`.
fn key_labels(path: &str, value: &Value, out: &mut Labels) {
    match value {
        Value::Record(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}_{name}") };
                key_labels(&path, member, out);
            }
        }
        _ => out.push(label(if path.is_empty() { "key" } else { path }, &value.to_string())),
    }
}

/// Follows a value; its numbers are samples, its texts are labels of them.
struct Walk<'a> {
    page: &'a mut Page,
    map: &'a str,
    scale: Scale,
    series: usize,
}

impl Walk<'_> {
    /// `last`: the name that says what the number is.
    fn value(&mut self, metric: &str, last: &str, labels: &Labels, value: &Value) {
        // One entry with thousands of numbers.
        if self.series >= MOST_SERIES {
            return;
        }
        match value {
            Value::Record(members) => {
                let mut labels = labels.clone();
                for (name, member) in members {
                    if matches!(member, Value::Text(_) | Value::Address(_) | Value::Mac(_)) {
                        // What the record says counts before what the process is called now.
                        let own = label(name, &member.to_string());
                        labels.retain(|(name, _)| *name != own.0);
                        labels.push(own);
                    }
                }
                for (member, value) in members {
                    let metric = format!("{metric}_{}", name(member));
                    self.value(&metric, member, &labels, value);
                }
            }
            Value::List(elements) if last == "slots" && elements.len() >= 4 => self.slots(metric, labels, elements),
            Value::List(elements) => {
                for (n, element) in elements.iter().enumerate() {
                    let mut labels = labels.clone();
                    labels.push(label("index", &n.to_string()));
                    self.value(metric, last, &labels, element);
                }
            }
            Value::Unsigned(number) => self.number(metric, last, labels, i128::from(*number)),
            Value::Signed(number) | Value::Enum { value: number, .. } => {
                self.sample(metric, Kind::Gauge, labels, Sample::Integer((*number).into()));
            }
            Value::Bool(value) => self.sample(metric, Kind::Gauge, labels, Sample::Integer((*value).into())),
            Value::Float(value) => self.sample(metric, Kind::Gauge, labels, Sample::Float(*value)),
            // Of other values no metric is made: text is a label, a pointer and 128 bits are no quantity.
            _ => {}
        }
    }

    fn number(&mut self, metric: &str, last: &str, labels: &Labels, number: i128) {
        let word = last.rsplit(['_', '.']).next().unwrap_or(last).to_ascii_lowercase();
        let counter = COUNTERS.contains(&word.as_str());
        // Their samples end in `_total` in any case.
        let metric = if counter { metric.strip_suffix("_total").unwrap_or(metric) } else { metric };
        let kind = if counter { Kind::Counter } else { Kind::Gauge };
        self.sample(metric, kind, labels, Sample::Integer(number));
    }

    /// Slot `i` of a log2 histogram counts what is below 2^(i+1); programs put into the last slot all that is above.
    fn slots(&mut self, metric: &str, labels: &Labels, elements: &[Value]) {
        let counts: Option<Vec<u64>> = elements.iter().map(Value::as_u64).collect();
        let Some(counts) = counts.filter(|counts| counts.iter().any(|count| *count > 0)) else { return };
        let last = counts.len() - 1;
        let slots = counts.iter().enumerate().map(|(n, count)| {
            let bound = match self.scale {
                Scale::Log2 => u32::try_from(n + 1).ok().and_then(|n| 1u64.checked_shl(n)).map(|next| next - 1),
                Scale::Linear => Some(n as u64),
            };
            (bound.filter(|_| n < last), *count)
        });
        let sample = Sample::Slots(slots.collect());
        self.sample(metric, Kind::Histogram, labels, sample);
    }

    fn sample(&mut self, metric: &str, kind: Kind, labels: &Labels, sample: Sample) {
        let help = match kind {
            Kind::Histogram => format!("Slots of the map {}; the sum is not known.", self.map),
            Kind::Counter | Kind::Gauge => format!("From the map {}.", self.map),
        };
        self.series += self.page.add(metric, kind, &help, labels.clone(), sample);
    }
}
