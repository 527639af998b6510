//! From a tree to a condition on one type: what a literal means is said by the field.

use std::net::IpAddr;
use std::ops::Range;

use super::glob::Glob;
use super::parse::{Literal, Tree};
use super::{Condition, Filter, FilterError, Node, Op, Test};
use crate::code::Code;
use crate::layout::{BitsOf, Layout, Leaf, Names, Width};
use crate::path::{Field, Miss, Path};

impl Filter {
    /// The condition for each of these types, in their order. A comparison may fit some types only: it is known of no event of
    /// the others.
    ///
    /// # Errors
    /// A comparison fits none of the types: an unknown field, or a value of another kind.
    pub fn bind<'a>(&self, layouts: impl IntoIterator<Item = &'a Layout>) -> Result<Vec<Condition>, FilterError> {
        let layouts: Vec<&Layout> = layouts.into_iter().collect();
        let nodes = self.nodes(&self.tree, &layouts)?;
        Ok(nodes.into_iter().map(|node| Condition { node }).collect())
    }

    /// One node for each layout. As deep as the tree, which parsing has bounded.
    fn nodes(&self, tree: &Tree, layouts: &[&Layout]) -> Result<Vec<Node>, FilterError> {
        let group = |parts: &[Tree], whole: fn(Box<[Node]>) -> Node| -> Result<Vec<Node>, FilterError> {
            let mut each: Vec<Vec<Node>> = layouts.iter().map(|_| Vec::with_capacity(parts.len())).collect();
            for part in parts {
                each.iter_mut().zip(self.nodes(part, layouts)?).for_each(|(all, node)| all.push(node));
            }
            Ok(each.into_iter().map(|parts| whole(parts.into())).collect())
        };
        match tree {
            Tree::All(parts) => group(parts, Node::All),
            Tree::Any(parts) => group(parts, Node::Any),
            Tree::Not(part) => {
                Ok(self.nodes(part, layouts)?.into_iter().map(|node| Node::Not(Box::new(node))).collect())
            }
            Tree::Test { path, place, test } => {
                let bound: Vec<_> = layouts
                    .iter()
                    .map(|layout| match test {
                        Some((op, op_place, literal, literal_place)) => {
                            self.compare(layout, path, place, (*op, op_place), (literal, literal_place))
                        }
                        None => self.truth(layout, path, place),
                    })
                    .collect();
                if bound.iter().any(Result::is_ok) {
                    return Ok(bound.into_iter().map(|node| node.unwrap_or(Node::Unknown)).collect());
                }
                // Of several reasons, that of a type which has the field.
                let mut errors: Vec<FilterError> = bound.into_iter().filter_map(Result::err).collect();
                let best = errors.iter().position(|error| error.unknown.is_none()).unwrap_or(0);
                Err(if best < errors.len() {
                    errors.swap_remove(best)
                } else {
                    self.error(place, "there are no events")
                })
            }
        }
    }

    fn find(&self, layout: &Layout, path: &Path, place: &Range<usize>) -> Result<(Leaf, Field), FilterError> {
        layout.leaf(path).map_err(|miss| FilterError {
            unknown: match &miss {
                Miss::Unknown(name) => Some(name.clone()),
                Miss::Whole(..) | Miss::Beyond(..) => None,
            },
            ..self.error(place, miss.to_string())
        })
    }

    fn truth(&self, layout: &Layout, path: &Path, place: &Range<usize>) -> Result<Node, FilterError> {
        let (leaf, field) = self.find(layout, path, place)?;
        match leaf {
            Leaf::Text { .. } | Leaf::Bytes { .. } | Leaf::Ipv4 { .. } | Leaf::Ipv6 { .. } | Leaf::Mac => {
                let says =
                    format!("`{path}` is {}: a comparison is wanted, such as {path} == {}", kind(leaf), sample(leaf));
                Err(self.error(place, says))
            }
            Leaf::Unsigned(_)
            | Leaf::Signed(_)
            | Leaf::Bool
            | Leaf::Float(_)
            | Leaf::Pointer(_)
            | Leaf::Enum { .. }
            | Leaf::Bits { .. }
            | Leaf::Return(_)
            | Leaf::Coded { .. }
            | Leaf::Time { .. } => Ok(Node::Test(field, Test::NotZero)),
        }
    }

    fn compare(
        &self,
        layout: &Layout,
        path: &Path,
        place: &Range<usize>,
        (op, op_place): (Op, &Range<usize>),
        (literal, literal_place): (&Literal, &Range<usize>),
    ) -> Result<Node, FilterError> {
        let (leaf, field) = self.find(layout, path, place)?;
        let allowed = match leaf {
            Leaf::Text { .. } => matches!(op, Op::Equal | Op::NotEqual | Op::Like | Op::NotLike),
            Leaf::Bytes { .. } => false,
            Leaf::Ipv4 { .. } | Leaf::Ipv6 { .. } | Leaf::Mac => matches!(op, Op::Equal | Op::NotEqual),
            _ => !matches!(op, Op::Like | Op::NotLike),
        };
        if !allowed {
            let says = match leaf {
                Leaf::Bytes { .. } => format!("`{path}` is bytes of no known meaning: it cannot be compared"),
                _ => format!("`{path}` is {}: {} is not for it", kind(leaf), op.spelled()),
            };
            return Err(self.error(op_place, says));
        }
        let wrong = || {
            let says = format!("`{path}` is {}: {} is wanted here", kind(leaf), sample(leaf));
            self.error(literal_place, says)
        };
        let names = |names: usize| layout.enums.get(names).ok_or_else(wrong);
        let test = match (leaf, literal) {
            (Leaf::Text { .. }, Literal::Text(text)) => match op {
                Op::Like | Op::NotLike => Test::Like(op, Glob::new(text)),
                _ => Test::Text(op, unescaped(text)),
            },
            (Leaf::Text { .. }, Literal::Word(word)) => {
                return Err(self.error(literal_place, format!("`{path}` is text, and text is in quotes: \"{word}\"")));
            }
            (Leaf::Mac, literal) => Test::Mac(op, mac(&spelled(literal)).ok_or_else(wrong)?),
            (Leaf::Ipv4 { .. } | Leaf::Ipv6 { .. }, literal) => {
                let (net, bits) = network(&spelled(literal)).ok_or_else(wrong)?;
                if matches!((leaf, net), (Leaf::Ipv4 { .. }, IpAddr::V6(_))) {
                    return Err(wrong());
                }
                Test::Net(op, net, bits)
            }
            (Leaf::Enum { names: n, .. } | Leaf::Bits { of: BitsOf::Enum(n), .. }, literal) => {
                let word = spelled(literal);
                let value = match enumerator(names(n)?, &word) {
                    Some(value) => value.into(),
                    None => match integer(&word) {
                        Some(value) => self.range(path, leaf, value, literal_place)?,
                        None => return Err(self.error(literal_place, no_enumerator(path, &word, names(n)?))),
                    },
                };
                Test::Integer(op, value)
            }
            (_, Literal::Text(_)) => return Err(wrong()),
            (Leaf::Float(_), Literal::Word(word)) => {
                Test::Float(op, word.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(wrong)?)
            }
            (Leaf::Bool | Leaf::Bits { of: BitsOf::Bool, .. }, Literal::Word(word)) => {
                let value = match word.as_str() {
                    "true" | "1" => 1,
                    "false" | "0" => 0,
                    _ => return Err(wrong()),
                };
                Test::Integer(op, value)
            }
            (_, Literal::Word(word)) => {
                let value =
                    integer(word).or_else(|| errno(leaf, word)).or_else(|| coded(leaf, word)).ok_or_else(wrong)?;
                Test::Integer(op, self.range(path, leaf, value, literal_place)?)
            }
        };
        Ok(Node::Test(field, test))
    }

    /// A number that the field can have: one that it never has is a slip.
    fn range(&self, path: &Path, leaf: Leaf, value: i128, place: &Range<usize>) -> Result<i128, FilterError> {
        let (bits, signed) = match leaf {
            Leaf::Signed(width) | Leaf::Return(width) => (bits(width), true),
            Leaf::Enum { width, signed, .. } | Leaf::Coded { width, signed, .. } => (bits(width), signed),
            Leaf::Bits { bits, signed, .. } => (bits.into(), signed),
            Leaf::Unsigned(width) | Leaf::Pointer(width) | Leaf::Time { width, .. } => (bits(width), false),
            _ => return Ok(value),
        };
        let top = 1i128.checked_shl(if signed { bits.saturating_sub(1) } else { bits }).filter(|_| bits < 127);
        let Some(top) = top else { return Ok(value) };
        let least = if signed { top.saturating_neg() } else { 0 };
        if value < least || value >= top {
            let says = format!("`{path}` is {}: it is between {least} and {}", kind(leaf), top.saturating_sub(1));
            return Err(self.error(place, says));
        }
        Ok(value)
    }
}

fn bits(width: Width) -> u32 {
    u32::from(width.bytes).saturating_mul(8)
}

fn spelled(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Literal::Word(word) => word.clone(),
    }
}

/// What a field is, in words.
fn kind(leaf: Leaf) -> String {
    let number = |width: Width, sign: &str| format!("{sign} number of {} bits", bits(width));
    match leaf {
        Leaf::Unsigned(width) => number(width, "an unsigned"),
        Leaf::Signed(width) | Leaf::Return(width) => number(width, "a signed"),
        Leaf::Coded { code: Code::Family, .. } => "a family of addresses".to_owned(),
        Leaf::Coded { code: Code::TcpState, .. } => "a state of TCP".to_owned(),
        Leaf::Time { .. } => "a time as a number".to_owned(),
        Leaf::Bool | Leaf::Bits { of: BitsOf::Bool, .. } => "a bool".to_owned(),
        Leaf::Float(_) => "a floating point number".to_owned(),
        Leaf::Pointer(_) => "a pointer".to_owned(),
        Leaf::Enum { .. } | Leaf::Bits { of: BitsOf::Enum(_), .. } => "an enum".to_owned(),
        Leaf::Bits { bits, of: BitsOf::Number, .. } => format!("a bit-field of {bits} bits"),
        Leaf::Text { .. } => "text".to_owned(),
        Leaf::Bytes { .. } => "bytes".to_owned(),
        Leaf::Ipv4 { .. } => "an IPv4 address".to_owned(),
        Leaf::Ipv6 { .. } => "an address".to_owned(),
        Leaf::Mac => "an Ethernet address".to_owned(),
    }
}

/// What it can be compared with.
fn sample(leaf: Leaf) -> &'static str {
    match leaf {
        Leaf::Unsigned(_) | Leaf::Time { .. } | Leaf::Bits { of: BitsOf::Number, .. } => "a number such as 42 or 0x2a",
        Leaf::Signed(_) | Leaf::Return(_) => "a number such as -2 or -ENOENT",
        Leaf::Coded { code: Code::Family, .. } => "a number or a name such as AF_INET6",
        Leaf::Coded { code: Code::TcpState, .. } => "a number or a name such as TCP_LISTEN",
        Leaf::Bool | Leaf::Bits { of: BitsOf::Bool, .. } => "true or false",
        Leaf::Float(_) => "a number such as 1.5",
        Leaf::Pointer(_) => "a number such as 0xffff888000000000",
        Leaf::Enum { .. } | Leaf::Bits { of: BitsOf::Enum(_), .. } => "one of its names",
        Leaf::Text { .. } => "\"text\"",
        Leaf::Bytes { .. } => "bytes",
        Leaf::Ipv4 { .. } => "an address such as 10.0.0.1 or 10.0.0.0/8",
        Leaf::Ipv6 { .. } => "an address such as fe80::1 or 10.0.0.0/8",
        Leaf::Mac => "an address such as 02:00:00:00:00:01",
    }
}

/// `42`, `-2`, `0x2a`, `1_000`.
fn integer(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    if digits.starts_with(['_', '+', '-']) {
        return None;
    }
    let plain = digits.replace('_', "");
    let value = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(['+', '-']) => return None,
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => plain.parse::<i128>().ok()?,
    };
    if negative { value.checked_neg() } else { Some(value) }
}

/// `-ENOENT`, of a signed number.
fn errno(leaf: Leaf, word: &str) -> Option<i128> {
    let (name, sign) = match word.strip_prefix('-') {
        Some(name) => (name, -1),
        None => (word, 1),
    };
    let number = (1..=600).find(|number| crate::errno_name(*number) == Some(name))?;
    matches!(leaf, Leaf::Signed(_) | Leaf::Return(_)).then(|| i128::from(number).saturating_mul(sign))
}

/// `AF_INET6`, `TCP_LISTEN`.
fn coded(leaf: Leaf, word: &str) -> Option<i128> {
    match leaf {
        Leaf::Coded { code, .. } => code.value(word).map(i128::from),
        _ => None,
    }
}

/// The number of a name, or of several joined by `|`, which stand in quotes.
fn enumerator(names: &Names, word: &str) -> Option<i64> {
    let one = |word: &str| names.sorted.iter().find(|(_, name)| **name == *word).map(|(value, _)| *value);
    word.split('|').try_fold(0, |all, word| Some(all | one(word.trim())?))
}

fn no_enumerator(path: &Path, word: &str, names: &Names) -> String {
    const MOST: usize = 12;
    let mut known: Vec<&str> = names.sorted.iter().map(|(_, name)| &**name).take(MOST).collect();
    if names.sorted.len() > MOST {
        known.push("…");
    }
    format!("`{path}` is an enum without `{word}`; it has {}", known.join(", "))
}

/// An address, and how many of its bits count.
fn network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn mac(word: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = word.split(':');
    for byte in &mut address {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

/// `\\` and `\*` outside of patterns.
fn unescaped(text: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, true) => match bytes.next() {
                Some(next @ (b'\\' | b'*' | b'?')) => out.push(next),
                Some(next) => out.extend([b'\\', next]),
                None => out.push(b'\\'),
            },
            (byte, false) => out.push(byte),
        }
    }
    out.into()
}
