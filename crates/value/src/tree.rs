//! A record as an owned tree, for users of the library.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layout::{Scalar, Sink, Step};
use crate::text;

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// An address that does not apply: the family beside it says so.
    Null,
    /// `bool`.
    Bool(bool),
    /// An unsigned integer. Times are nanoseconds (or what the name says) of the kernel's clock.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// An unsigned integer of 128 bits.
    Unsigned128(u128),
    /// A signed integer of 128 bits.
    Signed128(i128),
    /// A floating point number.
    Float(f64),
    /// A pointer: an address in the kernel or a process.
    Pointer(u64),
    /// An enumerator, or several joined by `|`.
    Enum {
        /// The name.
        name: String,
        /// The number.
        value: i64,
    },
    /// Text; bytes that are no UTF-8 appear as `\xNN`.
    Text(String),
    /// Bytes of which nothing more is known.
    Bytes(Vec<u8>),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// An array.
    List(Vec<Value>),
    /// A struct or union: names and values in the order of the source.
    Record(Vec<(String, Value)>),
}

impl Value {
    /// Appends the value as a YAML document without `---`, ended by a newline.
    pub fn yaml(&self, out: &mut String) {
        crate::yaml::write(self, out);
    }

    /// A member by its name, or by names joined by dots.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, name| match value {
            Value::Record(members) => members.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        })
    }

    /// A non-negative number: integers, enumerators, pointers, `bool`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Bool(value) => Some((*value).into()),
            Value::Unsigned(value) | Value::Pointer(value) => Some(*value),
            Value::Signed(value) | Value::Enum { value, .. } => (*value).try_into().ok(),
            Value::Unsigned128(value) => (*value).try_into().ok(),
            Value::Signed128(value) => (*value).try_into().ok(),
            _ => None,
        }
    }

    /// A number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Signed(value) | Value::Enum { value, .. } => Some(*value),
            Value::Signed128(value) => (*value).try_into().ok(),
            other => other.as_u64()?.try_into().ok(),
        }
    }

    /// Text, or an enumerator's name.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Enum { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The members of a struct or union.
    pub fn as_record(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Record(members) => Some(members),
            _ => None,
        }
    }

    fn from_scalar(value: Scalar<'_>) -> Value {
        let text = |bytes: &[u8]| {
            // Not made visible: a program gets the characters, a person gets them from a table.
            let mut out = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                out.push_str(chunk.valid());
                chunk.invalid().iter().for_each(|b| text::push_fmt(&mut out, format_args!("\\x{b:02x}")));
            }
            out
        };
        match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Unsigned(value) | Scalar::Time { value, .. } => Value::Unsigned(value),
            Scalar::Signed(value) | Scalar::Return(value) => Value::Signed(value),
            Scalar::Coded(_, value) => u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned),
            Scalar::Unsigned128(value) => Value::Unsigned128(value),
            Scalar::Signed128(value) => Value::Signed128(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::Float32(value) => Value::Float(value.into()),
            Scalar::Pointer(value) => Value::Pointer(value),
            Scalar::Enum(names, value) => Value::Enum {
                name: match names.of(value) {
                    Some(name) => name.to_owned(),
                    None => names.flags_of(value).into_iter().flatten().collect::<Vec<_>>().join("|"),
                },
                value,
            },
            Scalar::Text(bytes) => Value::Text(text(text::until_nul(bytes))),
            Scalar::Joined(bytes) => Value::Text(text::strings(bytes).map(text).collect::<Vec<_>>().join(" ")),
            Scalar::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Scalar::Ipv4(address) => Value::Address(Ipv4Addr::from(address).into()),
            Scalar::Ipv6(address) => Value::Address(Ipv6Addr::from(address).into()),
            Scalar::Mac(address) => Value::Mac(address),
        }
    }
}

/// On one line, as in a table: `{pid=1 comm=init}`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        match self {
            Value::Null => out.push('-'),
            Value::Bool(value) => return value.fmt(f),
            Value::Unsigned(value) => return value.fmt(f),
            Value::Signed(value) => return value.fmt(f),
            Value::Unsigned128(value) => return value.fmt(f),
            Value::Signed128(value) => return value.fmt(f),
            Value::Float(value) => return value.fmt(f),
            Value::Address(address) => return address.fmt(f),
            Value::Pointer(value) => text::push_pointer(&mut out, *value),
            Value::Enum { name: text, .. } | Value::Text(text) => text::push_visible(text.as_bytes(), &mut out),
            Value::Bytes(bytes) => text::push_bytes(&mut out, bytes),
            Value::Mac(address) => text::push_mac(&mut out, *address),
            Value::List(elements) => {
                for (n, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if n == 0 { "[" } else { " " })?;
                }
                return f.write_str(if elements.is_empty() { "[]" } else { "]" });
            }
            Value::Record(members) => {
                for (n, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{name}={value}", if n == 0 { "{" } else { " " })?;
                }
                return f.write_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
        f.pad(&out)
    }
}

/// Collects a walk into a tree.
#[derive(Default)]
pub(crate) struct Builder {
    /// What is being filled, outermost first, with the name that each has in the one around it.
    open: Vec<(String, Value)>,
    done: Option<Value>,
}

impl Builder {
    pub(crate) fn finish(self) -> Value {
        self.done.unwrap_or(Value::Record(Vec::new()))
    }

    fn put(&mut self, name: &str, value: Value) {
        match self.open.last_mut() {
            Some((_, Value::Record(members))) => members.push((name.to_owned(), value)),
            Some((_, Value::List(elements))) => elements.push(value),
            _ => self.done = Some(value),
        }
    }

    fn close(&mut self) {
        if let Some((name, value)) = self.open.pop() {
            self.put(&name, value);
        }
    }
}

impl Sink for Builder {
    fn leaf(&mut self, step: &Step, value: Scalar<'_>) {
        self.put(&step.name, Value::from_scalar(value));
    }

    fn open_record(&mut self, step: &Step) {
        self.open.push((step.name.to_string(), Value::Record(Vec::new())));
    }

    fn close_record(&mut self) {
        self.close();
    }

    fn open_list(&mut self, step: &Step, _: usize) {
        self.open.push((step.name.to_string(), Value::List(Vec::new())));
    }

    fn element(&mut self, _: usize) {}

    fn close_list(&mut self) {
        self.close();
    }
}
