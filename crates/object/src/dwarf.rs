//! Types out of DWARF. Compilers keep in BTF what maps, globals and functions name; a struct that a program
//! only fills in a ring buffer is in DWARF alone, as long as nobody strips it.

use std::collections::HashMap;

use gimli::constants as dw;
use gimli::{
    AttributeValue, DebugAbbrev, DebugInfo, DebugLineStr, DebugStr, DebugStrOffsets, DebugStrOffsetsBase,
    DebuggingInformationEntry, DwarfFileType, EndianSlice, Operation, RunTimeEndian, Section as _, UnitHeader,
};
use ringfence_btf::{Array, Btf, Builder, Enumerator, Int, Kind, Member, New, Param, TypeId};

use crate::Error;
use crate::elf::Elf;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// Most types, and most members, enumerators, parameters and dimensions of all types together.
const MAX_TYPES: usize = 1 << 18;
const MAX_PARTS: usize = 1 << 20;
/// Most work, about in bytes looked at: units can share the description of their entries, and names each other's bytes.
const MAX_WORK: u64 = 1 << 27;
/// Longest chain of typedefs under an enum.
const MAX_CHAIN: u32 = 64;

/// The types of an object's DWARF: structs, unions, enums, typedefs and what they are made of.
///
/// `None` when the object has no DWARF: not compiled with `-g`, or stripped with `llvm-strip -g`.
///
/// # Errors
/// The file is no eBPF object, its DWARF is damaged, or it is far larger than a program's can be.
pub fn debug_types(elf_bytes: &[u8]) -> Result<Option<Btf>, Error> {
    let elf = Elf::parse("the object", elf_bytes)?;
    if elf.find(".debug_info").is_none() {
        return Ok(None);
    }
    let sections = Sections {
        info: relocated(&elf, ".debug_info")?,
        abbreviations: relocated(&elf, ".debug_abbrev")?,
        strings: relocated(&elf, ".debug_str")?,
        offsets: relocated(&elf, ".debug_str_offsets")?,
        line_strings: relocated(&elf, ".debug_line_str")?,
    };
    let endian = if elf.big_endian() { RunTimeEndian::Big } else { RunTimeEndian::Little };
    let dies = Reader::new(&elf, &sections, endian).read()?;
    let btf = dies.write().build();
    btf.map(Some).map_err(|source| Error::Btf { object: elf.file.into(), section: ".debug_info", source })
}

struct Sections {
    info: Vec<u8>,
    abbreviations: Vec<u8>,
    strings: Vec<u8>,
    offsets: Vec<u8>,
    line_strings: Vec<u8>,
}

/// The bytes of a section with its relocations applied. DWARF refers to its own other sections by them.
fn relocated(elf: &Elf<'_>, name: &str) -> Result<Vec<u8>, Error> {
    let Some(section) = elf.find(name).and_then(|at| elf.sections.get(at)) else { return Ok(Vec::new()) };
    let mut bytes = elf.bytes(section)?.to_vec();
    elf.spend(bytes.len())?;
    let Some(relocations) = elf.find(&format!(".rel{name}")).and_then(|at| elf.sections.get(at)) else {
        return Ok(bytes);
    };
    let records = elf.bytes(relocations)?;
    elf.spend(records.len())?;
    for record in records.chunks_exact(16) {
        let word = |at| elf.word64(record, at).unwrap_or(0);
        let (offset, info) = (word(0), word(8));
        let symbol = usize::try_from(info >> 32).ok().and_then(|index| elf.symbol(index));
        let symbol =
            symbol.ok_or_else(|| elf.damaged(format!("section {name} refers to a symbol that is not there")))?;
        let width = match info & 0xffff_ffff {
            1 | 2 => 8,      // R_BPF_64_64, which compilers before LLVM 13 used for data too, and R_BPF_64_ABS64
            3 | 4 | 10 => 4, // R_BPF_64_ABS32, R_BPF_64_NODYLD32, and R_BPF_64_32 before LLVM 13
            _ => continue,
        };
        let place = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at..)?.get_mut(..width));
        let place = place.ok_or_else(|| elf.damaged(format!("section {name} is relocated outside its end")))?;
        add(place, symbol.value, elf.big_endian());
    }
    Ok(bytes)
}

/// Adds to a number of `place.len()` bytes; what goes past them is lost, as in a linker.
fn add(place: &mut [u8], value: u64, big_endian: bool) {
    let shift = |old: u64, byte: &u8| old << 8 | u64::from(*byte);
    let old = if big_endian { place.iter().fold(0, shift) } else { place.iter().rev().fold(0, shift) };
    let new = old.wrapping_add(value).to_le_bytes();
    if big_endian {
        place.iter_mut().rev().zip(new).for_each(|(place, byte)| *place = byte);
    } else {
        place.iter_mut().zip(new).for_each(|(place, byte)| *place = byte);
    }
}

/// A type as DWARF has it.
struct Die<'a> {
    form: Form,
    name: &'a str,
    /// Bytes; 0 when it says none.
    size: u32,
    /// Where in `.debug_info` the type is that it refers to.
    ty: Option<usize>,
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Base(dw::DwAte),
    Array,
    Enum,
    Proto,
    Fwd {
        is_union: bool,
    },
    Composite {
        is_union: bool,
    },
    /// A pointer, typedef or qualifier.
    To(Kind),
}

enum Part<'a> {
    Member {
        name: &'a str,
        ty: Option<usize>,
        bit_offset: u32,
        bit_size: u8,
    },
    /// Both readings of a number whose form does not tell its sign.
    Value {
        name: &'a str,
        signed: Option<i64>,
        unsigned: Option<u64>,
    },
    Dimension(u32),
    Param {
        name: &'a str,
        ty: Option<usize>,
    },
}

struct Dies<'a> {
    dies: Vec<Die<'a>>,
    /// Index by place in `.debug_info`.
    by_offset: HashMap<usize, usize>,
}

struct Reader<'a> {
    elf: &'a Elf<'a>,
    info: DebugInfo<Slice<'a>>,
    abbreviations: DebugAbbrev<Slice<'a>>,
    strings: DebugStr<Slice<'a>>,
    offsets: DebugStrOffsets<Slice<'a>>,
    line_strings: DebugLineStr<Slice<'a>>,
    dies: Dies<'a>,
    parts: usize,
    work: u64,
}

/// What entries of one unit have in common.
struct Unit<'a> {
    header: UnitHeader<Slice<'a>>,
    offsets_base: DebugStrOffsetsBase<usize>,
}

impl<'a> Reader<'a> {
    fn new(elf: &'a Elf<'a>, sections: &'a Sections, endian: RunTimeEndian) -> Reader<'a> {
        Reader {
            elf,
            info: DebugInfo::new(&sections.info, endian),
            abbreviations: DebugAbbrev::new(&sections.abbreviations, endian),
            strings: DebugStr::new(&sections.strings, endian),
            offsets: DebugStrOffsets::from(EndianSlice::new(&sections.offsets, endian)),
            line_strings: DebugLineStr::from(EndianSlice::new(&sections.line_strings, endian)),
            dies: Dies { dies: Vec::new(), by_offset: HashMap::new() },
            parts: 0,
            work: MAX_WORK,
        }
    }

    fn read(mut self) -> Result<Dies<'a>, Error> {
        let mut units = self.info.units();
        while let Some(header) = units.next().map_err(|e| self.damaged(e))? {
            self.unit(header)?;
        }
        Ok(self.dies)
    }

    fn damaged(&self, error: gimli::Error) -> Error {
        self.elf.damaged(format!("its DWARF (.debug_info) says: {error}"))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.work.checked_sub(bytes as u64);
        self.work = left.ok_or_else(|| self.too_large("its DWARF takes more work", MAX_WORK))?;
        Ok(())
    }

    fn too_large(&self, what: &str, limit: u64) -> Error {
        Error::TooLarge { object: self.elf.file.into(), what: what.into(), limit }
    }

    fn unit(&mut self, header: UnitHeader<Slice<'a>>) -> Result<(), Error> {
        // How long its description is shows only when it has been read.
        let start = header.debug_abbrev_offset().0;
        self.spend(self.abbreviations.reader().slice().len().saturating_sub(start))?;
        let abbreviations = header.abbreviations(&self.abbreviations).map_err(|e| self.damaged(e))?;
        let offsets_base = DebugStrOffsetsBase::default_for_encoding_and_file(header.encoding(), DwarfFileType::Main);
        let mut unit = Unit { header, offsets_base };
        let header = unit.header;
        let mut entries = header.entries(&abbreviations);
        // What the entries on the way from the unit's root to here are, where they are types.
        let mut open: Vec<Option<usize>> = Vec::new();
        while let Some(entry) = entries.next_dfs().map_err(|e| self.damaged(e))? {
            self.spend(entry.attrs().len().saturating_mul(8).saturating_add(8))?;
            if let Some(AttributeValue::DebugStrOffsetsBase(base)) = entry.attr_value(dw::DW_AT_str_offsets_base) {
                unit.offsets_base = base;
            }
            let depth = usize::try_from(entry.depth()).unwrap_or(0);
            open.truncate(depth);
            let parent = open.last().copied().flatten();
            if let Some(part) = parent.map(|parent| self.part(&unit, entry, parent)).transpose()?.flatten() {
                self.parts = self.parts.saturating_add(1);
                if self.parts > MAX_PARTS {
                    return Err(self.too_large("its DWARF has more members and enumerators", MAX_PARTS as u64));
                }
                if let Some(parent) = parent.and_then(|parent| self.dies.dies.get_mut(parent)) {
                    parent.parts.push(part);
                }
            }
            let die = self.die(&unit, entry)?;
            open.push(die.map(|die| self.keep(&unit, entry, die)).transpose()?);
        }
        Ok(())
    }

    fn keep(&mut self, unit: &Unit<'a>, entry: &Entry<'a>, die: Die<'a>) -> Result<usize, Error> {
        let index = self.dies.dies.len();
        if index >= MAX_TYPES {
            return Err(self.too_large("its DWARF has more types", MAX_TYPES as u64));
        }
        if let Some(offset) = entry.offset().to_debug_info_offset(&unit.header) {
            self.dies.by_offset.insert(offset.0, index);
        }
        self.dies.dies.push(die);
        Ok(index)
    }

    /// The type that an entry is.
    fn die(&mut self, unit: &Unit<'a>, entry: &Entry<'a>) -> Result<Option<Die<'a>>, Error> {
        let declared = matches!(entry.attr_value(dw::DW_AT_declaration), Some(AttributeValue::Flag(true)));
        let is_union = entry.tag() == dw::DW_TAG_union_type;
        let form = match entry.tag() {
            dw::DW_TAG_base_type => Form::Base(match entry.attr_value(dw::DW_AT_encoding) {
                Some(AttributeValue::Encoding(encoding)) => encoding,
                _ => dw::DW_ATE_unsigned,
            }),
            dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_union_type if declared => {
                Form::Fwd { is_union }
            }
            dw::DW_TAG_structure_type | dw::DW_TAG_class_type | dw::DW_TAG_union_type => Form::Composite { is_union },
            dw::DW_TAG_enumeration_type => Form::Enum,
            dw::DW_TAG_array_type => Form::Array,
            dw::DW_TAG_subroutine_type => Form::Proto,
            dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => {
                Form::To(Kind::Ptr)
            }
            dw::DW_TAG_typedef | dw::DW_TAG_template_alias => Form::To(Kind::Typedef),
            dw::DW_TAG_const_type | dw::DW_TAG_immutable_type => Form::To(Kind::Const),
            // BTF knows no atomic types; their layout is the same.
            dw::DW_TAG_volatile_type | dw::DW_TAG_atomic_type => Form::To(Kind::Volatile),
            dw::DW_TAG_restrict_type => Form::To(Kind::Restrict),
            _ => return Ok(None),
        };
        let size = self.number(entry, dw::DW_AT_byte_size)?.unwrap_or(0);
        let name = self.name(unit, entry)?;
        Ok(Some(Die { form, name, size, ty: reference(unit, entry), parts: Vec::new() }))
    }

    /// What an entry is to the type around it.
    fn part(&mut self, unit: &Unit<'a>, entry: &Entry<'a>, parent: usize) -> Result<Option<Part<'a>>, Error> {
        let Some(form) = self.dies.dies.get(parent).map(|die| die.form) else { return Ok(None) };
        let ty = reference(unit, entry);
        Ok(match (form, entry.tag()) {
            (Form::Composite { .. }, dw::DW_TAG_member | dw::DW_TAG_inheritance) => {
                // A static member of a C++ class is elsewhere.
                if entry.has_attr(dw::DW_AT_external) || entry.has_attr(dw::DW_AT_declaration) {
                    return Ok(None);
                }
                let bit_size = self.number(entry, dw::DW_AT_bit_size)?.unwrap_or(0);
                let bit_size = u8::try_from(bit_size).map_err(|_| self.elf.damaged("a bit-field is too wide"))?;
                let bit_offset = self.bit_offset(unit, entry, bit_size)?;
                Some(Part::Member { name: self.name(unit, entry)?, ty, bit_offset, bit_size })
            }
            (Form::Enum, dw::DW_TAG_enumerator) => {
                let value = entry.attr(dw::DW_AT_const_value);
                let signed = value.and_then(|value| value.sdata_value());
                let unsigned = value.and_then(|value| value.udata_value());
                Some(Part::Value { name: self.name(unit, entry)?, signed, unsigned })
            }
            (Form::Array, dw::DW_TAG_subrange_type) => {
                let count = match self.number(entry, dw::DW_AT_count)? {
                    Some(count) => count,
                    // The last index; none in a flexible array, and -1 for no elements (clang, int[0]).
                    None => match entry.attr(dw::DW_AT_upper_bound).and_then(|bound| bound.udata_value()) {
                        Some(last) => u32::try_from(last.wrapping_add(1)).unwrap_or(0),
                        None => 0,
                    },
                };
                Some(Part::Dimension(count))
            }
            (Form::Proto, dw::DW_TAG_formal_parameter) => Some(Part::Param { name: self.name(unit, entry)?, ty }),
            (Form::Proto, dw::DW_TAG_unspecified_parameters) => Some(Part::Param { name: "", ty: None }),
            _ => None,
        })
    }

    /// Where a member starts, in bits from the start of its struct.
    fn bit_offset(&self, unit: &Unit<'a>, entry: &Entry<'a>, bit_size: u8) -> Result<u32, Error> {
        if let Some(offset) = self.number(entry, dw::DW_AT_data_bit_offset)? {
            return Ok(offset);
        }
        let bytes = match entry.attr_value(dw::DW_AT_data_member_location) {
            None => 0,
            Some(value) => match (value.udata_value(), value.exprloc_value()) {
                (Some(offset), _) => offset,
                // DWARF 2: an addition.
                (None, Some(expression)) => match expression.operations(unit.header.encoding()).next() {
                    Ok(Some(Operation::PlusConstant { value })) => value,
                    _ => return Err(self.elf.damaged("its DWARF computes where a member is")),
                },
                (None, None) => return Err(self.elf.damaged("its DWARF does not say where a member is")),
            },
        };
        // DWARF 2 and 3 count a bit-field's place from the highest bit of the integer around it.
        let inside = match self.number(entry, dw::DW_AT_bit_offset)? {
            Some(from_high) if !self.elf.big_endian() => {
                let unit_bits = self.number(entry, dw::DW_AT_byte_size)?.unwrap_or(4).saturating_mul(8);
                let above = from_high.saturating_add(u32::from(bit_size));
                unit_bits.checked_sub(above).ok_or_else(|| self.elf.damaged("a bit-field is outside its integer"))?
            }
            from_high => from_high.unwrap_or(0),
        };
        let bits = bytes.checked_mul(8).and_then(|bits| bits.checked_add(u64::from(inside)));
        bits.and_then(|bits| u32::try_from(bits).ok())
            .ok_or_else(|| self.elf.damaged("a member lies beyond any struct"))
    }

    fn number(&self, entry: &Entry<'a>, name: dw::DwAt) -> Result<Option<u32>, Error> {
        let Some(value) = entry.attr(name).and_then(|attr| attr.udata_value()) else { return Ok(None) };
        u32::try_from(value).map(Some).map_err(|_| self.elf.damaged(format!("{name} is {value}")))
    }

    fn name(&mut self, unit: &Unit<'a>, entry: &Entry<'a>) -> Result<&'a str, Error> {
        let text = match entry.attr_value(dw::DW_AT_name) {
            None => return Ok(""),
            Some(AttributeValue::String(text)) => Ok(text),
            Some(AttributeValue::DebugStrRef(at)) => self.strings.get_str(at),
            Some(AttributeValue::DebugLineStrRef(at)) => self.line_strings.get_str(at),
            Some(AttributeValue::DebugStrOffsetsIndex(index)) => {
                let at = self.offsets.get_str_offset(unit.header.format(), unit.offsets_base, index);
                at.and_then(|at| self.strings.get_str(at))
            }
            // In a supplementary file.
            Some(_) => return Ok(""),
        };
        let text = text.map_err(|e| self.damaged(e))?.slice();
        self.spend(text.len())?;
        std::str::from_utf8(text).map_err(|_| self.elf.damaged("a name in its DWARF is not text"))
    }
}

fn reference<'a>(unit: &Unit<'a>, entry: &Entry<'a>) -> Option<usize> {
    match entry.attr_value(dw::DW_AT_type)? {
        AttributeValue::UnitRef(offset) => Some(offset.to_debug_info_offset(&unit.header)?.0),
        AttributeValue::DebugInfoRef(offset) => Some(offset.0),
        _ => None,
    }
}

impl Dies<'_> {
    fn write(&self) -> Builder {
        // An array of several dimensions becomes as many types.
        let mut next = 1u32;
        let mut ids = Vec::with_capacity(self.dies.len());
        for die in &self.dies {
            ids.push(TypeId(next));
            let count = if die.form == Form::Array { die.parts.len().max(1) } else { 1 };
            next = next.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
        let id = |ty: &Option<usize>| {
            let index = ty.and_then(|offset| self.by_offset.get(&offset));
            index.and_then(|index| ids.get(*index)).copied().unwrap_or(TypeId::VOID)
        };
        let mut builder = Builder::new();
        for die in &self.dies {
            let to = id(&die.ty);
            match die.form {
                Form::Base(encoding) => {
                    builder.add(die.name, base(encoding, die.size));
                }
                Form::To(kind) => {
                    builder.add(if kind == Kind::Typedef { die.name } else { "" }, to_new(kind, to));
                }
                Form::Fwd { is_union } => {
                    builder.add(die.name, New::Fwd { is_union });
                }
                Form::Composite { is_union } => {
                    let members = die.parts.iter().filter_map(|part| match part {
                        Part::Member { name, ty, bit_offset, bit_size } => {
                            Some(Member { name, ty: id(ty), bit_offset: *bit_offset, bit_size: *bit_size })
                        }
                        _ => None,
                    });
                    let (size, members) = (die.size, members.collect::<Vec<_>>());
                    let members = members.as_slice();
                    let new = if is_union { New::Union { size, members } } else { New::Struct { size, members } };
                    builder.add(die.name, new);
                }
                Form::Enum => self.write_enum(&mut builder, die),
                Form::Array => {
                    let dimensions = die.parts.iter().filter_map(|part| match part {
                        Part::Dimension(count) => Some(*count),
                        _ => None,
                    });
                    let mut dimensions: Vec<u32> = dimensions.collect();
                    if dimensions.is_empty() {
                        dimensions.push(0);
                    }
                    let inner = dimensions.len().saturating_sub(1);
                    for (n, len) in dimensions.into_iter().enumerate() {
                        let element = if n == inner { to } else { TypeId(builder.next_id().0.saturating_add(1)) };
                        builder.add("", New::Array(Array { element, index: TypeId::VOID, len }));
                    }
                }
                Form::Proto => {
                    let params = die.parts.iter().filter_map(|part| match part {
                        Part::Param { name, ty } => Some(Param { name, ty: id(ty) }),
                        _ => None,
                    });
                    builder.add("", New::FuncProto { ret: to, params: &params.collect::<Vec<_>>() });
                }
            }
        }
        builder
    }

    fn write_enum(&self, builder: &mut Builder, die: &Die<'_>) {
        let size = if die.size == 0 { 4 } else { die.size };
        let mut numbers = Vec::new();
        for part in &die.parts {
            if let Part::Value { name, signed, unsigned } = part {
                numbers.push((*name, *signed, *unsigned));
            }
        }
        let signed = self.is_signed(die.ty).unwrap_or(numbers.iter().any(|(_, _, unsigned)| unsigned.is_none()));
        let values: Vec<Enumerator<'_>> = numbers
            .into_iter()
            .map(|(name, as_signed, as_unsigned)| {
                let as_unsigned = as_unsigned.map(u64::cast_signed);
                let value = if signed { as_signed.or(as_unsigned) } else { as_unsigned.or(as_signed) };
                Enumerator { name, value: value.unwrap_or(0) }
            })
            .collect();
        let values = values.as_slice();
        let fits = |value: i64| if signed { i32::try_from(value).is_ok() } else { u32::try_from(value).is_ok() };
        let new = if size == 8 || !values.iter().all(|v| fits(v.value)) {
            New::Enum64 { size, signed, values }
        } else {
            New::Enum { size, signed, values }
        };
        builder.add(die.name, new);
    }

    /// Whether the integer under an enum is signed, where there is one.
    fn is_signed(&self, ty: Option<usize>) -> Option<bool> {
        let mut at = ty;
        for _ in 0..MAX_CHAIN {
            let die = self.dies.get(*self.by_offset.get(&at?)?)?;
            match die.form {
                Form::Base(encoding) => return Some(matches!(encoding, dw::DW_ATE_signed | dw::DW_ATE_signed_char)),
                _ => at = die.ty,
            }
        }
        None
    }
}

fn to_new(kind: Kind, to: TypeId) -> New<'static> {
    match kind {
        Kind::Typedef => New::Typedef(to),
        Kind::Const => New::Const(to),
        Kind::Volatile => New::Volatile(to),
        Kind::Restrict => New::Restrict(to),
        _ => New::Ptr(to),
    }
}

/// As clang's BTF has it (LLVM, BTFTypeInt): no flag for characters.
fn base(encoding: dw::DwAte, size: u32) -> New<'static> {
    let signed = matches!(encoding, dw::DW_ATE_signed | dw::DW_ATE_signed_char);
    match (encoding, size) {
        (dw::DW_ATE_float, _) => New::Float { size },
        (_, 1 | 2 | 4 | 8 | 16) => {
            let bits = u8::try_from(size.saturating_mul(8)).unwrap_or(u8::MAX);
            New::Int(Int { size, bits, offset: 0, signed, char: false, bool: encoding == dw::DW_ATE_boolean })
        }
        // Complex numbers and the like.
        _ => New::Struct { size, members: &[] },
    }
}
