//! Members by name: `pid`, `a.b`, `ids[2]`, and layouts of some members only.

use std::fmt;

use crate::json;
use crate::layout::{BitsOf, Family, Layout, Leaf, Scalar, Step, What};
use crate::text;

/// Names and indexes of one path. Types are nested less deeply.
const MAX_PARTS: usize = 64;

/// Where a member is: names joined by dots, elements of arrays in brackets. `value` is the whole of a type without members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Name(Box<str>),
    Index(usize),
}

impl Path {
    /// `None`: no path.
    pub fn parse(text: &str) -> Option<Path> {
        let mut parts = Vec::new();
        for (n, piece) in text.split('.').enumerate() {
            let (name, indexes) = piece.split_at(piece.find('[').unwrap_or(piece.len()));
            let fits = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            if name.is_empty() || !name.chars().all(fits) || (n == 0 && name.starts_with(|c: char| c.is_ascii_digit()))
            {
                return None;
            }
            parts.push(Part::Name(name.into()));
            let mut rest = indexes;
            while !rest.is_empty() {
                let (index, behind) = rest.strip_prefix('[')?.split_once(']')?;
                let digits = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
                parts.push(Part::Index(index.parse().ok().filter(|_| digits)?));
                rest = behind;
            }
            if parts.len() > MAX_PARTS {
                return None;
            }
        }
        Some(Path { text: text.into(), parts: parts.into() })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Why a type has no such member.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Miss {
    /// No member of that name.
    #[error("there is no field `{0}`")]
    Unknown(String),
    /// A struct or a list where a value is wanted.
    #[error("`{0}` is {1}")]
    Whole(String, String),
    /// The array is shorter.
    #[error("`{0}`: the array has {1} elements, from [0]")]
    Beyond(String, usize),
}

/// A value of a type that was looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub(crate) leaf: Leaf,
    pub(crate) offset: usize,
}

/// A value that can be sorted: numbers by size, text by bytes, addresses by theirs; nothing is before all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SortKey {
    /// The record has no such value.
    Nothing,
    /// An integer, enumerator, bool, pointer or time.
    Integer(i128),
    /// An integer beyond those.
    Large(u128),
    /// A floating point number, as bits that have its order.
    Float(i64),
    /// Text or an address.
    Bytes(Box<[u8]>),
}

impl Field {
    /// The value in a record. Enumerators are numbers here.
    #[inline]
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Scalar<'a> {
        Layout::read(&[], self.leaf, bytes, 0, self.offset)
    }

    /// What the value is sorted by.
    pub fn sort_key(&self, bytes: &[u8]) -> SortKey {
        let float = |value: f64| {
            let bits = value.to_bits().cast_signed();
            // As f64::total_cmp: negative numbers have their bits turned around.
            SortKey::Float(bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed())
        };
        match self.read(bytes) {
            Scalar::Null => SortKey::Nothing,
            Scalar::Bool(value) => SortKey::Integer(value.into()),
            Scalar::Unsigned(value) | Scalar::Pointer(value) | Scalar::Time { value, .. } => {
                SortKey::Integer(value.into())
            }
            Scalar::Signed(value) | Scalar::Return(value) | Scalar::Coded(_, value) | Scalar::Enum(_, value) => {
                SortKey::Integer(value.into())
            }
            Scalar::Unsigned128(value) => i128::try_from(value).map_or(SortKey::Large(value), SortKey::Integer),
            Scalar::Signed128(value) => SortKey::Integer(value),
            Scalar::Float(value) => float(value),
            Scalar::Float32(value) => float(value.into()),
            Scalar::Text(bytes) => SortKey::Bytes(text::until_nul(bytes).into()),
            Scalar::Joined(bytes) | Scalar::Bytes(bytes) => SortKey::Bytes(bytes.into()),
            Scalar::Ipv4(address) => SortKey::Bytes(address.into()),
            Scalar::Ipv6(address) => SortKey::Bytes(address.into()),
            Scalar::Mac(address) => SortKey::Bytes(address.into()),
        }
    }
}

/// A step that a path leads to, and what is to be added to its offset.
struct Located {
    at: usize,
    shift: usize,
}

impl Layout {
    /// The value that a path leads to.
    ///
    /// # Errors
    /// [`Miss`]: there is no such member, or it is more than one value.
    pub fn field(&self, path: &Path) -> Result<Field, Miss> {
        self.leaf(path).map(|(_, field)| field)
    }

    /// The same, and what the type says of it.
    pub(crate) fn leaf(&self, path: &Path) -> Result<(Leaf, Field), Miss> {
        let Located { at, shift } = self.locate(path)?;
        let Some(step) = self.steps.get(at) else { return Err(Miss::Unknown(path.to_string())) };
        let whole = |what: String| Err(Miss::Whole(path.to_string(), what));
        match step.what {
            What::Leaf(leaf) => {
                let offset = shift.saturating_add(step.offset);
                Ok((leaf, Field { leaf: numeric(rebased(leaf, shift)), offset }))
            }
            What::Record { .. } => {
                let names: Vec<String> = self.children(at).map(|child| format!("{path}.{}", child.1.name)).collect();
                whole(format!("a struct; name one of its members: {}", names.join(", ")))
            }
            What::List { .. } => whole(format!("an array; name an element: {path}[0]")),
        }
    }

    /// A layout that decodes these members alone, in this order, each under its path.
    ///
    /// # Errors
    /// [`Miss`]: there is no such member.
    pub fn select<'p>(&self, paths: impl IntoIterator<Item = &'p Path>) -> Result<Layout, Miss> {
        let root = Step { key: "".into(), name: "".into(), offset: 0, what: What::Record { end: 0 } };
        let mut steps = vec![root];
        for path in paths {
            let Located { at, shift } = self.locate(path)?;
            let end = self.end_of(at);
            let start = steps.len();
            self.copy(at, end, shift, &mut steps);
            if let Some(step) = steps.get_mut(start) {
                let mut key = if start == 1 { b"\"".to_vec() } else { b",\"".to_vec() };
                json::escape(path.text.as_bytes(), &mut key);
                key.extend_from_slice(b"\":");
                step.key = String::from_utf8(key).unwrap_or_default().into();
                step.name = path.text.clone();
            }
        }
        let end = steps.len();
        if let Some(root) = steps.first_mut() {
            root.what = What::Record { end };
        }
        Ok(Layout { steps: steps.into(), ..self.clone() })
    }

    /// Paths of all values, for a person who looks for one: of an array the array.
    pub fn fields(&self) -> Vec<String> {
        self.columns().into_iter().map(|name| if name.is_empty() { "value".to_owned() } else { name }).collect()
    }

    /// Copies steps to another place in another list.
    fn copy(&self, from: usize, to: usize, shift: usize, out: &mut Vec<Step>) {
        // Offsets of what is inside of a list count from its element: they stay.
        let mut list_end = 0;
        let base = out.len();
        for at in from..to {
            let Some(step) = self.steps.get(at) else { return };
            let shift = if at < list_end { 0 } else { shift };
            let place = |old: usize| old.saturating_sub(from).saturating_add(base);
            let what = match step.what {
                What::Leaf(leaf) => What::Leaf(rebased(leaf, shift)),
                What::Record { end } => What::Record { end: place(end) },
                What::List { end, stride, len, rest } => {
                    list_end = list_end.max(end);
                    What::List { end: place(end), stride, len, rest }
                }
            };
            let (key, name) = (step.key.clone(), step.name.clone());
            out.push(Step { key, name, offset: step.offset.saturating_add(shift), what });
        }
    }

    /// The step behind this one and all that is in it.
    fn end_of(&self, at: usize) -> usize {
        match self.steps.get(at).map(|step| step.what) {
            Some(What::Record { end } | What::List { end, .. }) => end,
            Some(What::Leaf(_)) | None => at.saturating_add(1),
        }
    }

    fn children(&self, at: usize) -> impl Iterator<Item = (usize, &Step)> {
        let (mut next, end) = (at.saturating_add(1), self.end_of(at));
        std::iter::from_fn(move || {
            let this = next;
            next = self.end_of(this);
            self.steps.get(this).filter(|_| this < end).map(|step| (this, step))
        })
    }

    fn locate(&self, path: &Path) -> Result<Located, Miss> {
        let unknown = || Miss::Unknown(path.to_string());
        let root = self.steps.first().ok_or_else(unknown)?;
        let (mut at, mut shift) = (0, 0usize);
        let mut parts = path.parts.iter();
        // A type without members has one name.
        if !matches!(root.what, What::Record { .. })
            && !matches!(parts.next(), Some(Part::Name(name)) if &**name == "value")
        {
            return Err(unknown());
        }
        for part in parts {
            let step = self.steps.get(at).ok_or_else(unknown)?;
            match (part, step.what) {
                (Part::Name(name), What::Record { .. }) => {
                    at = self.children(at).find(|(_, step)| step.name == *name).ok_or_else(unknown)?.0;
                }
                (Part::Index(index), What::List { end, stride, len, .. }) => {
                    let element = at.saturating_add(1);
                    if *index >= len || element >= end {
                        return Err(Miss::Beyond(path.to_string(), len));
                    }
                    shift = shift.saturating_add(step.offset).saturating_add(index.saturating_mul(stride));
                    at = element;
                }
                (Part::Name(_), What::List { .. }) => {
                    return Err(Miss::Whole(
                        step.name.to_string(),
                        format!("an array; name an element: {}[0]", step.name),
                    ));
                }
                (Part::Name(_), What::Leaf(_)) | (Part::Index(_), What::Leaf(_) | What::Record { .. }) => {
                    return Err(unknown());
                }
            }
        }
        Ok(Located { at, shift })
    }
}

/// A leaf whose frame begins `shift` bytes later.
fn rebased(leaf: Leaf, shift: usize) -> Leaf {
    let moved =
        |family: Option<Family>| family.map(|family| Family { offset: family.offset.saturating_add(shift), ..family });
    match leaf {
        Leaf::Ipv4 { family, other } => Leaf::Ipv4 { family: moved(family), other },
        Leaf::Ipv6 { family, other, number, sure } => Leaf::Ipv6 { family: moved(family), other, number, sure },
        other => other,
    }
}

/// Enumerators as the numbers that they are.
fn numeric(leaf: Leaf) -> Leaf {
    match leaf {
        Leaf::Enum { width, signed: true, .. } => Leaf::Signed(width),
        Leaf::Enum { width, signed: false, .. } => Leaf::Unsigned(width),
        Leaf::Bits { skip, bits, signed, big, of: BitsOf::Enum(_) } => {
            Leaf::Bits { skip, bits, signed, big, of: BitsOf::Number }
        }
        other => other,
    }
}
