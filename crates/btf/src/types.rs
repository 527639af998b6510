//! One type as the format stores it, decoded on demand.

use std::fmt;

/// Number of a type. 0 is `void`; in split BTF the numbers go on where the base ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: TypeId = TypeId(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

impl fmt::Debug for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

/// `BTF_KIND_*` of `include/uapi/linux/btf.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the format's own names")]
pub enum Kind {
    Void = 0,
    Int = 1,
    Ptr = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Fwd = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Func = 12,
    FuncProto = 13,
    Var = 14,
    Datasec = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

impl Kind {
    /// The kind of this number.
    #[inline]
    pub const fn from_number(number: u8) -> Option<Kind> {
        Some(match number {
            0 => Kind::Void,
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Fwd,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            14 => Kind::Var,
            15 => Kind::Datasec,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => return None,
        })
    }
}

/// One type: its number, its name (empty when it has none) and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// Its number.
    pub id: TypeId,
    /// Its name, empty for an anonymous type.
    pub name: &'a str,
    /// What it is.
    pub def: Def<'a>,
}

/// What a type is.
#[derive(Clone, Copy, Debug)]
pub enum Def<'a> {
    /// `void`.
    Void,
    /// An integer, a character or a `bool`.
    Int(Int),
    /// Pointer to a type.
    Ptr(TypeId),
    /// Array.
    Array(Array),
    /// `struct`.
    Struct(Composite<'a>),
    /// `union`.
    Union(Composite<'a>),
    /// `enum`, with 32-bit (`BTF_KIND_ENUM`) or 64-bit (`BTF_KIND_ENUM64`) values.
    Enum(Enum<'a>),
    /// A declared but undefined `struct` (or `union`).
    Fwd {
        /// `union`, not `struct`.
        is_union: bool,
    },
    /// `typedef`.
    Typedef(TypeId),
    /// `volatile`.
    Volatile(TypeId),
    /// `const`.
    Const(TypeId),
    /// `restrict`.
    Restrict(TypeId),
    /// A function; the parameters are in its prototype.
    Func {
        /// A [`Def::FuncProto`].
        proto: TypeId,
        /// Static, global or extern.
        linkage: Linkage,
    },
    /// Parameters and return type.
    FuncProto(Proto<'a>),
    /// A variable.
    Var {
        /// Its type.
        ty: TypeId,
        /// Static, global or extern.
        linkage: Linkage,
    },
    /// A data section and the variables in it.
    Datasec(Datasec<'a>),
    /// A floating point number of this many bytes.
    Float {
        /// Bytes.
        size: u32,
    },
    /// `btf_decl_tag`: the type's name is the tag's text.
    DeclTag {
        /// The tagged struct, union, function, variable or typedef.
        ty: TypeId,
        /// The tagged member or parameter; `None`: the whole.
        component: Option<u32>,
    },
    /// `btf_type_tag`: the type's name is the tag's text.
    TypeTag(TypeId),
}

impl Def<'_> {
    /// The number by which the format calls this.
    pub fn kind(&self) -> Kind {
        match self {
            Def::Void => Kind::Void,
            Def::Int(_) => Kind::Int,
            Def::Ptr(_) => Kind::Ptr,
            Def::Array(_) => Kind::Array,
            Def::Struct(_) => Kind::Struct,
            Def::Union(_) => Kind::Union,
            Def::Enum(e) if e.is_64 => Kind::Enum64,
            Def::Enum(_) => Kind::Enum,
            Def::Fwd { .. } => Kind::Fwd,
            Def::Typedef(_) => Kind::Typedef,
            Def::Volatile(_) => Kind::Volatile,
            Def::Const(_) => Kind::Const,
            Def::Restrict(_) => Kind::Restrict,
            Def::Func { .. } => Kind::Func,
            Def::FuncProto(_) => Kind::FuncProto,
            Def::Var { .. } => Kind::Var,
            Def::Datasec(_) => Kind::Datasec,
            Def::Float { .. } => Kind::Float,
            Def::DeclTag { .. } => Kind::DeclTag,
            Def::TypeTag(_) => Kind::TypeTag,
        }
    }
}

/// `static`, global or `extern`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "C's own words")]
pub enum Linkage {
    Static,
    Global,
    Extern,
}

impl Linkage {
    pub(crate) fn number(self) -> u32 {
        match self {
            Linkage::Static => 0,
            Linkage::Global => 1,
            Linkage::Extern => 2,
        }
    }
}

/// An integer type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Int {
    /// Bytes.
    pub size: u32,
    /// Bits used, counted from [`Int::offset`]; `size * 8` but in old bit-field encodings.
    pub bits: u8,
    /// First bit used.
    pub offset: u8,
    /// Signed.
    pub signed: bool,
    /// `char`.
    pub char: bool,
    /// `bool`.
    pub bool: bool,
}

/// An array type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Array {
    /// Type of an element.
    pub element: TypeId,
    /// Type of the index (a formality).
    pub index: TypeId,
    /// Number of elements; 0 for a flexible array.
    pub len: u32,
}

/// A `struct` or `union`.
#[derive(Clone, Copy, Debug)]
pub struct Composite<'a> {
    /// Bytes.
    pub size: u32,
    pub(crate) members: crate::read::Records<'a>,
    pub(crate) bitfields: bool,
}

/// A member of a `struct` or `union`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Its name, empty for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts, in bits from the start of the struct.
    pub bit_offset: u32,
    /// Width of a bit-field; 0: it is none.
    pub bit_size: u8,
}

/// An `enum`.
#[derive(Clone, Copy, Debug)]
pub struct Enum<'a> {
    /// Bytes.
    pub size: u32,
    /// Values are signed.
    pub signed: bool,
    /// Stored as `BTF_KIND_ENUM64`.
    pub is_64: bool,
    pub(crate) values: crate::read::Records<'a>,
}

/// A name and value of an `enum`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value; for an unsigned enum, the `u64` of the same bits.
    pub value: i64,
}

/// A function's parameters and return type.
#[derive(Clone, Copy, Debug)]
pub struct Proto<'a> {
    /// Return type.
    pub ret: TypeId,
    pub(crate) params: crate::read::Records<'a>,
}

/// A parameter of a function. The last one with type void and no name stands for `...`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param<'a> {
    /// Its name; empty where the compiler kept none.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
}

/// A data section.
#[derive(Clone, Copy, Debug)]
pub struct Datasec<'a> {
    /// Bytes; compilers leave 0 for the loader to fill in.
    pub size: u32,
    pub(crate) vars: crate::read::Records<'a>,
}

/// A variable's place in a data section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionVar {
    /// A [`Def::Var`] (or, in `.ksyms`, a [`Def::Func`]).
    pub ty: TypeId,
    /// Offset in the section, in bytes.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}
