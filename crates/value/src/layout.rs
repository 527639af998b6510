//! The compiled form of a type, and the one walk over a record that every presentation shares.

use ringfence_btf::{Btf, TypeId};

use crate::code::Code;
use crate::row::{Cells, Clock, Row};
use crate::{Value, json, tree, yaml};

/// How a type is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// No meaning by name: addresses, times and return values stay the numbers that they are.
    pub raw: bool,
    /// Fewest bytes of a record, where programs send only the used part of a buffer: what a shorter record has
    /// no bytes for is `null`, and an array ends with the record. `None`: a record has all of its type.
    pub least: Option<usize>,
}

/// Why a type cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The BTF is damaged.
    #[error(transparent)]
    Btf(#[from] ringfence_btf::Error),
    /// Not a type of which there are values: a function, `void`, a struct that is only declared.
    #[error("BTF type {0} `{1}` has no values: {2}; name a struct that is defined in the object")]
    NotData(TypeId, String, &'static str),
    /// More members, levels or values than a record has.
    #[error("BTF type {0} is larger than what is decoded: {1}; show it as a hex dump")]
    TooLarge(TypeId, &'static str),
}

/// A record that ends before its type does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record has {have} bytes and its type needs {need}")]
pub struct Short {
    /// Bytes of the record.
    pub have: usize,
    /// Fewest bytes that a record of this type has.
    pub need: usize,
}

/// A type, ready for decoding. Built once, used for every record.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) name: Box<str>,
    pub(crate) size: usize,
    pub(crate) need: usize,
    /// Elements of the flexible array take what is left: `(start, bytes of one)`.
    pub(crate) rest: Option<(usize, usize)>,
    pub(crate) steps: Box<[Step]>,
    pub(crate) enums: Box<[Names]>,
}

/// One step: a leaf, or a head with its members behind it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// `,"name":`, ready for JSON; empty for an element of a list.
    pub(crate) key: Box<str>,
    pub(crate) name: Box<str>,
    /// From the start of the record, or of the list element that this is in.
    pub(crate) offset: usize,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Leaf(Leaf),
    /// The members are the steps up to `end`.
    Record {
        end: usize,
    },
    /// The steps up to `end` are one element.
    List {
        end: usize,
        stride: usize,
        len: usize,
        rest: bool,
    },
}

/// Bytes of a number, and the order that they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) bytes: u8,
    pub(crate) big: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaf {
    Unsigned(Width),
    Signed(Width),
    Bool,
    Float(Width),
    Pointer(Width),
    Enum { names: usize, width: Width, signed: bool },
    Bits { skip: u8, bits: u8, signed: bool, big: bool, of: BitsOf },
    Text { len: usize, rest: bool, joined: bool },
    Bytes { len: usize },
    Ipv4 { family: Option<Family>, other: bool },
    Ipv6 { family: Option<Family>, other: bool, number: Option<Width>, sure: bool },
    Mac,
    Return(Width),
    Coded { code: Code, width: Width, signed: bool },
    Time { width: Width, unit: u32 },
}

/// What a bit-field is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BitsOf {
    Number,
    Bool,
    Enum(usize),
}

/// The member that says which kind of address is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) offset: usize,
    pub(crate) width: Width,
    pub(crate) v4: u8,
    pub(crate) v6: u8,
}

/// The names of an `enum`, by value.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) sorted: Box<[(i64, Box<str>)]>,
    /// Every value is one bit of its own (or zero): combinations are shown as such.
    pub(crate) flags: bool,
}

impl Names {
    pub(crate) fn of(&self, value: i64) -> Option<&str> {
        let at = self.sorted.binary_search_by_key(&value, |(value, _)| *value).ok()?;
        self.sorted.get(at).map(|(_, name)| &**name)
    }

    /// The names that together make up `value`; `None` when a bit has no name.
    pub(crate) fn flags_of(&self, value: i64) -> Option<impl Iterator<Item = &str>> {
        let all = self.sorted.iter().fold(0, |all, (bit, _)| all | bit);
        (self.flags && value != 0 && value & !all == 0)
            .then(|| self.sorted.iter().filter(move |(bit, _)| bit & value != 0).map(|(_, name)| &**name))
    }
}

/// A decoded leaf, borrowed from the record and the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Unsigned128(u128),
    Signed128(i128),
    Float(f64),
    Float32(f32),
    Pointer(u64),
    Enum(&'a Names, i64),
    /// Up to the first NUL.
    Text(&'a [u8]),
    /// Strings one behind the other, each ended by NUL.
    Joined(&'a [u8]),
    Bytes(&'a [u8]),
    Ipv4([u8; 4]),
    Ipv6([u8; 16]),
    Mac([u8; 6]),
    Return(i64),
    Coded(Code, i64),
    Time {
        value: u64,
        unit: u32,
    },
}

/// What takes the parts of a record in order.
pub(crate) trait Sink {
    fn leaf(&mut self, step: &Step, value: Scalar<'_>);
    fn open_record(&mut self, step: &Step);
    fn close_record(&mut self);
    /// `bytes`: how many elements, where each is an unsigned byte; else 0.
    fn open_list(&mut self, step: &Step, bytes: usize);
    fn element(&mut self, index: usize);
    fn close_list(&mut self);
}

impl Layout {
    /// Compiles a type: a struct, union, array, integer, enum, a variable or a whole data section.
    ///
    /// # Errors
    /// [`Error`]: damaged BTF, no data type, or more of it than anyone would read.
    pub fn compile(btf: &Btf, ty: TypeId) -> Result<Layout, Error> {
        Self::compile_with(btf, ty, Options::default())
    }

    /// As [`Layout::compile`], with choices.
    ///
    /// # Errors
    /// As [`Layout::compile`].
    pub fn compile_with(btf: &Btf, ty: TypeId, options: Options) -> Result<Layout, Error> {
        crate::compile::compile(btf, ty, options)
    }

    /// Compiles a data section from its variables: name, type, offset in bytes. (The `DATASEC` of an object file has
    /// no offsets; whoever has read the symbols knows them.)
    ///
    /// # Errors
    /// As [`Layout::compile`].
    pub fn of_variables(btf: &Btf, variables: &[(&str, TypeId, u32)], options: Options) -> Result<Layout, Error> {
        crate::compile::compile_variables(btf, variables, options)
    }

    /// Name of the type, empty when it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the type, as `sizeof` says.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Fewest bytes of a record: [`Layout::size`], or less where it may be cut ([`Options::least`]) or ends in a
    /// flexible array.
    pub fn need(&self) -> usize {
        self.need
    }

    /// Bytes of a record of this length that the type does not cover.
    pub fn extra(&self, len: usize) -> usize {
        match self.rest {
            Some((start, each)) => len.checked_sub(start).and_then(|left| left.checked_rem(each)).unwrap_or(0),
            None => len.saturating_sub(self.size),
        }
    }

    /// The record as one line of JSON (without the line's end), appended to `out`.
    ///
    /// # Errors
    /// [`Short`]; `out` is as it was.
    pub fn json(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Short> {
        self.walk(bytes, &mut json::Writer { out })
    }

    /// The record as table cells; what `row` held is replaced. `clock` turns kernel time stamps into wall clock.
    ///
    /// # Errors
    /// [`Short`]; `row` is empty then.
    pub fn row(&self, bytes: &[u8], clock: Option<&Clock>, row: &mut Row) -> Result<(), Short> {
        row.clear();
        self.walk(bytes, &mut Cells::new(row, clock))
    }

    /// Names of the cells that [`Layout::row`] writes. Members of members have dotted names; the only cell of a
    /// type without members has the name `""`.
    pub fn columns(&self) -> Vec<String> {
        crate::row::columns(&self.steps)
    }

    /// The record as an owned tree.
    ///
    /// # Errors
    /// [`Short`].
    pub fn value(&self, bytes: &[u8]) -> Result<Value, Short> {
        let mut builder = tree::Builder::default();
        self.walk(bytes, &mut builder)?;
        Ok(builder.finish())
    }

    /// The record as a YAML document without `---`, ended by a newline.
    ///
    /// # Errors
    /// [`Short`].
    pub fn yaml(&self, bytes: &[u8], out: &mut String) -> Result<(), Short> {
        yaml::write(&self.value(bytes)?, out);
        Ok(())
    }

    /// Follows the steps over a record that is long enough.
    fn walk(&self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Short> {
        if bytes.len() < self.need {
            return Err(Short { have: bytes.len(), need: self.need });
        }
        self.follow(0, self.steps.len(), bytes, 0, sink);
        Ok(())
    }

    /// The steps `from..to`, relative to `base`. As deep as the type is nested, which compiling has bounded.
    fn follow(&self, from: usize, to: usize, bytes: &[u8], base: usize, sink: &mut impl Sink) {
        let mut at = from;
        while let Some(step) = self.steps.get(at).filter(|_| at < to) {
            let next = at.saturating_add(1);
            at = match step.what {
                What::Leaf(leaf) => {
                    sink.leaf(step, Self::read(&self.enums, leaf, bytes, base, step.offset));
                    next
                }
                What::Record { end } => {
                    sink.open_record(step);
                    self.follow(next, end, bytes, base, sink);
                    sink.close_record();
                    end
                }
                What::List { end, stride, len, rest } => {
                    let start = base.saturating_add(step.offset);
                    let fits = bytes.len().saturating_sub(start).checked_div(stride);
                    let len = match (rest, fits) {
                        (true, fits) => fits.unwrap_or(0).min(len),
                        (false, _) => len,
                    };
                    let element = self.steps.get(next).map(|element| element.what);
                    let of_bytes = matches!(element, Some(What::Leaf(Leaf::Unsigned(Width { bytes: 1, .. }))));
                    sink.open_list(step, if of_bytes { len } else { 0 });
                    for index in 0..len {
                        sink.element(index);
                        self.follow(next, end, bytes, start.saturating_add(index.saturating_mul(stride)), sink);
                    }
                    sink.close_list();
                    end
                }
            };
        }
    }

    #[inline]
    pub(crate) fn read<'a>(enums: &'a [Names], leaf: Leaf, bytes: &'a [u8], base: usize, offset: usize) -> Scalar<'a> {
        let here = bytes.get(base.saturating_add(offset)..).unwrap_or_default();
        Self::read_at(enums, leaf, here, bytes, base).unwrap_or(Scalar::Null)
    }

    /// `None` where the record has ended, which [`Options::least`] allows.
    #[inline]
    fn read_at<'a>(enums: &'a [Names], leaf: Leaf, here: &'a [u8], bytes: &[u8], base: usize) -> Option<Scalar<'a>> {
        Some(match leaf {
            Leaf::Unsigned(Width { bytes: 16, big }) => Scalar::Unsigned128(wide(here, big)?),
            Leaf::Signed(Width { bytes: 16, big }) => Scalar::Signed128(wide(here, big)?.cast_signed()),
            Leaf::Unsigned(width) => Scalar::Unsigned(unsigned(here, width)?),
            Leaf::Signed(width) => Scalar::Signed(signed(here, width)?),
            Leaf::Bool => match *here.first()? {
                0 => Scalar::Bool(false),
                1 => Scalar::Bool(true),
                other => Scalar::Unsigned(other.into()),
            },
            Leaf::Float(width @ Width { bytes: 4, .. }) => {
                Scalar::Float32(f32::from_bits((unsigned(here, width)? & 0xffff_ffff) as u32))
            }
            Leaf::Float(width) => Scalar::Float(f64::from_bits(unsigned(here, width)?)),
            Leaf::Pointer(width) => Scalar::Pointer(unsigned(here, width)?),
            Leaf::Enum { names, width, signed: sign } => {
                let value = if sign { signed(here, width)? } else { unsigned(here, width)?.cast_signed() };
                named(enums, names, value, sign)
            }
            Leaf::Bits { skip, bits, signed, big, of } => {
                let raw = bit_field(here, skip, bits, big)?;
                let extended = extend(raw, bits);
                match (of, signed) {
                    (BitsOf::Bool, _) if raw <= 1 => Scalar::Bool(raw == 1),
                    (BitsOf::Enum(names), sign) => {
                        named(enums, names, if sign { extended } else { raw.cast_signed() }, sign)
                    }
                    (BitsOf::Number, true) => Scalar::Signed(extended),
                    (BitsOf::Number | BitsOf::Bool, _) => Scalar::Unsigned(raw),
                }
            }
            Leaf::Text { len, rest, joined } => {
                let text = if rest { here.get(..len.min(here.len()))? } else { here.get(..len)? };
                if joined { Scalar::Joined(text) } else { Scalar::Text(text) }
            }
            Leaf::Bytes { len } => Scalar::Bytes(here.get(..len)?),
            Leaf::Ipv4 { family, other } => match family.and_then(|f| f.read(bytes, base)) {
                Some(Ip::V6) if other => Scalar::Null,
                _ => Scalar::Ipv4(*here.first_chunk()?),
            },
            Leaf::Ipv6 { family, other, number, sure } => {
                let all: &[u8; 16] = here.first_chunk()?;
                let plain = match number {
                    Some(width) => Scalar::Unsigned128(wide(here, width.big)?),
                    None => Scalar::Bytes(all),
                };
                let (first, last) = all.split_first_chunk::<4>()?;
                match family.map(|f| f.read(bytes, base)) {
                    Some(Some(Ip::V4)) if other => Scalar::Null,
                    Some(Some(Ip::V4)) => Scalar::Ipv4(*first),
                    Some(Some(Ip::V6)) => Scalar::Ipv6(*all),
                    Some(None) => plain,
                    // Four bytes and then zeros: an IPv4 address in a field that has room for both kinds?
                    None if !sure && last.iter().all(|b| *b == 0) && *first != [0; 4] => plain,
                    None => Scalar::Ipv6(*all),
                }
            }
            Leaf::Mac => Scalar::Mac(*here.first_chunk()?),
            Leaf::Return(width) => Scalar::Return(signed(here, width)?),
            Leaf::Coded { code, width, signed: sign } => {
                let value = if sign { signed(here, width)? } else { unsigned(here, width)?.cast_signed() };
                Scalar::Coded(code, value)
            }
            Leaf::Time { width, unit } => Scalar::Time { value: unsigned(here, width)?, unit },
        })
    }
}

fn named(enums: &[Names], names: usize, value: i64, signed: bool) -> Scalar<'_> {
    match enums.get(names) {
        Some(names) if names.of(value).is_some() || names.flags_of(value).is_some() => Scalar::Enum(names, value),
        _ if signed => Scalar::Signed(value),
        _ => Scalar::Unsigned(value.cast_unsigned()),
    }
}

enum Ip {
    V4,
    V6,
}

impl Family {
    fn read(self, bytes: &[u8], base: usize) -> Option<Ip> {
        let at = bytes.get(base.saturating_add(self.offset)..)?;
        match unsigned(at, self.width)? {
            v if v == u64::from(self.v4) => Some(Ip::V4),
            v if v == u64::from(self.v6) => Some(Ip::V6),
            _ => None,
        }
    }
}

/// The values of a per-CPU map, one for each CPU: the kernel rounds each up to 8 bytes
/// (`bpf_percpu_array_copy` in kernel/bpf/arraymap.c).
pub fn per_cpu(bytes: &[u8], value_size: usize) -> impl Iterator<Item = &[u8]> {
    let stride = value_size.checked_next_multiple_of(8).unwrap_or(usize::MAX).max(8);
    bytes.chunks_exact(stride).map(move |chunk| chunk.get(..value_size).unwrap_or(chunk))
}

#[inline]
pub(crate) fn unsigned(here: &[u8], width: Width) -> Option<u64> {
    Some(match (width.bytes, width.big) {
        (1, _) => u64::from(*here.first()?),
        (2, false) => u64::from(u16::from_le_bytes(*here.first_chunk()?)),
        (2, true) => u64::from(u16::from_be_bytes(*here.first_chunk()?)),
        (4, false) => u64::from(u32::from_le_bytes(*here.first_chunk()?)),
        (4, true) => u64::from(u32::from_be_bytes(*here.first_chunk()?)),
        (_, false) => u64::from_le_bytes(*here.first_chunk()?),
        (_, true) => u64::from_be_bytes(*here.first_chunk()?),
    })
}

#[inline]
fn signed(here: &[u8], width: Width) -> Option<i64> {
    unsigned(here, width).map(|raw| extend(raw, width.bytes.saturating_mul(8)))
}

fn wide(here: &[u8], big: bool) -> Option<u128> {
    let bytes = *here.first_chunk()?;
    Some(if big { u128::from_be_bytes(bytes) } else { u128::from_le_bytes(bytes) })
}

/// The sign of the lowest `bits` bits, carried to the left.
fn extend(raw: u64, bits: u8) -> i64 {
    let unused = 64u32.saturating_sub(bits.into());
    raw.checked_shl(unused).unwrap_or(0).cast_signed().checked_shr(unused).unwrap_or(0)
}

/// Bits in the order of the machine: little-endian compilers fill bytes from the lowest bit, big-endian ones from the highest.
fn bit_field(here: &[u8], skip: u8, bits: u8, big: bool) -> Option<u64> {
    let end = u32::from(skip).checked_add(bits.into())?;
    let bytes = here.get(..end.div_ceil(8) as usize)?;
    let gather = |all: u128, byte: &u8| all << 8 | u128::from(*byte);
    let (all, shift) = if big {
        let unused = end.next_multiple_of(8).checked_sub(end)?;
        (bytes.iter().fold(0, gather), unused)
    } else {
        (bytes.iter().rev().fold(0, gather), skip.into())
    };
    let mask = u64::MAX.checked_shr(64u32.checked_sub(bits.into())?).unwrap_or(0);
    Some((all.checked_shr(shift)? & u128::from(mask)) as u64)
}
