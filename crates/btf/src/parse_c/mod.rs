//! C declarations as types: structs, unions, enums and typedefs as headers declare them.
//!
//! What a BPF program and its user space share is plain C: integers, arrays, nested structs and unions, bit-fields,
//! `packed` and `aligned`. Macros without arguments and `#if` are followed; files that a text includes are not read,
//! their usual names (`u32`, `__be16`, `uint64_t`, `pid_t`, ..) are known here. Functions and variables are passed
//! over. Layouts are those of the 64-bit machines that Linux runs BPF on (System V psABI for x86-64 and AArch64,
//! which agree on all of this but the width of `long double`).

mod expr;
mod layout;
mod lex;

use std::collections::HashMap;

use crate::types::{Def, Kind, TypeId};
use crate::{Array, Btf, Builder, Enumerator, Error, Int, New};
use expr::Tokens;
use layout::{Field, Shape};
use lex::{Placed, Token};

/// The longest text.
const MAX_TEXT: usize = 16 << 20;
/// Types within each other.
const MAX_DEPTH: u32 = 32;

/// What is wrong with a C text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct CError {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
}

impl Btf {
    /// The type that C text names or defines: `struct { u32 pid; char comm[16]; }`, `__u64`, `struct event[4]`.
    /// Types of `base` may be used by name.
    ///
    /// The result is split BTF on top of `base`.
    ///
    /// # Errors
    /// The place in the text that is not understood.
    pub fn parse_c_type(text: &str, base: Option<&Btf>) -> Result<(Btf, TypeId), CError> {
        let tokens = read(text)?;
        let mut parser = Parser::new(&tokens, base);
        let (ty, _) = parser.specifiers(MAX_DEPTH)?;
        let (_, ty) = parser.declarator(ty, MAX_DEPTH)?;
        parser.tokens.take(";");
        if parser.tokens.peek().is_some() {
            return Err(parser.tokens.error("the type ends before"));
        }
        parser.complete(ty)?;
        let built = parser.builder.build().map_err(|error| damaged(&error))?;
        Ok((built, ty.id))
    }

    /// All types that C text defines, on top of `base`, and what in it was not understood: such a declaration is
    /// passed over, with those that need it.
    ///
    /// # Errors
    /// The text is no C at all, or too long.
    pub fn parse_c(text: &str, base: Option<&Btf>) -> Result<(Btf, Vec<CError>), CError> {
        let tokens = read(text)?;
        let mut parser = Parser::new(&tokens, base);
        let mut errors = Vec::new();
        while parser.tokens.peek().is_some() {
            if let Err(error) = parser.declaration() {
                errors.push(error);
            }
        }
        let built = parser.builder.build().map_err(|error| damaged(&error))?;
        Ok((built, errors))
    }
}

fn read(text: &str) -> Result<Vec<Placed>, CError> {
    if text.len() > MAX_TEXT {
        let what = format!("the text is longer than {MAX_TEXT} bytes");
        return Err(CError { line: 1, column: 1, what });
    }
    lex::tokens(text)
}

fn damaged(error: &Error) -> CError {
    CError { line: 1, column: 1, what: error.to_string() }
}

/// A type, with its shape where it is complete.
#[derive(Clone, Copy, Debug)]
struct Ty {
    id: TypeId,
    shape: Option<Shape>,
    /// An integer or enum: what a bit-field can be of.
    whole: bool,
    /// The declaration that it waits for, or waited for.
    declared: Option<TypeId>,
}

impl Ty {
    /// Without a size.
    const VOID: Ty = Ty { id: TypeId(0), shape: None, whole: false, declared: None };
}

/// Names that headers give to integers: what they are, and behind which other name.
const ALIASES: &[(&str, &str)] = &[
    ("u8", "unsigned char"),
    ("u16", "unsigned short"),
    ("u32", "unsigned int"),
    ("u64", "unsigned long long"),
    ("s8", "signed char"),
    ("s16", "short"),
    ("s32", "int"),
    ("s64", "long long"),
    ("__u8", "unsigned char"),
    ("__u16", "unsigned short"),
    ("__u32", "unsigned int"),
    ("__u64", "unsigned long long"),
    ("__s8", "signed char"),
    ("__s16", "short"),
    ("__s32", "int"),
    ("__s64", "long long"),
    ("uint8_t", "unsigned char"),
    ("uint16_t", "unsigned short"),
    ("uint32_t", "unsigned int"),
    ("uint64_t", "unsigned long"),
    ("int8_t", "signed char"),
    ("int16_t", "short"),
    ("int32_t", "int"),
    ("int64_t", "long"),
    ("uintptr_t", "unsigned long"),
    ("intptr_t", "long"),
    ("u_char", "unsigned char"),
    ("u_short", "unsigned short"),
    ("u_int", "unsigned int"),
    ("u_long", "unsigned long"),
    ("uint", "unsigned int"),
    ("ulong", "unsigned long"),
    ("__le16", "__u16"),
    ("__le32", "__u32"),
    ("__le64", "__u64"),
    ("__be16", "__u16"),
    ("__be32", "__u32"),
    ("__be64", "__u64"),
    ("__sum16", "__u16"),
    ("__wsum", "__u32"),
    ("bool", "_Bool"),
    ("size_t", "unsigned long"),
    ("ssize_t", "long"),
    ("off_t", "long"),
    ("loff_t", "long long"),
    ("pid_t", "int"),
    ("uid_t", "unsigned int"),
    ("gid_t", "unsigned int"),
    ("dev_t", "unsigned int"),
    ("ino_t", "unsigned long"),
    ("umode_t", "unsigned short"),
    ("mode_t", "unsigned int"),
    ("time_t", "long"),
    ("ktime_t", "long long"),
    ("sector_t", "unsigned long long"),
    ("sa_family_t", "unsigned short"),
    ("in_addr_t", "__be32"),
    ("in_port_t", "__be16"),
];

/// Words between a type and its name that say nothing about the layout.
const QUALIFIERS: &[&str] = &[
    "const",
    "volatile",
    "restrict",
    "__restrict",
    "__restrict__",
    "__const",
    "__volatile__",
    "register",
    "extern",
    "static",
    "inline",
    "__inline",
    "__inline__",
    "__extension__",
    "auto",
    "_Atomic",
    "__weak",
    "__hidden",
    "__always_inline",
    "__kptr",
    "__kptr_untrusted",
    "__percpu_kptr",
    "__user",
    "__rcu",
    "__percpu",
    "__arena",
    "__ksym",
    "__kconfig",
];

/// What `mode` calls sizes.
const MODES: &[(&str, u32)] = &[("byte", 1), ("QI", 1), ("HI", 2), ("SI", 4), ("word", 8), ("DI", 8)];

/// What an attribute changes.
#[derive(Clone, Copy, Default, Debug)]
struct Attributes {
    packed: bool,
    align: Option<u32>,
    /// Bytes of an enum.
    size: Option<u32>,
}

impl Attributes {
    fn and(self, other: Attributes) -> Attributes {
        Attributes {
            packed: self.packed || other.packed,
            align: self.align.max(other.align),
            size: self.size.or(other.size),
        }
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    base: Option<&'a Btf>,
    builder: Builder,
    /// Structs, unions and enums of the text, complete or not.
    tags: HashMap<(Tag, String), Ty>,
    typedefs: HashMap<String, Ty>,
    integers: HashMap<&'static str, Ty>,
    /// Values of enums.
    constants: HashMap<String, i128>,
    /// Shapes of what was defined behind its declaration.
    completed: HashMap<TypeId, Shape>,
    /// Pointers by what they point at.
    pointers: HashMap<TypeId, TypeId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Tag {
    Struct,
    Union,
    Enum,
}

impl<'a> Parser<'a> {
    fn new(tokens: &'a [Placed], base: Option<&'a Btf>) -> Parser<'a> {
        Parser {
            tokens: Tokens::new(tokens),
            base,
            builder: base.map_or_else(Builder::new, Builder::split),
            tags: HashMap::new(),
            typedefs: HashMap::new(),
            integers: HashMap::new(),
            constants: HashMap::new(),
            completed: HashMap::new(),
            pointers: HashMap::new(),
        }
    }

    /// One declaration of a file; an error is behind it.
    fn declaration(&mut self) -> Result<(), CError> {
        if self.tokens.take(";") {
            return Ok(());
        }
        let start = self.tokens.place();
        let starts = |word: &str| self.tokens.peek().is_some_and(|token| token.is(word));
        let typedef = starts("typedef");
        let defines = ["struct", "union", "enum"].iter().any(|word| starts(word));
        if !typedef && !defines {
            self.skip();
            return Ok(());
        }
        self.tokens.take("typedef");
        let result = self.types(typedef);
        if result.is_err() {
            // From its start, so that what is within it is no declaration of its own.
            self.tokens.back_to(start);
            self.skip();
        }
        result
    }

    fn types(&mut self, typedef: bool) -> Result<(), CError> {
        let (ty, _) = self.specifiers(MAX_DEPTH)?;
        if !typedef {
            // A variable or a function of this type, or nothing.
            self.skip();
            return Ok(());
        }
        while !self.tokens.take(";") {
            let (name, mut ty) = self.declarator(ty, MAX_DEPTH)?;
            let attributes = self.attributes()?;
            if let (Some(align), Some(shape)) = (attributes.align, &mut ty.shape) {
                shape.align = align;
            }
            let Some(name) = name else { return Err(self.tokens.error("the name of the typedef is missing")) };
            let id = self.builder.add(&name, New::Typedef(ty.id));
            self.typedefs.insert(name, Ty { id, ..ty });
            if !self.tokens.take(",") && !self.tokens.peek().is_some_and(|token| token.is(";")) {
                return Err(self.tokens.error("`;` is missing"));
            }
        }
        Ok(())
    }

    /// Goes behind the declaration: its `;`, or the body of its function.
    fn skip(&mut self) {
        while let Some(token) = self.tokens.next() {
            if token.is(";") {
                return;
            }
            if token.is("(") || token.is("[") {
                self.tokens.close();
            }
            if token.is("{") {
                self.tokens.close();
                // `int a[] = { .. };`, `struct { .. } name;` go on; the body of a function ends it.
                let goes_on = |token: &Placed| {
                    token.is(";") || token.is(",") || token.is("__attribute__") || matches!(token.token, Token::Word(_))
                };
                let typed = ["static", "struct", "union", "enum", "typedef", "extern", "const", "inline"];
                match self.tokens.peek() {
                    Some(next) if goes_on(next) && !typed.iter().any(|word| next.is(word)) => {}
                    _ => return,
                }
            }
        }
    }

    /// `const struct x { .. } __attribute__((packed))`, all before the name.
    fn specifiers(&mut self, depth: u32) -> Result<(Ty, Attributes), CError> {
        let Some(depth) = depth.checked_sub(1) else { return Err(self.tokens.error("types are nested too deep")) };
        let mut attributes = Attributes::default();
        let mut words = Words::default();
        let mut found: Option<Ty> = None;
        loop {
            attributes = attributes.and(self.attributes()?);
            let Some(token) = self.tokens.peek() else { break };
            let Token::Word(word) = &token.token else { break };
            if QUALIFIERS.contains(&word.as_str()) {
                self.tokens.next();
                continue;
            }
            let tag = match word.as_str() {
                "struct" => Some(Tag::Struct),
                "union" => Some(Tag::Union),
                "enum" => Some(Tag::Enum),
                _ => None,
            };
            if found.is_none() && words.is_empty() {
                if let Some(tag) = tag {
                    self.tokens.next();
                    found = Some(self.tagged(tag, depth)?);
                    continue;
                }
                if word == "typeof" || word == "__typeof__" {
                    return Err(token.error("the type of an expression is not known here"));
                }
            }
            if found.is_none() && words.add(word) {
                self.tokens.next();
                continue;
            }
            if found.is_some() || !words.is_empty() {
                break;
            }
            found = Some(self.named(token, word)?);
            self.tokens.next();
        }
        match (found, words.is_empty()) {
            (Some(ty), _) => Ok((ty, attributes)),
            (None, false) => match words.name() {
                Some("void") => Ok((Ty::VOID, attributes)),
                Some(name) => Ok((self.integer(name), attributes)),
                None => Err(self.tokens.error("no such integer type")),
            },
            (None, true) => Err(self.tokens.error("a type is missing")),
        }
    }

    /// A typedef of the text, of the base, or of the usual headers.
    fn named(&mut self, token: &Placed, name: &str) -> Result<Ty, CError> {
        if let Some(ty) = self.typedefs.get(name) {
            return Ok(*ty);
        }
        if let Some(id) = self.base.and_then(|base| base.find(name, Kind::Typedef)) {
            return Ok(self.of_base(id));
        }
        let Some((known, to)) = ALIASES.iter().find(|(known, _)| *known == name) else {
            let hint = match self.base {
                Some(base) if base.find(name, Kind::Struct).is_some() => format!("; there is `struct {name}`"),
                _ => "; files that the text includes are not read".to_owned(),
            };
            return Err(token.error(format!("no type `{name}` is known{hint}")));
        };
        let to = if ALIASES.iter().any(|(known, _)| known == to) { self.named(token, to)? } else { self.integer(to) };
        let id = self.builder.add(known, New::Typedef(to.id));
        let ty = Ty { id, ..to };
        self.typedefs.insert(name.to_owned(), ty);
        Ok(ty)
    }

    fn of_base(&self, id: TypeId) -> Ty {
        let shape = self.base.and_then(|base| {
            let size = base.size_of(id).ok()?;
            Some(Shape { size, align: u32::try_from(base.align_of(id).ok()?).ok()? })
        });
        let whole = self
            .base
            .and_then(|base| base.resolve(id).ok())
            .is_some_and(|ty| matches!(ty.def, Def::Int(_) | Def::Enum(_)));
        Ty { id, shape, whole, declared: None }
    }

    fn integer(&mut self, name: &'static str) -> Ty {
        if let Some(ty) = self.integers.get(name) {
            return *ty;
        }
        let size = match name {
            "_Bool" | "char" | "signed char" | "unsigned char" => 1_u32,
            "short" | "unsigned short" => 2,
            "int" | "unsigned int" | "float" => 4,
            "__int128" | "unsigned __int128" | "long double" => 16,
            _ => 8,
        };
        let real = matches!(name, "float" | "double" | "long double");
        let int = Int {
            size,
            bits: u8::try_from(size.saturating_mul(8)).unwrap_or(u8::MAX),
            offset: 0,
            signed: !name.starts_with("unsigned") && name != "_Bool",
            char: name == "char",
            bool: name == "_Bool",
        };
        let id = self.builder.add(name, if real { New::Float { size } } else { New::Int(int) });
        let ty = Ty { id, shape: Some(Shape { size: size.into(), align: size }), whole: !real, declared: None };
        self.integers.insert(name, ty);
        ty
    }

    /// Behind `struct`, `union` or `enum`.
    fn tagged(&mut self, tag: Tag, depth: u32) -> Result<Ty, CError> {
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

    fn complete(&self, ty: Ty) -> Result<Shape, CError> {
        let later = || self.completed.get(&ty.declared?).copied();
        ty.shape.or_else(later).ok_or_else(|| self.tokens.error("a type that is only declared, or void, has no size"))
    }

    /// `*name[4]`, `(*name)(int)`; the name may be missing.
    fn declarator(&mut self, ty: Ty, depth: u32) -> Result<(Option<String>, Ty), CError> {
        let Some(depth) = depth.checked_sub(1) else { return Err(self.tokens.error("types are nested too deep")) };
        let mut ty = ty;
        loop {
            self.attributes()?;
            if self.tokens.take("*") {
                ty = self.pointer(ty.id);
            } else if self.tokens.peek().is_some_and(|token| QUALIFIERS.iter().any(|word| token.is(word))) {
                self.tokens.next();
            } else {
                break;
            }
        }
        if self.tokens.take("(") {
            // `(*name)(..)` is a pointer to a function, `(*name)[4]` one to an array: an address either way.
            let outer = ty;
            let (name, inner) = self.declarator(outer, depth)?;
            self.tokens.expect(")")?;
            let mut behind = false;
            while self.tokens.take("(") || self.tokens.take("[") {
                self.tokens.close();
                behind = true;
            }
            if behind && inner.id == outer.id {
                return Err(self.tokens.error("a declaration in brackets is not understood here"));
            }
            return Ok((name, inner));
        }
        let name = match self.tokens.peek().map(|token| &token.token) {
            Some(Token::Word(word)) if word != "__attribute__" => {
                self.tokens.next();
                Some(word.clone())
            }
            _ => None,
        };
        if self.tokens.take("(") {
            self.tokens.close();
            return Ok((name, Ty::VOID));
        }
        let mut lengths = Vec::new();
        while self.tokens.take("[") {
            let length = if self.tokens.take("]") {
                0
            } else {
                let length = self.constant()?;
                self.tokens.expect("]")?;
                u32::try_from(length).map_err(|_| self.tokens.error("an array cannot be as long"))?
            };
            lengths.push(length);
        }
        for len in lengths.into_iter().rev() {
            let shape = self.complete(ty)?;
            let size = shape.size.checked_mul(len.into()).filter(|size| *size <= u64::from(u32::MAX));
            let size = size.ok_or_else(|| self.tokens.error("an array cannot be as long"))?;
            let index = self.integer("unsigned int").id;
            let id = self.builder.add("", New::Array(Array { element: ty.id, index, len }));
            ty = Ty { id, shape: Some(Shape { size, align: shape.align }), whole: false, declared: None };
        }
        Ok((name, ty))
    }

    fn pointer(&mut self, to: TypeId) -> Ty {
        let builder = &mut self.builder;
        let id = *self.pointers.entry(to).or_insert_with(|| builder.add("", New::Ptr(to)));
        Ty { id, shape: Some(Shape { size: 8, align: 8 }), whole: false, declared: None }
    }

    fn name(&mut self) -> Result<String, CError> {
        match self.tokens.peek().map(|token| &token.token) {
            Some(Token::Word(word)) => {
                self.tokens.next();
                Ok(word.clone())
            }
            _ => Err(self.tokens.error("a name is missing")),
        }
    }

    fn constant(&mut self) -> Result<i128, CError> {
        expr::evaluate(self)
    }

    /// Attributes, of which `packed` and `aligned` count.
    fn attributes(&mut self) -> Result<Attributes, CError> {
        let mut found = Attributes::default();
        loop {
            if self.tokens.take("__attribute__") || self.tokens.take("__attribute") {
                self.tokens.expect("(")?;
                self.tokens.expect("(")?;
                loop {
                    if self.tokens.take("packed") || self.tokens.take("__packed__") {
                        found.packed = true;
                    } else if self.tokens.take("aligned") || self.tokens.take("__aligned__") {
                        let align = if self.tokens.take("(") { self.alignment()? } else { 16 };
                        found.align = found.align.max(Some(align));
                    } else if self.tokens.take("mode") || self.tokens.take("__mode__") {
                        self.tokens.expect("(")?;
                        let mode = self.name()?;
                        let known = MODES.iter().find(|(known, _)| *known == mode.trim_matches('_'));
                        found.size = known.map(|(_, bytes)| *bytes);
                        self.tokens.expect(")")?;
                    } else if self.tokens.take("(") {
                        self.tokens.close();
                    } else if self.tokens.take(")") {
                        break;
                    } else if self.tokens.next().is_none() {
                        return Err(self.tokens.error("`)` is missing"));
                    }
                }
                self.tokens.expect(")")?;
            } else if self.tokens.take("__packed") {
                found.packed = true;
            } else if ["__aligned", "_Alignas", "alignas"].iter().any(|word| self.tokens.take(word)) {
                self.tokens.expect("(")?;
                let align = self.alignment()?;
                found.align = found.align.max(Some(align));
            } else {
                return Ok(found);
            }
        }
    }

    /// Behind `aligned(`.
    fn alignment(&mut self) -> Result<u32, CError> {
        let value = self.constant()?;
        self.tokens.expect(")")?;
        let value = u32::try_from(value).ok().filter(|value| value.is_power_of_two() && *value <= 4096);
        value.ok_or_else(|| self.tokens.error("no such alignment"))
    }
}

impl<'a> expr::Source<'a> for Parser<'a> {
    fn tokens(&mut self) -> &mut Tokens<'a> {
        &mut self.tokens
    }

    /// An enumerator, or `sizeof(type)`.
    fn word(&mut self, depth: u32) -> Result<Option<i128>, CError> {
        let Some(Placed { token: Token::Word(word), .. }) = self.tokens.peek() else { return Ok(None) };
        if let Some(value) = self.constants.get(word) {
            self.tokens.next();
            return Ok(Some(*value));
        }
        if word != "sizeof" || !self.tokens.after(1).is_some_and(|token| token.is("(")) {
            return Ok(None);
        }
        self.tokens.next();
        self.tokens.next();
        let (ty, _) = self.specifiers(depth.min(MAX_DEPTH))?;
        let (_, ty) = self.declarator(ty, depth.min(MAX_DEPTH))?;
        self.tokens.expect(")")?;
        Ok(Some(self.complete(ty)?.size.into()))
    }
}

/// The words of an integer type, in any order.
#[derive(Default)]
struct Words {
    base: Option<&'static str>,
    long: u32,
    short: bool,
    signed: bool,
    unsigned: bool,
}

impl Words {
    fn is_empty(&self) -> bool {
        self.base.is_none() && self.long == 0 && !self.short && !self.signed && !self.unsigned
    }

    /// Whether the word is one of them.
    fn add(&mut self, word: &str) -> bool {
        match word {
            "long" => self.long = self.long.saturating_add(1),
            "short" => self.short = true,
            "signed" | "__signed__" | "__signed" => self.signed = true,
            "unsigned" => self.unsigned = true,
            "int" => self.base = self.base.or(Some("int")),
            "char" => self.base = Some("char"),
            "_Bool" => self.base = Some("_Bool"),
            "float" => self.base = Some("float"),
            "double" => self.base = Some("double"),
            "void" => self.base = Some("void"),
            "__int128" | "__int128_t" => self.base = Some("__int128"),
            "__uint128_t" => (self.base, self.unsigned) = (Some("__int128"), true),
            _ => return false,
        }
        true
    }

    fn name(&self) -> Option<&'static str> {
        Some(match (self.base.unwrap_or("int"), self.short, self.long, self.unsigned) {
            ("int", true, 0, false) => "short",
            ("int", true, 0, true) => "unsigned short",
            ("int", false, 0, false) => "int",
            ("int", false, 0, true) => "unsigned int",
            ("int", false, 1, false) => "long",
            ("int", false, 1, true) => "unsigned long",
            ("int", false, 2, false) => "long long",
            ("int", false, 2, true) => "unsigned long long",
            ("char", false, 0, true) => "unsigned char",
            ("char", false, 0, false) if self.signed => "signed char",
            ("double", false, 1, false) => "long double",
            ("__int128", false, 0, true) => "unsigned __int128",
            (plain, false, 0, false) => plain,
            _ => return None,
        })
    }
}
