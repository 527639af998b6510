//! From a BTF type to the steps of a [`Layout`].

use ringfence_btf::{Btf, Composite, Def, Enum, Int, Type, TypeId};

use crate::code::Code;
use crate::json;
use crate::layout::{BitsOf, Error, Family, Layout, Leaf, Names, Options, Step, What, Width};
use crate::sense::{Sense, Shape, sense};

/// Levels of structs and arrays, and links of typedefs.
const MAX_DEPTH: usize = 32;
/// Members of a type, those of its members included. `struct task_struct` has about 3,000.
const MAX_STEPS: usize = 1 << 16;
/// Values in one record; names and text count for one more with every 16 bytes. It bounds what is written for a record
/// whose arrays have elements of no size to some 100 MB.
const MAX_VALUES: u64 = 1 << 20;
/// Bytes of a name; the kernel's own limit is 512 (`KSYM_NAME_LEN`).
const MAX_NAME: usize = 1024;

pub(crate) fn compile(btf: &Btf, ty: TypeId, options: Options) -> Result<Layout, Error> {
    let mut compiler = Compiler::new(btf, ty, options);
    let name = compiler.see(ty)?.name;
    let size = compiler.size_of(ty, 0)?;
    let frame = Frame { limit: size, root: true };
    let values = compiler.member(&ROOT.of(ty), &frame, &NONE, 0)?;
    compiler.finish(name, size, values)
}

/// A section whose variables have been given their places.
pub(crate) fn compile_variables(
    btf: &Btf,
    variables: &[(&str, TypeId, u32)],
    options: Options,
) -> Result<Layout, Error> {
    let mut compiler = Compiler::new(btf, TypeId::VOID, options);
    let mut members = Vec::new();
    let mut size = 0;
    for (name, ty, offset) in variables {
        size = size.max(u64::from(*offset).saturating_add(compiler.size_of(*ty, 0)?));
        members.push(Place { name, bits: u64::from(*offset).saturating_mul(8), tail: false, ..ROOT.of(*ty) });
    }
    let frame = Frame { limit: size, root: true };
    let values = compiler.group(&ROOT, &frame, &NONE, members, 0)?;
    compiler.finish("", size, values)
}

/// What a value adds to the size of a record's text, in units of 16 bytes.
fn weight(place: &Place<'_>, len: u64) -> u64 {
    (place.name.len() as u64).saturating_add(len).div_ceil(16).saturating_add(1)
}

fn whole(ty: TypeId, size: u64) -> Result<usize, Error> {
    usize::try_from(size).map_err(|_| Error::TooLarge(ty, "more bytes than memory"))
}

struct Compiler<'a> {
    btf: &'a Btf,
    options: Options,
    /// For errors that are about the whole.
    root: TypeId,
    steps: Vec<Step>,
    enums: Vec<(TypeId, Names)>,
    rest: Option<(usize, usize)>,
    /// Where the last member that is not flexible ends.
    covered: u64,
}

/// What offsets count from: the record, or an element of a list.
struct Frame {
    /// Bytes of it.
    limit: u64,
    root: bool,
}

/// Addresses around a member.
#[derive(Clone, Copy)]
struct Around {
    family: Option<Family>,
    v4: bool,
    v6: bool,
}

const NONE: Around = Around { family: None, v4: false, v6: false };

/// A member and where it goes.
struct Place<'a> {
    name: &'a str,
    first: bool,
    ty: TypeId,
    /// From the start of the frame.
    bits: u64,
    /// Of a bit-field; 0: it is none.
    width: u8,
    /// Nothing of the record comes behind it.
    tail: bool,
}

/// A type behind typedefs and qualifiers, with what they said.
struct Seen<'a> {
    ty: Type<'a>,
    /// The outermost name.
    name: &'a str,
    /// `__be16` and so on.
    big: Option<bool>,
}

/// The whole record.
const ROOT: Place<'static> = Place { name: "", first: true, ty: TypeId::VOID, bits: 0, width: 0, tail: true };

impl Place<'static> {
    fn of(self, ty: TypeId) -> Self {
        Place { ty, ..self }
    }
}

impl<'a> Compiler<'a> {
    fn new(btf: &'a Btf, root: TypeId, options: Options) -> Self {
        Compiler { btf, options, root, steps: Vec::new(), enums: Vec::new(), rest: None, covered: 0 }
    }

    fn finish(self, name: &str, size: u64, values: u64) -> Result<Layout, Error> {
        if values > MAX_VALUES {
            return self.too_large("more values than a record has");
        }
        let size = whole(self.root, size)?;
        let need = if self.rest.is_some() { whole(self.root, self.covered)?.min(size) } else { size };
        let need = self.options.least.map_or(need, |least| least.min(need));
        let enums = self.enums.into_iter().map(|(_, names)| names).collect();
        Ok(Layout { name: name.into(), size, need, rest: self.rest, steps: self.steps.into(), enums })
    }

    fn see(&self, ty: TypeId) -> Result<Seen<'a>, Error> {
        let (mut name, mut big, mut id) = ("", None, ty);
        for _ in 0..MAX_DEPTH.saturating_mul(2) {
            let ty = self.btf.get(id)?;
            if name.is_empty() {
                name = ty.name;
            }
            id = match ty.def {
                Def::Typedef(next) => {
                    big = big.or(match ty.name {
                        "__be16" | "__be32" | "__be64" => Some(true),
                        "__le16" | "__le32" | "__le64" => Some(false),
                        _ => None,
                    });
                    next
                }
                Def::Const(next) | Def::Volatile(next) | Def::Restrict(next) => next,
                // The names of these are a tag's text and a variable's name.
                Def::TypeTag(next) => {
                    name = "";
                    next
                }
                Def::Var { ty, .. } => ty,
                _ => return Ok(Seen { ty, name, big }),
            };
        }
        Err(ringfence_btf::Error::TooDeep(ty).into())
    }

    fn not_data<T>(&self, ty: &Type<'_>, why: &'static str) -> Result<T, Error> {
        Err(Error::NotData(ty.id, ty.name.to_owned(), why))
    }

    fn too_large<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error::TooLarge(self.root, what))
    }

    fn size_of(&self, ty: TypeId, depth: usize) -> Result<u64, Error> {
        if depth > MAX_DEPTH {
            return self.too_large("nested too deeply");
        }
        let ty = self.see(ty)?.ty;
        Ok(match ty.def {
            Def::Int(Int { size, .. }) | Def::Float { size } => size.into(),
            Def::Enum(e) => e.size.into(),
            Def::Struct(c) | Def::Union(c) => c.size.into(),
            Def::Ptr(_) => self.btf.pointer_size().into(),
            Def::Array(array) => {
                let next = depth.saturating_add(1);
                self.size_of(array.element, next)?.saturating_mul(array.len.into())
            }
            // Compilers leave size and offsets for the loader to fill in.
            Def::Datasec(section) if section.size == 0 && section.vars().len() > 0 => {
                return self.not_data(&ty, "its variables have no offsets before it is loaded");
            }
            Def::Datasec(section) => {
                section.vars().map(|var| u64::from(var.offset).saturating_add(var.size.into())).max().unwrap_or(0)
            }
            Def::Fwd { .. } => return self.not_data(&ty, "it is only declared"),
            Def::Void
            | Def::Typedef(_)
            | Def::Volatile(_)
            | Def::Const(_)
            | Def::Restrict(_)
            | Def::Func { .. }
            | Def::FuncProto(_)
            | Def::Var { .. }
            | Def::DeclTag { .. }
            | Def::TypeTag(_) => return self.not_data(&ty, "it is not data"),
        })
    }

    /// Writes the steps of a member; returns the number of values that a record has for it.
    fn member(&mut self, place: &Place<'_>, frame: &Frame, around: &Around, depth: usize) -> Result<u64, Error> {
        if depth > MAX_DEPTH {
            return self.too_large("nested too deeply");
        }
        let seen = self.see(place.ty)?;
        let ty = seen.ty;
        if let Some((leaf, start, len)) = self.bit_field(place, &seen)? {
            return self.leaf(place, frame, start, len, leaf);
        }
        let start = place.bits / 8;
        if !self.options.raw
            && let Some((leaf, len)) = self.meaning(place.name, &seen, around)?
        {
            return self.leaf(place, frame, start, len, leaf);
        }
        let order = |size: u32| Width { bytes: size as u8, big: seen.big.unwrap_or(self.btf.is_big_endian()) };
        let hex = |size: u32| Leaf::Bytes { len: size as usize };
        match ty.def {
            Def::Int(int) => {
                let leaf = match int.size {
                    1 if int.bool => Leaf::Bool,
                    1 | 2 | 4 | 8 | 16 if int.signed => Leaf::Signed(order(int.size)),
                    1 | 2 | 4 | 8 | 16 => Leaf::Unsigned(order(int.size)),
                    size => hex(size),
                };
                self.leaf(place, frame, start, int.size.into(), leaf)
            }
            Def::Float { size } => {
                let leaf = if matches!(size, 4 | 8) { Leaf::Float(order(size)) } else { hex(size) };
                self.leaf(place, frame, start, size.into(), leaf)
            }
            Def::Enum(e) => {
                let leaf = match e.size {
                    1 | 2 | 4 | 8 => {
                        Leaf::Enum { names: self.names(ty.id, e)?, width: order(e.size), signed: e.signed }
                    }
                    size => hex(size),
                };
                self.leaf(place, frame, start, e.size.into(), leaf)
            }
            Def::Ptr(_) => {
                let size = self.btf.pointer_size();
                self.leaf(place, frame, start, size.into(), Leaf::Pointer(order(size)))
            }
            Def::Array(array) => self.array(place, frame, array.element, array.len, depth),
            Def::Struct(_) | Def::Union(_) | Def::Datasec(_) => self.record(place, frame, around, &ty, depth),
            Def::Fwd { .. } => self.not_data(&ty, "it is only declared"),
            Def::Void
            | Def::Typedef(_)
            | Def::Volatile(_)
            | Def::Const(_)
            | Def::Restrict(_)
            | Def::Func { .. }
            | Def::FuncProto(_)
            | Def::Var { .. }
            | Def::DeclTag { .. }
            | Def::TypeTag(_) => self.not_data(&ty, "it is not data"),
        }
    }

    fn push(&mut self, place: &Place<'_>, start: u64, what: What) -> Result<usize, Error> {
        if self.steps.len() >= MAX_STEPS {
            return self.too_large("more members than a record has");
        }
        if place.name.len() > MAX_NAME {
            return self.too_large("a name that no compiler writes");
        }
        let mut key = Vec::new();
        if !place.name.is_empty() {
            key.extend_from_slice(if place.first { b"\"" } else { b",\"" });
            json::escape(place.name.as_bytes(), &mut key);
            key.extend_from_slice(b"\":");
        }
        let key = String::from_utf8(key).unwrap_or_default().into();
        let at = self.steps.len();
        self.steps.push(Step { key, name: place.name.into(), offset: whole(self.root, start)?, what });
        Ok(at)
    }

    /// A member that is one value.
    fn leaf(&mut self, place: &Place<'_>, frame: &Frame, start: u64, len: u64, leaf: Leaf) -> Result<u64, Error> {
        self.inside(frame, start, len)?;
        self.push(place, start, What::Leaf(leaf))?;
        Ok(weight(place, len))
    }

    fn inside(&mut self, frame: &Frame, start: u64, len: u64) -> Result<(), Error> {
        let end = start.saturating_add(len);
        if end > frame.limit {
            return Err(Error::NotData(self.root, String::new(), "a member lies outside it"));
        }
        if frame.root {
            self.covered = self.covered.max(end);
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let now = self.steps.len();
        if let Some(Step { what: What::Record { end } | What::List { end, .. }, .. }) = self.steps.get_mut(at) {
            *end = now;
        }
    }

    /// `(leaf, first byte, bytes)` of a bit-field, in either of the ways in which BTF writes one.
    fn bit_field(&mut self, place: &Place<'_>, seen: &Seen<'_>) -> Result<Option<(Leaf, u64, u64)>, Error> {
        let (signed, of, old) = match seen.ty.def {
            // Without kind_flag, an integer type of its own has the place and the width (btf.rst, BTF_KIND_INT).
            Def::Int(int) => {
                let old = int.offset != 0 || u32::from(int.bits) != int.size.saturating_mul(8);
                let of = if int.bool { BitsOf::Bool } else { BitsOf::Number };
                (int.signed, of, old.then_some((int.offset, int.bits)))
            }
            Def::Enum(e) if place.width != 0 => (e.signed, BitsOf::Enum(self.names(seen.ty.id, e)?), None),
            _ if place.width != 0 => return self.not_data(&seen.ty, "it is a bit-field of something that has no bits"),
            _ => return Ok(None),
        };
        let (more, bits) = match (place.width, old) {
            (0, None) => return Ok(None),
            (0, Some((offset, bits))) => (offset, bits),
            (width, _) => (0, width),
        };
        // An old-style description of a whole odd-sized integer is none of a bit-field.
        if bits == 0 || bits > 64 {
            return if place.width == 0 {
                Ok(None)
            } else {
                self.not_data(&seen.ty, "it is a bit-field of this width")
            };
        }
        let from = place.bits.saturating_add(more.into());
        let skip = (from % 8) as u8;
        let len = u64::from(skip).saturating_add(bits.into()).div_ceil(8);
        let leaf = Leaf::Bits { skip, bits, signed, big: self.btf.is_big_endian(), of };
        Ok(Some((leaf, from / 8, len)))
    }

    fn array(
        &mut self,
        place: &Place<'_>,
        frame: &Frame,
        element: TypeId,
        len: u32,
        depth: usize,
    ) -> Result<u64, Error> {
        let start = place.bits / 8;
        let seen = self.see(element)?;
        let stride = self.size_of(element, 0)?;
        let flexible = len == 0;
        let end = start.saturating_add(stride.saturating_mul(len.into()));
        // A flexible array takes what is left; an array of a record that may be cut, what is there.
        let takes_rest = flexible && place.tail && frame.root && stride > 0;
        let cut = frame.root && stride > 0 && self.options.least.is_some_and(|least| end > least as u64);
        let rest = takes_rest || cut;
        let most = if takes_rest { u64::MAX } else { u64::from(len) };
        if takes_rest {
            self.rest = Some((whole(self.root, start)?, whole(self.root, stride)?));
        } else {
            self.inside(frame, start, end.saturating_sub(start))?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Compilers write `char` as an 8-bit signed integer of that name.
        if matches!(seen.ty.def, Def::Int(int) if int.size == 1 && (int.char || seen.ty.name == "char")) {
            let joined = rest && matches!(place.name, "args" | "argv");
            self.push(place, start, What::Leaf(Leaf::Text { len: most, rest, joined }))?;
            return Ok(weight(place, len.into()));
        }
        let what = What::List { end: 0, stride: whole(self.root, stride)?, len: most, rest };
        let at = self.push(place, start, what)?;
        let mut values = 0;
        if !flexible || rest {
            let one = Place { name: "", first: true, ty: element, bits: 0, width: 0, tail: false };
            let inner = Frame { limit: stride, root: false };
            let each = self.member(&one, &inner, &NONE, depth.saturating_add(1))?;
            if takes_rest && each > stride.saturating_mul(64) {
                return self.too_large("more members than bytes in a flexible array");
            }
            values = each.saturating_mul(len.into());
        }
        self.close(at);
        Ok(values.saturating_add(weight(place, 0)))
    }

    fn record(
        &mut self,
        place: &Place<'_>,
        frame: &Frame,
        around: &Around,
        ty: &Type<'a>,
        depth: usize,
    ) -> Result<u64, Error> {
        let mut members = Vec::new();
        match ty.def {
            Def::Struct(c) => self.flatten(c, false, place.bits, place.tail, depth, &mut members)?,
            Def::Union(c) => self.flatten(c, true, place.bits, place.tail, depth, &mut members)?,
            Def::Datasec(section) => {
                for (n, var) in section.vars().enumerate() {
                    let bits = u64::from(var.offset).saturating_mul(8);
                    let name = self.btf.get(var.ty)?.name;
                    members.push(Place { name, first: n == 0, ty: var.ty, bits, width: 0, tail: false });
                }
            }
            _ => {}
        }
        self.group(place, frame, around, members, depth)
    }

    /// The steps of a struct whose members are known.
    fn group(
        &mut self,
        place: &Place<'_>,
        frame: &Frame,
        around: &Around,
        members: Vec<Place<'_>>,
        depth: usize,
    ) -> Result<u64, Error> {
        let around = self.around(&members, around)?;
        let at = self.push(place, place.bits / 8, What::Record { end: 0 })?;
        let mut values = weight(place, 0);
        for (n, member) in members.into_iter().enumerate() {
            let member = Place { first: n == 0, ..member };
            values = values.saturating_add(self.member(&member, frame, &around, depth.saturating_add(1))?);
        }
        self.close(at);
        Ok(values)
    }

    /// The members by name, those of anonymous structs and unions included.
    fn flatten(
        &self,
        composite: Composite<'a>,
        union: bool,
        base: u64,
        tail: bool,
        depth: usize,
        out: &mut Vec<Place<'a>>,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return self.too_large("nested too deeply");
        }
        let last = composite.len().saturating_sub(1);
        for (n, member) in composite.members().enumerate() {
            let member = member?;
            let bits = base.saturating_add(member.bit_offset.into());
            let tail = tail && (union || n == last);
            if member.name.is_empty() {
                match self.see(member.ty)?.ty.def {
                    Def::Struct(c) => self.flatten(c, false, bits, tail, depth.saturating_add(1), out)?,
                    Def::Union(c) => self.flatten(c, true, bits, tail, depth.saturating_add(1), out)?,
                    // Padding.
                    _ => {}
                }
            } else {
                out.push(Place { name: member.name, first: false, ty: member.ty, bits, width: member.bit_size, tail });
            }
            if out.len() > MAX_STEPS {
                return self.too_large("more members than a record has");
            }
        }
        Ok(())
    }

    fn names(&mut self, ty: TypeId, e: Enum<'_>) -> Result<usize, Error> {
        if let Some(known) = self.enums.iter().position(|(id, _)| *id == ty) {
            return Ok(known);
        }
        let mut sorted = Vec::new();
        for value in e.values() {
            let value = value?;
            sorted.push((value.value, Box::from(value.name)));
        }
        sorted.sort_by_key(|(value, _)| *value);
        sorted.dedup_by_key(|(value, _)| *value);
        // Three bits at least: 0, 1, 2 is how people count.
        let bits = sorted.iter().filter(|(value, _)| *value != 0).count();
        let single = sorted.iter().all(|(value, _)| *value == 0 || value.cast_unsigned().is_power_of_two());
        let names = Names { sorted: sorted.into(), flags: single && bits >= 3 };
        self.enums.push((ty, names));
        Ok(self.enums.len().saturating_sub(1))
    }

    // -- meaning --

    fn shapes(&self, seen: &Seen<'_>) -> Result<Vec<Shape>, Error> {
        let mut shapes = Vec::new();
        match seen.ty.def {
            Def::Struct(c) if seen.ty.name == "in_addr" && c.size == 4 => shapes.push(Shape::InAddr),
            Def::Struct(c) if seen.ty.name == "in6_addr" && c.size == 16 => shapes.push(Shape::In6Addr),
            Def::Int(int) if !int.bool => {
                match (int.size, int.signed, seen.big) {
                    (4, false, Some(true)) => shapes.push(Shape::Be32),
                    (4, false, None) => shapes.push(Shape::U32),
                    (8, false, None) => shapes.push(Shape::U64),
                    (4 | 8, true, None) => shapes.push(Shape::Signed),
                    (16, _, None) => shapes.push(Shape::U128),
                    _ => {}
                }
                if matches!(int.size, 1 | 2 | 4) {
                    shapes.push(Shape::Small);
                }
            }
            Def::Array(array) => {
                let element = self.see(array.element)?;
                match (element.ty.def, array.len) {
                    (Def::Int(int), len) if int.size == 1 && !int.signed && !int.bool => {
                        shapes.extend(match len {
                            4 => Some(Shape::Bytes4),
                            6 => Some(Shape::Bytes6),
                            16 => Some(Shape::Bytes16),
                            _ => None,
                        });
                        shapes.push(Shape::Bytes);
                    }
                    (Def::Int(int), 4) if int.size == 4 && !int.signed => shapes.push(Shape::Words4),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(shapes)
    }

    fn sense_of(&self, name: &str, seen: &Seen<'_>) -> Result<Option<Sense>, Error> {
        Ok(sense(name, &self.shapes(seen)?))
    }

    /// `(leaf, bytes)` of a member whose name and type say what it means.
    fn meaning(&self, name: &str, seen: &Seen<'_>, around: &Around) -> Result<Option<(Leaf, u64)>, Error> {
        let Some(sense) = self.sense_of(name, seen)? else { return Ok(None) };
        let family = around.family;
        let width = |bytes| Width { bytes, big: self.btf.is_big_endian() };
        let size = match seen.ty.def {
            Def::Int(int) => int.size,
            Def::Array(array) => array.len,
            _ => 0,
        };
        let number = match seen.ty.def {
            Def::Int(int) if int.size == 16 => Some(width(16)),
            _ => None,
        };
        let coded = |code| match seen.ty.def {
            Def::Int(int) => {
                let big = seen.big.unwrap_or(self.btf.is_big_endian());
                let leaf = Leaf::Coded { code, width: Width { bytes: int.size as u8, big }, signed: int.signed };
                Some((leaf, int.size.into()))
            }
            _ => None,
        };
        Ok(match sense {
            Sense::Ipv4 => Some((Leaf::Ipv4 { family, other: around.v6 }, 4)),
            Sense::Ipv6 => {
                // A struct in6_addr holds what it says, whatever stands beside it.
                let own = matches!(seen.ty.def, Def::Struct(_));
                let family = if own && !around.v4 { None } else { family };
                Some((Leaf::Ipv6 { family, other: around.v4, number, sure: true }, 16))
            }
            Sense::Ip => Some((Leaf::Ipv6 { family, other: around.v4, number, sure: false }, 16)),
            Sense::IpWithFamily => family.map(|_| (Leaf::Ipv6 { family, other: around.v4, number, sure: false }, 16)),
            Sense::Mac => Some((Leaf::Mac, 6)),
            Sense::Text if size > 0 => {
                Some((Leaf::Text { len: size as usize, rest: false, joined: false }, size.into()))
            }
            Sense::Return => Some((Leaf::Return(width(size as u8)), size.into())),
            Sense::Time(unit) => Some((Leaf::Time { width: width(8), unit }, 8)),
            Sense::Family if around.v4 || around.v6 => coded(Code::Family),
            Sense::TcpState if family.is_some() => coded(Code::TcpState),
            Sense::Text | Sense::Family | Sense::TcpState | Sense::Version => None,
        })
    }

    /// What a struct's members say about the addresses among them; where they say nothing, what was said around it.
    fn around(&self, members: &[Place<'_>], outer: &Around) -> Result<Around, Error> {
        let mut found = Around { family: None, ..NONE };
        if self.options.raw {
            return Ok(found);
        }
        for member in members.iter().filter(|member| member.width == 0) {
            let seen = self.see(member.ty)?;
            match self.sense_of(member.name, &seen)? {
                Some(Sense::Ipv4) => found.v4 = true,
                Some(Sense::Ipv6 | Sense::Ip | Sense::IpWithFamily) => found.v6 = true,
                Some(kind @ (Sense::Family | Sense::Version)) if found.family.is_none() => {
                    let Def::Int(int) = seen.ty.def else { continue };
                    let width = Width { bytes: int.size as u8, big: seen.big.unwrap_or(self.btf.is_big_endian()) };
                    let (v4, v6) = if kind == Sense::Family { (2, 10) } else { (4, 6) };
                    found.family = Some(Family { offset: whole(self.root, member.bits / 8)?, width, v4, v6 });
                }
                _ => {}
            }
        }
        found.family = found.family.or(outer.family);
        Ok(found)
    }
}
