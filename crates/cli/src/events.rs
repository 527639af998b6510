//! Which type the events of a map have: what the object says, or what the user says.

use ringfence_btf::{Btf, Def, Kind, TypeId};
use ringfence_flow::{EventChoice, Size, Types, event_types};
use ringfence_uapi::MapType;
use ringfence_value::{Layout, Options};
use serde::Serialize;

use crate::exit::Failure;
use crate::source::Source;

/// The type of a map's events of one size.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Name of the map.
    pub map: String,
    /// Bytes of these events.
    pub size: Size,
    /// The BTF that has the type, and the type; `None`: nothing says it.
    pub ty: Option<(Btf, TypeId)>,
    /// Fewest bytes of an event, where programs send only a part of the type.
    pub least: Option<usize>,
    /// What the user should know: other types fit as well, or the source says a name that no BTF has.
    pub note: Option<String>,
}

impl Choice {
    /// The decoder; `None`: there is no type, or it is of nothing that has values.
    pub fn layout(&self, raw: bool) -> Option<Layout> {
        let (types, ty) = self.ty.as_ref()?;
        Layout::compile_with(types, *ty, Options { raw, least: self.least }).ok()
    }

    /// How well an event of this length fits: bytes behind it, fewer are better. Perf buffers pad events to 8 bytes.
    pub fn padding(&self, len: usize) -> Option<usize> {
        const PADDING: usize = 7;
        let (least, most) = match self.size {
            Size::Exact(size) => (size as usize, size as usize),
            Size::Between(least, most) => (least as usize, most as usize),
            Size::Unknown => return Some(usize::MAX),
        };
        let padding = len.saturating_sub(most);
        (len >= least && padding <= PADDING).then_some(padding)
    }
}

/// The choices for each map, the user's word first: it is about events of any size.
pub fn choose(source: &Source, given: &[(String, String)]) -> Result<Vec<Choice>, Failure> {
    let found = event_types(&source.object, source.debug.as_ref());
    let mut choices = Vec::new();
    for (map, name) in given {
        let known = source.object.maps.iter().filter(|map| sends(map.kind)).map(|map| map.name.as_str());
        if !known.clone().any(|known| known == map) {
            let known: Vec<_> = known.collect();
            return Err(Failure::usage(format_args!("--event {map}={name}: no map of events has that name ({})", known.join(", "))));
        }
        let of_map = found.iter().filter(|choice| map_name(source, choice) == map);
        choices.push(named(source, map, name, of_map)?);
    }
    for choice in &found {
        let map = map_name(source, choice);
        if !given.iter().any(|(given, _)| given == map) {
            choices.push(said(source, map, choice));
        }
    }
    Ok(choices)
}

fn map_name<'a>(source: &'a Source, choice: &EventChoice) -> &'a str {
    source.object.maps.get(choice.map.0).map_or("", |map| &map.name)
}

fn sends(kind: MapType) -> bool {
    matches!(kind, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
}

/// The struct (or other type) of that name, in the object's BTF or its DWARF.
fn named<'a>(
    source: &Source,
    map: &str,
    name: &str,
    found: impl Iterator<Item = &'a EventChoice>,
) -> Result<Choice, Failure> {
    // Programs that send only the used part of a buffer send less than the type.
    let least = found
        .filter_map(|choice| match choice.size {
            Size::Between(least, _) => Some(least as usize),
            Size::Exact(_) | Size::Unknown => None,
        })
        .min();
    let (bare, kinds): (_, &[Kind]) = match name.split_once(' ') {
        Some(("struct", bare)) => (bare, &[Kind::Struct]),
        Some(("union", bare)) => (bare, &[Kind::Union]),
        _ => (name, &[Kind::Struct, Kind::Union, Kind::Typedef, Kind::Enum, Kind::Enum64, Kind::Int]),
    };
    let places = [source.object.btf.as_ref(), source.debug.as_ref()];
    for types in places.into_iter().flatten() {
        if let Some(ty) = kinds.iter().find_map(|kind| types.find(bare.trim(), *kind)) {
            let ty = Some((types.clone(), ty));
            return Ok(Choice { map: map.to_owned(), size: Size::Unknown, ty, least, note: None });
        }
    }
    Err(Failure::usage(format_args!(
        "--event {map}={name}: the object's types have no {name}; compile it with -g, and use the type where clang keeps it: \
         `const struct {bare} *unused __attribute__((unused));`"
    )))
}

/// What the object says.
fn said(source: &Source, map: &str, choice: &EventChoice) -> Choice {
    let chosen = choice.chosen.as_ref();
    let types = chosen.and_then(|chosen| match chosen.types {
        Types::Object => source.object.btf.clone(),
        Types::Debug => source.debug.clone(),
    });
    Choice {
        map: map.to_owned(),
        size: choice.size,
        ty: types.zip(chosen.map(|chosen| chosen.ty)),
        least: choice.least,
        note: note(map, choice),
    }
}

fn note(map: &str, choice: &EventChoice) -> Option<String> {
    let others = choice.candidates.iter().skip(1).map(|candidate| candidate.name.as_str()).collect::<Vec<_>>().join(", ");
    match (&choice.chosen, &choice.said) {
        (Some(chosen), _) if choice.ambiguous && !others.is_empty() => Some(format!(
            "events of {map} are shown as {}, but they can also be {others}: --event {map}=NAME chooses",
            chosen.name
        )),
        (Some(chosen), _) if choice.ambiguous => {
            Some(format!("events of {map} are shown as {}, which is not certain", chosen.name))
        }
        (None, Some(said)) => Some(format!(
            "events of {map} are `{said}` in the source, which the object's types do not have: keep it with \
             `const {said} *unused __attribute__((unused));`"
        )),
        _ => None,
    }
}

/// What `inspect` says of a map's events.
#[derive(Serialize)]
pub struct Row {
    map: String,
    /// Bytes of a record, the largest where they vary and the programs say it.
    size: Option<u32>,
    /// Bytes of the smallest, where they vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    least: Option<u32>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Why this type, or why none.
    why: String,
    candidates: Vec<String>,
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    offset: u32,
    size: u64,
}

/// One row for each map of events and size.
pub fn rows(source: &Source) -> Vec<Row> {
    let found = event_types(&source.object, source.debug.as_ref());
    let mut rows: Vec<Row> = found.iter().map(|choice| row(source, choice)).collect();
    for map in source.object.maps.iter().filter(|map| sends(map.kind)) {
        if !rows.iter().any(|row| row.map == map.name) {
            let why = "no program was seen to send to it".to_owned();
            rows.push(Row { map: map.name.clone(), size: None, least: None, kind: None, why, candidates: Vec::new(), fields: Vec::new() });
        }
    }
    rows
}

fn row(source: &Source, choice: &EventChoice) -> Row {
    let map = map_name(source, choice);
    let Choice { ty, note, .. } = said(source, map, choice);
    let because = choice.chosen.as_ref().map(|chosen| chosen.basis.because().to_owned());
    let (least, size) = match choice.size {
        Size::Exact(size) => (None, Some(size)),
        Size::Between(least, most) => (Some(least), Some(most)),
        Size::Unknown => (None, None),
    };
    Row {
        map: map.to_owned(),
        size,
        least,
        kind: ty.as_ref().map(|(types, ty)| types.c_declaration(*ty, "")),
        why: match (because, note) {
            (Some(because), Some(note)) => format!("{because}; {note}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "nothing in the object says what it is".to_owned(),
        },
        candidates: choice.candidates.iter().map(|candidate| candidate.name.clone()).collect(),
        fields: ty.as_ref().map(|(types, ty)| fields(types, *ty)).unwrap_or_default(),
    }
}

impl Row {
    /// For people: the map, and its type as C.
    pub fn text(&self) -> String {
        let mut out = format!("{}: {}", self.map, self.kind.as_deref().unwrap_or("type unknown"));
        match (self.least, self.size) {
            (Some(least), Some(most)) => out += &format!(", {least} to {most} bytes"),
            (None, Some(size)) => out += &format!(", {size} bytes"),
            (_, None) => {}
        }
        if !self.why.is_empty() {
            out += &format!(" ({})", self.why);
        }
        out.push('\n');
        for field in &self.fields {
            out += &format!("    {:4}  {}  {}\n", field.offset, field.kind, field.name);
        }
        out
    }
}

fn fields(types: &Btf, ty: TypeId) -> Vec<Field> {
    let Ok(Def::Struct(composite) | Def::Union(composite)) = types.resolve(ty).map(|ty| ty.def) else {
        return Vec::new();
    };
    let field = |member: ringfence_btf::Member<'_>| Field {
        name: member.name.to_owned(),
        kind: types.c_declaration(member.ty, ""),
        offset: member.bit_offset / 8,
        size: types.size_of(member.ty).unwrap_or(0),
    };
    composite.members().filter_map(Result::ok).map(field).collect()
}
