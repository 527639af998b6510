//! Event types as source text: what `inspect --emit-types` writes.

mod rust;

use std::fmt::Write as _;
use std::path::Path;

use ringfence_btf::Def;

use crate::events::{self, Choice, Row};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::source::Source;

/// Writes the types of all events to a file, as Rust when its name ends in `.rs`, else as C; with `-` to stdout.
pub fn write(source: &Source, path: &Path, given: &[(String, String)]) -> Result<(), Failure> {
    let choices = events::choose(source, given)?.typed;
    if choices.is_empty() {
        let why = format_args!("{}: no type of an event is known", source.label);
        return Err(Failure::new(Exit::Error, why));
    }
    let rows = events::rows(source, given)?;
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let text = if is_rust { module(source, &choices, &rows) } else { header(source, &choices, &rows) };
    if path == Path::new("-") {
        return output::write(text.as_bytes()).map(drop);
    }
    std::fs::write(path, text).map_err(|error| Failure::new(Exit::Error, format_args!("{}: {error}", path.display())))
}

/// A Rust module, the same.
fn module(source: &Source, choices: &[Choice], rows: &[Row]) -> String {
    let mut writer = rust::Writer::default();
    for choice in choices {
        let row = rows.iter().find(|row| row.is_of(choice));
        let about = format!(" Records of the map `{}`{}", choice.map, row.map(Row::reasons).unwrap_or_default());
        writer.define(&choice.types, choice.ty, &format!("{}_event", choice.map), &about);
    }
    format!("//! Events of {}, written by `ringfence inspect --emit-types`.\n{}", source.label, writer.finish())
}

/// A C header: the types with all that they need, and assertions that hold where it was written.
fn header(source: &Source, choices: &[Choice], rows: &[Row]) -> String {
    let mut out = format!("/* Events of {}, written by `ringfence inspect --emit-types`. */\n", source.label);
    out += "#pragma once\n#include <linux/types.h>\n";
    let mut written: Vec<String> = Vec::new();
    for choice in choices {
        // A struct without a name can be used only by one that it is given.
        let bare = choice.types.c_declaration(choice.ty, "");
        let (name, given) = if bare.contains('{') {
            let name = format!("{}_event", choice.map.replace('.', "_"));
            let given = format!("typedef {};", choice.types.c_declaration(choice.ty, &name));
            (name, Some(given))
        } else {
            (bare, None)
        };
        let needed = choice.types.c_header(&[choice.ty]);
        for definition in needed.split("\n\n").chain(given.as_deref()) {
            let definition = definition.trim_end();
            if !definition.is_empty() && !written.iter().any(|known| known == definition) {
                let _ = write!(out, "\n{definition}\n");
                written.push(definition.to_owned());
            }
        }
        let bytes = choice.types.size_of(choice.ty).unwrap_or(0);
        let _ = write!(out, "\n/* Records of the map `{}` are `{name}`", choice.map);
        let row = rows.iter().find(|row| row.is_of(choice));
        out += &row.map(Row::reasons).unwrap_or_default();
        out += " */\n";
        let _ = writeln!(out, "_Static_assert(sizeof({name}) == {bytes}, \"size of {name}\");");
        let Ok(Def::Struct(body) | Def::Union(body)) = choice.types.resolve(choice.ty).map(|ty| ty.def) else {
            continue;
        };
        for member in body.members().flatten().filter(|member| member.bit_size == 0 && !member.name.is_empty()) {
            let (field, offset) = (member.name, member.bit_offset / 8);
            let _ = writeln!(
                out,
                "_Static_assert(__builtin_offsetof({name}, {field}) == {offset}, \"{field} of {name}\");"
            );
        }
    }
    out
}
