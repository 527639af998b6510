//! Where data goes: stdout, as a table, JSON or YAML. A closed pipe ends the command quietly.

use std::io::{self, Write};

use ringfence_value::Value;
use serde::Serialize;

use crate::exit::Failure;

/// `-o`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One document, or one object a line for events.
    Json,
    /// One document, or one document an event.
    Yaml,
}

/// Writes to stdout; nobody reading is told apart from real errors.
pub fn write(text: &[u8]) -> Result<Wrote, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Wrote::All),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Wrote::NobodyReads),
        Err(error) => Err(Failure::new(
            crate::exit::Exit::Error,
            format!("writing to stdout: {error}; what was written is not all"),
        )),
    }
}

/// Whether anybody reads stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    /// It went out.
    All,
    /// The pipe is closed: stop, and say nothing.
    NobodyReads,
}

/// Writes one document in a machine's format; `Table` is the caller's to draw.
pub fn document<T: Serialize>(format: Format, value: &T, table: impl FnOnce() -> String) -> Result<Wrote, Failure> {
    let text = match format {
        Format::Table => table(),
        Format::Json => json(value)? + "\n",
        Format::Yaml => yaml(value)?,
    };
    write(text.as_bytes())
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(crate::exit::Exit::Error, error))
}

/// One YAML document.
pub fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    let value = serde_json::to_value(value).map_err(|error| Failure::new(crate::exit::Exit::Error, error))?;
    let mut text = String::new();
    tree(&value).yaml(&mut text);
    Ok(text)
}

fn tree(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Value::Unsigned(value),
            (None, Some(value)) => Value::Signed(value),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(elements) => Value::List(elements.iter().map(tree).collect()),
        Json::Object(members) => {
            Value::Record(members.iter().map(|(name, value)| (name.clone(), tree(value))).collect())
        }
    }
}

/// A table of text without borders: columns two blanks apart, as `kubectl` and `docker` draw them.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    columns(&head, rows)
}

/// The same where the number of columns is not known beforehand.
pub fn columns<T: ToString, R: IntoIterator<Item = String>>(head: &[T], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(head.iter().map(ToString::to_string));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns of the terminal that stdout is; `None`: it is none, and lines may be as long as they want.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// As [`table`], but no wider than `width`: the columns in `elastic` are shortened, the widest first, and what is cut off is marked.
pub fn table_within<const N: usize>(
    width: Option<usize>,
    head: [&str; N],
    mut rows: Vec<[String; N]>,
    elastic: &[usize],
) -> String {
    /// What stays of a column: at first, and where that is too much.
    const STAYS: [usize; 2] = [16, 8];
    let length = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().map(|row| length(&row[column])).chain([length(head[column])]).max().unwrap_or(0))
        .collect();
    let between = 2 * (N - 1);
    for stays in STAYS {
        while width.is_some_and(|width| widths.iter().sum::<usize>() + between > width) {
            match elastic.iter().copied().max_by_key(|column| widths[*column]) {
                Some(column) if widths[column] > stays => widths[column] -= 1,
                _ => break,
            }
        }
    }
    for row in &mut rows {
        for column in elastic {
            row[*column] = shorten(&row[*column], widths[*column]);
        }
    }
    table(head, rows)
}

/// The beginning of a text; of a path the end, and of `command[pid]` the number: there lies what tells it from others.
fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(1);
    let behind = if text.starts_with('/') { keep } else { text.rfind('[').map_or(0, |at| text[at..].chars().count()) };
    let behind = if behind > keep { 0 } else { behind };
    let (before, after) = (text.chars().take(keep - behind), text.chars().skip(length - behind));
    before.chain(['…']).chain(after).collect()
}

/// Bytes for people: `512`, `4.0K`, `1.2M`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["K", "M", "G", "T"].iter();
    let mut unit = "";
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    if unit.is_empty() { bytes.to_string() } else { format!("{value:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit() {
        let rows = vec![
            ["1".to_owned(), "/a/very/long/path/to/something".to_owned(), "name".to_owned()],
            ["2".to_owned(), "short".to_owned(), "another name that is long".to_owned()],
        ];
        let text = table_within(Some(40), ["ID", "PLACE", "NAME"], rows.clone(), &[1, 2]);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("…") && text.contains("to/something"), "{text}");
        assert_eq!([shorten("ringfence[4711] +2", 14), shorten("a long name", 6)], ["ring…[4711] +2", "a lon…"]);
        let text = table_within(None, ["ID", "PLACE", "NAME"], rows, &[1, 2]);
        assert!(text.contains("/a/very/long/path/to/something  name"), "{text}");
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!([bytes(0), bytes(1023), bytes(4096), bytes(1 << 30)], ["0", "1023", "4.0K", "1.0G"]);
    }
}
