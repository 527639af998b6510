//! A record: what is read in the kernel, and as which type it is shown.

use ringfence_btf::{Array, Btf, Builder, Def, Enumerator, Int, Kind, Member, New, TypeId};

use super::raw::Step;

/// Steps that a program follows (`STEPS`), and pointers that one of them follows (`DEREFS`).
const MOST_STEPS: usize = 32;
pub(super) const MOST_DEREFS: usize = 4;
/// Bytes of a record without its stacks.
const MOST_BYTES: u32 = 16 << 10;
/// Bytes of `struct event`, and where what is in it.
const HEAD: u32 = 72;
const TS: u32 = 0;
const PID: u32 = 8;
const TID: u32 = 12;
const UID: u32 = 16;
const CPU: u32 = 20;
const COMM: u32 = 24;
const RET: u32 = 40;
const DURATION: u32 = 48;
pub(super) const TARGET: usize = 56;
pub(super) const KERNEL: usize = 60;
pub(super) const USER: usize = 64;
pub(super) const INDEX: u32 = 68;

/// Names that every event has.
pub(super) const COMMON: [&str; 6] = ["ts_ns", "pid", "tid", "uid", "cpu", "comm"];

/// Where a step begins (`enum from`), and what it reads (`enum kind`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    Argument(u8),
    Context(u32),
    Location(u32),
    Relative(u32),
    Return,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Read {
    Bytes,
    Text,
    /// Text whose length is that argument.
    Sized(u8),
    /// The texts that a list of pointers leads to, joined by blanks: [`LIST`] bytes.
    List,
}

/// Bytes that [`Read::List`] takes (`LIST_SIZE`).
pub(super) const LIST: u32 = 576;

/// A record being put together.
#[derive(Debug)]
pub(super) struct Record {
    builder: Builder,
    kernel: Option<Btf>,
    members: Vec<(String, TypeId, u32, u8)>,
    steps: Vec<Step>,
    size: u32,
    /// What did not fit.
    pub(super) left_out: Vec<String>,
}

/// A record's type.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) types: Btf,
    pub(super) ty: TypeId,
    pub(super) steps: Vec<Step>,
    pub(super) size: u32,
}

impl Record {
    /// With what every event has. Types of the kernel can be named in it.
    pub(super) fn new(kernel: Option<&Btf>) -> Record {
        let builder = kernel.map_or_else(Builder::new, Builder::split);
        let mut record = Record {
            builder,
            kernel: kernel.cloned(),
            members: Vec::new(),
            steps: Vec::new(),
            size: HEAD,
            left_out: Vec::new(),
        };
        for (name, at, bytes) in [("ts_ns", TS, 8), ("pid", PID, 4), ("tid", TID, 4), ("uid", UID, 4), ("cpu", CPU, 4)]
        {
            let ty = record.number(bytes, false);
            record.members.push((name.to_owned(), ty, at * 8, 0));
        }
        let comm = record.text(16);
        record.members.push(("comm".to_owned(), comm, COMM * 8, 0));
        record
    }

    pub(super) fn number(&mut self, bytes: u16, signed: bool) -> TypeId {
        let name = match (bytes, signed) {
            (1, false) => "u8",
            (1, true) => "s8",
            (2, false) => "u16",
            (2, true) => "s16",
            (4, false) => "u32",
            (4, true) => "s32",
            (_, false) => "u64",
            (_, true) => "s64",
        };
        let size = u32::from(bytes);
        let int = Int { size, bits: (size * 8).min(128) as u8, offset: 0, signed, char: false, bool: false };
        self.builder.add(name, New::Int(int))
    }

    pub(super) fn boolean(&mut self) -> TypeId {
        let int = Int { size: 1, bits: 8, offset: 0, signed: false, char: false, bool: true };
        self.builder.add("bool", New::Int(int))
    }

    pub(super) fn pointer(&mut self) -> TypeId {
        self.builder.add("", New::Ptr(TypeId::VOID))
    }

    pub(super) fn text(&mut self, len: u32) -> TypeId {
        let int = Int { size: 1, bits: 8, offset: 0, signed: true, char: true, bool: false };
        let element = self.builder.add("char", New::Int(int));
        self.array(element, len)
    }

    pub(super) fn array(&mut self, element: TypeId, len: u32) -> TypeId {
        let index = self.number(4, false);
        self.builder.add("", New::Array(Array { element, index, len }))
    }

    /// Numbers with names.
    pub(super) fn names(&mut self, bytes: u16, signed: bool, values: &[(i64, String)]) -> TypeId {
        let values: Vec<Enumerator<'_>> =
            values.iter().map(|(value, name)| Enumerator { name, value: *value }).collect();
        let size = u32::from(bytes);
        let fits = values.iter().all(|one| i32::try_from(one.value).is_ok());
        let new = match fits && bytes <= 4 {
            true => New::Enum { size, signed, values: &values },
            false => New::Enum64 { size, signed, values: &values },
        };
        self.builder.add("", new)
    }

    /// A type of the kernel's by its name in C, if it has as many bytes.
    pub(super) fn named(&self, name: &str, bytes: u64) -> Option<TypeId> {
        let kernel = self.kernel.as_ref()?;
        let (name, kinds): (_, &[Kind]) = match name.split_once(' ') {
            Some(("enum", name)) => (name, &[Kind::Enum, Kind::Enum64]),
            Some(("struct", name)) => (name, &[Kind::Struct]),
            Some(("union", name)) => (name, &[Kind::Union]),
            _ => (name, &[Kind::Typedef, Kind::Int]),
        };
        let found = kinds.iter().find_map(|kind| kernel.find(name, *kind))?;
        (kernel.size_of(found).ok()? == bytes).then_some(found)
    }

    /// Room for a field, which a step fills.
    fn room(&mut self, name: &str, bytes: u32) -> Option<u32> {
        let to = self.size.next_multiple_of(8);
        let end = to.checked_add(bytes)?;
        if end > MOST_BYTES || self.steps.len() >= MOST_STEPS {
            self.left_out.push(name.to_owned());
            return None;
        }
        self.size = end;
        Some(to)
    }

    /// Reads something into the record: where it is put.
    pub(super) fn read(&mut self, name: &str, from: From, read: Read, offsets: &[i32], bytes: u32) -> Option<u32> {
        let room = u16::try_from(bytes).ok()?;
        let to = self.room(name, bytes)?;
        let (number, index, at) = match from {
            From::Argument(index) => (0, index, 0),
            From::Context(at) => (1, 0, at),
            From::Location(at) => (2, 0, at),
            From::Relative(at) => (3, 0, at),
            From::Return => (4, 0, 0),
        };
        let (kind, length) = match read {
            Read::Bytes => (0, 0),
            Read::Text => (1, 0),
            Read::Sized(length) => (2, length),
            Read::List => (3, 0),
        };
        let mut places = [0; MOST_DEREFS];
        for (place, offset) in places.iter_mut().zip(offsets) {
            *place = *offset;
        }
        self.steps.push(Step {
            from: number,
            kind,
            index,
            length,
            to: u16::try_from(to).ok()?,
            size: room,
            at,
            derefs: u32::try_from(offsets.len()).ok()?,
            offsets: places,
        });
        Some(to)
    }

    /// The record reaches at least to there.
    pub(super) fn reserve(&mut self, end: u32) {
        self.size = self.size.max(end);
    }

    /// Shows what lies at a place of the record. A name that is taken gets `arg_` in front.
    pub(super) fn show(&mut self, name: &str, ty: TypeId, at: u32) {
        self.show_bits(name, ty, at * 8, 0);
    }

    pub(super) fn show_bits(&mut self, name: &str, ty: TypeId, bit: u32, bits: u8) {
        let mut name = name.to_owned();
        while COMMON.contains(&&*name)
            || ["ret", "duration_ns"].contains(&&*name)
            || self.members.iter().any(|(other, ..)| *other == name)
        {
            name = format!("arg_{name}");
        }
        self.members.push((name, ty, bit, bits));
    }

    /// A struct of some members, as a type.
    pub(super) fn group(&mut self, size: u32, members: &[(String, TypeId, u32)]) -> TypeId {
        let members: Vec<Member<'_>> =
            members.iter().map(|(name, ty, at)| Member { name, ty: *ty, bit_offset: at * 8, bit_size: 0 }).collect();
        self.builder.add("", New::Struct { size, members: &members })
    }

    /// What the function gave, which stands in every record.
    pub(super) fn returns(&mut self, ty: TypeId) {
        self.members.push(("ret".to_owned(), ty, RET * 8, 0));
    }

    pub(super) fn lasts(&mut self) {
        let ty = self.number(8, false);
        self.members.push(("duration_ns".to_owned(), ty, DURATION * 8, 0));
    }

    pub(super) fn done(mut self) -> Result<Done, ringfence_btf::Error> {
        let size = self.size.next_multiple_of(8);
        let members: Vec<Member<'_>> = self
            .members
            .iter()
            .map(|(name, ty, bit, bits)| Member { name, ty: *ty, bit_offset: *bit, bit_size: *bits })
            .collect();
        let ty = self.builder.add("event", New::Struct { size, members: &members });
        Ok(Done { types: self.builder.build()?, ty, steps: self.steps, size })
    }

    /// Names of the fields, without those that all have.
    pub(super) fn fields(&self) -> Vec<String> {
        self.members.iter().map(|(name, ..)| name.clone()).filter(|name| !COMMON.contains(&&**name)).collect()
    }
}

/// Whether a type is `char`.
pub(super) fn is_char(types: &Btf, ty: TypeId) -> bool {
    // Kernels are compiled with `char` as a plain signed or unsigned byte: the name tells.
    matches!(types.strip_modifiers(ty).map(|ty| (ty.name, ty.def)), Ok(("char", Def::Int(_))))
}
