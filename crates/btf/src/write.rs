//! Writing BTF, in the byte order of this machine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::read::{HEAD, MAX_RECORDS, word_at};
use crate::types::{Array, Enumerator, Int, Kind, Linkage, Member, Param, SectionVar, TypeId};
use crate::{Btf, Error};

/// What a new type is; its name is told apart.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "as in Def")]
pub enum New<'a> {
    Int(Int),
    Ptr(TypeId),
    Array(Array),
    Struct { size: u32, members: &'a [Member<'a>] },
    Union { size: u32, members: &'a [Member<'a>] },
    Enum { size: u32, signed: bool, values: &'a [Enumerator<'a>] },
    Enum64 { size: u32, signed: bool, values: &'a [Enumerator<'a>] },
    Fwd { is_union: bool },
    Typedef(TypeId),
    Volatile(TypeId),
    Const(TypeId),
    Restrict(TypeId),
    Func { proto: TypeId, linkage: Linkage },
    FuncProto { ret: TypeId, params: &'a [Param<'a>] },
    Var { ty: TypeId, linkage: Linkage },
    Datasec { size: u32, vars: &'a [SectionVar] },
    Float { size: u32 },
    DeclTag { ty: TypeId, component: Option<u32> },
    TypeTag(TypeId),
}

/// BTF being written: new, going on where another ends, or a copy to be changed.
#[derive(Clone, Debug)]
pub struct Builder {
    base: Option<Btf>,
    first_id: u32,
    first_string: u32,
    /// The type section, and where in it each type starts.
    words: Vec<u32>,
    starts: Vec<usize>,
    strings: Vec<u8>,
    added: HashMap<Box<str>, u32>,
    full: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Without any type.
    pub fn new() -> Builder {
        Builder {
            base: None,
            first_id: 1,
            first_string: 0,
            words: Vec::new(),
            starts: Vec::new(),
            strings: vec![0],
            added: HashMap::new(),
            full: false,
        }
    }

    /// Split BTF: numbers and strings go on where `base` ends.
    pub fn split(base: &Btf) -> Builder {
        Builder {
            base: Some(base.clone()),
            first_id: base.len(),
            first_string: base.strings_end(),
            strings: Vec::new(),
            ..Builder::new()
        }
    }

    /// A copy with the same type numbers and the same string offsets; strings are only ever appended.
    ///
    /// # Errors
    /// What is damaged in the original.
    pub fn copy_of(btf: &Btf) -> Result<Builder, Error> {
        let section = btf.type_section();
        let word = |bytes: &[u8]| word_at(bytes, 0, btf.is_big_endian()).unwrap_or(0);
        let strings = btf.strings().to_vec();
        Ok(Builder {
            base: btf.base().cloned(),
            first_id: btf.first_own().0,
            first_string: btf.first_string(),
            words: section.chunks_exact(4).map(word).collect(),
            starts: btf.record_starts()?.map(|at| at / 4).collect(),
            strings,
            added: HashMap::new(),
            full: false,
        })
    }

    /// Number that the next added type will have.
    pub fn next_id(&self) -> TypeId {
        let own = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        TypeId(self.first_id.saturating_add(own))
    }

    /// Offset of this string, which is added when it was not added before. It ends at the first NUL. What
    /// [`Builder::copy_of`] copied is not searched: that would cost more than a few bytes are worth.
    pub fn string(&mut self, text: &str) -> u32 {
        let text = text.split('\0').next().unwrap_or_default();
        if text.is_empty() {
            return 0;
        }
        if let Some(offset) = self.added.get(text) {
            return *offset;
        }
        let offset = self.strings.len();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        let offset = u32::try_from(offset).ok().and_then(|own| own.checked_add(self.first_string));
        self.full |= offset.is_none();
        let offset = offset.unwrap_or(0);
        self.added.insert(text.into(), offset);
        offset
    }

    /// Adds a type.
    pub fn add(&mut self, name: &str, new: New<'_>) -> TypeId {
        let id = self.next_id();
        let record = self.record(name, new);
        self.starts.push(self.words.len());
        self.words.extend(record);
        id
    }

    /// Puts another type in the place of one; its number stays.
    ///
    /// # Errors
    /// [`Error::NoSuchType`] when it is not one of this builder's own.
    pub fn replace(&mut self, id: TypeId, name: &str, new: New<'_>) -> Result<(), Error> {
        let (own, start, end) = self.place(id)?;
        let record = self.record(name, new);
        let (old, new) = (end.saturating_sub(start), record.len());
        self.words.splice(start..end, record);
        if old == new {
            return Ok(());
        }
        for start in self.starts.iter_mut().skip(own.saturating_add(1)) {
            *start = start.saturating_add(new).saturating_sub(old);
        }
        Ok(())
    }

    /// Gives a type another name.
    ///
    /// # Errors
    /// [`Error::NoSuchType`].
    pub fn set_name(&mut self, id: TypeId, name: &str) -> Result<(), Error> {
        let name = self.string(name);
        *self.word(id, 0)? = name;
        Ok(())
    }

    /// Sets the size of an integer, struct, union, enum, float or data section.
    ///
    /// # Errors
    /// [`Error::NoSuchType`], [`Error::BadType`] when it has no size of its own.
    pub fn set_size(&mut self, id: TypeId, size: u32) -> Result<(), Error> {
        match self.kind(id)? {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Datasec => {
                *self.word(id, 2)? = size;
                Ok(())
            }
            _ => Err(Error::BadType { id, what: "a type of its kind has no size" }),
        }
    }

    /// Sets the linkage of a function or variable.
    ///
    /// # Errors
    /// [`Error::NoSuchType`], [`Error::BadType`] when it is another kind of type.
    pub fn set_linkage(&mut self, id: TypeId, linkage: Linkage) -> Result<(), Error> {
        match self.kind(id)? {
            Kind::Func => *self.word(id, 1)? = info(Kind::Func, false, linkage.number()),
            Kind::Var => *self.word(id, 3)? = linkage.number(),
            _ => return Err(Error::BadType { id, what: "a type of its kind has no linkage" }),
        }
        Ok(())
    }

    /// Sets type, offset and size of one variable of a data section.
    ///
    /// # Errors
    /// [`Error::NoSuchType`], [`Error::BadType`] when it is no data section or has no such variable.
    pub fn set_var(&mut self, id: TypeId, index: usize, var: SectionVar) -> Result<(), Error> {
        let bad = Error::BadType { id, what: "it has no such variable" };
        if self.kind(id)? != Kind::Datasec {
            return Err(bad);
        }
        let (_, start, end) = self.place(id)?;
        let records = self.words.get_mut(start..end).and_then(|words| words.get_mut(HEAD / 4..)).unwrap_or_default();
        let record = records.chunks_exact_mut(3).nth(index).ok_or(bad)?;
        record.copy_from_slice(&[var.ty.0, var.offset, var.size]);
        Ok(())
    }

    /// Kind of one of this builder's own types.
    ///
    /// # Errors
    /// [`Error::NoSuchType`].
    pub fn kind(&mut self, id: TypeId) -> Result<Kind, Error> {
        let info = *self.word(id, 1)?;
        Kind::from_number((info >> 24 & 0x7f) as u8).ok_or(Error::BadType { id, what: "its kind is unknown" })
    }

    /// The bytes, to be given to the kernel or to [`Btf::parse`].
    ///
    /// # Errors
    /// [`Error::Full`] when more was added than the format can number.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| Error::Full);
        let types = length(self.words.len().saturating_mul(4))?;
        let strings = length(self.strings.len())?;
        if self.full || u32::try_from(self.starts.len()).is_err() {
            return Err(Error::Full);
        }
        let mut bytes = Vec::with_capacity(24usize.saturating_add(types as usize).saturating_add(strings as usize));
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings].iter().chain(&self.words) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.strings);
        Ok(bytes)
    }

    /// What was written, for reading.
    ///
    /// # Errors
    /// As [`Builder::finish`].
    pub fn build(self) -> Result<Btf, Error> {
        let base = self.base.clone();
        let bytes = Arc::new(self.finish()?);
        match base {
            Some(base) => Btf::parse_split(bytes, &base),
            None => Btf::parse(bytes),
        }
    }

    fn place(&self, id: TypeId) -> Result<(usize, usize, usize), Error> {
        let own = id.0.checked_sub(self.first_id).ok_or(Error::NoSuchType(id))? as usize;
        let start = *self.starts.get(own).ok_or(Error::NoSuchType(id))?;
        let end = self.starts.get(own.saturating_add(1)).copied().unwrap_or(self.words.len());
        Ok((own, start, end))
    }

    /// The words of a type, as the format stores them.
    pub(crate) fn words(&mut self, id: TypeId) -> Result<&mut [u32], Error> {
        let (_, start, end) = self.place(id)?;
        Ok(self.words.get_mut(start..end).unwrap_or_default())
    }

    /// Every type of this builder's own.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (self.first_id..self.next_id().0).map(TypeId)
    }

    /// A string by its offset, as far as the string section is this builder's own.
    pub(crate) fn text(&self, offset: u32) -> &[u8] {
        let own = offset.checked_sub(self.first_string).and_then(|own| self.strings.get(own as usize..));
        own.and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default()
    }

    fn word(&mut self, id: TypeId, at: usize) -> Result<&mut u32, Error> {
        let words = self.words(id)?;
        words.get_mut(at).ok_or(Error::BadType { id, what: "it is cut off" })
    }

    fn record(&mut self, name: &str, new: New<'_>) -> Vec<u32> {
        let name = self.string(name);
        let head = |kind, size| vec![name, info(kind, false, 0), size];
        match new {
            New::Int(int) => {
                let encoding = u32::from(int.signed) | u32::from(int.char) << 1 | u32::from(int.bool) << 2;
                let bits = encoding << 24 | u32::from(int.offset) << 16 | u32::from(int.bits);
                vec![name, info(Kind::Int, false, 0), int.size, bits]
            }
            New::Ptr(ty) => head(Kind::Ptr, ty.0),
            New::Array(array) => {
                vec![name, info(Kind::Array, false, 0), 0, array.element.0, array.index.0, array.len]
            }
            New::Struct { size, members } => self.members(name, Kind::Struct, size, members),
            New::Union { size, members } => self.members(name, Kind::Union, size, members),
            New::Enum { size, signed, values } => {
                let mut record = vec![name, info(Kind::Enum, signed, self.count(values.len())), size];
                for value in values {
                    record.extend([self.string(value.name), value.value.cast_unsigned() as u32]);
                }
                record
            }
            New::Enum64 { size, signed, values } => {
                let mut record = vec![name, info(Kind::Enum64, signed, self.count(values.len())), size];
                for value in values {
                    let bits = value.value.cast_unsigned();
                    record.extend([self.string(value.name), bits as u32, (bits >> 32) as u32]);
                }
                record
            }
            New::Fwd { is_union } => vec![name, info(Kind::Fwd, is_union, 0), 0],
            New::Typedef(ty) => head(Kind::Typedef, ty.0),
            New::Volatile(ty) => head(Kind::Volatile, ty.0),
            New::Const(ty) => head(Kind::Const, ty.0),
            New::Restrict(ty) => head(Kind::Restrict, ty.0),
            New::Func { proto, linkage } => vec![name, info(Kind::Func, false, linkage.number()), proto.0],
            New::FuncProto { ret, params } => {
                let mut record = vec![name, info(Kind::FuncProto, false, self.count(params.len())), ret.0];
                for param in params {
                    record.extend([self.string(param.name), param.ty.0]);
                }
                record
            }
            New::Var { ty, linkage } => vec![name, info(Kind::Var, false, 0), ty.0, linkage.number()],
            New::Datasec { size, vars } => {
                let mut record = vec![name, info(Kind::Datasec, false, self.count(vars.len())), size];
                record.extend(vars.iter().flat_map(|var| [var.ty.0, var.offset, var.size]));
                record
            }
            New::Float { size } => head(Kind::Float, size),
            New::DeclTag { ty, component } => {
                vec![name, info(Kind::DeclTag, false, 0), ty.0, component.unwrap_or(u32::MAX)]
            }
            New::TypeTag(ty) => head(Kind::TypeTag, ty.0),
        }
    }

    fn members(&mut self, name: u32, kind: Kind, size: u32, members: &[Member<'_>]) -> Vec<u32> {
        let bitfields = members.iter().any(|member| member.bit_size != 0);
        let mut record = vec![name, info(kind, bitfields, self.count(members.len())), size];
        for member in members {
            // With kind_flag set, the upper 8 bits are the width.
            self.full |= bitfields && member.bit_offset > 0xff_ffff;
            let offset = if bitfields {
                member.bit_offset & 0xff_ffff | u32::from(member.bit_size) << 24
            } else {
                member.bit_offset
            };
            record.extend([self.string(member.name), member.ty.0, offset]);
        }
        record
    }

    fn count(&mut self, records: usize) -> u32 {
        let count = u32::try_from(records).ok().filter(|n| *n <= MAX_RECORDS);
        self.full |= count.is_none();
        count.unwrap_or(0)
    }
}

pub(crate) fn info(kind: Kind, flag: bool, records: u32) -> u32 {
    u32::from(flag) << 31 | (kind as u32) << 24 | records
}
