//! Structs, unions and enums.

use super::layout::{self, Field, Shape};
use super::lex::Token;
use super::{Attributes, CError, Parser, Tag, Ty};
use crate::types::Kind;
use crate::{Enumerator, New};

impl Parser<'_> {
    /// Behind `struct`, `union` or `enum`.
    pub(super) fn tagged(&mut self, tag: Tag, depth: u32) -> Result<Ty, CError> {
        let before = self.attributes()?;
        let named = self.tokens.peek().cloned();
        let name = match self.tokens.peek().map(|token| &token.token) {
            Some(Token::Word(name)) => {
                self.tokens.next();
                name.clone()
            }
            _ => String::new(),
        };
        let before = before.and(self.attributes()?);
        // C23: `enum e : u8`. A bit-field of an enum has its colon behind a name.
        let under = if tag == Tag::Enum && self.tokens.peek().is_some_and(|token| token.is(":")) {
            self.tokens.next();
            Some(self.specifiers(depth)?.0)
        } else {
            None
        };
        if !self.tokens.take("{") {
            return if name.is_empty() {
                Err(self.tokens.error("`{` is missing"))
            } else {
                Ok(self.by_tag(tag, &name))
            };
        }
        let known = self.tags.get(&(tag, name.clone())).is_some_and(|ty| ty.shape.is_some());
        if let Some(named) = named.filter(|_| known) {
            return Err(named.error(format!("`{name}` is defined a second time")));
        }
        let ty = match tag {
            Tag::Enum => {
                let values = self.enumerators()?;
                let after = self.attributes()?;
                self.enumeration(&name, &values, under, before.and(after))
            }
            Tag::Struct | Tag::Union => {
                let fields = self.members(depth)?;
                let attributes = before.and(self.attributes()?);
                let laid = layout::lay(&fields, tag == Tag::Union, attributes.packed, attributes.align);
                let Some((shape, members)) = laid else {
                    return Err(self.tokens.error("the type is too large"));
                };
                let Ok(size) = u32::try_from(shape.size) else {
                    return Err(self.tokens.error("the type is too large"));
                };
                let new = match tag {
                    Tag::Union => New::Union { size, members: &members },
                    Tag::Struct | Tag::Enum => New::Struct { size, members: &members },
                };
                self.define(tag, &name, shape, new)
            }
        };
        if !name.is_empty() {
            self.tags.insert((tag, name), ty);
        }
        Ok(ty)
    }

    /// Adds what a tag stands for, in the place of its declaration if there was one.
    fn define(&mut self, tag: Tag, name: &str, shape: Shape, new: New<'_>) -> Ty {
        let declared = self.tags.get(&(tag, name.to_owned())).filter(|ty| ty.shape.is_none()).map(|ty| ty.id);
        let id = match declared {
            Some(id) if self.builder.replace(id, name, new).is_ok() => id,
            _ => self.builder.add(name, new),
        };
        self.completed.insert(id, shape);
        Ty { id, shape: Some(shape), whole: tag == Tag::Enum, declared }
    }

    /// A type of this name, known or not.
    fn by_tag(&mut self, tag: Tag, name: &str) -> Ty {
        if let Some(ty) = self.tags.get(&(tag, name.to_owned())) {
            return *ty;
        }
        let kinds: &[Kind] = match tag {
            Tag::Struct => &[Kind::Struct],
            Tag::Union => &[Kind::Union],
            Tag::Enum => &[Kind::Enum, Kind::Enum64],
        };
        if let Some(id) = self.base.and_then(|base| kinds.iter().find_map(|kind| base.find(name, *kind))) {
            return self.of_base(id);
        }
        let id = self.builder.add(name, New::Fwd { is_union: tag == Tag::Union });
        let ty = Ty { id, shape: None, whole: tag == Tag::Enum, declared: Some(id) };
        self.tags.insert((tag, name.to_owned()), ty);
        ty
    }

    fn enumerators(&mut self) -> Result<Vec<(String, i128)>, CError> {
        let mut values = Vec::new();
        let mut next = 0_i128;
        while !self.tokens.take("}") {
            let name = self.name()?;
            self.attributes()?;
            if self.tokens.take("=") {
                next = self.constant()?;
            }
            self.constants.insert(name.clone(), next);
            values.push((name, next));
            next = next.saturating_add(1);
            if !self.tokens.take(",") && !self.tokens.peek().is_some_and(|token| token.is("}")) {
                return Err(self.tokens.error("`,` or `}` is missing"));
            }
        }
        Ok(values)
    }

    fn enumeration(&mut self, name: &str, values: &[(String, i128)], under: Option<Ty>, attributes: Attributes) -> Ty {
        let least = values.iter().map(|(_, value)| *value).min().unwrap_or(0);
        let most = values.iter().map(|(_, value)| *value).max().unwrap_or(0);
        let signed = least < 0;
        let fits = |bytes: u32| {
            let bits = bytes.saturating_mul(8);
            let half = 1_i128.checked_shl(bits.saturating_sub(1)).unwrap_or(i128::MAX);
            let top = if signed { half } else { half.saturating_mul(2) };
            most < top && least >= half.saturating_neg()
        };
        let own = if attributes.packed {
            [1, 2, 4].into_iter().find(|bytes| fits(*bytes))
        } else {
            Some(4).filter(|_| fits(4))
        };
        let given = under.and_then(|ty| ty.shape).and_then(|shape| u32::try_from(shape.size).ok());
        let size = attributes.size.or(given).or(own).unwrap_or(8);
        let values: Vec<_> = values
            .iter()
            // The low 64 bits, which is how BTF keeps either sign.
            .map(|(name, value)| Enumerator { name, value: (*value & i128::from(u64::MAX)) as u64 as i64 })
            .collect();
        let new = match size {
            8 => New::Enum64 { size, signed, values: &values },
            _ => New::Enum { size, signed, values: &values },
        };
        self.define(Tag::Enum, name, Shape { size: size.into(), align: size }, new)
    }

    fn members(&mut self, depth: u32) -> Result<Vec<Field>, CError> {
        let mut fields = Vec::new();
        while !self.tokens.take("}") {
            if self.tokens.take(";") {
                continue;
            }
            if self.tokens.peek().is_some_and(|token| token.is("_Static_assert") || token.is("static_assert")) {
                self.skip();
                continue;
            }
            let (ty, outer) = self.specifiers(depth)?;
            if self.tokens.take(";") {
                // `struct { .. };` is a member without a name, `struct x { .. };` and `enum {..};` are none.
                fields.push(Field {
                    name: String::new(),
                    ty: ty.id,
                    shape: self.complete(ty)?,
                    bits: None,
                    packed: outer.packed,
                    align: outer.align,
                });
                continue;
            }
            loop {
                let place = self.tokens.error("a width of bits");
                let (name, ty) = match self.tokens.peek() {
                    Some(token) if token.is(":") => (None, ty),
                    _ => self.declarator(ty, depth)?,
                };
                let bits = if self.tokens.take(":") { Some(self.constant()?) } else { None };
                let attributes = outer.and(self.attributes()?);
                let shape = self.complete(ty)?;
                let bits = match bits.map(u8::try_from) {
                    None => None,
                    Some(Ok(bits)) if ty.whole && u64::from(bits) <= shape.size.saturating_mul(8) => Some(bits),
                    Some(_) => {
                        return Err(CError { what: "a bit-field that its type cannot have".to_owned(), ..place });
                    }
                };
                if name.is_none() && bits.is_none() {
                    return Err(self.tokens.error("the name of a member is missing"));
                }
                fields.push(Field {
                    name: name.unwrap_or_default(),
                    ty: ty.id,
                    shape,
                    bits,
                    packed: attributes.packed,
                    align: attributes.align,
                });
                if self.tokens.take(";") {
                    break;
                }
                if !self.tokens.take(",") {
                    return Err(self.tokens.error("`;` is missing"));
                }
            }
        }
        Ok(fields)
    }

    pub(super) fn complete(&self, ty: Ty) -> Result<Shape, CError> {
        let later = || self.completed.get(&ty.declared?).copied();
        ty.shape.or_else(later).ok_or_else(|| self.tokens.error("a type that is only declared, or void, has no size"))
    }
}
