//! Reading: the header is checked at once, everything else when it is asked for.

use std::sync::{Arc, OnceLock};

use crate::Error;
use crate::names::Names;
use crate::types::{
    Array, Composite, Datasec, Def, Enum, Enumerator, Int, Kind, Linkage, Member, Param, Proto, SectionVar, Type,
    TypeId,
};

/// Deepest chain of types that is followed (modifiers, arrays of arrays, nested structs).
pub(crate) const MAX_DEPTH: u32 = 64;
/// Longest string that is read: many types may name one that never ends.
const MAX_STRING: usize = 1 << 16;
const MAGIC: u16 = 0xeb9f;

/// Bytes with an owner of any kind: a `Vec`, a mapping of `/sys/kernel/btf/vmlinux`.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A set of types. Cheap to clone: clones share bytes and indexes.
#[derive(Clone)]
pub struct Btf(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    /// Type and string sections as ranges of `bytes`, checked.
    types: (usize, usize),
    strings: (usize, usize),
    /// How long types of each kind are, told by the writer (Linux 7.1, `struct btf_layout`); often empty.
    layouts: (usize, usize),
    big_endian: bool,
    base: Option<Btf>,
    /// Number of the first type and of the first string byte that are ours and not the base's.
    first_id: u32,
    first_string: u32,
    /// Filled by the first question that needs it.
    index: OnceLock<Result<Index, Error>>,
    /// Functions by name: two in three of a kernel's names, and few questions are for them.
    functions: OnceLock<Names>,
    pointer_size: OnceLock<u32>,
}

/// Where our types are in the type section. Records differ in length, so one is found by walking from
/// the nearest before it that is kept here: the few steps cost less than the memory for all of them.
pub(crate) struct Index {
    /// Types of our own.
    count: u32,
    /// Where every [`STEP`]th of them starts.
    starts: Box<[u32]>,
    /// All that have a name but functions.
    names: Names,
}

const STEP: u32 = 8;
/// Bytes of as many types, in most kernels.
const USUAL_STEP: usize = 200;
/// Bytes of types for each function, and for each other type that has a name, in most kernels.
const USUAL_FUNCTION: usize = 50;
const USUAL_NAMED: usize = 200;

/// Equal records behind a type, decoded one by one.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    btf: &'a Btf,
    bytes: &'a [u8],
    /// Bytes of one record.
    each: usize,
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records", self.len())
    }
}

impl<'a> Records<'a> {
    fn len(&self) -> usize {
        self.bytes.len().checked_div(self.each).unwrap_or(0)
    }

    fn iter(self) -> impl ExactSizeIterator<Item = [u32; 3]> + 'a {
        self.bytes.chunks_exact(self.each.max(1)).map(move |record| self.words(record))
    }

    fn nth(self, n: usize) -> Option<[u32; 3]> {
        self.bytes.chunks_exact(self.each.max(1)).nth(n).map(|record| self.words(record))
    }

    fn words(self, record: &[u8]) -> [u32; 3] {
        let word = |n: usize| word_at(record, n.saturating_mul(4), self.btf.0.big_endian).unwrap_or(0);
        [word(0), word(1), word(2)]
    }
}

impl<'a> Composite<'a> {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// No members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members in the order of the source.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Result<Member<'a>, Error>> + use<'a> {
        let all = *self;
        self.members.iter().map(move |record| all.decode(record))
    }

    /// The member of this number, from 0.
    pub fn member(&self, index: u32) -> Option<Result<Member<'a>, Error>> {
        self.members.nth(index as usize).map(|record| self.decode(record))
    }

    /// The member of this name and those without any, which may contain it, with their numbers. Much faster than to
    /// look at the names of all.
    pub fn towards(&self, name: &str) -> impl Iterator<Item = (u32, Result<Member<'a>, Error>)> {
        let all = *self;
        let on_the_way =
            move |offset| all.members.btf.is_string(offset, b"") || all.members.btf.is_string(offset, name.as_bytes());
        let records = (0..).zip(self.members.iter()).filter(move |(_, [offset, ..])| on_the_way(*offset));
        records.map(move |(index, record)| (index, all.decode(record)))
    }

    fn decode(&self, [name, ty, offset]: [u32; 3]) -> Result<Member<'a>, Error> {
        // kind_flag: the upper 8 bits of the offset are a bit-field's width
        // (Documentation/bpf/btf.rst, BTF_KIND_STRUCT).
        let (bit_offset, bit_size) =
            if self.bitfields { (offset & 0xff_ffff, (offset >> 24) as u8) } else { (offset, 0) };
        Ok(Member { name: self.members.btf.string(name)?, ty: TypeId(ty), bit_offset, bit_size })
    }
}

impl<'a> Enum<'a> {
    /// The values in the order of the source.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Result<Enumerator<'a>, Error>> + use<'a> {
        let (btf, signed, is_64) = (self.values.btf, self.signed, self.is_64);
        self.values.iter().map(move |[name, low, high]| {
            let value = match (is_64, signed) {
                (true, _) => (u64::from(high) << 32 | u64::from(low)).cast_signed(),
                (false, true) => i64::from(low.cast_signed()),
                (false, false) => i64::from(low),
            };
            Ok(Enumerator { name: btf.string(name)?, value })
        })
    }
}

impl<'a> Proto<'a> {
    /// The parameters in order.
    pub fn params(&self) -> impl ExactSizeIterator<Item = Result<Param<'a>, Error>> + use<'a> {
        let btf = self.params.btf;
        self.params.iter().map(move |[name, ty, _]| Ok(Param { name: btf.string(name)?, ty: TypeId(ty) }))
    }
}

impl<'a> Datasec<'a> {
    /// The variables in order.
    pub fn vars(&self) -> impl ExactSizeIterator<Item = SectionVar> + use<'a> {
        self.vars.iter().map(|[ty, offset, size]| SectionVar { ty: TypeId(ty), offset, size })
    }
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Btf({} types)", self.len())
    }
}

impl Btf {
    /// Reads the header. The types are looked at when they are asked for.
    ///
    /// # Errors
    /// [`Error::Header`] when this is no BTF of version 1, or sections point outside the bytes.
    pub fn parse(bytes: Bytes) -> Result<Btf, Error> {
        Self::parse_on(bytes, None)
    }

    /// Reads split BTF (a kernel module's), whose numbers and strings go on where `base` ends.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(bytes: Bytes, base: &Btf) -> Result<Btf, Error> {
        Self::parse_on(bytes, Some(base.clone()))
    }

    fn parse_on(bytes: Bytes, base: Option<Btf>) -> Result<Btf, Error> {
        let data = (*bytes).as_ref();
        let magic = data.first_chunk::<2>().ok_or(Error::Header("shorter than a header"))?;
        let big_endian = match (u16::from_le_bytes(*magic), u16::from_be_bytes(*magic)) {
            (MAGIC, _) => false,
            (_, MAGIC) => true,
            _ => return Err(Error::Header("the magic number is not that of BTF")),
        };
        if data.get(2) != Some(&1) {
            return Err(Error::Header("a version other than 1"));
        }
        let word = |at| word_at(data, at, big_endian).ok_or(Error::Header("shorter than a header"));
        let header = word(4)?;
        if header < 24 {
            return Err(Error::Header("it says that it is shorter than a header"));
        }
        let section = |offset: u32, len: u32| {
            let start = header.checked_add(offset).ok_or(Error::Header("a section starts outside the data"))? as usize;
            let end = start.checked_add(len as usize).filter(|end| *end <= data.len());
            Ok((start, end.ok_or(Error::Header("a section ends outside the data"))?))
        };
        let types = section(word(8)?, word(12)?)?;
        let strings = section(word(16)?, word(20)?)?;
        let layouts = if header >= 32 { section(word(24)?, word(28)?)? } else { (0, 0) };
        // An empty string section is that of split BTF without names of its own.
        let text = data.get(strings.0..strings.1).unwrap_or_default();
        if text.last().is_some_and(|end| *end != 0) || base.is_none() && text.first() != Some(&0) {
            return Err(Error::Header("the string section does not begin and end with NUL"));
        }
        let (first_id, first_string) = match &base {
            Some(base) => (base.len(), base.strings_end()),
            None => (1, 0),
        };
        Ok(Btf(Arc::new(Inner {
            bytes,
            types,
            strings,
            layouts,
            big_endian,
            base,
            first_id,
            first_string,
            index: OnceLock::new(),
            functions: OnceLock::new(),
            pointer_size: OnceLock::new(),
        })))
    }

    /// Written on a big-endian machine, or for one.
    pub fn is_big_endian(&self) -> bool {
        self.0.big_endian
    }

    /// The BTF on which this one goes on.
    pub fn base(&self) -> Option<&Btf> {
        self.0.base.as_ref()
    }

    /// All the bytes, header included.
    pub fn bytes(&self) -> &[u8] {
        (*self.0.bytes).as_ref()
    }

    /// Number of types, `void` and the base's included: valid numbers are below it.
    pub fn len(&self) -> u32 {
        self.0.first_id.saturating_add(self.index().map_or(0, |index| index.count))
    }

    /// Nothing but `void`.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// Number of the first type that is this BTF's own and not its base's.
    pub fn first_own(&self) -> TypeId {
        TypeId(self.0.first_id)
    }

    /// The type of this number.
    ///
    /// # Errors
    /// [`Error::NoSuchType`], or what is damaged in it.
    pub fn get(&self, id: TypeId) -> Result<Type<'_>, Error> {
        if id == TypeId::VOID {
            return Ok(Type { id, name: "", def: Def::Void });
        }
        let Some(own) = id.0.checked_sub(self.0.first_id) else {
            return self.base().ok_or(Error::NoSuchType(id))?.get(id);
        };
        let index = self.index()?;
        if own >= index.count {
            return Err(Error::NoSuchType(id));
        }
        let start = own.checked_div(STEP).and_then(|n| index.starts.get(n as usize));
        let mut rest = start.and_then(|at| self.type_section().get(*at as usize..)).ok_or(Error::NoSuchType(id))?;
        for _ in 0..own & STEP.wrapping_sub(1) {
            (_, rest) = self.split_record(rest).ok_or(Error::NoSuchType(id))?;
        }
        self.decode(id, rest)
    }

    /// Every type of this BTF's own, damaged ones as errors.
    pub fn own_types(&self) -> impl Iterator<Item = Result<Type<'_>, Error>> {
        let mut rest = self.type_section();
        (self.0.first_id..self.len()).map(move |id| {
            let ty = self.decode(TypeId(id), rest);
            (_, rest) = self.split_record(rest).unwrap_or_default();
            ty
        })
    }

    /// A string of the string section by its offset.
    ///
    /// # Errors
    /// [`Error::BadString`].
    pub fn string(&self, offset: u32) -> Result<&str, Error> {
        let Some(own) = offset.checked_sub(self.0.first_string) else {
            return self.base().ok_or(Error::BadString(offset))?.string(offset);
        };
        let rest = self.strings().get(own as usize..).ok_or(Error::BadString(offset))?;
        let near = rest.get(..MAX_STRING).unwrap_or(rest);
        let text = memchr::memchr(0, near).and_then(|end| near.get(..end)).ok_or(Error::BadString(offset))?;
        std::str::from_utf8(text).map_err(|_| Error::BadString(offset))
    }

    /// Whether the string at this offset is `text`.
    fn is_string(&self, offset: u32, text: &[u8]) -> bool {
        let Some(own) = offset.checked_sub(self.0.first_string) else {
            return self.base().is_some_and(|base| base.is_string(offset, text));
        };
        let rest = self.strings().get(own as usize..).and_then(|rest| rest.strip_prefix(text));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    pub(crate) fn strings(&self) -> &[u8] {
        self.bytes().get(self.0.strings.0..self.0.strings.1).unwrap_or_default()
    }

    pub(crate) fn strings_end(&self) -> u32 {
        let own = u32::try_from(self.strings().len()).unwrap_or(u32::MAX);
        self.0.first_string.saturating_add(own)
    }

    pub(crate) fn type_section(&self) -> &[u8] {
        self.bytes().get(self.0.types.0..self.0.types.1).unwrap_or_default()
    }

    pub(crate) fn first_string(&self) -> u32 {
        self.0.first_string
    }

    pub(crate) fn pointer_size_cell(&self) -> &OnceLock<u32> {
        &self.0.pointer_size
    }

    /// Whether the pass over all types has been made that [`Btf::get`] and questions for names need.
    pub fn is_indexed(&self) -> bool {
        self.0.index.get().is_some()
    }

    fn index(&self) -> Result<&Index, Error> {
        self.0.index.get_or_init(|| self.scan(false)).as_ref().map_err(Error::clone)
    }

    /// Functions for [`Kind::Func`], everything else for every other kind.
    pub(crate) fn names(&self, kind: Kind) -> Option<&Names> {
        let index = self.index().ok()?;
        if kind != Kind::Func {
            return Some(&index.names);
        }
        Some(self.0.functions.get_or_init(|| self.scan(true).map_or_else(|_| Names::new(0), |index| index.names)))
    }

    /// Where each of our types starts, in the type section.
    pub(crate) fn record_starts(&self) -> Result<impl Iterator<Item = usize>, Error> {
        let section = self.type_section();
        let mut rest = section;
        Ok((0..self.index()?.count).map(move |_| {
            let start = section.len().saturating_sub(rest.len());
            (_, rest) = self.split_record(rest).unwrap_or_default();
            start
        }))
    }

    /// One pass over our types, for the names of functions or of all others.
    fn scan(&self, functions: bool) -> Result<Index, Error> {
        let (section, strings) = (self.type_section(), self.strings());
        let mut starts = Vec::with_capacity(section.len() / USUAL_STEP);
        let mut names =
            Names::new(if functions { section.len() / USUAL_FUNCTION } else { section.len() / USUAL_NAMED });
        let (mut at, mut id) = (0, self.0.first_id);
        while at < section.len() {
            if id.wrapping_sub(self.0.first_id) & STEP.wrapping_sub(1) == 0 {
                starts.push(u32::try_from(at).map_err(|_| Error::Full)?);
            }
            let cut = Error::BadType { id: TypeId(id), what: "it is cut off, or its kind is unknown" };
            let (head, len) = section.get(at..).and_then(|rest| self.head(rest)).ok_or(cut)?;
            if head.name != 0 && head.is_function() == functions {
                let own = head.name.wrapping_sub(self.0.first_string);
                if let Some(text) = strings.get(own as usize..) {
                    names.add(text, own, TypeId(id));
                }
            }
            at = at.saturating_add(len);
            id = id.checked_add(1).ok_or(Error::Full)?;
        }
        Ok(Index { count: id.wrapping_sub(self.0.first_id), starts: starts.into_boxed_slice(), names })
    }

    /// The first type of this piece of the type section, and its length in bytes.
    #[inline]
    fn head(&self, section: &[u8]) -> Option<(Head, usize)> {
        let [n0, n1, n2, n3, i0, i1, i2, i3, ..] = section.first_chunk::<HEAD>()?;
        let (name, info) = ([*n0, *n1, *n2, *n3], [*i0, *i1, *i2, *i3]);
        let (name, info) = if self.0.big_endian {
            (u32::from_be_bytes(name), u32::from_be_bytes(info))
        } else {
            (u32::from_le_bytes(name), u32::from_le_bytes(info))
        };
        let body = body_len(info).or_else(|| self.told_len(info))?;
        let len = body.saturating_add(HEAD);
        (len <= section.len()).then_some((Head { name, info }, len))
    }

    /// The first type of this piece of the type section, and what comes behind it.
    fn split_record<'a>(&self, section: &'a [u8]) -> Option<(Head, &'a [u8])> {
        let (head, len) = self.head(section)?;
        Some((head, section.get(len..)?))
    }

    /// Bytes behind the head of a type of a kind that only its writer knows.
    #[cold]
    fn told_len(&self, info: u32) -> Option<usize> {
        let layouts = self.bytes().get(self.0.layouts.0..self.0.layouts.1)?;
        let [once, each, ..] = layouts.chunks_exact(4).nth((info >> 24 & 0x7f) as usize)? else { return None };
        let records = (info & MAX_RECORDS) as usize;
        // Kind 0 is void and has no record.
        (info >> 24 & 0x7f != 0)
            .then_some(records.saturating_mul(usize::from(*each)).saturating_add(usize::from(*once)))
    }

    fn decode<'a>(&'a self, id: TypeId, rest: &'a [u8]) -> Result<Type<'a>, Error> {
        let bad = |what| Error::BadType { id, what };
        let word = |n: usize| word_at(rest, n.saturating_mul(4), self.0.big_endian).ok_or(bad("it is cut off"));
        let (name, info, size) = (word(0)?, word(1)?, word(2)?);
        let body = body_len(info).ok_or(bad("its kind is unknown"))?;
        let body = rest.get(HEAD..HEAD.saturating_add(body)).ok_or(bad("it is cut off"))?;
        let records = |each| Records { btf: self, bytes: body, each };
        let (kind, flag, vlen) =
            (kind_of(info).ok_or(bad("its kind is unknown"))?, info >> 31 == 1, info & MAX_RECORDS);
        let linkage = |number| match number {
            0 => Ok(Linkage::Static),
            1 => Ok(Linkage::Global),
            2 => Ok(Linkage::Extern),
            _ => Err(bad("its linkage is unknown")),
        };
        let ty = TypeId(size);
        let def = match kind {
            Kind::Void => return Err(bad("its kind is unknown")),
            Kind::Int => {
                let info = word(3)?;
                let encoding = info >> 24;
                Def::Int(Int {
                    size,
                    bits: (info & 0xff) as u8,
                    offset: (info >> 16 & 0xff) as u8,
                    signed: encoding & 1 != 0,
                    char: encoding & 2 != 0,
                    bool: encoding & 4 != 0,
                })
            }
            Kind::Ptr => Def::Ptr(ty),
            Kind::Array => Def::Array(Array { element: TypeId(word(3)?), index: TypeId(word(4)?), len: word(5)? }),
            Kind::Struct => Def::Struct(Composite { size, members: records(12), bitfields: flag }),
            Kind::Union => Def::Union(Composite { size, members: records(12), bitfields: flag }),
            Kind::Enum => Def::Enum(Enum { size, signed: flag, is_64: false, values: records(8) }),
            Kind::Enum64 => Def::Enum(Enum { size, signed: flag, is_64: true, values: records(12) }),
            Kind::Fwd => Def::Fwd { is_union: flag },
            Kind::Typedef => Def::Typedef(ty),
            Kind::Volatile => Def::Volatile(ty),
            Kind::Const => Def::Const(ty),
            Kind::Restrict => Def::Restrict(ty),
            // A function keeps its linkage where others keep the number of records (btf.rst, BTF_KIND_FUNC).
            Kind::Func => Def::Func { proto: ty, linkage: linkage(vlen)? },
            Kind::FuncProto => Def::FuncProto(Proto { ret: ty, params: records(8) }),
            Kind::Var => Def::Var { ty, linkage: linkage(word(3)?)? },
            Kind::Datasec => Def::Datasec(Datasec { size, vars: records(12) }),
            Kind::Float => Def::Float { size },
            Kind::DeclTag => {
                let component = word(3)?;
                Def::DeclTag { ty, component: (component != u32::MAX).then_some(component) }
            }
            Kind::TypeTag => Def::TypeTag(ty),
        };
        Ok(Type { id, name: self.string(name)?, def })
    }
}

/// The first two words of `struct btf_type`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Head {
    /// Offset of its name.
    pub(crate) name: u32,
    info: u32,
}

impl Head {
    pub(crate) fn is_function(self) -> bool {
        self.info >> 24 & 0x7f == Kind::Func as u32
    }
}

/// Bytes of `struct btf_type`.
pub(crate) const HEAD: usize = 12;

pub(crate) fn word_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(if big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) })
}

/// Most records that a type can have. 16 bits before Linux 7.1, whose writers left the next 8 bits zero;
/// the kind likewise grew from 5 bits to 7 (include/uapi/linux/btf.h, BTF_INFO_VLEN, BTF_INFO_KIND).
pub(crate) const MAX_RECORDS: u32 = 0xff_ffff;

fn kind_of(info: u32) -> Option<Kind> {
    Kind::from_number((info >> 24 & 0x7f) as u8)
}

/// Bytes behind the head of a type with this `info` word.
#[inline]
fn body_len(info: u32) -> Option<usize> {
    let (once, each) = *BODY.get((info >> 24 & 0x7f) as usize)?;
    let records = (info & MAX_RECORDS) as usize;
    (once != UNKNOWN).then_some(records.wrapping_mul(each as usize).wrapping_add(once as usize))
}

const UNKNOWN: u8 = u8::MAX;

/// Bytes behind the head of each kind: once, and for each record. A table and no branches: the pass over a whole
/// kernel's types waits for this and little else.
#[expect(clippy::indexing_slicing, reason = "at compile time, and no kind is 128")]
static BODY: [(u8, u8); 128] = {
    let mut body = [(UNKNOWN, 0); 128];
    let mut kind = 1u8;
    while let Some(known) = Kind::from_number(kind) {
        body[kind as usize] = match known {
            Kind::Void => (UNKNOWN, 0),
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 0),
            Kind::Array => (12, 0),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (0, 12),
            Kind::Enum | Kind::FuncProto => (0, 8),
            Kind::Ptr
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::Float
            | Kind::TypeTag => (0, 0),
        };
        kind = kind.saturating_add(1);
    }
    body
};
