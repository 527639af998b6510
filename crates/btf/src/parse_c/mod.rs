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
mod tags;
mod words;

use std::collections::HashMap;

use crate::types::{Def, Kind, TypeId};
use crate::{Array, Btf, Builder, Error, Int, New};
use expr::Tokens;
use layout::Shape;
use lex::{Placed, Token};
use words::{ALIASES, MODES, QUALIFIERS, Words};

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
