//! What a relocation asks about the thing that it points at, answered for the local type and for the target.

use ringfence_btf::{self as btf, Btf, Def, Type, TypeId};
use ringfence_object::CoreKind;

use super::Cause;
use super::spec::Spec;

/// Most dimensions of an array.
const MAX_DIMENSIONS: u32 = 32;

/// The answer for one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) value: u64,
    /// What the compiler wrote into the instruction must be the answer for the local type.
    pub(super) certain: bool,
    /// An enumerator of 32 bits that is, as far as BTF tells, unsigned.
    pub(super) unsigned_word: bool,
    /// For a field's offset: what a load or store of it reads or writes.
    pub(super) access: Access,
}

/// What a load or store of a field touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Bytes; 0 for bit-fields, which are read as a whole and shifted.
    pub(super) size: u64,
    pub(super) shape: Shape,
}

/// What decides whether a load may become wider or narrower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    Pointer,
    Unsigned,
    #[default]
    Other,
}

impl Access {
    /// Whether the instruction may get the size of `self` instead. Loads fill the register's upper part with zeros,
    /// so pointers and unsigned integers keep their value and nothing else does (libbpf `bpf_core_calc_relo`).
    pub(super) fn may_replace(self, local: Access) -> bool {
        let zero_extends = matches!(self.shape, Shape::Pointer | Shape::Unsigned) && self.shape == local.shape;
        self.size == local.size || zero_extends
    }
}

impl Spec<'_> {
    /// The answer of a type that was found.
    pub(super) fn value(&self, kind: CoreKind) -> Result<Value, Cause> {
        let sure = |value| Value { value, certain: true, ..Value::default() };
        Ok(match kind {
            CoreKind::FieldExists | CoreKind::TypeExists | CoreKind::TypeMatches | CoreKind::EnumvalExists => sure(1),
            CoreKind::TypeSize => sure(self.btf.size_of(self.root)?),
            // Linking objects renumbers types but not the instructions that hold the numbers.
            CoreKind::TypeIdLocal | CoreKind::TypeIdTarget => Value { certain: false, ..sure(u64::from(self.root.0)) },
            CoreKind::EnumvalValue => {
                let choice = self.enumerator.ok_or_else(|| self.unanswerable("it is no enumerator"))?;
                let value = choice.value.value.cast_unsigned();
                Value { unsigned_word: !choice.signed && !choice.is_64, ..sure(value) }
            }
            CoreKind::FieldByteOffset
            | CoreKind::FieldByteSize
            | CoreKind::FieldSigned
            | CoreKind::FieldLshiftU64
            | CoreKind::FieldRshiftU64 => self.field(kind)?,
        })
    }

    fn unanswerable(&self, why: &'static str) -> Cause {
        Cause::Unanswerable { of: self.to_string(), why }
    }

    /// libbpf `bpf_core_calc_field_relo`.
    fn field(&self, kind: CoreKind) -> Result<Value, Cause> {
        let unanswerable = |why| self.unanswerable(why);
        let step = self.steps.last().ok_or_else(|| unanswerable("it has no path"))?;
        let Some(member) = step.member else {
            let ty = self.btf.resolve(step.ty)?;
            let bytes = self.btf.size_of(ty.id)?;
            let value = match kind {
                CoreKind::FieldByteOffset => self.bits / 8,
                CoreKind::FieldByteSize => bytes,
                _ => return Err(unanswerable("an array element has an offset and a size, and nothing else")),
            };
            return Ok(Value { value, certain: true, access: self.access(kind, ty, bytes)?, ..Value::default() });
        };
        let ty = self.btf.resolve(member.ty)?;
        let is_bitfield = member.bit_size > 0;
        let (byte, bytes, bits) = if is_bitfield {
            let container = match ty.def {
                Def::Int(int) => int.size,
                Def::Enum(def) => def.size,
                _ => 0,
            };
            let width = u64::from(member.bit_size);
            let (byte, bytes) = smallest_load(self.bits, width, u64::from(container))
                .ok_or_else(|| unanswerable("no load of 1, 2, 4 or 8 bytes holds this bit-field"))?;
            (byte, bytes, width)
        } else {
            let bytes = self.btf.size_of(ty.id)?;
            (self.bits / 8, bytes, bytes.saturating_mul(8))
        };
        // Wraps as libbpf's u32 does: a field of more than 8 bytes has no shift, and nobody asks for it unguarded.
        let shift = |bits: u64| u64::from(64u32.wrapping_sub(u32::try_from(bits).unwrap_or(u32::MAX)));
        let first_bit = self.bits.saturating_sub(byte.saturating_mul(8));
        let value = match kind {
            CoreKind::FieldByteOffset => byte,
            CoreKind::FieldByteSize => bytes,
            CoreKind::FieldSigned => u64::from(match ty.def {
                Def::Int(int) => int.signed,
                Def::Enum(def) => def.signed,
                _ => false,
            }),
            CoreKind::FieldLshiftU64 if self.btf.is_big_endian() => {
                shift(bytes.saturating_mul(8)).saturating_add(first_bit)
            }
            CoreKind::FieldLshiftU64 => shift(first_bit.saturating_add(bits)),
            CoreKind::FieldRshiftU64 => shift(bits),
            _ => return Err(unanswerable("this is no question about a field")),
        };
        // A compiler may load a bit-field by another width than this; but neither its sign nor its own width are
        // a matter of choice.
        let certain = !is_bitfield || matches!(kind, CoreKind::FieldSigned | CoreKind::FieldRshiftU64);
        let access = if is_bitfield { Access::default() } else { self.access(kind, ty, bytes)? };
        Ok(Value { value, certain, access, ..Value::default() })
    }

    /// What a load or store of a field of this type and size touches.
    fn access(&self, kind: CoreKind, ty: Type<'_>, bytes: u64) -> Result<Access, Cause> {
        let access = |size, shape| Ok(Access { size, shape });
        match (kind, ty.def) {
            (CoreKind::FieldByteOffset, Def::Ptr(_)) => access(bytes, Shape::Pointer),
            // `bool` and `char` count as unsigned (libbpf compares the whole encoding with BTF_INT_SIGNED).
            (CoreKind::FieldByteOffset, Def::Int(int)) if !int.signed || int.char || int.bool => {
                access(bytes, Shape::Unsigned)
            }
            // Of an array, one element is loaded at a time.
            (CoreKind::FieldByteOffset, Def::Array(array)) => {
                access(self.btf.size_of(element(self.btf, array.element)?)?, Shape::Other)
            }
            (CoreKind::FieldByteOffset, _) => access(bytes, Shape::Other),
            _ => Ok(Access::default()),
        }
    }
}

/// The element type of an array of any dimension, or the type itself.
fn element(btf: &Btf, id: TypeId) -> Result<TypeId, btf::Error> {
    let mut at = id;
    for _ in 0..MAX_DIMENSIONS {
        let ty = btf.resolve(at)?;
        match ty.def {
            Def::Array(array) => at = array.element,
            _ => return Ok(ty.id),
        }
    }
    Err(btf::Error::TooDeep(id))
}

/// First byte and width of the smallest aligned load, not narrower than `container`, that holds the bits.
fn smallest_load(bit: u64, width: u64, container: u64) -> Option<(u64, u64)> {
    [1u64, 2, 4, 8].into_iter().filter(|bytes| *bytes >= container && container > 0).find_map(|bytes| {
        let byte = (bit / 8).checked_div(bytes)?.checked_mul(bytes)?;
        let end = bit.checked_add(width)?.checked_sub(byte.checked_mul(8)?)?;
        (end <= bytes.checked_mul(8)?).then_some((byte, bytes))
    })
}
