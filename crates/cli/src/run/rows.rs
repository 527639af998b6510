//! Events and printed lines, as they come: table rows, JSON lines or YAML documents.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ringfence::Map;
use ringfence::printk::{Message, Writer};
use ringfence_flow::Size;
use ringfence_uapi::MapType;
use ringfence_value::{Clock, Layout, Row};
use serde_json::json;

use crate::events::{self, Choice, Choices};
use crate::exit::Failure;
use crate::output::{self, Format, Wrote};

/// How often the offset of the kernel's clock is read again.
const CLOCK_AGE: Duration = Duration::from_secs(10);
/// A cell that is wider than this does not widen its column.
const WIDEST: usize = 48;

/// Columns whose first row tells little about the width of the others.
const USUAL_WIDTHS: &[(&str, usize)] = &[("comm", 16), ("task", 16), ("pid", 7), ("tgid", 7), ("tid", 7), ("ret", 9)];

/// Prints events.
pub struct Rows {
    format: Format,
    sources: Vec<Source>,
    /// Of which source and shape the head was printed last.
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
    /// Records are padded: a perf event array.
    padded: bool,
    shapes: Vec<Shape>,
    /// The type that the source says and the object does not hold.
    missing: Option<String>,
    /// That nobody knows its types was said.
    told: bool,
}

/// Events of one type.
struct Shape {
    size: Option<Size>,
    layout: Layout,
    columns: Vec<Column>,
}

struct Column {
    head: String,
    width: usize,
}

impl Rows {
    /// Printer of the events of these maps, in the order in which the reader numbers them.
    pub fn new<'a>(format: Format, maps: impl Iterator<Item = &'a Map>, choices: &Choices, raw: bool) -> Rows {
        let column = |name: String| {
            let head = if name.is_empty() { "VALUE".to_owned() } else { name.to_uppercase() };
            let usual = USUAL_WIDTHS.iter().find(|(known, _)| *known == name).map_or(0, |(_, width)| *width);
            Column { width: head.len().max(usual), head }
        };
        let source = |map: &Map| {
            let mine = choices.typed.iter().filter(|choice| choice.map == map.name());
            let shape = |choice: &Choice| {
                let layout = choice.layout(raw)?;
                Some(Shape { size: choice.size, columns: layout.columns().into_iter().map(column).collect(), layout })
            };
            let padded = map.kind() == MapType::PERF_EVENT_ARRAY;
            let missing = choices.missing.iter().find(|(name, _)| name == map.name()).map(|(_, ty)| ty.clone());
            Source {
                map: map.name().to_owned(),
                padded,
                shapes: mine.filter_map(shape).collect(),
                missing,
                told: false,
            }
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
        let padded = source.padded;
        let at = source.shapes.iter().position(|shape| events::fits(shape.size, bytes.len(), padded));
        let Some((at, shape)) = at.and_then(|at| Some((at, source.shapes.get_mut(at)?))) else {
            return self.unknown(number, bytes);
        };
        let layout = &shape.layout;
        let written = match self.format {
            Format::Json => layout.json(bytes, &mut self.out).map(|()| {
                if several {
                    tag(&mut self.out, start, &source.map);
                }
                self.out.push(b'\n');
            }),
            Format::Yaml => {
                let mut text = String::from("---\n");
                if several {
                    let _ = writeln!(text, "_map: {}", source.map);
                }
                layout.yaml(bytes, &mut text).map(|()| self.out.extend_from_slice(text.as_bytes()))
            }
            Format::Table => layout.row(bytes, Some(&self.clock), &mut self.row).map(|()| {
                shape.widen(&self.row);
                if self.head != Some((number, at)) {
                    self.head = Some((number, at));
                    if several {
                        self.out.extend_from_slice(format!("{}:\n", source.map).as_bytes());
                    }
                    shape.head(&mut self.out);
                }
                shape.cells(&self.row, &mut self.out);
            }),
        };
        if let Err(short) = written {
            self.torn += 1;
            self.out.truncate(start);
            self.damaged(number, bytes, &short.to_string());
        }
    }

    /// Adds a line that a program printed.
    pub fn printk(&mut self, line: &Message<'_>) {
        let program = match &line.writer {
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
            let said = source.missing.as_ref().map(|name| format!(" (the source says `{name}`)"));
            super::say(&format!(
                "{map}: the object does not hold the type of its events{}; `--event {map}=STRUCT` names a struct of its types",
                said.unwrap_or_default()
            ));
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

impl Shape {
    fn head(&self, out: &mut Vec<u8>) {
        let last = self.columns.len().saturating_sub(1);
        for (at, column) in self.columns.iter().enumerate() {
            cell(&column.head, column.width, at == last, out);
        }
        out.push(b'\n');
    }

    /// Columns become as wide as their cells, but not as wide as the widest: the rows that follow are to stay in line.
    fn widen(&mut self, row: &Row) {
        for (column, text) in self.columns.iter_mut().zip(row.cells()) {
            let wide = text.chars().count();
            if wide <= WIDEST {
                column.width = column.width.max(wide);
            }
        }
    }

    fn cells(&self, row: &Row, out: &mut Vec<u8>) {
        let last = self.columns.len().saturating_sub(1);
        for (at, (column, text)) in self.columns.iter().zip(row.cells()).enumerate() {
            cell(text, column.width, at == last, out);
        }
        out.push(b'\n');
    }
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
