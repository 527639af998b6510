//! Events and printed lines, as they come: table rows, JSON lines or YAML documents.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ringfence::printk::{Line, Writer};
use ringfence_value::{Clock, Layout, Row};
use serde_json::json;

use crate::events::Choice;
use crate::exit::Failure;
use crate::output::{self, Format, Wrote};

/// How often the offset of the kernel's clock is read again.
const CLOCK_AGE: Duration = Duration::from_secs(10);
/// A cell that is wider than this does not widen its column.
const WIDEST: usize = 48;

/// Prints events.
pub struct Rows {
    format: Format,
    sources: Vec<Source>,
    /// Which source's head was printed last, and for which of its types.
    head: Option<(usize, usize)>,
    row: Row,
    clock: Clock,
    clock_read: Instant,
    out: Vec<u8>,
    /// Events whose bytes do not fit their type.
    pub torn: u64,
}

struct Source {
    map: String,
    /// Told apart by size.
    types: Vec<Typed>,
    told: bool,
}

struct Typed {
    choice: Choice,
    layout: Option<Layout>,
    columns: Vec<Column>,
}

struct Column {
    head: String,
    width: usize,
}

impl Rows {
    /// Printer of the events of these maps, in the order in which the reader numbers them.
    pub fn new<'a>(format: Format, maps: impl Iterator<Item = &'a str>, choices: &[Choice], raw: bool) -> Rows {
        let typed = |choice: &Choice| {
            let layout = choice.layout(raw);
            let column = |name: String| {
                let head = if name.is_empty() { "VALUE".to_owned() } else { name.to_uppercase() };
                Column { width: head.len(), head }
            };
            let columns = layout.as_ref().map(Layout::columns).unwrap_or_default().into_iter().map(column).collect();
            Typed { choice: choice.clone(), layout, columns }
        };
        let source = |map: &str| {
            let types = choices.iter().filter(|choice| choice.map == map).map(typed).collect();
            Source { map: map.to_owned(), types, told: false }
        };
        let sources = maps.map(source).collect();
        let (clock, clock_read) = (clock(), Instant::now());
        Rows { format, sources, head: None, row: Row::new(), clock, clock_read, out: Vec::new(), torn: 0 }
    }

    /// Adds an event of the source of that number.
    pub fn event(&mut self, number: usize, bytes: &[u8]) {
        let several = self.sources.len() > 1;
        let Some(source) = self.sources.get_mut(number) else { return };
        let start = self.out.len();
        let fits = |(at, typed): (usize, &Typed)| Some((typed.choice.padding(bytes.len())?, at));
        let best = source.types.iter().enumerate().filter_map(fits).min();
        let found = best.and_then(|(_, at)| Some((at, source.types.get_mut(at)?)));
        let Some((at, Typed { layout: Some(layout), columns, .. })) = found else { return self.unknown(number, bytes) };
        let short = match self.format {
            Format::Json => layout.json(bytes, &mut self.out).map(|()| {
                if several {
                    tag(&mut self.out, start, &source.map);
                }
                self.out.push(b'\n');
            }),
            Format::Yaml => layout.value(bytes).map(|_| {
                let mut text = String::from("---\n");
                if several {
                    let _ = writeln!(text, "_map: {}", source.map);
                }
                let _ = layout.yaml(bytes, &mut text);
                self.out.extend_from_slice(text.as_bytes());
            }),
            Format::Table => layout.row(bytes, Some(&self.clock), &mut self.row).map(|()| {
                if self.head != Some((number, at)) {
                    self.head = Some((number, at));
                    if several {
                        self.out.extend_from_slice(format!("{}:\n", source.map).as_bytes());
                    }
                    head(columns, &mut self.out);
                }
                cells(columns, &self.row, &mut self.out);
            }),
        };
        if let Err(short) = short {
            self.torn += 1;
            self.out.truncate(start);
            self.damaged(number, bytes, &short.to_string());
        }
    }

    /// Adds a line that a program printed.
    pub fn printk(&mut self, line: &Line<'_>, writer: &Writer<'_>) {
        let program = match writer {
            Writer::Program(name) => (*name).to_owned(),
            Writer::OneOf(names) => names.join("|"),
            // Somebody else's program: not what the user is looking at.
            _ => return,
        };
        match self.format {
            Format::Table => {
                let text = format!("{program}: {}   ({} {}, CPU {})\n", line.text, line.task, line.pid, line.cpu);
                self.out.extend_from_slice(text.as_bytes());
            }
            Format::Json | Format::Yaml => self.object(&json!({
                "_printk": line.text, "_program": program, "_comm": line.task, "_pid": line.pid, "_cpu": line.cpu,
            })),
        }
    }

    /// Writes out what was added.
    pub fn flush(&mut self) -> Result<Wrote, Failure> {
        if self.clock_read.elapsed() > CLOCK_AGE {
            (self.clock, self.clock_read) = (clock(), Instant::now());
        }
        if self.out.is_empty() {
            return Ok(Wrote::All);
        }
        let wrote = output::write(&self.out);
        self.out.clear();
        wrote
    }

    /// An event of which nobody knows the type.
    fn unknown(&mut self, number: usize, bytes: &[u8]) {
        let Some(source) = self.sources.get_mut(number) else { return };
        let map = source.map.clone();
        if !std::mem::replace(&mut source.told, true) {
            let note = source.types.iter().find_map(|typed| typed.choice.note.clone());
            super::say(&note.unwrap_or_else(|| {
                format!(
                    "the object does not say what the events of {map} are; `--event {map}=STRUCT` names a struct of its types"
                )
            }));
        }
        match self.format {
            Format::Table => {
                let mut text = format!("{map}: {} bytes\n", bytes.len());
                ringfence_value::hex_dump(bytes, &mut text);
                self.out.extend_from_slice(text.as_bytes());
            }
            Format::Json | Format::Yaml => {
                self.object(&json!({ "_map": map, "_size": bytes.len(), "_hex": hex(bytes) }));
            }
        }
    }

    /// An event that is shorter than its type.
    fn damaged(&mut self, number: usize, bytes: &[u8], why: &str) {
        let map = self.sources.get(number).map(|source| source.map.clone()).unwrap_or_default();
        match self.format {
            Format::Table => {
                let mut text = format!("{map}: {why}\n");
                ringfence_value::hex_dump(bytes, &mut text);
                self.out.extend_from_slice(text.as_bytes());
            }
            Format::Json | Format::Yaml => {
                self.object(&json!({ "_map": map, "_error": why, "_size": bytes.len(), "_hex": hex(bytes) }));
            }
        }
    }

    fn object(&mut self, value: &serde_json::Value) {
        if self.format == Format::Yaml {
            self.out.extend_from_slice(b"---\n");
            self.out.extend_from_slice(output::yaml(value).unwrap_or_default().as_bytes());
        } else {
            self.out.extend_from_slice(value.to_string().as_bytes());
            self.out.push(b'\n');
        }
    }
}

fn head(columns: &[Column], out: &mut Vec<u8>) {
    let last = columns.len().saturating_sub(1);
    for (at, column) in columns.iter().enumerate() {
        cell(&column.head, column.width, at == last, out);
    }
    out.push(b'\n');
}

fn cells(columns: &mut [Column], row: &Row, out: &mut Vec<u8>) {
    let last = columns.len().saturating_sub(1);
    for (at, (column, text)) in columns.iter_mut().zip(row.cells()).enumerate() {
        let wide = text.chars().count();
        if wide > column.width && wide <= WIDEST {
            column.width = wide;
        }
        cell(text, column.width, at == last, out);
    }
    out.push(b'\n');
}

fn cell(text: &str, width: usize, last: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    if !last {
        let blanks = width.saturating_sub(text.chars().count()) + 2;
        out.extend(std::iter::repeat_n(b' ', blanks));
    }
}

/// Puts `"_map":"NAME",` behind the brace that was written at `start`.
fn tag(out: &mut Vec<u8>, start: usize, map: &str) {
    let rest = out.split_off(start);
    let comma = if rest.get(1) == Some(&b'}') { "" } else { "," };
    out.extend_from_slice(format!("{{\"_map\":{}{comma}", json!(map)).as_bytes());
    out.extend_from_slice(rest.get(1..).unwrap_or_default());
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    ringfence_value::hex_line(bytes, &mut text);
    text
}

/// The offset between the kernel's clock and the wall clock, now.
fn clock() -> Clock {
    use rustix::time::{ClockId, clock_gettime};
    let ns = |id| {
        let time = clock_gettime(id);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    let (kernel, wall) = (ns(ClockId::Monotonic), ns(ClockId::Realtime));
    Clock {
        now_ns: u64::try_from(kernel).unwrap_or(0),
        offset_ns: i64::try_from(wall - kernel).unwrap_or(0),
        zone_seconds: jiff::Zoned::now().offset().seconds(),
    }
}
