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
        Err(error) => Err(error.into()),
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
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(head);
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
