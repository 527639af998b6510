//! Sizes, alignments and places of members.

use crate::read::MAX_DEPTH;
use crate::types::{Composite, Def, Member, Type, TypeId};
use crate::{Btf, Error};

/// A member found by its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its type, as declared.
    pub ty: TypeId,
    /// Where it starts, in bits from the start of the outermost struct.
    pub bit_offset: u64,
    /// Its width in bits: of the bit-field, or of the whole type.
    pub bit_size: u64,
    /// It is a bit-field.
    pub bitfield: bool,
}

impl Btf {
    /// The type behind `const`, `volatile`, `restrict` and type tags; a typedef stays.
    ///
    /// # Errors
    /// [`Error::TooDeep`], or what is damaged on the way.
    pub fn strip_modifiers(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.follow(id, |def| match def {
            Def::Const(ty) | Def::Volatile(ty) | Def::Restrict(ty) | Def::TypeTag(ty) => Some(*ty),
            _ => None,
        })
    }

    /// The type behind typedefs, `const`, `volatile`, `restrict` and type tags.
    ///
    /// # Errors
    /// [`Error::TooDeep`], or what is damaged on the way.
    pub fn resolve(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.follow(id, |def| match def {
            Def::Typedef(ty) | Def::Const(ty) | Def::Volatile(ty) | Def::Restrict(ty) | Def::TypeTag(ty) => Some(*ty),
            _ => None,
        })
    }

    fn follow(&self, id: TypeId, next: impl Fn(&Def<'_>) -> Option<TypeId>) -> Result<Type<'_>, Error> {
        let mut ty = self.get(id)?;
        for _ in 0..MAX_DEPTH {
            match next(&ty.def) {
                Some(next) => ty = self.get(next)?,
                None => return Ok(ty),
            }
        }
        Err(Error::TooDeep(id))
    }

    /// Bytes that a value of this type takes; for a variable, those of its type.
    ///
    /// # Errors
    /// [`Error::NoSize`] for `void`, functions and declared but undefined types, or when it passes 4 GiB.
    pub fn size_of(&self, id: TypeId) -> Result<u64, Error> {
        let mut count = 1u64;
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let size = match self.get(at)?.def {
                Def::Typedef(ty) | Def::Const(ty) | Def::Volatile(ty) | Def::Restrict(ty) => Err(ty),
                Def::TypeTag(ty) | Def::Var { ty, .. } | Def::DeclTag { ty, .. } => Err(ty),
                Def::Array(array) => {
                    let product = count.checked_mul(u64::from(array.len));
                    count = product.filter(|n| *n <= MAX_SIZE).ok_or(Error::NoSize(id, "it is too large"))?;
                    Err(array.element)
                }
                Def::Ptr(_) => Ok(self.pointer_size()),
                Def::Int(int) => Ok(int.size),
                Def::Struct(body) | Def::Union(body) => Ok(body.size),
                Def::Enum(body) => Ok(body.size),
                Def::Datasec(body) => Ok(body.size),
                Def::Float { size } => Ok(size),
                Def::Void => return Err(Error::NoSize(id, "it is void")),
                Def::Fwd { .. } => return Err(Error::NoSize(id, "it is declared and not defined")),
                Def::Func { .. } | Def::FuncProto(_) => return Err(Error::NoSize(id, "it is a function")),
            };
            match size {
                Err(next) => at = next,
                Ok(size) => {
                    let total = count.checked_mul(u64::from(size)).filter(|n| *n <= MAX_SIZE);
                    return total.ok_or(Error::NoSize(id, "it is too large"));
                }
            }
        }
        Err(Error::TooDeep(id))
    }

    /// Alignment in bytes, as far as BTF tells it: 1 for a packed struct (libbpf, btf__align_of).
    ///
    /// # Errors
    /// As [`Btf::size_of`].
    pub fn align_of(&self, id: TypeId) -> Result<u64, Error> {
        let mut budget = MAX_WALK;
        self.align_within(id, MAX_DEPTH, &mut budget)
    }

    fn align_within(&self, id: TypeId, depth: u32, budget: &mut u32) -> Result<u64, Error> {
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep(id))?;
        *budget = budget.checked_sub(1).ok_or(Error::TooDeep(id))?;
        let word = self.pointer_size();
        let at_most_word = |size: u32| u64::from(size.min(word).max(1));
        Ok(match self.get(id)?.def {
            Def::Int(int) => at_most_word(int.size),
            Def::Enum(body) => at_most_word(body.size),
            Def::Float { size } => at_most_word(size),
            Def::Ptr(_) => u64::from(word),
            Def::Typedef(ty) | Def::Const(ty) | Def::Volatile(ty) | Def::Restrict(ty) | Def::TypeTag(ty) => {
                self.align_within(ty, depth, budget)?
            }
            Def::Array(array) => self.align_within(array.element, depth, budget)?,
            Def::Struct(body) | Def::Union(body) => {
                let mut most = 1u64;
                let mut packed = false;
                for member in body.members() {
                    let member = member?;
                    let align = self.align_within(member.ty, depth, budget)?;
                    most = most.max(align);
                    let misplaced = u64::from(member.bit_offset).checked_rem(align.saturating_mul(8)) != Some(0);
                    packed |= member.bit_size == 0 && misplaced;
                }
                packed |= u64::from(body.size).checked_rem(most) != Some(0);
                if packed { 1 } else { most }
            }
            Def::Void
            | Def::Fwd { .. }
            | Def::Func { .. }
            | Def::FuncProto(_)
            | Def::Var { .. }
            | Def::Datasec(_)
            | Def::DeclTag { .. } => return Err(Error::NoSize(id, "no value has this type")),
        })
    }

    /// The member at a path such as `a.b[2].c`, also through anonymous structs and unions.
    ///
    /// # Errors
    /// [`Error::NoMember`], or what is damaged on the way.
    pub fn find_member(&self, id: TypeId, path: &str) -> Result<Field, Error> {
        let no = || Error::NoMember { id, path: path.to_owned() };
        let mut field = Field { ty: id, bit_offset: 0, bit_size: 0, bitfield: false };
        for step in path.split('.') {
            let (name, indexes) = step.split_at(step.find('[').unwrap_or(step.len()));
            let body = self.composite(field.ty)?.ok_or_else(no)?;
            let mut budget = MAX_WALK;
            let inner = self.member_within(&body, name, MAX_DEPTH, &mut budget)?.ok_or_else(no)?;
            field = Field { bit_offset: field.bit_offset.saturating_add(inner.bit_offset), ..inner };
            for index in indexes.split_terminator(']') {
                let index: u64 = index.strip_prefix('[').and_then(|i| i.parse().ok()).ok_or_else(no)?;
                let Def::Array(array) = self.resolve(field.ty)?.def else { return Err(no()) };
                // A flexible array has no length to check against.
                if array.len != 0 && index >= u64::from(array.len) {
                    return Err(no());
                }
                let bits = self.size_of(array.element)?.saturating_mul(8);
                let bit_offset = field.bit_offset.saturating_add(index.saturating_mul(bits));
                field = Field { ty: array.element, bit_offset, bit_size: bits, bitfield: false };
            }
        }
        Ok(field)
    }

    /// The innermost member that holds the byte at `offset`, and its path: `a.b[2].c`.
    ///
    /// # Errors
    /// [`Error::NoMember`] when there is padding or nothing, or what is damaged on the way.
    pub fn member_at(&self, id: TypeId, offset: u64) -> Result<(String, Field), Error> {
        let no = || Error::NoMember { id, path: format!("at byte {offset}") };
        let wanted = offset.checked_mul(8).ok_or_else(no)?;
        let mut path = String::new();
        let mut field = Field { ty: id, bit_offset: 0, bit_size: 0, bitfield: false };
        for _ in 0..MAX_DEPTH {
            let bit = wanted.saturating_sub(field.bit_offset);
            let (step, inner) = match self.resolve(field.ty)?.def {
                Def::Struct(body) | Def::Union(body) => {
                    let (name, inner) = self.member_over(&body, bit)?.ok_or_else(no)?;
                    let dot = if path.is_empty() || name.is_empty() { "" } else { "." };
                    (format!("{dot}{name}"), inner)
                }
                Def::Array(array) => {
                    let each = self.size_of(array.element)?.saturating_mul(8);
                    let index = bit.checked_div(each).ok_or_else(no)?;
                    let bit_offset = index.saturating_mul(each);
                    (format!("[{index}]"), Field { ty: array.element, bit_offset, bit_size: each, bitfield: false })
                }
                _ if path.is_empty() => return Err(no()),
                _ => return Ok((path, field)),
            };
            path.push_str(&step);
            field = Field { bit_offset: field.bit_offset.saturating_add(inner.bit_offset), ..inner };
        }
        Err(Error::TooDeep(id))
    }

    /// The first member that holds this bit, or else the flexible array at the end.
    fn member_over<'a>(&self, body: &Composite<'a>, bit: u64) -> Result<Option<(&'a str, Field)>, Error> {
        let mut flexible = None;
        for member in body.members() {
            let member = member?;
            let field = self.field(&member)?;
            let inside = bit.checked_sub(field.bit_offset);
            if inside.is_some_and(|inside| inside < field.bit_size) {
                return Ok(Some((member.name, field)));
            }
            flexible = inside.filter(|_| field.bit_size == 0).map(|_| (member.name, field));
        }
        Ok(flexible)
    }

    fn field(&self, member: &Member<'_>) -> Result<Field, Error> {
        let (bit_offset, bit_size, bitfield) = match self.bitfield(member) {
            Some((offset, bits)) => (offset, bits, true),
            None => (u64::from(member.bit_offset), self.size_of(member.ty)?.saturating_mul(8), false),
        };
        Ok(Field { ty: member.ty, bit_offset, bit_size, bitfield })
    }

    /// First bit and width of a bit-field; `None`: the member is none.
    ///
    /// Compilers before Linux 5.0 gave each bit-field an integer type of its own with the place inside it.
    pub fn bitfield(&self, member: &Member<'_>) -> Option<(u64, u64)> {
        if member.bit_size != 0 {
            return Some((u64::from(member.bit_offset), u64::from(member.bit_size)));
        }
        match self.resolve(member.ty).ok()?.def {
            Def::Int(int) if int.offset != 0 || u32::from(int.bits) != int.size.saturating_mul(8) => {
                Some((u64::from(member.bit_offset).saturating_add(u64::from(int.offset)), u64::from(int.bits)))
            }
            _ => None,
        }
    }

    fn composite(&self, id: TypeId) -> Result<Option<Composite<'_>>, Error> {
        Ok(match self.resolve(id)?.def {
            Def::Struct(body) | Def::Union(body) => Some(body),
            _ => None,
        })
    }

    fn member_within(
        &self,
        body: &Composite<'_>,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Result<Option<Field>, Error> {
        for member in body.members() {
            let member = member?;
            *budget = budget.checked_sub(1).ok_or(Error::TooDeep(member.ty))?;
            if member.name.is_empty() {
                let depth = depth.checked_sub(1).ok_or(Error::TooDeep(member.ty))?;
                let Some(inner) = self.composite(member.ty)? else { continue };
                if let Some(found) = self.member_within(&inner, name, depth, budget)? {
                    let bit_offset = found.bit_offset.saturating_add(u64::from(member.bit_offset));
                    return Ok(Some(Field { bit_offset, ..found }));
                }
            } else if member.name == name {
                return Ok(Some(self.field(&member)?));
            }
        }
        Ok(None)
    }
}

/// Largest size of a type, as the kernel and libbpf have it (btf__resolve_size).
const MAX_SIZE: u64 = u32::MAX as u64;
/// Most types that one question may walk over: a few nested structs can unfold into billions of members.
const MAX_WALK: u32 = 1 << 20;
