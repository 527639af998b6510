//! Global variables: where each is in its data section, and a value's bytes by the variable's type.
//!
//! Nothing is converted silently: a value that does not fit its variable is an error that says what would.

use ringfence_btf::{Btf, Def, Int, TypeId};
use ringfence_object::{MapId, Object};

use crate::Error;
use crate::error::no_such;
use crate::settings::{Given, Value};

/// A variable, an element of one or a member of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) ty: TypeId,
    /// Bits from the start of the section.
    pub(crate) bit: u64,
    /// Width of a bit-field.
    bits: Option<u64>,
}

/// Writes a value into the contents of the section that holds the variable.
///
/// `contents` gives the bytes of a data section's map; `None`: it is not going to be created.
pub(crate) fn set<'a>(
    object: &Object,
    path: &str,
    given: &Given,
    contents: impl FnOnce(MapId) -> Option<&'a mut Vec<u8>>,
) -> Result<(), Error> {
    let Some(btf) = &object.btf else {
        return Err(Error::NoObjectBtf { what: format!("setting the global {path}") });
    };
    let (map, place) = find(object, btf, path)?;
    let left_out =
        || Error::Global { path: path.to_owned(), problem: "its section is left out of the plan".to_owned() };
    write(btf, path, place, given, contents(map).ok_or_else(left_out)?)
}

/// Writes a value into the bytes of a variable or section.
pub(crate) fn write(btf: &Btf, path: &str, place: Place, given: &Given, bytes: &mut [u8]) -> Result<(), Error> {
    let problem = |problem: String| Error::Global { path: path.to_owned(), problem };
    let size = btf.size_of(place.ty)?;
    let at = usize::try_from(place.bit / 8).unwrap_or(usize::MAX);
    let end = at.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
    let outside = || problem("it lies outside its section: the object is damaged".to_owned());
    match place.bits {
        None => {
            let target = bytes.get_mut(at..end).ok_or_else(outside)?;
            encode(btf, place.ty, given, target).map_err(problem)
        }
        Some(bits) => {
            let mut whole = vec![0; usize::try_from(size).unwrap_or(0).min(16)];
            encode_bits(btf, place.ty, given, bits, &mut whole).map_err(problem)?;
            put_bits(bytes, &whole, place.bit, bits).ok_or_else(outside)
        }
    }
}

/// The name of the variable in a path, and the way on from there.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find(['.', '[']).unwrap_or(path.len()))
}

fn find(object: &Object, btf: &Btf, path: &str) -> Result<(MapId, Place), Error> {
    let (name, rest) = split(path);
    // A variable that the whole program knows hides those inside functions.
    let named = |is_static: bool| object.globals.iter().filter(move |g| g.name == name && g.is_static == is_static);
    let mut found = named(false).chain(named(true).filter(|_| named(false).next().is_none()));
    let problem = |problem: &str| Error::Global { path: path.to_owned(), problem: problem.to_owned() };
    let Some(global) = found.next() else {
        if object.externs.iter().any(|ext| ext.name == name) {
            return Err(problem("the kernel decides its value, not the object"));
        }
        let names = object.globals.iter().filter(|global| !global.is_static).map(|global| global.name.as_str());
        return Err(no_such("global variable", name, names));
    };
    if found.next().is_some() {
        return Err(problem("several static variables have this name"));
    }
    let ty = global.ty.ok_or_else(|| problem("the object's BTF does not describe it"))?;
    let mut place = inside(btf, path, ty, rest)?;
    place.bit = place.bit.saturating_add(u64::from(global.offset).saturating_mul(8));
    Ok((global.map, place))
}

/// The element or member of a variable of this type to which the rest of a path leads.
pub(crate) fn inside(btf: &Btf, path: &str, ty: TypeId, rest: &str) -> Result<Place, Error> {
    let problem = |problem: &str| Error::Global { path: path.to_owned(), problem: problem.to_owned() };
    let mut place = Place { ty, bit: 0, bits: None };
    let mut rest = rest;
    while let Some(index) = rest.strip_prefix('[') {
        let (index, behind) = index.split_once(']').ok_or_else(|| problem("a [ without ]"))?;
        let index: u64 = index.trim().parse().map_err(|_| problem("an index is a number: name[3]"))?;
        let Def::Array(array) = btf.resolve(place.ty)?.def else {
            return Err(problem("it is no array and has no elements"));
        };
        if index >= u64::from(array.len) {
            return Err(problem(&format!("the array has {} elements, from [0]", array.len)));
        }
        let bits = btf.size_of(array.element)?.saturating_mul(8);
        place.ty = array.element;
        place.bit = place.bit.saturating_add(index.saturating_mul(bits));
        rest = behind;
    }
    if let Some(member) = rest.strip_prefix('.') {
        let field = btf.find_member(place.ty, member).map_err(|error| match error {
            ringfence_btf::Error::NoMember { .. } => problem("there is no such member"),
            error => error.into(),
        })?;
        place.ty = field.ty;
        place.bit = place.bit.saturating_add(field.bit_offset);
        place.bits = field.bitfield.then_some(field.bit_size);
    } else if !rest.is_empty() {
        return Err(problem("behind ] comes [ or ."));
    }
    Ok(place)
}

/// Puts the bytes of a value into `target`, which has the size of the type.
fn encode(btf: &Btf, id: TypeId, given: &Given, target: &mut [u8]) -> Result<(), String> {
    let value = match given {
        Given::Value(value) => value,
        Given::Text(text) => return encode_text(btf, id, text, target),
    };
    if let Value::Bytes(bytes) = value {
        if bytes.len() != target.len() {
            return Err(format!("it has {} bytes and {} were given", target.len(), bytes.len()));
        }
        target.copy_from_slice(bytes);
        return Ok(());
    }
    let ty = btf.resolve(id).map_err(|error| error.to_string())?;
    match (ty.def, value) {
        (Def::Int(int), Value::Int(number)) => encode_int(ty.name, int, *number, target),
        (Def::Int(int), Value::Bool(truth)) => encode_int(ty.name, int, i128::from(*truth), target),
        (Def::Enum(body), Value::Int(number)) => encode_number(*number, body.size, body.signed, target),
        (Def::Enum(_), Value::Text(text)) => encode_text(btf, id, text, target),
        (Def::Array(_), Value::Text(text)) if is_text(btf, id) => encode_chars(text, target),
        (Def::Struct(_) | Def::Union(_), _) => {
            Err("it is a structure: set its members one by one (name.member)".into())
        }
        (Def::Array(_), _) => Err("it is an array: set its elements one by one (name[0])".into()),
        (Def::Ptr(_), _) => Err("it is a pointer, whose value only the kernel can know".into()),
        (def, value) => Err(format!("a {} cannot take {}", name_of(&def), describe(value))),
    }
}

/// Reads text as the type asks.
fn encode_text(btf: &Btf, id: TypeId, text: &str, target: &mut [u8]) -> Result<(), String> {
    let ty = btf.resolve(id).map_err(|error| error.to_string())?;
    match ty.def {
        Def::Int(int) if int.bool => {
            let truth = parse_bool(text).ok_or_else(|| format!("\"{text}\" is neither true nor false"))?;
            encode_int(ty.name, int, i128::from(truth), target)
        }
        Def::Int(int) => {
            let number = parse_number(text).ok_or_else(|| format!("\"{text}\" is no integer"))?;
            encode_int(ty.name, int, number, target)
        }
        Def::Enum(body) => {
            let named = body.values().filter_map(Result::ok).find(|value| value.name == text);
            let wide = |value: i64| {
                if body.signed { i128::from(value) } else { i128::from(value.cast_unsigned()) }
            };
            let number = named.map(|value| wide(value.value)).or_else(|| parse_number(text));
            let Some(number) = number else {
                let names = body.values().filter_map(Result::ok).map(|value| value.name);
                return Err(format!("its values are {}", names.collect::<Vec<_>>().join(", ")));
            };
            // A 32-bit unsigned enumerator is read as it stands; only its low bytes count.
            encode_number(number, body.size, body.signed, target)
        }
        Def::Array(_) if is_text(btf, id) => encode_chars(text, target),
        Def::Array(array) => {
            let parts: Vec<&str> = text.split(',').map(str::trim).collect();
            if parts.len() != array.len as usize {
                return Err(format!("it has {} elements and {} were given", array.len, parts.len()));
            }
            let size = target.len().checked_div(parts.len()).unwrap_or(0);
            if size == 0 || !matches!(btf.resolve(array.element).map(|ty| ty.def), Ok(Def::Int(_) | Def::Enum(_))) {
                return Err("only elements that are numbers can be listed: set them one by one (name[0])".into());
            }
            target
                .chunks_exact_mut(size)
                .zip(parts)
                .try_for_each(|(slot, part)| encode_text(btf, array.element, part, slot))
        }
        _ => encode(btf, id, &Given::Value(Value::Text(text.to_owned())), target),
    }
}

fn encode_chars(text: &str, target: &mut [u8]) -> Result<(), String> {
    let most = target.len().saturating_sub(1);
    if text.len() > most {
        return Err(format!("it holds {most} bytes of text and the zero at the end; \"{text}\" has {}", text.len()));
    }
    target.fill(0);
    target.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
    Ok(())
}

fn encode_int(name: &str, int: Int, number: i128, target: &mut [u8]) -> Result<(), String> {
    if int.bool && !(0..=1).contains(&number) {
        return Err(format!("it is a bool and takes true or false, not {number}"));
    }
    // Plain char is signed or not as the compiler likes: it takes what either would. clang tells it by name only.
    if (int.char || name == "char") && (0..=255).contains(&number) {
        return encode_number(number, int.size, false, target);
    }
    encode_number(number, int.size, int.signed, target)
}

fn encode_number(number: i128, size: u32, signed: bool, target: &mut [u8]) -> Result<(), String> {
    let bits = size.saturating_mul(8);
    check_range(number, bits, signed)?;
    put_number(number, target);
    Ok(())
}

fn check_range(number: i128, bits: u32, signed: bool) -> Result<(), String> {
    let span = |bits: u32| 1i128.checked_shl(bits).filter(|span| *span > 0).unwrap_or(i128::MAX);
    let (low, high) = if signed {
        let half = span(bits.saturating_sub(1));
        (half.saturating_neg(), half.saturating_sub(1))
    } else {
        (0, span(bits).saturating_sub(1))
    };
    if (low..=high).contains(&number) {
        return Ok(());
    }
    let sign = if signed { "" } else { "unsigned " };
    Err(format!("{number} does not fit in {sign}{bits} bits, which hold {low} to {high}"))
}

/// The low bytes of a number, in the byte order of this machine (and so of the object).
fn put_number(number: i128, target: &mut [u8]) {
    if cfg!(target_endian = "big") {
        target.iter_mut().rev().zip(number.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
    } else {
        target.iter_mut().zip(number.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
    }
}

/// The value of a bit-field, in the bytes of its declared type.
fn encode_bits(btf: &Btf, id: TypeId, given: &Given, bits: u64, whole: &mut [u8]) -> Result<(), String> {
    encode(btf, id, given, whole)?;
    let number = match given {
        Given::Value(Value::Int(number)) => *number,
        _ => whole.iter().rev().fold(0i128, |number, byte| number << 8 | i128::from(*byte)),
    };
    let signed = matches!(btf.resolve(id).map(|ty| ty.def), Ok(Def::Int(int)) if int.signed);
    check_range(number, u32::try_from(bits).unwrap_or(u32::MAX), signed)
}

/// Little-endian bit-fields: bit 0 is the lowest one of the first byte.
fn put_bits(bytes: &mut [u8], value: &[u8], at: u64, bits: u64) -> Option<()> {
    if cfg!(target_endian = "big") {
        return None;
    }
    for bit in 0..bits {
        let set = value.get(usize::try_from(bit / 8).ok()?)? >> (bit % 8) & 1;
        let to = at.checked_add(bit)?;
        let slot = bytes.get_mut(usize::try_from(to / 8).ok()?)?;
        *slot = *slot & !(1 << (to % 8)) | set << (to % 8);
    }
    Some(())
}

/// An array of one-byte integers.
fn is_text(btf: &Btf, id: TypeId) -> bool {
    let Ok(Def::Array(array)) = btf.resolve(id).map(|ty| ty.def) else { return false };
    matches!(btf.resolve(array.element).map(|ty| ty.def), Ok(Def::Int(int)) if int.size == 1 && !int.bool)
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" | "1" => Some(true),
        "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Decimal, `0x`, `0o`, `0b`, or one character in quotes.
fn parse_number(text: &str) -> Option<i128> {
    let text = text.trim();
    if let Some(character) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        let mut bytes = character.bytes();
        return bytes.next().filter(|_| bytes.next().is_none()).map(i128::from);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', b'o', ..] => (digits.get(2..)?, 8),
        [b'0', b'b', ..] => (digits.get(2..)?, 2),
        _ => (digits, 10),
    };
    // from_str_radix would take a second sign.
    let number =
        digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| i128::from_str_radix(digits, radix).ok())??;
    if negative { number.checked_neg() } else { Some(number) }
}

fn name_of(def: &Def<'_>) -> &'static str {
    match def {
        Def::Int(int) if int.bool => "bool",
        Def::Int(_) => "number",
        Def::Float { .. } => "floating point number",
        Def::Enum(_) => "enum",
        _ => "variable of this type",
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Text(text) => format!("the text \"{text}\""),
    }
}
