//! The layout of a record as it was recovered, and the same as a type.

use ringfence_btf::{Array, Btf, Builder, Error, Int, Member, New, TypeId};
use ringfence_object::{FunctionId, Line, MapId};

use crate::outputs::Size;
use crate::tags::Tag;

/// How sure a field is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Certainty {
    /// The source names it, and its width cannot be another.
    Certain,
    /// One of both is inferred.
    Likely,
    /// Something is here; its name or its width may be wrong.
    Guessed,
}

impl Certainty {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Certainty::Certain => "certain",
            Certainty::Likely => "likely",
            Certainty::Guessed => "guessed",
        }
    }
}

/// What the bytes of a field mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Meaning {
    /// A number; a sign was not seen.
    Unsigned,
    /// A number with a sign.
    Signed,
    /// Text up to the first NUL.
    Text,
    /// Bytes.
    Bytes,
    /// Words of 8 bytes: addresses of a stack.
    Words,
    /// This type of the object's BTF.
    Typed(TypeId),
}

/// A field of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub width: u32,
    /// Its name, where there is one.
    pub name: Option<String>,
    /// The name says where the value comes from; the source was not seen to name it.
    pub by_origin: bool,
    /// What it means.
    pub meaning: Meaning,
    /// How sure that is.
    pub certainty: Certainty,
    /// The source line that it was read from.
    pub line: Option<Line>,
}

impl Field {
    pub(crate) fn end(&self) -> u32 {
        self.offset.saturating_add(self.width)
    }

    /// Its name, or `fieldN` by its offset where that is a guess.
    pub fn shown(&self) -> String {
        match &self.name {
            Some(name) if self.certainty < Certainty::Guessed => name.clone(),
            _ => format!("field{}", self.offset),
        }
    }
}

/// What was found out of the records of one size that go to one map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The map.
    pub map: MapId,
    /// Bytes of a record.
    pub size: Size,
    /// How records of this layout are known among others of this map and size; `None`: there are no others, or nothing
    /// tells them apart.
    pub tag: Option<Tag>,
    /// Calls send different records of this size, and nothing tells them apart: only what all have in common is sure.
    pub ambiguous: bool,
    /// The calls that send it: function, and index into its instructions.
    pub calls: Vec<(FunctionId, usize)>,
    /// Fields by offset. Those that start at the same byte are members of a union; others do not overlap.
    pub fields: Vec<Field>,
}

impl Layout {
    /// Bytes of the largest record, as far as known: else to the end of the last field.
    pub fn bytes(&self) -> u32 {
        match self.size {
            Size::Exact(most) | Size::Between(_, most) => most,
            Size::Unknown => self.fields.iter().map(Field::end).max().unwrap_or(0),
        }
    }

    /// The layout as a struct of this name, in BTF on top of the object's own. Bytes between fields are left out.
    ///
    /// # Errors
    /// The object's BTF is damaged, or full.
    pub fn to_btf(&self, own: Option<&Btf>, name: &str) -> Result<(Btf, TypeId), Error> {
        let mut builder = own.map_or_else(Builder::new, Builder::split);
        let types: Vec<TypeId> = self.fields.iter().map(|field| type_of(&mut builder, field)).collect();
        let mut names: Vec<String> = Vec::new();
        for field in &self.fields {
            let name = field.shown();
            let taken = names.contains(&name);
            names.push(if taken { format!("{name}_{}", field.offset) } else { name });
        }
        let all: Vec<_> = self.fields.iter().zip(types).zip(&names).collect();
        let mut members = Vec::new();
        for group in all.chunk_by(|((a, _), _), ((b, _), _)| a.offset == b.offset) {
            let Some(((first, _), _)) = group.first() else { continue };
            let at = first.offset.saturating_mul(8);
            let member =
                |((_, ty), name): &((&Field, TypeId), &'_ String), bit_offset| (name.to_string(), *ty, bit_offset);
            match group {
                [one] => members.push(member(one, at)),
                several => {
                    let inner: Vec<_> = several.iter().map(|one| member(one, 0)).collect();
                    let size = several.iter().map(|((field, _), _)| field.width).max().unwrap_or(0);
                    let ty = builder.add("", New::Union { size, members: &borrowed(&inner) });
                    members.push((String::new(), ty, at));
                }
            }
        }
        let ty = builder.add(name, New::Struct { size: self.bytes(), members: &borrowed(&members) });
        Ok((builder.build()?, ty))
    }
}

fn borrowed(members: &[(String, TypeId, u32)]) -> Vec<Member<'_>> {
    members
        .iter()
        .map(|(name, ty, bit_offset)| Member { name, ty: *ty, bit_offset: *bit_offset, bit_size: 0 })
        .collect()
}

fn type_of(builder: &mut Builder, field: &Field) -> TypeId {
    let mut int = |name: &str, size: u32, signed: bool, char: bool| {
        let bits = u8::try_from(size.saturating_mul(8)).unwrap_or(64);
        builder.add(name, New::Int(Int { size, bits, offset: 0, signed, char, bool: false }))
    };
    let signed = field.meaning == Meaning::Signed;
    let (element, len) = match (field.meaning, field.width) {
        (Meaning::Typed(ty), _) => return ty,
        (Meaning::Unsigned | Meaning::Signed, size @ (1 | 2 | 4 | 8)) => {
            let name = match (size, signed) {
                (1, false) => "__u8",
                (2, false) => "__u16",
                (4, false) => "__u32",
                (_, false) => "__u64",
                (1, true) => "__s8",
                (2, true) => "__s16",
                (4, true) => "__s32",
                (_, true) => "__s64",
            };
            return int(name, size, signed, false);
        }
        (Meaning::Text, width) => (int("char", 1, true, true), width),
        (Meaning::Words, width) => (int("__u64", 8, false, false), width / 8),
        (Meaning::Unsigned | Meaning::Signed | Meaning::Bytes, width) => (int("__u8", 1, false, false), width),
    };
    let index = int("__u32", 4, false, false);
    builder.add("", New::Array(Array { element, index, len }))
}
