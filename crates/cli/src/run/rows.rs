//! Events and printed lines, as they come: table rows, JSON lines or YAML documents.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use ringfence::Map;
use ringfence::printk::{Message, Writer};
use ringfence_flow::{Size, Tag};
use ringfence_uapi::MapType;
use ringfence_value::{Clock, Layout, Row};
use serde_json::json;

use super::collect::Collection;
use super::stacks::{self, Members, Names};
use super::view::{Verdict, View};
use super::wanted::Wanted;
use crate::events::{self, Choices};
use crate::exit::Failure;
use crate::output::{self, Format, Wrote};

/// How often the offset of the kernel's clock is read again.
const CLOCK_AGE: Duration = Duration::from_secs(10);
/// A cell that is wider than this does not widen its column.
const WIDEST: usize = 48;

/// Columns whose first row tells little about the width of the others.
const USUAL_WIDTHS: &[(&str, usize)] =
    &[("comm", 16), ("task", 16), ("pid", 7), ("tgid", 7), ("tid", 7), ("ret", 9), ("oldstate", 17), ("newstate", 17)];

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
    collection: Option<Collection>,
    rate: Option<Rate>,
    /// Events of no known type are printed.
    print_unknown: bool,
    names: Names,
    /// Events whose bytes do not fit their type.
    pub torn: u64,
    left_out: LeftOut,
    /// What the name of the source is called in JSON.
    key: &'static str,
    /// Tables of several sources have one head, and `name=value` behind what all events have; the width of the sources' names.
    lines: Option<usize>,
    behind: Option<Behind>,
}

/// Stacks of an event that are no fields of it, by the number of its source.
pub type Behind = Box<dyn FnMut(usize, &[u8]) -> Vec<stacks::Stack>>;

/// Events that were not wanted, by the reason.
#[derive(Default)]
struct LeftOut {
    filtered: u64,
    without: u64,
    unknown: u64,
}

/// Counts of --count-by: names of the cells, lines of cells, and how many are missing.
#[derive(Default)]
pub struct Counts {
    pub columns: Vec<String>,
    pub lines: Vec<(Vec<String>, u64)>,
    pub dropped: u64,
}

/// At most so many events a second.
struct Rate {
    most: u32,
    used: u32,
    second: Instant,
    dropped: u64,
    /// Of them, those that nobody was told of yet.
    untold: u64,
}

struct Source {
    map: String,
    /// `{"_map":"NAME"`, where there are several.
    tag: Vec<u8>,
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
    tag: Option<Tag>,
    /// Fewest bytes of a record.
    need: usize,
    view: View,
    columns: Vec<Column>,
    /// Of addresses, shown as functions.
    stacks: Option<Members>,
}

struct Column {
    head: String,
    width: usize,
}

impl Rows {
    /// Printer of the events of these maps, in the order in which the reader numbers them.
    /// `raw`: addresses are numbers.
    pub fn new<'a>(
        format: Format,
        maps: impl Iterator<Item = &'a Map>,
        choices: &Choices,
        wanted: Wanted,
        raw: bool,
    ) -> Rows {
        let maps = maps.map(|map| (map.name(), map.kind() == MapType::PERF_EVENT_ARRAY));
        Rows::of(format, "_map", maps, choices, wanted, raw)
    }

    /// Printer of events of sources that have names, in lines that all of them share.
    pub fn of_places<'a>(
        format: Format,
        names: impl Iterator<Item = &'a str>,
        choices: &Choices,
        wanted: Wanted,
        raw: bool,
        behind: Option<Behind>,
    ) -> Rows {
        let rows = Rows::of(format, "_probe", names.map(|name| (name, false)), choices, wanted, raw);
        // Where a row would not fit the terminal, columns only tear it apart.
        let widest = rows.sources.iter().flat_map(|source| &source.shapes).map(Shape::width).max().unwrap_or(0);
        let narrow = output::terminal_width().is_some_and(|width| widest > width);
        let longest = rows.sources.iter().map(|source| source.map.chars().count()).max().unwrap_or(0);
        let names = longest.clamp("PROBE".len(), WIDEST);
        let lines = (rows.sources.len() > 1 || narrow).then_some(names);
        Rows { lines, behind, ..rows }
    }

    fn of<'a>(
        format: Format,
        key: &'static str,
        names: impl Iterator<Item = (&'a str, bool)>,
        choices: &Choices,
        wanted: Wanted,
        raw: bool,
    ) -> Rows {
        let column = |name: String| {
            let head = if name.is_empty() { "VALUE".to_owned() } else { name.to_uppercase() };
            let usual = USUAL_WIDTHS.iter().find(|(known, _)| *known == name).map_or(0, |(_, width)| *width);
            Column { width: head.len().max(usual), head }
        };
        let source = |(name, padded): (&str, bool)| {
            let mine = choices.typed.iter().zip(&wanted.views).filter(|(choice, _)| choice.map == name);
            let shapes = mine.filter_map(|(choice, view)| {
                let view = view.clone()?;
                let names = view.layout.as_ref().map(Layout::columns).unwrap_or_default();
                let need = view.layout.as_ref().map_or(0, Layout::need);
                let (size, tag) = (choice.size, choice.tag.clone());
                let columns = names.into_iter().map(column).collect();
                let whole = choice.layout(raw).filter(|_| !raw);
                let stacks = whole.and_then(|whole| Members::of(&whole, view.layout.as_ref()?));
                Some(Shape { size, tag, need, columns, view, stacks })
            });
            let missing = choices.missing.iter().find(|(map, _)| map == name).map(|(_, ty)| ty.clone());
            Source { map: name.to_owned(), tag: Vec::new(), padded, shapes: shapes.collect(), missing, told: false }
        };
        let mut sources: Vec<Source> = names.map(source).collect();
        if sources.len() > 1 {
            let tag = |source: &Source| format!("{{\"{key}\":{}", json!(source.map)).into_bytes();
            sources.iter_mut().for_each(|source| source.tag = tag(source));
        }
        let now = Instant::now();
        let rate = wanted.rate.map(|most| Rate { most, used: 0, second: now, dropped: 0, untold: 0 });
        Rows {
            format,
            sources,
            head: None,
            row: Row::new(),
            clock: clock(),
            clock_read: now,
            out: Vec::new(),
            collection: wanted.collection,
            rate,
            print_unknown: wanted.unknown,
            names: Names::default(),
            torn: 0,
            left_out: LeftOut::default(),
            key,
            lines: None,
            behind: None,
        }
    }

    /// Takes an event of the source of that number.
    pub fn event(&mut self, number: usize, bytes: &[u8]) {
        let Some(source) = self.sources.get(number) else { return };
        let is_it = |shape: &Shape| {
            events::fits(shape.size, bytes.len(), source.padded) && events::is_tagged(shape.tag.as_ref(), bytes)
        };
        let at = source.shapes.iter().position(is_it);
        let Some((at, shape)) = at.and_then(|at| Some((at, source.shapes.get(at)?))) else {
            return self.unknown(number, bytes);
        };
        if bytes.len() >= shape.need {
            match shape.view.verdict(bytes) {
                Verdict::Wanted => {}
                Verdict::Filtered => return self.left_out.filtered += 1,
                Verdict::Without => return self.left_out.without += 1,
            }
            match &mut self.collection {
                Some(Collection::Sort(sort)) => return sort.add(number, at, &shape.view, bytes),
                Some(Collection::Count(count)) => {
                    let stacks = self.behind.as_mut().map(|behind| behind(number, bytes)).unwrap_or_default();
                    return count.add(&shape.view, bytes, stacks, &self.clock);
                }
                None => {}
            }
        }
        if self.rate.as_mut().is_none_or(Rate::take) {
            self.print(number, at, bytes);
        }
    }

    /// Adds an event of that source and type.
    fn print(&mut self, number: usize, at: usize, bytes: &[u8]) {
        let Some(source) = self.sources.get_mut(number) else { return };
        let Some(shape) = source.shapes.get_mut(at) else { return };
        let Some(layout) = &shape.view.layout else { return };
        let mut stacks = shape.stacks.as_ref().map(|members| members.stacks(bytes, &self.names)).unwrap_or_default();
        if let Some(behind) = &mut self.behind {
            stacks.extend(behind(number, bytes));
        }
        let start = self.out.len();
        let written = match self.format {
            Format::Json => {
                self.out.extend_from_slice(&source.tag);
                let behind = self.out.len();
                layout.json(bytes, &mut self.out).map(|()| {
                    if behind > start {
                        join(&mut self.out, behind);
                    }
                    if !stacks.is_empty() && self.out.pop().is_some() {
                        let _ = write!(self.out, ",\"_stacks\":{}}}", stacks::json(&stacks));
                    }
                    self.out.push(b'\n');
                })
            }
            Format::Yaml => {
                let mut text = String::from("---\n");
                if !source.tag.is_empty() {
                    let _ = writeln!(text, "{}: {}", self.key, source.map);
                }
                layout.yaml(bytes, &mut text).map(|()| {
                    if !stacks.is_empty() {
                        text += &output::yaml(&json!({ "_stacks": stacks::json(&stacks) })).unwrap_or_default();
                    }
                    self.out.extend_from_slice(text.as_bytes());
                })
            }
            Format::Table => layout.row(bytes, Some(&self.clock), &mut self.row).map(|()| {
                widen(&mut shape.columns, &self.row);
                if let Some(width) = self.lines {
                    // The only place needs no name.
                    let name = if source.tag.is_empty() { "" } else { &source.map };
                    if self.head.is_none() {
                        shape.line_head((!name.is_empty()).then_some(width), &mut self.out);
                    }
                    self.head = Some((number, at));
                    shape.line((name, width), &self.row, &mut self.out);
                } else if self.head != Some((number, at)) {
                    self.head = Some((number, at));
                    if !source.tag.is_empty() {
                        self.out.extend_from_slice(source.map.as_bytes());
                        self.out.extend_from_slice(b":\n");
                    }
                    shape.head(&mut self.out);
                }
                if self.lines.is_none() {
                    shape.cells(&self.row, &mut self.out);
                }
                let mut text = String::new();
                stacks.iter().for_each(|stack| stack.draw(&mut text));
                self.out.extend_from_slice(text.as_bytes());
            }),
        };
        if let Err(short) = written {
            self.torn += 1;
            self.out.truncate(start);
            self.damaged(number, bytes, &short.to_string());
        }
    }

    /// Adds what was collected. `end`: no more comes; else only for a person who is waiting.
    pub fn collected(&mut self, end: bool) {
        let person = self.format == Format::Table && std::io::stdout().is_terminal();
        if !end && !person {
            return;
        }
        let start = self.out.len();
        match self.collection.take() {
            Some(Collection::Sort(mut sort)) => {
                self.head = None;
                for kept in sort.first() {
                    self.print(kept.source, kept.shape, &kept.bytes);
                }
                self.collection = Some(Collection::Sort(sort));
            }
            Some(Collection::Count(count)) => {
                self.counts(&count);
                self.collection = Some(Collection::Count(count));
            }
            None => {}
        }
        if !end && self.out.len() > start {
            let time = format!("--- {}\n", jiff::Zoned::now().strftime("%H:%M:%S"));
            self.out.splice(start..start, time.into_bytes());
        }
    }

    fn counts(&mut self, count: &super::collect::Count) {
        let (lines, all) = count.first();
        if self.format == Format::Table {
            if lines.is_empty() {
                return;
            }
            let head: Vec<String> = std::iter::once("COUNT".to_owned())
                .chain(count.columns.iter().map(|name| name.to_uppercase()))
                .collect();
            let rows = lines.iter().map(|line| {
                let cells = line.row.cells().map(str::to_owned);
                std::iter::once(line.count.to_string()).chain(cells).collect::<Vec<_>>()
            });
            let mut text = String::new();
            let table = output::columns(&head, rows);
            let stacks = std::iter::once(&[][..]).chain(lines.iter().map(|line| line.stacks));
            for (line, stacks) in table.lines().zip(stacks) {
                let _ = writeln!(text, "{line}");
                stacks.iter().for_each(|stack| stack.draw(&mut text));
            }
            self.out.extend_from_slice(text.as_bytes());
            if lines.len() < all {
                self.out.extend_from_slice(format!("  and {} more\n", all - lines.len()).as_bytes());
            }
            return;
        }
        for line in lines {
            let start = self.out.len();
            self.out.extend_from_slice(format!("{{\"_count\":{}", line.count).as_bytes());
            let behind = self.out.len();
            self.out.extend_from_slice(line.json);
            join(&mut self.out, behind);
            if self.format == Format::Yaml {
                let object: serde_json::Value =
                    serde_json::from_slice(self.out.get(start..).unwrap_or_default()).unwrap_or_default();
                self.out.truncate(start);
                self.object(&object);
            } else {
                self.out.push(b'\n');
            }
        }
    }

    /// Events that were not printed, by the reason.
    pub fn left_out(&self) -> [(&'static str, u64); 4] {
        let LeftOut { filtered, without, unknown } = self.left_out;
        let rate = self.rate.as_ref().map_or(0, |rate| rate.dropped);
        [("where", filtered), ("no such field", without), ("unknown type", unknown), ("rate", rate)]
    }

    /// What --count-by has: the first lines.
    pub fn label_counts(&self, most: usize) -> Counts {
        let Some(Collection::Count(count)) = &self.collection else { return Counts::default() };
        let (lines, all) = count.first();
        let dropped = (all.saturating_sub(most.min(lines.len())) as u64).saturating_add(count.dropped);
        let cells = |row: &Row| row.cells().map(str::to_owned).collect();
        let mut merged: Vec<(Vec<String>, u64)> = Vec::new();
        let mut places: HashMap<Vec<String>, usize> = HashMap::new();
        for line in lines.iter().take(most) {
            // Lines that differ in their stacks alone are one series.
            let cells: Vec<String> = cells(line.row);
            match places.get(&cells).and_then(|at| merged.get_mut(*at)) {
                Some((_, sum)) => *sum = sum.saturating_add(line.count),
                None => {
                    places.insert(cells.clone(), merged.len());
                    merged.push((cells, line.count));
                }
            }
        }
        Counts { columns: count.columns.clone(), lines: merged, dropped }
    }

    /// What the footer says of events that were not printed.
    pub fn notes(&self) -> Vec<String> {
        let LeftOut { filtered, without, unknown } = self.left_out;
        let mut notes = Vec::new();
        let mut note = |number: u64, what: &str| {
            if number > 0 {
                notes.push(format!("{number} events {what}"));
            }
        };
        note(self.torn, "were shorter than their type");
        note(filtered, "did not meet --where");
        note(without, "have no such field");
        note(unknown, "are of a type that nobody knows, and were left out");
        note(self.rate.as_ref().map_or(0, |rate| rate.dropped), "were not printed (--rate)");
        match &self.collection {
            Some(Collection::Sort(sort)) => note(sort.dropped(), "found no room in what --sort keeps"),
            Some(Collection::Count(count)) => {
                note(count.dropped, "had values that found no room in what --count-by keeps")
            }
            None => {}
        }
        notes
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

    /// Whether something was added that is not written out.
    pub fn waits(&self) -> bool {
        !self.out.is_empty()
    }

    /// What was collected so far, as text; it is not written out.
    pub fn so_far(&mut self) -> String {
        let before = std::mem::take(&mut self.out);
        self.collected(true);
        String::from_utf8_lossy(&std::mem::replace(&mut self.out, before)).into_owned()
    }

    /// Writes out what was added.
    pub fn flush(&mut self) -> Result<Wrote, Failure> {
        if self.clock_read.elapsed() > CLOCK_AGE {
            (self.clock, self.clock_read) = (clock(), Instant::now());
        }
        if let Some(rate) = &mut self.rate {
            rate.tell();
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
        if !self.print_unknown {
            self.left_out.unknown += 1;
            return;
        }
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

    fn cells(&self, row: &Row, out: &mut Vec<u8>) {
        let last = self.columns.len().saturating_sub(1);
        for (at, (column, text)) in self.columns.iter().zip(row.cells()).enumerate() {
            cell(text, column.width, at == last, out);
        }
        out.push(b'\n');
    }
}

/// What all events of all sources have.
const SHARED: &[&str] = &["TS_NS", "PID", "TID", "UID", "CPU", "COMM"];

impl Shape {
    fn shared(&self) -> usize {
        self.columns.iter().take_while(|column| SHARED.contains(&&*column.head)).count()
    }

    /// About what a row takes.
    fn width(&self) -> usize {
        let text = |column: &Column| matches!(&*column.head, "FILENAME" | "NAME" | "PATHNAME" | "BUF" | "RETURNED");
        self.columns.iter().map(|column| if text(column) { 24 } else { column.width.max(8) } + 2).sum()
    }

    fn line_head(&self, named: Option<usize>, out: &mut Vec<u8>) {
        for column in self.columns.iter().take(self.shared()) {
            cell(&column.head, column.width, false, out);
        }
        if let Some(width) = named {
            cell("PROBE", width, false, out);
        }
        cell("FIELDS", 0, true, out);
        out.push(b'\n');
    }

    fn line(&self, (source, width): (&str, usize), row: &Row, out: &mut Vec<u8>) {
        let shared = self.shared();
        let mut cells = self.columns.iter().zip(row.cells());
        for (column, text) in cells.by_ref().take(shared) {
            cell(text, column.width, false, out);
        }
        if !source.is_empty() {
            cell(source, width, shared == self.columns.len(), out);
        }
        for (at, (column, text)) in cells.enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            out.extend(column.head.bytes().map(|byte| byte.to_ascii_lowercase()));
            out.push(b'=');
            out.extend_from_slice(text.as_bytes());
        }
        out.push(b'\n');
    }
}

/// Columns become as wide as their cells, but not as wide as the widest: the rows that follow are to stay in line.
fn widen(columns: &mut [Column], row: &Row) {
    for (column, text) in columns.iter_mut().zip(row.cells()) {
        let wide = text.chars().count();
        if wide <= WIDEST {
            column.width = column.width.max(wide);
        }
    }
}

impl Rate {
    /// Whether one more may be printed.
    fn take(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.used) = (Instant::now(), 0);
        }
        let fits = self.used < self.most;
        if fits {
            self.used += 1;
        } else {
            self.dropped += 1;
            self.untold += 1;
        }
        fits
    }

    /// Says what was left out, once a second.
    fn tell(&mut self) {
        if self.untold > 0 && self.second.elapsed() >= Duration::from_secs(1) {
            super::say(&format!("--rate {}: {} more events were not printed", self.most, self.untold));
            self.untold = 0;
        }
    }
}

fn cell(text: &str, width: usize, last: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    if !last {
        let blanks = width.saturating_sub(text.chars().count()) + 2;
        out.extend(std::iter::repeat_n(b' ', blanks));
    }
}

/// Makes one object of `{"_key":"value"` and the JSON that begins at `behind`.
fn join(out: &mut Vec<u8>, behind: usize) {
    match (out.get(behind), out.get(behind + 1)) {
        (Some(b'{'), Some(b'}')) => {
            out.remove(behind);
        }
        (Some(b'{'), _) => {
            if let Some(brace) = out.get_mut(behind) {
                *brace = b',';
            }
        }
        // A type without members.
        _ => {
            out.splice(behind..behind, *b",\"value\":");
            out.push(b'}');
        }
    }
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

#[cfg(test)]
mod tests {
    use ringfence_btf::{Array, Builder, Int, Member, New};
    use ringfence_value::Filter;

    use super::*;

    /// Events of one type from two maps, as after [`Rows::new`].
    fn rows(format: Format) -> Rows {
        let mut b = Builder::new();
        let mut int = |name: &str, size: u8, char| {
            b.add(
                name,
                New::Int(Int { size: size.into(), bits: size * 8, offset: 0, signed: false, char, bool: false }),
            )
        };
        let (wide, narrow, char) = (int("u64", 8, false), int("u32", 4, false), int("char", 1, true));
        let text = b.add("", New::Array(Array { element: char, index: narrow, len: 16 }));
        let member = |name, ty, byte: u32| Member { name, ty, bit_offset: byte * 8, bit_size: 0 };
        let members =
            [member("ts_ns", wide, 0), member("pid", narrow, 8), member("uid", narrow, 12), member("comm", text, 16)];
        let ty = b.add("event", New::Struct { size: 32, members: &members });
        let layout = Layout::compile(&b.build().expect("BTF"), ty).expect("a layout");
        let mut conditions =
            Filter::parse("pid == 7 && comm ~ 'ba*'").and_then(|filter| filter.bind([&layout])).expect("it fits");
        let view = View::new(conditions.pop(), layout.clone());
        let source = |map: &str| {
            let columns = layout.columns().into_iter().map(|head| Column { width: head.len(), head });
            let shape =
                Shape { size: None, tag: None, need: 32, view: view.clone(), columns: columns.collect(), stacks: None };
            let tag = format!("{{\"_map\":\"{map}\"").into_bytes();
            Source { map: map.to_owned(), tag, padded: false, shapes: vec![shape], missing: None, told: false }
        };
        Rows {
            format,
            sources: vec![source("first"), source("second")],
            head: None,
            row: Row::new(),
            clock: clock(),
            clock_read: Instant::now(),
            out: Vec::new(),
            collection: None,
            rate: Some(Rate { most: 1_000_000, used: 0, second: Instant::now(), dropped: 0, untold: 0 }),
            print_unknown: false,
            names: Names::default(),
            torn: 0,
            left_out: LeftOut::default(),
            key: "_map",
            lines: None,
            behind: None,
        }
    }

    fn event(pid: u8) -> [u8; 32] {
        let mut event = [0; 32];
        event[0] = 1;
        event[8] = pid;
        event[16..20].copy_from_slice(b"bash");
        event
    }

    #[test]
    fn nothing_is_allocated_for_an_event() {
        for format in [Format::Table, Format::Json] {
            let mut rows = rows(format);
            // Heads, columns and buffers come with the first ones.
            let mut turn = || {
                for n in 0..1000 {
                    rows.event(n % 2, &event(if n % 3 == 0 { 8 } else { 7 }));
                }
                let printed = rows.out.iter().filter(|byte| **byte == b'\n').count();
                rows.out.clear();
                printed
            };
            let first = turn();
            assert!(first >= 666, "{first}");
            let counts = allocation_counter::measure(|| {
                turn();
            });
            assert_eq!(counts.count_total, 0, "{format:?}");
        }
    }

    #[test]
    fn the_map_stands_in_front() {
        let mut rows = rows(Format::Json);
        rows.event(1, &event(7));
        assert_eq!(rows.out, b"{\"_map\":\"second\",\"ts_ns\":1,\"pid\":7,\"uid\":0,\"comm\":\"bash\"}\n");
        let joined = |behind: &str| {
            let mut out = b"{\"_map\":\"m\"".to_vec();
            let at = out.len();
            out.extend_from_slice(behind.as_bytes());
            join(&mut out, at);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(joined("{}"), "{\"_map\":\"m\"}");
        assert_eq!(joined("5"), "{\"_map\":\"m\",\"value\":5}");
        assert_eq!(joined("{\"a\":1}"), "{\"_map\":\"m\",\"a\":1}");
    }
}
