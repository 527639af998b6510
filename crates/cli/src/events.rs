//! Which type the events of a map have: what the object says, or what the user says.

use ringfence_btf::{Btf, Def, Kind, TypeId};
use ringfence_uapi::MapType;
use ringfence_value::{Layout, Options};
use serde::Serialize;

use crate::exit::Failure;
use crate::source::Source;

/// The type of a map's events.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Name of the map.
    pub map: String,
    /// Where the type is.
    pub types: Btf,
    /// The type.
    pub ty: TypeId,
    /// Records may end inside the type's last array.
    pub open_tail: bool,
}

impl Choice {
    /// The decoder; `None`: the type is of nothing that has values.
    pub fn layout(&self, raw: bool) -> Option<Layout> {
        Layout::compile_with(&self.types, self.ty, Options { raw, open_tail: self.open_tail }).ok()
    }
}

/// The choice for each map that has one, the user's word first.
pub fn choose(source: &Source, given: &[(String, String)]) -> Result<Vec<Choice>, Failure> {
    let mut choices = Vec::new();
    for (map, name) in given {
        let known = source.object.maps.iter().filter(|map| sends(map.kind)).map(|map| map.name.as_str());
        if !known.clone().any(|known| known == map) {
            let known: Vec<_> = known.collect();
            return Err(Failure::usage(format_args!("--event {map}={name}: no map of events has that name ({})", known.join(", "))));
        }
        choices.push(named(source, map, name)?);
    }
    for choice in said(source) {
        if !choices.iter().any(|known| known.map == choice.map) {
            choices.push(choice);
        }
    }
    Ok(choices)
}

fn sends(kind: MapType) -> bool {
    matches!(kind, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
}

/// The struct (or other type) of that name, in the object's BTF or its DWARF.
fn named(source: &Source, map: &str, name: &str) -> Result<Choice, Failure> {
    let (bare, kinds): (_, &[Kind]) = match name.split_once(' ') {
        Some(("struct", bare)) => (bare, &[Kind::Struct]),
        Some(("union", bare)) => (bare, &[Kind::Union]),
        _ => (name, &[Kind::Struct, Kind::Union, Kind::Typedef, Kind::Enum, Kind::Enum64, Kind::Int]),
    };
    let places = [source.object.btf.as_ref(), source.debug.as_ref()];
    for types in places.into_iter().flatten() {
        if let Some(ty) = kinds.iter().find_map(|kind| types.find(bare.trim(), *kind)) {
            return Ok(Choice { map: map.to_owned(), types: types.clone(), ty, open_tail: true });
        }
    }
    Err(Failure::usage(format_args!(
        "--event {map}={name}: the object's types have no {name}; compile it with -g, and use the type where clang keeps it: \
         `const struct {bare} *unused __attribute__((unused));`"
    )))
}

fn said(_source: &Source) -> Vec<Choice> {
    Vec::new()
}

/// What `inspect` says of a map's events.
#[derive(Serialize)]
pub struct Row {
    map: String,
    /// Bytes of a record, where the programs say it.
    size: Option<u64>,
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

/// One row for each map of events.
pub fn rows(source: &Source) -> Vec<Row> {
    let maps = source.object.maps.iter().filter(|map| sends(map.kind));
    maps.map(|map| Row {
        map: map.name.clone(),
        size: None,
        kind: None,
        why: String::new(),
        candidates: Vec::new(),
        fields: Vec::new(),
    })
    .collect()
}

impl Row {
    /// For people: the map, and its type as C.
    pub fn text(&self) -> String {
        let mut out = format!("{}: {}", self.map, self.kind.as_deref().unwrap_or("type unknown"));
        if let Some(size) = self.size {
            out += &format!(", {size} bytes");
        }
        if !self.why.is_empty() {
            out += &format!(" ({})", self.why);
        }
        out.push('\n');
        for field in &self.fields {
            out += &format!("    {:4}  {}  {}\n", field.offset, field.kind, field.name);
        }
        if self.candidates.len() > 1 {
            out += &format!("    also fits: {}\n", self.candidates.join(", "));
        }
        out
    }
}

#[allow(dead_code)]
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
