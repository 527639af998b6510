//! Types as C.
//!
//! BTF keeps sizes and offsets and not the attributes that led to them, so a definition gets `packed` and
//! padding where, and only where, a compiler would lay it out otherwise. Tags of types are left out.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::read::MAX_DEPTH;
use crate::types::{Composite, Def, Enum, Int, Member, Proto, Type, TypeId};
use crate::{Btf, Error};

/// Most work for one definition, and for all of a header: hostile types can unfold without end.
/// Each line, and each step from a type to the next, counts as its text and [`STEP`] more.
const MAX_DEFINITION: usize = 8 << 20;
const MAX_HEADER: usize = 128 << 20;
const STEP: usize = 32;
/// Longest name that the kernel knows (KSYM_NAME_LEN).
const MAX_NAME: usize = 512;

impl Btf {
    /// A declaration of something of this type: `int (*name)(struct sock *)`. Without a name, the type as in a cast.
    ///
    /// A function or variable declares itself when `name` is empty. What is damaged shows as a comment.
    pub fn c_declaration(&self, id: TypeId, name: &str) -> String {
        Writer::new(self).declare(id, name.to_owned(), 0, MAX_DEPTH)
    }

    /// The definition of a struct, union, enum or typedef, with its semicolon; of all else, a declaration.
    ///
    /// Named types that it needs are only named: [`Btf::c_header`] defines them too.
    pub fn c_definition(&self, id: TypeId) -> String {
        Writer::new(self).define(id)
    }
}

/// Renders types of one BTF.
pub(crate) struct Writer<'a> {
    pub(crate) btf: &'a Btf,
    /// Alignment that C gives to a struct or union, and whether it must be declared packed for that.
    layouts: HashMap<TypeId, (u64, bool)>,
    /// Work that may still be done, for this definition and for those after it.
    left: usize,
    after: usize,
    /// Members made up so far in this definition.
    pads: u32,
    /// Names that differ from those in BTF, because a header cannot use one twice.
    pub(crate) renamed: HashMap<TypeId, String>,
    /// How often each name of an enumerator or typedef was used; `None`: they need not differ.
    pub(crate) ordinary: Option<HashMap<String, u32>>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(btf: &'a Btf) -> Writer<'a> {
        Writer {
            btf,
            layouts: HashMap::new(),
            left: MAX_DEFINITION,
            after: MAX_HEADER,
            pads: 0,
            renamed: HashMap::new(),
            ordinary: None,
        }
    }

    pub(crate) fn define(&mut self, id: TypeId) -> String {
        let ty = match self.btf.get(id) {
            Ok(ty) => ty,
            Err(error) => return comment(&error),
        };
        self.pads = 0;
        let most = self.after.min(MAX_DEFINITION);
        self.left = most;
        let text = match ty.def {
            Def::Struct(_) | Def::Union(_) | Def::Enum(_) => self.body(&ty, 0, MAX_DEPTH),
            Def::Typedef(to) => {
                let name = self.name(&ty);
                format!("typedef {}", self.declare(to, name, 0, MAX_DEPTH))
            }
            _ => self.declare(id, String::new(), 0, MAX_DEPTH),
        };
        self.after = self.after.saturating_sub(most.saturating_sub(self.left));
        text + ";"
    }

    /// False once too much was done.
    fn may_write(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(bytes.saturating_add(STEP));
        self.left > 0
    }

    /// No compiler writes types so deep: what else is in this definition is as wrong.
    fn too_deep(&mut self, id: TypeId) -> String {
        self.left = 0;
        comment(&Error::TooDeep(id))
    }

    /// C's way round: what the declarator is, seen from the name outwards, and the base type before it.
    fn declare(&mut self, id: TypeId, declarator: String, indent: usize, depth: u32) -> String {
        let (mut at, mut declarator, mut qualifiers) = (id, declarator, String::new());
        for step in 0..depth {
            let ty = match self.btf.get(at) {
                Ok(ty) if self.may_write(declarator.len()) => ty,
                Ok(_) => return format!("/* and so on */ void{}", spaced(&declarator)),
                Err(error) => return format!("{} void{}", comment(&error), spaced(&declarator)),
            };
            let base = match ty.def {
                Def::Const(to) | Def::Volatile(to) | Def::Restrict(to) => {
                    let qualifier = match ty.def {
                        Def::Const(_) => "const ",
                        Def::Volatile(_) => "volatile ",
                        _ => "restrict ",
                    };
                    if !qualifiers.contains(qualifier) {
                        qualifiers += qualifier;
                    }
                    at = to;
                    continue;
                }
                Def::TypeTag(to) | Def::DeclTag { ty: to, .. } => {
                    at = to;
                    continue;
                }
                Def::Ptr(to) => {
                    declarator = format!("*{qualifiers}{declarator}").trim_end().to_owned();
                    if matches!(self.btf.strip_modifiers(to).map(|ty| ty.def), Ok(Def::Array(_) | Def::FuncProto(_))) {
                        declarator = format!("({declarator})");
                    }
                    qualifiers.clear();
                    at = to;
                    continue;
                }
                Def::Array(array) => {
                    let _ = write!(declarator, "[{}]", array.len);
                    at = array.element;
                    continue;
                }
                Def::FuncProto(proto) => {
                    declarator += &self.params(&proto, indent, depth.saturating_sub(step).saturating_sub(1));
                    qualifiers.clear();
                    at = proto.ret;
                    continue;
                }
                Def::Func { proto, .. } => {
                    declarator = if declarator.is_empty() { self.name(&ty) } else { declarator };
                    at = proto;
                    continue;
                }
                Def::Var { ty: to, .. } => {
                    declarator = if declarator.is_empty() { self.name(&ty) } else { declarator };
                    at = to;
                    continue;
                }
                Def::Void => "void".to_owned(),
                Def::Int(int) => int_name(ty.name, &int),
                Def::Float { size } => float_name(ty.name, size),
                Def::Typedef(_) => self.name(&ty),
                Def::Datasec(_) => format!("/* section {} */", ty.name.replace("*/", "* /")),
                Def::Fwd { is_union: true } => format!("union {}", self.name(&ty)),
                Def::Fwd { is_union: false } => format!("struct {}", self.name(&ty)),
                Def::Struct(_) | Def::Union(_) | Def::Enum(_) if ty.name.is_empty() => {
                    self.body(&ty, indent, depth.saturating_sub(step).saturating_sub(1))
                }
                Def::Struct(_) => format!("struct {}", self.name(&ty)),
                Def::Union(_) => format!("union {}", self.name(&ty)),
                Def::Enum(_) => format!("enum {}", self.name(&ty)),
            };
            return format!("{qualifiers}{base}{}", spaced(&declarator));
        }
        format!("{} void{}", self.too_deep(id), spaced(&declarator))
    }

    fn params(&mut self, proto: &Proto<'_>, indent: usize, depth: u32) -> String {
        let count = proto.params().len();
        if count == 0 {
            return "(void)".to_owned();
        }
        let mut texts = Vec::new();
        for (n, param) in proto.params().enumerate() {
            texts.push(match param {
                _ if !self.may_write(1) => "/* and so on */".to_owned(),
                Ok(param) if param.ty == TypeId::VOID && param.name.is_empty() && n.saturating_add(1) == count => {
                    "...".to_owned()
                }
                Ok(param) => self.declare(param.ty, identifier(param.name), indent, depth),
                Err(error) => comment(&error),
            });
            if self.left == 0 {
                break;
            }
        }
        format!("({})", texts.join(", "))
    }

    /// `struct name { ... }`, without a semicolon.
    fn body(&mut self, ty: &Type<'_>, indent: usize, depth: u32) -> String {
        let (word, inside, attribute) = match ty.def {
            Def::Struct(body) => ("struct", self.struct_members(ty.id, &body, indent, depth), String::new()),
            Def::Union(body) => ("union", self.union_members(ty.id, &body, indent, depth), String::new()),
            Def::Enum(body) => ("enum", self.enumerators(&body, indent), enum_mode(&body).to_owned()),
            _ => return String::new(),
        };
        let attribute = if self.layout(ty.id, depth).1 { " __attribute__((packed))".to_owned() } else { attribute };
        let name = if ty.name.is_empty() { String::new() } else { spaced(&self.name(ty)) };
        match ty.def {
            // Declared and not defined.
            Def::Enum(body) if body.values().len() == 0 && name.is_empty() => return "int".to_owned(),
            Def::Enum(body) if body.values().len() == 0 => return format!("enum{name}"),
            _ => {}
        }
        format!("{word}{name} {{\n{inside}{}}}{attribute}", "\t".repeat(indent))
    }

    fn enumerators(&mut self, body: &Enum<'_>, indent: usize) -> String {
        let mut text = String::new();
        for value in body.values() {
            let line = match value {
                Ok(value) => {
                    let name = identifier(value.name);
                    let used = self.ordinary.as_mut().map(|used| {
                        let count = used.entry(name.clone()).or_default();
                        *count = count.saturating_add(1);
                        *count
                    });
                    let suffix = used.filter(|n| *n > 1).map_or_else(String::new, |n| format!("___{n}"));
                    format!("{name}{suffix} = {},", enum_value(value.value, body))
                }
                Err(error) => comment(&error),
            };
            let _ = writeln!(text, "{}{line}", "\t".repeat(indent.saturating_add(1)));
            if !self.may_write(line.len()) {
                break;
            }
        }
        text
    }

    fn union_members(&mut self, id: TypeId, body: &Composite<'_>, indent: usize, depth: u32) -> String {
        let (align, packed) = self.layout(id, depth);
        let mut lines = Lines::new(indent);
        let mut end = 0;
        for member in body.members() {
            match member {
                Ok(member) => {
                    let place = Place::of(self.btf, &member);
                    end = end.max(place.size);
                    let line = self.member(&member, &place, indent, depth);
                    self.push(&mut lines, &line);
                }
                Err(error) => self.push(&mut lines, &comment(&error)),
            }
            if self.left == 0 {
                break;
            }
        }
        let natural = round_up(end, if packed { 8 } else { align.saturating_mul(8) });
        if natural < u64::from(body.size).saturating_mul(8) {
            self.pad(&mut lines, 0, u64::from(body.size).saturating_mul(8));
        }
        lines.text
    }

    fn struct_members(&mut self, id: TypeId, body: &Composite<'_>, indent: usize, depth: u32) -> String {
        let (align, packed) = self.layout(id, depth);
        let mut lines = Lines::new(indent);
        let mut members = Vec::new();
        for member in body.members() {
            match member {
                Ok(member) => members.push((Place::of(self.btf, &member), member)),
                Err(error) => self.push(&mut lines, &comment(&error)),
            }
        }
        // Rust lays fields out in another order than it lists them.
        members.sort_by_key(|(place, _)| place.offset);
        let mut at = 0u64;
        let last = members.len().saturating_sub(1);
        let size = u64::from(body.size).saturating_mul(8);
        let whole = if packed { 8 } else { align.saturating_mul(8) };
        for (n, (place, member)) in members.iter().enumerate() {
            let natural = match place.bitfield {
                Some(_) if packed => at,
                Some(unit) if at.checked_rem(unit).unwrap_or(0).saturating_add(place.size) > unit => round_up(at, unit),
                Some(_) => at,
                None if packed => round_up(at, 8),
                None => round_up(at, self.align(member.ty, depth).saturating_mul(8)),
            };
            if natural < place.offset {
                self.pad(&mut lines, at, place.offset);
            } else if natural > place.offset {
                self.push(&mut lines, &format!("/* the next one starts at bit {}, inside another */", place.offset));
            }
            at = at.max(place.offset.saturating_add(place.size));
            let full = round_up(at, whole) >= size;
            let mut line = self.member(member, place, indent, depth);
            // A flexible array must be the last; one of no elements need not.
            if n == last && n > 0 && full && indent == 0 && line.ends_with("[0];") {
                line.truncate(line.len().saturating_sub(3));
                line += "];";
            }
            self.push(&mut lines, &line);
            if self.left == 0 {
                break;
            }
        }
        if round_up(at, whole) < size {
            self.pad(&mut lines, at, size);
        }
        lines.text
    }

    fn push(&mut self, lines: &mut Lines, line: &str) {
        if self.may_write(line.len()) {
            let _ = writeln!(lines.text, "{}{line}", lines.indent);
        }
    }

    /// Fills the bits between two members.
    fn pad(&mut self, lines: &mut Lines, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let left = to.saturating_sub(at);
            if at & 7 == 0 && left >= 8 {
                self.pads = self.pads.saturating_add(1);
                self.push(lines, &format!("char __pad{}[{}];", self.pads, left >> 3));
                at = at.saturating_add(left & !7);
            } else {
                let bits = left.min(8u64.saturating_sub(at & 7));
                self.push(lines, &format!("char: {bits};"));
                at = at.saturating_add(bits);
            }
        }
    }

    fn member(&mut self, member: &Member<'_>, place: &Place, indent: usize, depth: u32) -> String {
        let name = identifier(member.name);
        let Some(depth) = depth.checked_sub(1) else { return self.too_deep(member.ty) };
        let indent = indent.saturating_add(1);
        let text = match self.btf.resolve(member.ty) {
            // Not all compilers take `struct other;` for a member (-fms-extensions): its members are written out.
            Ok(ty) if name.is_empty() && matches!(ty.def, Def::Struct(_) | Def::Union(_)) => {
                self.body(&Type { name: "", ..ty }, indent, depth)
            }
            _ => self.declare(member.ty, name, indent, depth),
        };
        match place.bitfield {
            Some(_) => format!("{text}: {};", place.size),
            None => text + ";",
        }
    }

    /// Alignment in bytes that C gives to this type as it is written here.
    fn align(&mut self, id: TypeId, depth: u32) -> u64 {
        let mut at = id;
        for step in 0..depth {
            match self.btf.resolve(at).map(|ty| (ty.id, ty.def)) {
                Ok((_, Def::Array(array))) => at = array.element,
                Ok((id, Def::Struct(_) | Def::Union(_))) => {
                    return self.layout(id, depth.saturating_sub(step).saturating_sub(1)).0;
                }
                // BTF's own rule knows no 16 bytes.
                Ok((_, Def::Int(Int { size: 16, .. }))) => return 16,
                Ok((id, _)) => return self.btf.align_of(id).unwrap_or(1),
                Err(_) => return 1,
            }
        }
        1
    }

    fn layout(&mut self, id: TypeId, depth: u32) -> (u64, bool) {
        if let Some(known) = self.layouts.get(&id) {
            return *known;
        }
        let (Ok(Def::Struct(body) | Def::Union(body)), Some(depth)) =
            (self.btf.get(id).map(|ty| ty.def), depth.checked_sub(1))
        else {
            return (1, false);
        };
        // Stands while this one is looked at: a struct inside itself comes to an end.
        self.layouts.insert(id, (1, false));
        let (mut most, mut packed) = (1, false);
        for member in body.members().filter_map(Result::ok) {
            let place = Place::of(self.btf, &member);
            let align = self.align(member.ty, depth);
            most = most.max(align);
            packed |= match place.bitfield {
                Some(unit) => place.offset.checked_rem(unit).unwrap_or(0).saturating_add(place.size) > unit,
                None => place.offset.checked_rem(align.saturating_mul(8)) != Some(0),
            };
        }
        packed |= u64::from(body.size).checked_rem(most) != Some(0);
        let layout = (if packed { 1 } else { most }, packed);
        self.layouts.insert(id, layout);
        layout
    }

    pub(crate) fn name(&self, ty: &Type<'_>) -> String {
        self.renamed.get(&ty.id).cloned().unwrap_or_else(|| identifier(ty.name))
    }
}

/// Where a member is, in bits.
struct Place {
    offset: u64,
    size: u64,
    /// A bit-field, and bits of its declared type.
    bitfield: Option<u64>,
}

impl Place {
    fn of(btf: &Btf, member: &Member<'_>) -> Place {
        let whole = btf.size_of(member.ty).unwrap_or(0).saturating_mul(8);
        match btf.bitfield(member) {
            Some((offset, size)) => Place { offset, size, bitfield: Some(whole.max(1)) },
            None => Place { offset: u64::from(member.bit_offset), size: whole, bitfield: None },
        }
    }
}

/// Indented lines of a body.
struct Lines {
    text: String,
    indent: String,
}

impl Lines {
    fn new(indent: usize) -> Lines {
        Lines { text: String::new(), indent: "\t".repeat(indent.saturating_add(1)) }
    }
}

fn round_up(value: u64, to: u64) -> u64 {
    value.checked_next_multiple_of(to.max(1)).unwrap_or(value)
}

fn spaced(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

fn comment(error: &Error) -> String {
    format!("/* {error} */")
}

/// What C takes for a name: languages other than C write more into theirs.
fn identifier(name: &str) -> String {
    let letters = name.chars().take(MAX_NAME);
    letters.map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// The name of an integer where it is one of C's, or a type of C with that size.
fn int_name(name: &str, int: &Int) -> String {
    const WORDS: [&str; 9] = ["_Bool", "char", "short", "int", "long", "signed", "unsigned", "__int128", ""];
    if !name.is_empty() && name.split(' ').all(|word| WORDS.contains(&word)) {
        return name.to_owned();
    }
    let sized = match int.size {
        1 if int.bool => return "_Bool".to_owned(),
        1 => "char",
        2 => "short",
        4 => "int",
        8 => "long long",
        16 => "__int128",
        _ => return format!("/* {} bytes */ int", int.size),
    };
    format!("{} {sized}", if int.signed { "signed" } else { "unsigned" })
}

fn float_name(name: &str, size: u32) -> String {
    match (name, size) {
        ("float" | "double" | "long double" | "_Float16" | "__bf16" | "_Float128" | "__float128", _) => name.to_owned(),
        (_, 2) => "_Float16".to_owned(),
        (_, 4) => "float".to_owned(),
        (_, 8) => "double".to_owned(),
        _ => "long double".to_owned(),
    }
}

/// The attribute that gives an enum another size than that of an `int`.
fn enum_mode(body: &Enum<'_>) -> &'static str {
    let large = |value: i64| if body.signed { i32::try_from(value).is_err() } else { u32::try_from(value).is_err() };
    match body.size {
        1 => " __attribute__((mode(QI)))",
        2 => " __attribute__((mode(HI)))",
        8 if !body.values().filter_map(Result::ok).any(|v| large(v.value)) => " __attribute__((mode(DI)))",
        _ => "",
    }
}

fn enum_value(value: i64, body: &Enum<'_>) -> String {
    match (body.signed, i32::try_from(value)) {
        (_, Ok(small)) => small.to_string(),
        (true, _) if value == i64::MIN => "(-9223372036854775807LL - 1)".to_owned(),
        (true, _) => format!("{value}LL"),
        (false, _) if u32::try_from(value).is_ok() => format!("{value}U"),
        (false, _) => format!("{}ULL", value.cast_unsigned()),
    }
}
