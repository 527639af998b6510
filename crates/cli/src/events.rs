//! Which type the events of a map have: what the object says, or what the user says.

use ringfence_btf::{Btf, Def, Kind, TypeId};
use ringfence_flow::{Candidate, Certainty, EventChoice, Layout as Recovered, Size, Tag, Types};
use ringfence_uapi::{Helper, MapType};
use ringfence_value::{Layout, Options};
use serde::Serialize;

use crate::exit::Failure;
use crate::source::Source;

/// The type of the events of one map that have one size.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Name of the map.
    pub map: String,
    /// Bytes of a record; `None`: the user says that all of the map's events have this type.
    pub size: Option<Size>,
    /// How they are known among others of that size.
    pub tag: Option<Tag>,
    /// Where the type is.
    pub types: Btf,
    /// The type.
    pub ty: TypeId,
    /// Fewest bytes of a record, where it may hold less than the type.
    pub least: Option<usize>,
}

impl Choice {
    /// The decoder; `None`: the type is of nothing that has values.
    pub fn layout(&self, raw: bool) -> Option<Layout> {
        Layout::compile_with(&self.types, self.ty, Options { raw, least: self.least }).ok()
    }
}

/// Whether a record has this tag, if there is one.
pub fn is_tagged(tag: Option<&Tag>, record: &[u8]) -> bool {
    tag.is_none_or(|tag| tag.matches(record))
}

/// Whether a record of `len` bytes is one of `size`. Perf buffers pad a record and its own length word to 8 bytes
/// (`perf_prepare_sample` in kernel/events/core.c).
pub fn fits(size: Option<Size>, len: usize, padded: bool) -> bool {
    let slack = if padded { 7 } else { 0 };
    match size {
        None | Some(Size::Unknown) => true,
        Some(Size::Exact(exact)) => (exact as usize..=exact as usize + slack).contains(&len),
        Some(Size::Between(least, most)) => (least as usize..=most as usize + slack).contains(&len),
    }
}

/// What is known of an object's events.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Types, those that the user gives first.
    pub typed: Vec<Choice>,
    /// Maps, and the type that their events have by the source but that the object does not hold.
    pub missing: Vec<(String, String)>,
    /// Structs that the code contradicts, and why; structs that cannot be told apart.
    pub doubts: Vec<String>,
}

/// The choices for every map of events.
pub fn choose(source: &Source, given: &[(String, String)]) -> Result<Choices, Failure> {
    let mut choices = Choices::default();
    for (map, name) in given {
        let known: Vec<_> =
            source.object.maps.iter().filter(|map| sends_events(map.kind)).map(|map| map.name.as_str()).collect();
        if !known.contains(&map.as_str()) {
            let known = if known.is_empty() { "it has none".to_owned() } else { known.join(", ") };
            return Err(Failure::usage(format_args!("--event {map}={name}: no map of events has that name ({known})")));
        }
        let (types, ty) = given_type(source, map, name)?;
        let size = (given.iter().filter(|(other, _)| other == map).count() > 1)
            .then(|| types.size_of(ty).ok().and_then(|bytes| u32::try_from(bytes).ok()).map(Size::Exact))
            .flatten();
        choices.typed.push(Choice { map: map.clone(), size, types, ty, least: None, tag: None });
    }
    let said = ringfence_flow::event_types(&source.object, source.debug.as_ref());
    for (choice, (map, name)) in choices.typed.iter().zip(given) {
        fits_records(source, choice, &said)
            .map_err(|why| Failure::usage(format_args!("--event {map}={name}: {why}")))?;
    }
    for choice in said {
        let Some(map) = source.object.maps.get(choice.map.0) else { continue };
        let by_user = given.iter().any(|(name, _)| *name == map.name);
        if !by_user {
            choices.doubts.extend(doubts(source, &choice).into_iter().map(|doubt| format!("{}: {doubt}", map.name)));
        }
        if choice.chosen.is_none()
            && !by_user
            && let Some(layout) = layout_of(&choice)
            && layout.fields.iter().any(|field| field.certainty < Certainty::Guessed)
            && let Ok((types, ty)) = layout.to_btf(source.object.btf.as_ref(), &name_for(&map.name, &choices.typed))
        {
            let least = match choice.size {
                Size::Exact(_) => None,
                Size::Between(least, _) => Some(least as usize),
                Size::Unknown => Some(0),
            };
            let (map, size) = (map.name.clone(), Some(choice.size));
            choices.typed.push(Choice { map, size, tag: choice.tag, types, ty, least });
            continue;
        }
        if let (None, Some(name)) = (&choice.chosen, &choice.said) {
            choices.missing.push((map.name.clone(), name.clone()));
        }
        if let (Some(chosen), false) = (&choice.chosen, by_user)
            && let Some(types) = types(source, chosen.types)
        {
            let (map, size, least) = (map.name.clone(), Some(choice.size), choice.least);
            let tag = choice.tag.clone();
            choices.typed.push(Choice { map, size, tag, types: types.clone(), ty: chosen.ty, least });
        }
    }
    Ok(choices)
}

/// The name of a struct that is recovered: another one for each of a map's.
fn name_for(map: &str, before: &[Choice]) -> String {
    match before.iter().filter(|choice| choice.map == map).count() {
        0 => format!("{map}_event"),
        others => format!("{map}_event_{}", others.saturating_add(1)),
    }
}

/// The layout from the code.
fn layout_of(choice: &EventChoice) -> Option<&Recovered> {
    choice.layout.as_ref().filter(|layout| !layout.fields.is_empty())
}

/// What a user should know of a type that was chosen, or was not.
fn doubts(source: &Source, choice: &EventChoice) -> Vec<String> {
    let contradicted = choice.contradicted.iter().map(|(candidate, why)| {
        let name =
            types(source, candidate.types).map(|types| types.c_declaration(candidate.ty, "")).unwrap_or_default();
        format!("not {name}: {why}")
    });
    let mut doubts: Vec<String> = contradicted.collect();
    if choice.chosen.is_none() && layout_of(choice).is_some_and(|layout| layout.ambiguous) {
        doubts.push("different records of this size are sent, and nothing in them tells which one it is".to_owned());
    }
    doubts
}

fn types(source: &Source, which: Types) -> Option<&Btf> {
    match which {
        Types::Object => source.object.btf.as_ref(),
        Types::Debug => source.debug.as_ref(),
    }
}

/// Whether the object has a map of events.
pub fn sends(source: &Source) -> bool {
    source.object.maps.iter().any(|map| sends_events(map.kind))
}

fn sends_events(kind: MapType) -> bool {
    matches!(kind, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
}

/// What the user says: `struct event`, `u64`, `struct { u32 pid; }`, `event.h:event`.
fn given_type(source: &Source, map: &str, text: &str) -> Result<(Btf, TypeId), Failure> {
    let fail = |why: &dyn std::fmt::Display| Failure::usage(format_args!("--event {map}={text}: {why}"));
    if !text.contains(['{', '[']) {
        if let Some((file, name)) = text.rsplit_once(':') {
            return of_header(source, file, name).map_err(|why| fail(&why));
        }
        let places = [source.object.btf.as_ref(), source.debug.as_ref()];
        let found = places.into_iter().flatten().find_map(|types| Some((types.clone(), named(types, text)?)));
        if let Some(found) = found {
            return Ok(found);
        }
    }
    // Structs that a type holds may be the object's, or the kernel's.
    let own = source.object.btf.as_ref();
    let error = match Btf::parse_c_type(text, own) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let kernel = ringfence::Kernel::running();
    if let Some(found) = kernel.btf().ok().flatten().and_then(|btf| Btf::parse_c_type(text, Some(btf)).ok()) {
        return Ok(found);
    }
    if text.contains(['{', '[']) {
        return Err(fail(&error));
    }
    let bare = text.rsplit(' ').next().unwrap_or(text);
    Err(fail(&format_args!(
        "the object's types have no {text}; say `--event '{map}=struct {{ u32 pid; ... }}'` or `--event {map}=HEADER.h:{bare}`, \
         or compile the object with -g and use the type where clang keeps it: \
         `const struct {bare} *unused __attribute__((unused));`"
    )))
}

/// A type of that name: of the tag that is said, or of any.
fn named(types: &Btf, name: &str) -> Option<TypeId> {
    let (bare, kinds): (_, &[Kind]) = match name.split_once(' ') {
        Some(("struct", bare)) => (bare, &[Kind::Struct]),
        Some(("union", bare)) => (bare, &[Kind::Union]),
        _ => (name, &[Kind::Struct, Kind::Union, Kind::Typedef, Kind::Enum, Kind::Enum64, Kind::Int]),
    };
    kinds.iter().find_map(|kind| types.find(bare.trim(), *kind))
}

/// A type that a header defines.
fn of_header(source: &Source, file: &str, name: &str) -> Result<(Btf, TypeId), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let (types, errors) =
        Btf::parse_c(&text, source.object.btf.as_ref()).map_err(|error| format!("{file}, {error}"))?;
    if let Some(ty) = named(&types, name).filter(|ty| types.size_of(*ty).is_ok()) {
        return Ok((types, ty));
    }
    let why: Vec<_> = errors.iter().take(3).map(|error| format!("; not understood: {error}")).collect();
    Err(format!("{file} does not define {name}{}", why.concat()))
}

/// Whether some record of the map is as large as the type that the user gave.
fn fits_records(source: &Source, choice: &Choice, said: &[EventChoice]) -> Result<(), String> {
    let bytes = choice.types.size_of(choice.ty).map_err(|error| error.to_string())?;
    let sizes: Vec<Size> = said
        .iter()
        .filter(|said| source.object.maps.get(said.map.0).is_some_and(|map| map.name == choice.map))
        .map(|said| said.size)
        .collect();
    let most = |size: &Size| match size {
        Size::Exact(most) | Size::Between(_, most) => u64::from(*most),
        Size::Unknown => u64::MAX,
    };
    match sizes.iter().map(most).max() {
        Some(most) if bytes > most => Err(format!("the type has {bytes} bytes, the largest record has {most}")),
        _ => Ok(()),
    }
}

/// What `inspect` says of the events of one map that have one size.
#[derive(Serialize)]
pub struct Row {
    map: String,
    /// Bytes of a record; the smallest and the largest; `null`: not known.
    size: serde_json::Value,
    /// The number by which these records are known among others of that size.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<RowTag>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Why this type, or why none.
    why: String,
    /// Types that fit, the chosen one first.
    candidates: Vec<String>,
    fields: Vec<Field>,
}

#[derive(Serialize, PartialEq, Eq)]
struct RowTag {
    offset: u32,
    bytes: u32,
    values: Vec<u64>,
}

impl RowTag {
    fn of(tag: &Tag) -> RowTag {
        RowTag { offset: tag.offset, bytes: tag.width, values: tag.values.clone() }
    }
}

#[derive(Serialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Bytes from the start.
    offset: u32,
    /// First bit in the byte, and bits, of a bit-field.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<(u32, u8)>,
    /// How sure it is, of a field that was recovered from the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    certainty: Option<&'static str>,
    /// The line of source that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// As C declares it.
    #[serde(skip)]
    declaration: String,
}

/// A row for each map of events and size of record; of `given`, what the user says.
pub fn rows(source: &Source, given: &[(String, String)]) -> Result<Vec<Row>, Failure> {
    let mut rows = own_rows(source);
    rows.retain(|row| !given.iter().any(|(map, _)| *map == row.map));
    let by_user = choose(source, given)?.typed.into_iter().take(given.len());
    rows.extend(by_user.map(|choice| Row {
        size: choice.types.size_of(choice.ty).map_or(serde_json::Value::Null, Into::into),
        tag: None,
        kind: Some(choice.types.c_declaration(choice.ty, "")),
        why: "--event says so".to_owned(),
        candidates: Vec::new(),
        fields: fields(&choice.types, choice.ty),
        map: choice.map,
    }));
    Ok(rows)
}

fn own_rows(source: &Source) -> Vec<Row> {
    let said = ringfence_flow::event_types(&source.object, source.debug.as_ref());
    let mut rows: Vec<Row> = said.iter().filter_map(|choice| row(source, choice)).collect();
    // Programs read hardware counters through maps of the same type.
    let mut calls = source.object.functions.iter().flat_map(|function| &function.insns);
    let counters = calls.any(|insn| {
        insn.is_helper_call()
            && [Helper::PERF_EVENT_READ, Helper::PERF_EVENT_READ_VALUE].contains(&Helper(insn.imm.cast_unsigned()))
    });
    for map in source.object.maps.iter().filter(|map| sends_events(map.kind)) {
        let counter = counters && map.kind == MapType::PERF_EVENT_ARRAY;
        if !counter && !rows.iter().any(|row| row.map == map.name) {
            let why = "no program was seen to send to it".to_owned();
            let (size, fields, candidates) = (serde_json::Value::Null, Vec::new(), Vec::new());
            rows.push(Row { map: map.name.clone(), size, tag: None, kind: None, why, candidates, fields });
        }
    }
    rows
}

fn row(source: &Source, choice: &EventChoice) -> Option<Row> {
    let map = source.object.maps.get(choice.map.0)?.name.clone();
    let spelled = |candidate: &Candidate| {
        types(source, candidate.types).map(|types| types.c_declaration(candidate.ty, "")).unwrap_or_default()
    };
    let why = match (&choice.chosen, &choice.said) {
        (Some(chosen), _) => chosen.basis.because().to_owned(),
        (None, Some(said)) => format!("the source says `{said}`, which the object's types do not have in this size"),
        (None, None) => "no struct of the object's types fits".to_owned(),
    };
    let chosen = choice.chosen.as_ref();
    let layout = layout_of(choice).filter(|_| chosen.is_none());
    let why = if layout.is_some() { format!("{why}; these fields are what the code writes") } else { why };
    let why = doubts(source, choice).into_iter().fold(why, |why, doubt| format!("{why}; {doubt}"));
    Some(Row {
        size: size_value(choice.size),
        tag: choice.tag.as_ref().map(RowTag::of),
        kind: chosen.map(spelled),
        candidates: choice.candidates.iter().map(spelled).collect(),
        fields: match (chosen, layout) {
            (Some(chosen), _) => types(source, chosen.types).map(|types| fields(types, chosen.ty)).unwrap_or_default(),
            (None, Some(layout)) => recovered_fields(source, layout),
            (None, None) => Vec::new(),
        },
        map,
        why,
    })
}

fn size_value(size: Size) -> serde_json::Value {
    match size {
        Size::Exact(bytes) => bytes.into(),
        Size::Between(least, most) => vec![least, most].into(),
        Size::Unknown => serde_json::Value::Null,
    }
}

impl Row {
    /// Whether it is about these records.
    pub fn is_of(&self, choice: &Choice) -> bool {
        self.map == choice.map
            && self.tag == choice.tag.as_ref().map(RowTag::of)
            && choice.size.is_some_and(|size| self.size == size_value(size))
    }

    /// Why this type, and for a recovered one how sure each field is: for a comment in C or Rust.
    pub fn reasons(&self) -> String {
        let mut out = format!(": {}.", self.why);
        for field in &self.fields {
            if let Some(sure) = field.certainty {
                let line = field.source.as_ref().map_or_else(String::new, |line| format!(", {line}"));
                // A line that ends a comment would end this one.
                out += &format!("\n * {}: {sure}{}", field.name, line.replace("*/", "* /"));
            }
        }
        out
    }

    /// For people: the map, and its type as C with offsets.
    pub fn text(&self) -> String {
        let size = match &self.size {
            serde_json::Value::Array(range) if range.len() == 2 => format!("{} to {} bytes", range[0], range[1]),
            serde_json::Value::Null => "size unknown".to_owned(),
            size => format!("{size} bytes"),
        };
        let kind = self.kind.as_deref().unwrap_or("type unknown");
        let tag = self.tag.as_ref().map_or_else(String::new, |tag| {
            let values: Vec<String> = tag.values.iter().map(u64::to_string).collect();
            format!(" with {} in the {} bytes at {}", values.join(" or "), tag.bytes, tag.offset)
        });
        let mut out = format!("{}: {kind}, {size}{tag} ({})\n", self.map, self.why);
        for field in &self.fields {
            out += &match (&field.certainty, &field.source) {
                (Some(sure), Some(line)) => {
                    format!("    {:>4}  {:<28} // {sure}: {line}\n", field.offset, format!("{};", field.declaration))
                }
                (Some(sure), None) => {
                    format!("    {:>4}  {:<28} // {sure}\n", field.offset, format!("{};", field.declaration))
                }
                (None, _) => format!("    {:>4}  {};\n", field.offset, field.declaration),
            };
        }
        if self.candidates.len() > 1 {
            out += &format!("    these fit as well: {}\n", self.candidates.get(1..).unwrap_or_default().join(", "));
        }
        out
    }
}

fn fields(types: &Btf, ty: TypeId) -> Vec<Field> {
    let Ok(Def::Struct(composite) | Def::Union(composite)) = types.resolve(ty).map(|ty| ty.def) else {
        return Vec::new();
    };
    let field = |member: ringfence_btf::Member<'_>| {
        let declaration = types.c_declaration(member.ty, member.name);
        let width = if member.bit_size > 0 { format!(" : {}", member.bit_size) } else { String::new() };
        Field {
            name: member.name.to_owned(),
            kind: types.c_declaration(member.ty, ""),
            offset: member.bit_offset / 8,
            bits: (member.bit_size > 0).then_some((member.bit_offset % 8, member.bit_size)),
            certainty: None,
            source: None,
            declaration: declaration + &width,
        }
    };
    composite.members().filter_map(Result::ok).map(field).collect()
}

/// The fields of a layout that was recovered, each with the line that it was read from.
fn recovered_fields(source: &Source, layout: &Recovered) -> Vec<Field> {
    let own = source.object.btf.as_ref();
    let field = |recovered: &ringfence_flow::Field| {
        let one = Recovered { fields: vec![recovered.clone()], ..layout.clone() };
        let (types, ty) = one.to_btf(own, "event").ok()?;
        let line = recovered.line.filter(|line| line.line > 0).and_then(|line| {
            let text = own?.string(line.text).ok()?.trim();
            (!text.is_empty()).then(|| format!("line {}: {text}", line.line))
        });
        let found = fields(&types, ty).into_iter().next()?;
        Some(Field { certainty: Some(recovered.certainty.word()), source: line, ..found })
    };
    layout.fields.iter().filter_map(field).collect()
}
