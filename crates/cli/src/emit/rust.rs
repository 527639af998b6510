//! Types as Rust: plain structs without `unsafe`, every byte of them named, so that they can be read from bytes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use ringfence_btf::{Btf, Composite, Def, Member, TypeId};

/// Words that Rust keeps for itself; a field of such a name gets a `_` behind it.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

const BITS: &str = "
/// `width` bits of little-endian bytes from bit `first` on.
const fn bits(bytes: &[u8], first: usize, width: usize) -> u64 {
    let mut value = 0;
    let mut n = 0;
    while n < width {
        let bit = first + n;
        value |= ((bytes[bit / 8] >> (bit % 8) & 1) as u64) << n;
        n += 1;
    }
    value
}
";

/// Types that were asked for, and those that they need.
#[derive(Default)]
pub struct Writer {
    out: String,
    /// Names that are taken, with what they stand for.
    taken: BTreeMap<String, String>,
    bits: bool,
}

/// A field's type in Rust.
struct Shape {
    name: String,
    size: u64,
    align: u64,
}

impl Shape {
    fn bytes(size: u64) -> Shape {
        Shape { name: format!("[u8; {size}]"), size, align: 1 }
    }
}

impl Writer {
    /// All that was written.
    pub fn finish(self) -> String {
        let bits = if self.bits { BITS } else { "" };
        self.out + bits
    }

    /// The name of the type in Rust, which is defined if it was not. `wanted`: its name where it has none.
    pub fn define(&mut self, types: &Btf, id: TypeId, wanted: &str, about: &str) -> String {
        self.shape(types, id, wanted, about, &mut HashMap::new(), 0).name
    }

    fn shape(
        &mut self,
        types: &Btf,
        id: TypeId,
        wanted: &str,
        about: &str,
        known: &mut HashMap<TypeId, String>,
        depth: usize,
    ) -> Shape {
        let size = types.size_of(id).unwrap_or(0);
        let plain = |name: &str| Shape { name: name.to_owned(), size, align: size.clamp(1, 16) };
        let Ok(ty) = types.resolve(id) else { return Shape::bytes(size) };
        if depth > 32 {
            return Shape::bytes(size);
        }
        match ty.def {
            Def::Int(int) => match (size, int.signed && !int.char && ty.name != "char") {
                (1, false) => plain("u8"),
                (2, false) => plain("u16"),
                (4, false) => plain("u32"),
                (8, false) => plain("u64"),
                (16, false) => plain("u128"),
                (1, true) => plain("i8"),
                (2, true) => plain("i16"),
                (4, true) => plain("i32"),
                (8, true) => plain("i64"),
                (16, true) => plain("i128"),
                _ => Shape::bytes(size),
            },
            Def::Enum(body) => {
                let integer = format!("{}{}", if body.signed { 'i' } else { 'u' }, size.saturating_mul(8));
                if !ty.name.is_empty() {
                    let values = body.values().flatten().map(|value| {
                        let number =
                            if body.signed { value.value.to_string() } else { (value.value as u64).to_string() };
                        format!("/// Of `enum {}`.\npub const {}: {integer} = {number};\n", ty.name, value.name)
                    });
                    let text: String = values.collect();
                    if self.taken.insert(format!("enum {}", ty.name), String::new()).is_none() {
                        let _ = write!(self.out, "\n{text}");
                    }
                }
                plain(&integer)
            }
            Def::Ptr(_) => plain("u64"),
            Def::Float { size: 4 } => plain("f32"),
            Def::Float { size: 8 } => plain("f64"),
            Def::Array(array) => {
                let element = self.shape(types, array.element, wanted, "", known, depth + 1);
                Shape { name: format!("[{}; {}]", element.name, array.len), size, align: element.align }
            }
            Def::Struct(body) => {
                let own = if ty.name.is_empty() { wanted } else { ty.name };
                self.composite(types, (ty.id, own, about), &body, known, depth)
            }
            Def::Union(body) => {
                let own = if ty.name.is_empty() { wanted } else { ty.name };
                self.union(types, (ty.id, own, about), &body, known)
            }
            _ => Shape::bytes(size),
        }
    }

    /// A name that nothing else has; `None`: this very text has been written.
    fn place(&mut self, id: TypeId, own: &str, text: &str, known: &mut HashMap<TypeId, String>) -> (String, bool) {
        if let Some(name) = known.get(&id) {
            return (name.clone(), false);
        }
        let base = camel(own);
        let mut name = base.clone();
        for n in 2.. {
            match self.taken.get(&name) {
                Some(there) if there == text => return (name, false),
                Some(_) => name = format!("{base}{n}"),
                None => break,
            }
        }
        self.taken.insert(name.clone(), text.to_owned());
        known.insert(id, name.clone());
        (name, true)
    }

    fn composite(
        &mut self,
        types: &Btf,
        (id, own, about): (TypeId, &str, &str),
        body: &Composite<'_>,
        known: &mut HashMap<TypeId, String>,
        depth: usize,
    ) -> Shape {
        let size = types.size_of(id).unwrap_or(0);
        let mut fields: Vec<(String, u64, Shape, String)> = Vec::new();
        let mut getters = String::new();
        let mut at = 0_u64;
        let members: Vec<Member<'_>> = body.members().flatten().collect();
        let mut rest = members.as_slice();
        while let Some((member, behind)) = rest.split_first() {
            let offset = u64::from(member.bit_offset / 8);
            if member.bit_size > 0 {
                // All neighbours that are bits share bytes.
                let run = rest.iter().take_while(|member| member.bit_size > 0).count();
                let (bits, behind) = rest.split_at(run);
                let end = bits.iter().map(|member| member.bit_offset + u32::from(member.bit_size)).max().unwrap_or(0);
                let (start, end) = (offset.max(at), u64::from(end.div_ceil(8)));
                let storage = format!("_bits{start}");
                for member in bits {
                    let first = u64::from(member.bit_offset).saturating_sub(start * 8);
                    let _ = write!(
                        getters,
                        "    /// `{} : {}`\n    pub const fn {}(&self) -> u64 {{\n        bits(&self.{storage}, {first}, {})\n    }}\n",
                        types.c_declaration(member.ty, member.name),
                        member.bit_size,
                        field_name(member.name),
                        member.bit_size
                    );
                }
                self.bits = true;
                pad(&mut fields, at, start);
                fields.push((storage, start, Shape::bytes(end.saturating_sub(start)), String::new()));
                at = end;
                rest = behind;
                continue;
            }
            rest = behind;
            let name = if member.name.is_empty() { format!("field{offset}") } else { field_name(member.name) };
            let inner = self.shape(types, member.ty, &format!("{own}_{name}"), "", known, depth + 1);
            let inner = if offset % inner.align == 0 { inner } else { Shape::bytes(inner.size) };
            if offset < at {
                continue;
            }
            pad(&mut fields, at, offset);
            at = offset + inner.size;
            fields.push((name, offset, inner, types.c_declaration(member.ty, member.name)));
        }
        pad(&mut fields, at, size);
        // What is less aligned as a whole than a field wants holds that field as bytes.
        while let Some(most) =
            fields.iter().map(|(_, _, shape, _)| shape.align).max().filter(|most| !size.is_multiple_of(*most))
        {
            for (_, _, shape, _) in fields.iter_mut().filter(|(_, _, shape, _)| shape.align == most) {
                *shape = Shape::bytes(shape.size);
            }
        }
        let mut inside = String::new();
        for (name, _, shape, c) in &fields {
            let doc = if c.is_empty() { String::new() } else { format!("    /// `{}`\n", one_line(c)) };
            let _ = writeln!(inside, "{doc}    pub {name}: {},", shape.name);
        }
        let (name, new) = self.place(id, own, &inside, known);
        if new {
            let _ = write!(self.out, "\n{}", docs(&format!("`struct {own}`, {size} bytes.{about}")));
            let _ = write!(self.out, "#[repr(C)]\n#[derive(Clone, Copy, Debug)]\npub struct {name} {{\n{inside}}}\n");
            if !getters.is_empty() {
                let _ = write!(self.out, "\nimpl {name} {{\n{getters}}}\n");
            }
            let _ = writeln!(self.out, "\nconst _: () = assert!(core::mem::size_of::<{name}>() == {size});");
            for (field, offset, ..) in &fields {
                let _ =
                    writeln!(self.out, "const _: () = assert!(core::mem::offset_of!({name}, {field}) == {offset});");
            }
        }
        let align = fields.iter().map(|(_, _, shape, _)| shape.align).max().unwrap_or(1);
        Shape { name, size, align }
    }

    /// A union is its bytes: reading a field of a Rust union is unsafe.
    fn union(
        &mut self,
        types: &Btf,
        (id, own, about): (TypeId, &str, &str),
        body: &Composite<'_>,
        known: &mut HashMap<TypeId, String>,
    ) -> Shape {
        let size = types.size_of(id).unwrap_or(0);
        let members = body.members().flatten().map(|m| format!("`{}`", one_line(&types.c_declaration(m.ty, m.name))));
        let members: Vec<String> = members.collect();
        let inside = format!("    /// One of {}.\n    pub bytes: [u8; {size}],\n", members.join(", "));
        let (name, new) = self.place(id, own, &inside, known);
        if new {
            let _ = write!(self.out, "\n{}", docs(&format!("`union {own}`, {size} bytes.{about}")));
            let _ = write!(self.out, "#[repr(C)]\n#[derive(Clone, Copy, Debug)]\npub struct {name} {{\n{inside}}}\n");
            let _ = writeln!(self.out, "\nconst _: () = assert!(core::mem::size_of::<{name}>() == {size});");
        }
        Shape { name, size, align: 1 }
    }
}

fn pad(fields: &mut Vec<(String, u64, Shape, String)>, from: u64, to: u64) {
    if to > from {
        fields.push((format!("_pad{from}"), from, Shape::bytes(to - from), String::new()));
    }
}

fn docs(text: &str) -> String {
    text.lines().map(|line| format!("/// {}\n", line.trim_end())).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn field_name(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

/// `open_event` as `OpenEvent`.
fn camel(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    let camel: String = name.split('_').map(part).collect();
    match camel.chars().next() {
        Some(first) if first.is_alphabetic() && camel != "Self" => camel,
        _ => format!("Type{camel}"),
    }
}
