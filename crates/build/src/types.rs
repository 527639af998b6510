//! Types as Rust: plain structs in which every byte has a name, with methods for bit-fields and members of unions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use ringfence_btf::{Btf, Composite, Def, Enum, TypeId};

/// Words that Rust keeps for itself; what has such a name gets a `_` behind it.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Names that the module uses itself; a C type with one of them gets a `_` behind it.
#[rustfmt::skip]
const OWN: &[&str] = &[
    "Default", "Debug", "Err", "Error", "EventMap", "Expected", "FromBytes", "Globals", "Immutable", "IntoBytes", "Kernel", "Links", "Loaded",
    "Map", "Maps", "None", "Object", "Ok", "Option", "Program", "Programs", "Result", "Self", "Settings", "Some", "String", "Vec",
];

/// How deep types may lie in each other.
const MAX_DEPTH: usize = 32;

/// A type in Rust.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) size: u64,
    align: u64,
    /// It holds floats, which are equal to nothing for certain.
    float: bool,
    /// An array of `char`.
    text: bool,
    pub(crate) bool: bool,
}

impl Shape {
    fn new(name: impl Into<String>, size: u64, align: u64) -> Shape {
        Shape { name: name.into(), size, align, float: false, text: false, bool: false }
    }

    pub(crate) fn bytes(size: u64) -> Shape {
        Shape::new(format!("[u8; {size}]"), size, 1)
    }
}

/// A member, seen from the outermost struct that has a name.
struct Leaf {
    name: String,
    c: String,
    shape: Shape,
    /// In bits.
    offset: u64,
    /// Of a bit-field; 0: it is none.
    bits: u64,
    signed: bool,
    /// The bytes of the union that it is in: start and end.
    union: Option<(u64, u64)>,
}

/// Writes the types that were asked for, and those that they need.
pub(crate) struct Writer<'b> {
    btf: &'b Btf,
    /// Name of the object's own type.
    pub(crate) main: String,
    pub(crate) out: String,
    known: HashMap<TypeId, Shape>,
    taken: BTreeSet<String>,
    /// What the module relies on, by name.
    pub(crate) expected: BTreeMap<String, String>,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(btf: &'b Btf) -> Self {
        let (taken, expected) = (BTreeSet::new(), BTreeMap::new());
        Writer { btf, main: String::new(), out: String::new(), known: HashMap::new(), taken, expected }
    }

    /// A name that nothing else has.
    pub(crate) fn take(&mut self, base: &str) -> String {
        let base = if OWN.contains(&base) { &format!("{base}_") } else { base };
        let mut name = base.to_owned();
        for n in 2.. {
            if self.taken.insert(name.clone()) {
                break;
            }
            name = format!("{base}{n}");
        }
        name
    }

    /// The type in Rust, which is written if it was not. `wanted`: its name where it has none.
    pub(crate) fn shape(&mut self, id: TypeId, wanted: &str) -> Shape {
        self.within(id, wanted, 0)
    }

    fn within(&mut self, id: TypeId, wanted: &str, depth: usize) -> Shape {
        let btf = self.btf;
        let size = btf.size_of(id).unwrap_or(0);
        let Ok(ty) = btf.resolve(id) else { return Shape::bytes(size) };
        if depth > MAX_DEPTH {
            return Shape::bytes(size);
        }
        // A type without a name is known by its typedef.
        let alias = self.typedef(id).unwrap_or_default();
        let c_name = if ty.name.is_empty() { alias } else { ty.name.to_owned() };
        let own = if c_name.is_empty() { wanted.to_owned() } else { c_name.clone() };
        match ty.def {
            Def::Int(int) if int.bool => Shape { bool: true, ..Shape::new("u8", size, 1) },
            Def::Int(int) if matches!(size, 1 | 2 | 4 | 8 | 16) => {
                let signed = int.signed && !int.char && ty.name != "char";
                Shape::new(integer(signed, size), size, size)
            }
            Def::Ptr(_) => Shape::new("u64", size, 8),
            Def::Float { size: 4 } => Shape { float: true, ..Shape::new("f32", 4, 4) },
            Def::Float { size: 8 } => Shape { float: true, ..Shape::new("f64", 8, 8) },
            Def::Array(array) => {
                let element = self.within(array.element, wanted, depth + 1);
                let text = btf.resolve(array.element).is_ok_and(|ty| ty.name == "char") && array.len > 0;
                let name = format!("[{}; {}]", element.name, array.len);
                Shape { text, float: element.float, ..Shape::new(name, size, element.align) }
            }
            Def::Enum(body) if matches!(size, 1 | 2 | 4 | 8) => {
                self.known(ty.id, |writer| writer.enumeration(&own, &c_name, &body))
            }
            Def::Struct(body) => self.known(ty.id, |writer| writer.composite(&own, &c_name, &body, false, depth)),
            Def::Union(body) => self.known(ty.id, |writer| writer.composite(&own, &c_name, &body, true, depth)),
            _ => Shape::bytes(size),
        }
    }

    fn known(&mut self, id: TypeId, write: impl FnOnce(&mut Self) -> Shape) -> Shape {
        if let Some(shape) = self.known.get(&id) {
            return shape.clone();
        }
        let shape = write(self);
        self.known.insert(id, shape.clone());
        shape
    }

    fn typedef(&self, id: TypeId) -> Option<String> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let ty = self.btf.strip_modifiers(at).ok()?;
            let Def::Typedef(next) = ty.def else { return None };
            if self.btf.strip_modifiers(next).ok()?.name.is_empty() {
                return Some(ty.name.to_owned());
            }
            at = next;
        }
        None
    }

    fn enumeration(&mut self, own: &str, c_name: &str, body: &Enum<'_>) -> Shape {
        let size = u64::from(body.size);
        let (name, base) = (self.take(&camel(own)), integer(body.signed, size));
        let (mut constants, mut arms, mut seen) = (String::new(), String::new(), BTreeSet::new());
        for value in body.values().flatten() {
            let number = if body.signed { value.value.to_string() } else { (value.value as u64).to_string() };
            let constant = ident(value.name);
            let _ =
                writeln!(constants, "        /// `{number}`\n        pub const {constant}: {name} = {name}({number});");
            if seen.insert(value.value) {
                let _ = writeln!(arms, "                {number} => \"{}\",", value.name);
            }
        }
        let _ = write!(
            self.out,
            "
    /// `enum {own}`: a number that need not be one of those that have names.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable)]
    #[zerocopy(crate = \"::ringfence::zerocopy\")]
    #[repr(transparent)]
    pub struct {name}(pub {base});
    impl {name} {{
{constants}
        /// Its name in C.
        pub fn name(self) -> ::core::option::Option<&'static str> {{
            ::core::option::Option::Some(match self.0 {{
{arms}                _ => return ::core::option::Option::None,
            }})
        }}
    }}
    impl ::core::fmt::Debug for {name} {{
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{
            match self.name() {{
                ::core::option::Option::Some(name) => f.write_str(name),
                ::core::option::Option::None => ::core::write!(f, \"{name}({{}})\", self.0),
            }}
        }}
    }}
    impl ::core::default::Default for {name} {{
        fn default() -> Self {{
            {name}(0)
        }}
    }}
"
        );
        if !c_name.is_empty() {
            self.expected.insert(c_name.to_owned(), format!("Expected::Type({c_name:?}, {size}, &[])"));
        }
        Shape::new(name, size, size)
    }

    /// Members of the struct and of all structs and unions without a name in it.
    fn leaves(
        &mut self,
        own: &str,
        body: &Composite<'_>,
        base: u64,
        union: Option<(u64, u64)>,
        depth: usize,
        to: &mut Vec<Leaf>,
    ) {
        for member in body.members().flatten() {
            let offset = base.saturating_add(u64::from(member.bit_offset));
            if member.name.is_empty() {
                let Ok(inner) = self.btf.resolve(member.ty) else { continue };
                let end = (offset / 8).saturating_add(self.btf.size_of(member.ty).unwrap_or(0));
                if depth > MAX_DEPTH {
                    continue;
                }
                match inner.def {
                    Def::Struct(inner) => self.leaves(own, &inner, offset, union, depth + 1, to),
                    Def::Union(inner) => {
                        let union = union.or(Some((offset / 8, end)));
                        self.leaves(own, &inner, offset, union, depth + 1, to);
                    }
                    _ => {}
                }
                continue;
            }
            let shape = self.within(member.ty, &format!("{own}_{}", member.name), depth + 1);
            let (offset, bits) = match self.btf.bitfield(&member) {
                Some((first, bits)) => (base.saturating_add(first), bits),
                None => (offset, 0),
            };
            let signed = match self.btf.resolve(member.ty).map(|ty| ty.def) {
                Ok(Def::Int(int)) => int.signed,
                Ok(Def::Enum(body)) => body.signed,
                _ => false,
            };
            let c = self.btf.c_declaration(member.ty, member.name).split_whitespace().collect::<Vec<_>>().join(" ");
            to.push(Leaf { name: ident(member.name), c, shape, offset, bits, signed, union });
        }
    }

    fn composite(&mut self, own: &str, c_name: &str, body: &Composite<'_>, is_union: bool, depth: usize) -> Shape {
        let size = u64::from(body.size);
        let mut leaves = Vec::new();
        self.leaves(own, body, 0, is_union.then_some((0, size)), depth, &mut leaves);
        let name = self.take(&camel(own));

        // What lies at its own place, what shares its bytes with others, and bytes between them.
        let mut fields: Vec<(String, u64, Shape, String)> = Vec::new();
        let mut unions: BTreeSet<(u64, u64)> = BTreeSet::new();
        for leaf in &leaves {
            match leaf.union {
                Some(place) => drop(unions.insert(place)),
                None if leaf.bits == 0 && leaf.shape.size > 0 => {
                    fields.push((leaf.name.clone(), leaf.offset / 8, leaf.shape.clone(), format!("`{}`", leaf.c)));
                }
                None => {}
            }
        }
        for (start, end) in unions {
            let field = if is_union { "bytes".to_owned() } else { format!("_union{start}") };
            fields.push((
                field,
                start,
                Shape::bytes(end.saturating_sub(start)),
                "Bytes of a union; see the methods.".into(),
            ));
        }
        fields.sort_by_key(|(_, start, ..)| *start);
        let mut gaps = Vec::new();
        let mut at = 0;
        for (start, end) in fields.iter().map(|(_, start, shape, _)| (*start, start + shape.size)).chain([(size, size)])
        {
            if start > at {
                let bits = leaves
                    .iter()
                    .any(|leaf| leaf.bits > 0 && leaf.union.is_none() && (at..start).contains(&(leaf.offset / 8)));
                let (kind, doc) = if bits { ("bits", "Bit-fields; see the methods.") } else { ("pad", "Padding.") };
                gaps.push((format!("_{kind}{at}"), at, Shape::bytes(start - at), doc.to_owned()));
            }
            at = at.max(end);
        }
        fields.extend(gaps);
        fields.sort_by_key(|(_, start, ..)| *start);

        let most = fields.iter().map(|(_, _, shape, _)| shape.align).max().unwrap_or(1);
        let packed = size % most != 0 || fields.iter().any(|(_, start, shape, _)| start % shape.align != 0);
        let repr = if packed { "C, packed" } else { "C" };
        let float = leaves.iter().any(|leaf| leaf.shape.float);
        let eq = if float { "" } else { "PartialEq, Eq, Hash, " };
        let (mut inside, mut asserts) = (String::new(), String::new());
        for (field, start, shape, doc) in &fields {
            let _ = writeln!(inside, "        /// {doc}\n        pub {field}: {},", shape.name);
            let _ =
                writeln!(asserts, "    const _: () = assert!(::core::mem::offset_of!({name}, {field}) == {start});");
        }
        let (mut methods, mut debug) = (String::new(), String::new());
        for leaf in &leaves {
            let storage =
                fields.iter().find(|(_, start, shape, _)| (*start..start + shape.size).contains(&(leaf.offset / 8)));
            let Some((field, start, ..)) = storage else { continue };
            self.methods(leaf, field, *start, &leaves, &mut methods, &mut debug);
        }
        let kind = if is_union { "union" } else { "struct" };
        let _ = write!(
            self.out,
            "
    /// `{kind} {own}`, {size} bytes.
    #[derive(Clone, Copy, {eq}FromBytes, IntoBytes, Immutable)]
    #[zerocopy(crate = \"::ringfence::zerocopy\")]
    #[repr({repr})]
    pub struct {name} {{
{inside}    }}
    const _: () = assert!(::core::mem::size_of::<{name}>() == {size});
{asserts}    impl {name} {{
{methods}    }}
    impl ::core::default::Default for {name} {{
        /// All bytes zero.
        fn default() -> Self {{
            ::ringfence::zerocopy::FromZeros::new_zeroed()
        }}
    }}
    impl ::core::fmt::Debug for {name} {{
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{
            let mut f = f.debug_struct({name:?});
{debug}            f.finish()
        }}
    }}
"
        );
        if !c_name.is_empty() {
            let members: String = leaves
                .iter()
                .map(|leaf| {
                    let bits = if leaf.bits > 0 { leaf.bits } else { leaf.shape.size * 8 };
                    format!("({:?}, {}, {bits}), ", c_ident(&leaf.name), leaf.offset)
                })
                .collect();
            let members = members.trim_end_matches(", ");
            self.expected.insert(c_name.to_owned(), format!("Expected::Type({c_name:?}, {size}, &[{members}])"));
        }
        Shape { float, ..Shape::new(name, size, if packed { 1 } else { most }) }
    }

    fn methods(&self, leaf: &Leaf, field: &str, start: u64, leaves: &[Leaf], methods: &mut String, debug: &mut String) {
        let Leaf { name, c, shape, .. } = leaf;
        let label = c_ident(name);
        let fits = |method: &str| !leaves.iter().any(|leaf| leaf.name == method);
        if shape.size == 0 {
            return;
        }
        let _ = write!(debug, "            f.field({label:?}, ");
        if leaf.bits > 0 {
            let first = leaf.offset - start * 8;
            let ty = if shape.bool { "bool".to_owned() } else { integer(leaf.signed, shape.size.clamp(1, 8)) };
            let of = if shape.bool { " != 0".to_owned() } else { format!(" as {ty}") };
            let bits = leaf.bits;
            let value = match leaf.signed {
                true => format!(
                    "((bits(&self.{field}, {first}, {bits}) << {0}) as i64 >> {0})",
                    64_u64.saturating_sub(bits)
                ),
                false => format!("bits(&self.{field}, {first}, {bits})"),
            };
            let _ = write!(
                methods,
                "        /// `{c} : {bits}`
        pub fn {name}(&self) -> {ty} {{
            {value}{of}
        }}
        /// Sets `{c} : {bits}`; bits beyond those are dropped.
        pub fn set_{label}(&mut self, value: {ty}) {{
            set_bits(&mut self.{field}, {first}, {bits}, value as u64);
        }}
"
            );
            let _ = writeln!(debug, "&self.{name}());");
        } else if leaf.union.is_some() {
            let (from, to) = (leaf.offset / 8 - start, leaf.offset / 8 - start + shape.size);
            let ty = &shape.name;
            let _ = write!(
                methods,
                "        /// `{c}`
        pub fn {name}(&self) -> {ty} {{
            read(&self.{field}[{from}..{to}])
        }}
        /// Sets `{c}`.
        pub fn set_{label}(&mut self, value: {ty}) {{
            self.{field}[{from}..{to}].copy_from_slice(value.as_bytes());
        }}
"
            );
            let _ = writeln!(debug, "&self.{name}());");
        } else if shape.text && fits(&format!("{label}_text")) {
            let _ = write!(
                methods,
                "        /// `{c}` up to its first zero.
        pub fn {label}_text(&self) -> ::std::borrow::Cow<'_, str> {{
            text(&self.{name})
        }}
"
            );
            let _ = writeln!(debug, "&self.{label}_text());");
        } else {
            let _ = writeln!(debug, "&{{ self.{name} }});");
        }
    }
}

fn integer(signed: bool, bytes: u64) -> String {
    format!("{}{}", if signed { 'i' } else { 'u' }, bytes.saturating_mul(8))
}

/// A name of C as one of Rust.
pub(crate) fn ident(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

/// The name of C behind one of [`ident`].
fn c_ident(name: &str) -> &str {
    name.strip_suffix('_').filter(|word| KEYWORDS.contains(word)).unwrap_or(name)
}

/// `open_event` as `OpenEvent`.
pub(crate) fn camel(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    let camel: String = name.split(|c: char| !c.is_ascii_alphanumeric()).map(part).collect();
    match camel.chars().next() {
        Some(first) if first.is_alphabetic() && camel != "Self" => camel,
        _ => format!("Type{camel}"),
    }
}
