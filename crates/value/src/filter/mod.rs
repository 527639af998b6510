//! Conditions on decoded values: `pid == 1234 && comm ~ "ssh*"`.
//!
//! A condition is parsed once ([`Filter::parse`]), given the types of the events ([`Filter::bind`]), and then asked of each
//! record without an allocation ([`Condition::holds`]). Everything that can be wrong with it is found in the first two steps.
//!
//! # Language
//! - `FIELD OP VALUE`; a field is a [`Path`](crate::Path). `==` `!=` `<` `<=` `>` `>=`; text also `~` and `!~` with `*` and `?`.
//! - Numbers: `1234`, `-2`, `0x1f`, `1.5`; of a signed field also `-ENOENT`; of a family or
//!   state of TCP `AF_INET6`, `TCP_LISTEN`. Enumerators by name. Text in quotes.
//! - Addresses: `10.0.0.1`, `fe80::1`, `02:00:00:00:00:01`; of networks `saddr == 10.0.0.0/8`.
//! - A `bool` or a number by itself holds when it is not zero.
//! - `!` binds closer than `&&`, that closer than `||`; parentheses.
//!
//! # A field that is not there
//! An event may have no such field: another type of event in the same buffer, the address of the other family, a record that
//! was cut. A comparison with it is neither true nor false, and so is its negation; an event is taken when the whole is true.

mod bind;
mod glob;
mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::layout::Scalar;
use crate::path::Field;
use crate::text;
use glob::Glob;

/// A condition whose grammar is right; the types are not known yet.
#[derive(Clone, Debug)]
pub struct Filter {
    text: Box<str>,
    tree: parse::Tree,
}

/// A condition on records of one type.
#[derive(Clone, Debug)]
pub struct Condition {
    node: Node,
}

/// What is wrong with a condition, and where. Shown in three lines: the reason, the condition, a caret under the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    text: String,
    place: Range<usize>,
    what: String,
    unknown: Option<String>,
}

impl FilterError {
    /// The name that no type has, if that is what is wrong: for whoever looks for near ones.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }
}

impl std::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters that are shown before and behind the place.
        const AROUND: usize = 60;
        let shown = |part: &str| -> String { part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let part = |range: Range<usize>| shown(self.text.get(range).unwrap_or_default());
        let before: Vec<char> = part(0..self.place.start).chars().collect();
        let place = part(self.place.clone());
        let behind: String = part(self.place.end..self.text.len()).chars().take(AROUND).collect();
        let cut = before.len().saturating_sub(AROUND);
        let before: String = before.into_iter().skip(cut).collect();
        let carets = place.chars().take(AROUND).count().max(1);
        let blanks = before.chars().count();
        writeln!(f, "{}", self.what)?;
        writeln!(f, "    {before}{place}{behind}")?;
        write!(f, "    {:blanks$}{:^<carets$}", "", "")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Like,
    NotLike,
}

impl Op {
    fn of<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Op::Equal | Op::Like => left == right,
            Op::NotEqual | Op::NotLike => left != right,
            Op::Less => left < right,
            Op::LessEqual => left <= right,
            Op::Greater => left > right,
            Op::GreaterEqual => left >= right,
        }
    }

    /// The answer of `==`, for this one.
    fn same(self, equal: bool) -> bool {
        equal != matches!(self, Op::NotEqual | Op::NotLike)
    }

    const fn spelled(self) -> &'static str {
        match self {
            Op::Equal => "==",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::LessEqual => "<=",
            Op::Greater => ">",
            Op::GreaterEqual => ">=",
            Op::Like => "~",
            Op::NotLike => "!~",
        }
    }
}

/// As deep as the condition is nested, which parsing has bounded.
#[derive(Clone, Debug)]
enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Test(Field, Test),
    /// The type has no such field.
    Unknown,
}

#[derive(Clone, Debug)]
enum Test {
    NotZero,
    Integer(Op, i128),
    Float(Op, f64),
    Text(Op, Box<[u8]>),
    Like(Op, Glob),
    Net(Op, IpAddr, u8),
    Mac(Op, [u8; 6]),
}

impl Condition {
    /// Whether a record meets it. `false` also where that cannot be known: see the language's last point.
    #[inline]
    pub fn holds(&self, record: &[u8]) -> bool {
        self.node.eval(record) == Some(true)
    }
}

impl Node {
    fn eval(&self, record: &[u8]) -> Option<bool> {
        match self {
            Node::Test(field, test) => test.eval(field.read(record)),
            Node::All(parts) => some_decides(parts, record, false),
            Node::Any(parts) => some_decides(parts, record, true),
            Node::Not(part) => part.eval(record).map(|value| !value),
            Node::Unknown => None,
        }
    }
}

/// `decides`, if one part has that value; else the opposite, if all are known.
fn some_decides(parts: &[Node], record: &[u8], decides: bool) -> Option<bool> {
    let mut unknown = false;
    for part in parts {
        match part.eval(record) {
            Some(value) if value == decides => return Some(decides),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(!decides)
}

impl Test {
    /// `None`: the record has no such value, or one of another kind.
    #[inline]
    fn eval(&self, value: Scalar<'_>) -> Option<bool> {
        Some(match (self, value) {
            (Test::NotZero, value) => match integer(value) {
                Some(value) => value != 0,
                None => float(value)? != 0.0,
            },
            (Test::Integer(op, right), value) => op.of(integer(value)?, *right),
            (Test::Float(op, right), value) => op.of(float(value)?, *right),
            (Test::Text(op, right), Scalar::Text(left)) => op.of(text::until_nul(left), &**right),
            (Test::Text(op, right), Scalar::Joined(left)) => op.same(text::joined(left).eq(right.iter().copied())),
            (Test::Like(op, glob), Scalar::Text(left)) => op.same(glob.matches(text::until_nul(left), false)),
            (Test::Like(op, glob), Scalar::Joined(left)) => op.same(glob.matches(text::used(left), true)),
            (Test::Net(op, net, bits), Scalar::Ipv4(left)) => op.same(within(Ipv4Addr::from(left).into(), *net, *bits)),
            (Test::Net(op, net, bits), Scalar::Ipv6(left)) => op.same(within(Ipv6Addr::from(left).into(), *net, *bits)),
            (Test::Mac(op, right), Scalar::Mac(left)) => op.of(left, *right),
            _ => return None,
        })
    }
}

fn integer(value: Scalar<'_>) -> Option<i128> {
    Some(match value {
        Scalar::Bool(value) => value.into(),
        Scalar::Unsigned(value) | Scalar::Pointer(value) | Scalar::Time { value, .. } => value.into(),
        Scalar::Signed(value) | Scalar::Return(value) | Scalar::Coded(_, value) | Scalar::Enum(_, value) => {
            value.into()
        }
        // Nobody can write a larger number in a condition.
        Scalar::Unsigned128(value) => i128::try_from(value).unwrap_or(i128::MAX),
        Scalar::Signed128(value) => value,
        Scalar::Null
        | Scalar::Float(_)
        | Scalar::Float32(_)
        | Scalar::Text(_)
        | Scalar::Joined(_)
        | Scalar::Bytes(_)
        | Scalar::Ipv4(_)
        | Scalar::Ipv6(_)
        | Scalar::Mac(_) => return None,
    })
}

fn float(value: Scalar<'_>) -> Option<f64> {
    match value {
        Scalar::Float(value) => Some(value),
        Scalar::Float32(value) => Some(value.into()),
        _ => None,
    }
}

/// Whether an address is in a network, by its first `bits` bits.
fn within(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let same = |left: u128, right: u128, of: u32| {
        left.checked_shr(of.saturating_sub(bits.into())).unwrap_or(0)
            == right.checked_shr(of.saturating_sub(bits.into())).unwrap_or(0)
    };
    match (address, net) {
        (IpAddr::V4(left), IpAddr::V4(right)) => same(left.to_bits().into(), right.to_bits().into(), 32),
        (IpAddr::V6(left), IpAddr::V6(right)) => same(left.to_bits(), right.to_bits(), 128),
        _ => false,
    }
}
