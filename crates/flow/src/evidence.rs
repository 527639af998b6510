//! What one write says: the name, the width and the meaning of what is at its place.
//!
//! Wrong is worse than unknown. A compiler joins stores of neighbours (constants, copies, the halves of one number), so
//! a width is believed only where that cannot be: what was computed, what a helper wrote, what was read from a member of
//! that width. Bytes that nothing names and whose meaning nothing tells are left out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use ringfence_object::{Function, FunctionId, Line, Object};
use ringfence_uapi::{Helper, Insn};

use crate::layout::{Certainty, Field, Meaning};
use crate::lists;
use crate::names::{self, Named};
use crate::origin::Origin;
use crate::outputs::line_of;
use crate::source;
use crate::writes::{By, Memory, Region, Write};

/// Longest line of source that is read.
const MAX_LINE: usize = 1024;
/// Bytes of a task's name.
const TASK_COMM_LEN: u32 = 16;
/// Most lines of a function that are read for one write.
const MAX_LINES: usize = 5_000;
/// Instructions, writes and lines that are looked at to see which writes reach a call and what they say, for one object.
const MAX_STEPS: usize = 8_000_000;

/// What one write says.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) field: Field,
    /// The members that lead to it: `src.port`.
    pub(crate) path: String,
    /// A constant: it may be that of several fields.
    pub(crate) constant: bool,
    /// A copy of bytes from elsewhere: it may be of several fields, or a part of one.
    pub(crate) copy: bool,
    /// By an assignment, which copies structs but no arrays.
    pub(crate) assigned: bool,
    pub(crate) element: bool,
    /// The array of structs that it is in.
    pub(crate) within: Option<String>,
    pub(crate) helper: bool,
    /// It was read, not written.
    pub(crate) read: bool,
    /// As many bytes as some constant says, which need not be all of the member.
    pub(crate) bounded: bool,
    /// It is in every element of an array: the step, how many there are or 0, and numbers that the function compares with.
    pub(crate) every: Option<(u32, u32, Rc<[u32]>)>,
    /// As many bytes as a number says, at most these.
    pub(crate) most: bool,
    /// A single byte of what is computed: of a packed struct's member, which has no alignment, there is one store for each.
    pub(crate) byte: bool,
}

impl Evidence {
    /// A field that is known from what these bytes are a copy of.
    pub(crate) fn taken_over(field: Field) -> Evidence {
        let path = field.name.clone().unwrap_or_default();
        Evidence {
            field,
            path,
            constant: false,
            copy: false,
            assigned: false,
            element: false,
            within: None,
            helper: false,
            read: false,
            bounded: false,
            every: None,
            most: false,
            byte: false,
        }
    }
}

/// Indices into a function's lines, by file and number.
type Places = HashMap<(u32, u32), Vec<usize>>;

/// Reads what an object says of its writes.
pub(crate) struct Reader<'a> {
    pub(crate) object: &'a Object,
    pub(crate) memory: Memory,
    /// Answers that many writes ask for: members by function and variable, lines by function, file and number.
    members: RefCell<HashMap<(FunctionId, String), Option<Named>>>,
    lines: RefCell<HashMap<(FunctionId, u32, u32), bool>>,
    places: RefCell<HashMap<FunctionId, Rc<Places>>>,
    known: RefCell<HashMap<Write, Vec<Evidence>>>,
    compared: RefCell<HashMap<FunctionId, Rc<[u32]>>>,
    /// By function, file and line.
    pub(crate) lists: RefCell<HashMap<(FunctionId, u32, u32), Rc<lists::Set>>>,
    /// Of [`MAX_STEPS`].
    steps: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(object: &'a Object, memory: Memory) -> Reader<'a> {
        let (members, lines) = (RefCell::default(), RefCell::default());
        let (places, known, compared) = (RefCell::default(), RefCell::default(), RefCell::default());
        let (lists, steps) = (RefCell::default(), Cell::new(MAX_STEPS));
        Reader { object, memory, members, lines, places, known, compared, lists, steps }
    }

    /// Counts work; `false`: it was too much.
    pub(crate) fn spend(&self, steps: usize) -> bool {
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Not everything could be looked at.
    pub(crate) fn exhausted(&self) -> bool {
        self.steps.get() == 0
    }

    fn text(&self, line: Option<Line>) -> &str {
        let text = line.and_then(|line| self.object.btf.as_ref()?.string(line.text).ok()).unwrap_or_default();
        text.get(..MAX_LINE).unwrap_or(text)
    }

    /// The member that a write's lines name, and the line that does.
    fn named(&self, function: &Function, write: &Write) -> (Option<Named>, Option<Line>, &str) {
        let line = line_of(function, write.insn);
        let text = self.text(line);
        let assigned = || line.and_then(|line| names::assigned(text, line.column.into()));
        let copies = text.contains("memcpy") || text.contains("memmove");
        let whole = || {
            let (btf, line) = (self.object.btf.as_ref()?, line.as_ref()?);
            self.spend(function.lines.len().min(source::MAX_LINES)).then_some(())?;
            Some(source::statement(btf, function, line))
        };
        let named = match write.by {
            By::Read => names::only_member(text),
            By::Helper(_) => names::handed(text)
                .or_else(assigned)
                .or_else(|| names::handed(&whole()?).or_else(|| names::written_at(&whole()?))),
            By::Store(_) if copies => names::handed(text),
            By::Store(Origin::Other | Origin::Elapsed(_)) if text.contains("__sync_") || text.contains("__atomic_") => {
                assigned().or_else(|| names::handed(text))
            }
            By::Store(_) | By::Constant(_) => assigned(),
        };
        // A wrapper of a helper has lines of its own; the address is computed in the line that calls it.
        if named.is_none() && matches!(write.by, By::Helper(_)) {
            for at in write.made.steps() {
                let of = self.text(line_of(function, at));
                if let Some(named) = names::borrowed(of).or_else(|| names::handed_alone(of)) {
                    return (Some(named), line, text);
                }
            }
        }
        if named.is_some() || !matches!(write.by, By::Store(_) | By::Constant(_)) {
            return (named, line, text);
        }
        let listed = self.listed(function, write, line, text).map(|name| Named::listed(&name));
        let named = listed.or_else(|| self.set_by_macro(function, text));
        if matches!(write.by, By::Constant(_)) || named.is_some() {
            return (named, line, text);
        }
        // An initialiser is one statement for the compiler; the lines of what is stored are those of the members.
        for at in write.made.steps() {
            let made = line_of(function, at);
            let of = self.text(made);
            // What is read back is used as it is; one value can be that of several members.
            let whole = write.made.read.is_none_or(|read| at != read as usize) || names::plain(of);
            if let Some(named) = names::initialised(of).filter(|_| whole && (made != line || text.contains('{'))) {
                return (Some(named), made, of);
            }
        }
        (None, line, text)
    }

    /// The member that the line of a store assigns to.
    pub(crate) fn assigned(&self, write: &Write) -> Option<(String, Line)> {
        let line = line_of(self.object.functions.get(write.function.0)?, write.insn)?;
        Some((names::assigned(self.text(Some(line)), line.column.into())?.name, line))
    }

    /// The member that a macro in this line sets.
    fn set_by_macro(&self, function: &Function, text: &str) -> Option<Named> {
        names::set_by_macro(text, &|name| self.is_pointer(function, name))
    }

    /// Whether some line reaches members through this name.
    fn is_pointer(&self, function: &Function, name: &str) -> bool {
        let Some(btf) = self.object.btf.as_ref() else { return false };
        let through = |sign: &str| source::mentions(btf, function, &format!("{name}{sign}"));
        self.spend(function.lines.len()) && (through("->") || through("."))
    }

    /// What a write says; it is `offset` bytes from the start of the record.
    pub(crate) fn evidence(&self, write: &Write, offset: u32) -> Vec<Evidence> {
        let known = self.known.borrow().get(write).cloned();
        let mut all = known.unwrap_or_else(|| {
            let halves = self.halves(write);
            let all = if halves.is_empty() { self.read(write).into_iter().collect() } else { halves };
            self.known.borrow_mut().insert(*write, all.clone());
            all
        });
        for evidence in &mut all {
            evidence.field.offset = evidence.field.offset.saturating_add(offset);
        }
        all
    }

    /// Two members that are stored at once: the halves of what says who runs, in either order.
    fn halves(&self, write: &Write) -> Vec<Evidence> {
        let By::Store(origin) = write.by else { return Vec::new() };
        let (upper, lower, turned) = match origin {
            Origin::PidTgid => ("tgid", "pid", false),
            Origin::TgidPid => ("tgid", "pid", true),
            Origin::UidGid => ("gid", "uid", false),
            Origin::GidUid => ("gid", "uid", true),
            _ => return Vec::new(),
        };
        let Some(function) = self.object.functions.get(write.function.0).filter(|_| write.bytes == 8) else {
            return Vec::new();
        };
        let (Some(own), Some(line), text) = self.named(function, write) else { return Vec::new() };
        if !self.spend(function.lines.len().min(MAX_LINES)) {
            return Vec::new();
        }
        // Members of the same struct in the lines around.
        let near = function.lines.iter().take(MAX_LINES);
        let near = near.filter(|other| other.file == line.file && other.line.abs_diff(line.line) <= 2);
        let what = names::of_what(text);
        let mut found: Vec<(String, names::Half)> = vec![(own.name, names::half(text))];
        for other in near.filter(|other| other.line != line.line) {
            let text = self.text(Some(*other));
            let named = names::assigned(text, other.column.into()).filter(|named| named.base == own.base);
            let Some(named) = named else { continue };
            if names::of_what(text) == what && found.iter().all(|(name, _)| *name != named.name) {
                found.push((named.name, names::half(text)));
            }
        }
        let one = |upper: bool| {
            let mut fitting = found.iter().filter(|(_, half)| (*half == names::Half::Upper) == upper);
            fitting.next().filter(|_| fitting.next().is_none()).map(|(name, _)| name.clone())
        };
        let cut = found.iter().any(|(_, half)| *half != names::Half::Plain);
        let (above, below) = match (one(true), one(false)) {
            (Some(above), Some(below)) => ((above, false), (below, false)),
            // Only one line was kept, and it says that it is of a half.
            (Some(above), None) if found.len() == 1 => {
                let below = if above == lower { "tid" } else { lower };
                ((above, false), (below.to_owned(), true))
            }
            (None, Some(below)) if found.len() == 1 && cut => {
                let above = if below == "tid" { "pid" } else { upper };
                ((above.to_owned(), true), (below, false))
            }
            _ => return Vec::new(),
        };
        let lower_first = turned == self.object.big_endian;
        let order = if lower_first { [below, above] } else { [above, below] };
        let fields = order.into_iter().zip([0, 4]).map(|((name, by_origin), offset)| {
            let (meaning, certainty) = (Meaning::Unsigned, Certainty::Likely);
            Evidence::taken_over(Field {
                offset,
                width: 4,
                name: Some(name),
                by_origin,
                meaning,
                certainty,
                line: Some(line),
            })
        });
        fields.collect()
    }

    fn read(&self, write: &Write) -> Option<Evidence> {
        let function = self.object.functions.get(write.function.0)?;
        self.spend(100).then_some(())?;
        let (mut named, line, text) = self.named(function, write);
        let copies = text.contains("memcpy") || text.contains("memmove");
        let mut by_variable = false;
        if named.is_none() {
            let of = |text: &str| names::variable(text).and_then(|variable| self.member_of(write.function, variable));
            named = match write.by {
                By::Helper(_) => of(text),
                By::Store(_) => {
                    of(text).or_else(|| write.made.steps().find_map(|at| of(self.text(line_of(function, at)))))
                }
                By::Constant(_) | By::Read => None,
            };
            by_variable = named.is_some();
        }
        let core = line.filter(|line| line.line > 0).and_then(|line| self.core_of_line(function, line, write.insn));
        let mut evidence = Evidence {
            field: Field {
                offset: 0,
                width: write.bytes,
                name: named.as_ref().map(|named| named.name.clone()),
                by_origin: false,
                meaning: Meaning::Unsigned,
                certainty: match &named {
                    Some(named) if named.listed => Certainty::Likely,
                    _ => Certainty::Certain,
                },
                line,
            },
            constant: false,
            copy: false,
            path: named.as_ref().map(|named| named.path.clone()).unwrap_or_default(),
            assigned: !copies,
            element: named.as_ref().is_some_and(|named| named.element),
            within: named.as_ref().and_then(|named| named.within.clone()),
            helper: matches!(write.by, By::Helper(_)),
            read: write.by == By::Read,
            bounded: false,
            every: write.every.map(|(step, count)| (step, count, self.compared(write.function))),
            most: write.most,
            byte: write.every.is_none()
                && matches!(write.by, By::Store(_) | By::Constant(_))
                && write.bytes == 1
                && !text.contains('{')
                && !copies,
        };
        let field = &mut evidence.field;
        let by_origin = |field: &mut Field, name: &str| {
            if field.name.is_none() {
                field.name = Some(name.to_owned());
                field.by_origin = true;
                field.certainty = Certainty::Likely;
            }
        };
        match write.by {
            By::Constant(_) if field.name.is_none() => {
                field.name = Some(names::through(text)?.to_owned());
                field.certainty = Certainty::Likely;
            }
            By::Constant(_) => {
                // No smaller store was joined to one of a byte; only a bit that is set is a part of a number.
                let byte = write.bytes == 1 && !evidence.element && !text.contains("|=") && !text.contains("&=");
                let sure = byte || self.alone(write.function, line, text);
                field.certainty = if sure { Certainty::Likely } else { Certainty::Guessed };
                evidence.constant = true;
            }
            By::Read => {
                // A single bit, or a cast, is often looked for in a narrower part.
                let narrowed = write.bytes < 8
                    && (text.replace("&&", "").contains('&') || text.contains("(__u") || text.contains("(u"));
                if field.name.is_none() || evidence.element || evidence.within.is_some() {
                    return None;
                }
                field.certainty = if narrowed { Certainty::Guessed } else { Certainty::Likely };
            }
            By::Helper(helper) => {
                field.meaning = match helper {
                    Helper::GET_CURRENT_COMM => {
                        by_origin(field, "comm");
                        Meaning::Text
                    }
                    text if is_text(text) => Meaning::Text,
                    // What is in the bytes was written elsewhere.
                    Helper::DYNPTR_WRITE if !matches!(write.bytes, 1 | 2 | 4 | 8) => {
                        evidence.copy = true;
                        if texty(field.name.as_deref()) { Meaning::Text } else { Meaning::Bytes }
                    }
                    Helper::GET_STACK | Helper::GET_TASK_STACK if write.bytes.is_multiple_of(8) => Meaning::Words,
                    _ => {
                        let typed = core.as_ref().and_then(|(_, ty)| self.typed(*ty, write.bytes));
                        let number =
                            matches!(write.bytes, 1 | 2 | 4 | 8) && !named.as_ref().is_some_and(|named| named.array);
                        let plain = if number { Meaning::Unsigned } else { Meaning::Bytes };
                        typed.unwrap_or(if texty(field.name.as_deref()) { Meaning::Text } else { plain })
                    }
                };
                if field.name.is_none()
                    && let Some((name, _)) = core.filter(|(_, ty)| self.size(*ty) == Some(write.bytes))
                {
                    by_origin(field, &name);
                }
                // `sizeof(&x)` is a pointer's, `sizeof(*array)` one element's. A command is always as long.
                let pointer = text.contains("sizeof(&") || (write.bytes == 8 && !text.contains("sizeof("));
                let short = helper == Helper::GET_CURRENT_COMM && write.bytes != TASK_COMM_LEN;
                if field.meaning == Meaning::Text && (write.bytes < 2 || pointer || short) {
                    field.certainty = Certainty::Guessed;
                }
                let said = text.contains("sizeof(") || text.contains("_INTO(") || helper == Helper::GET_CURRENT_COMM;
                evidence.bounded = !said && !matches!(write.bytes, 1 | 2 | 4 | 8);
            }
            By::Store(origin) => match origin {
                Origin::TgidPid | Origin::GidUid => return None,
                Origin::PidTgid | Origin::UidGid if write.bytes == 8 => {
                    // Two halves that were stored at once look the same.
                    let halves = ["pid", "tid", "tgid", "uid", "gid"];
                    let whole = ["bpf_get_current_pid_tgid();", "bpf_get_current_uid_gid();"]
                        .iter()
                        .any(|call| names::right_side(text).starts_with(call));
                    if !whole && field.name.as_deref().is_some_and(|name| halves.contains(&name)) {
                        return None;
                    }
                    by_origin(field, if origin == Origin::PidTgid { "pid_tgid" } else { "uid_gid" });
                }
                Origin::PidTgid | Origin::Pid => by_origin(field, "pid"),
                Origin::Tgid => by_origin(field, "tgid"),
                Origin::UidGid | Origin::Uid => by_origin(field, "uid"),
                Origin::Gid => by_origin(field, "gid"),
                Origin::Time if write.bytes == 8 => by_origin(field, "ts"),
                Origin::Cpu => by_origin(field, "cpu"),
                Origin::StackId | Origin::UserStackId => {
                    by_origin(field, if origin == Origin::StackId { "kernel_stack_id" } else { "user_stack_id" });
                    field.meaning = Meaning::Signed;
                }
                Origin::CgroupId => by_origin(field, "cgroup_id"),
                Origin::Signed => field.meaning = Meaning::Signed,
                Origin::Core(site) => {
                    if let Some((name, ty)) = self.core_at(site) {
                        match self.size(ty) {
                            Some(size) if size == write.bytes => {
                                field.meaning = self.typed(ty, write.bytes).unwrap_or(Meaning::Unsigned);
                                by_origin(field, &name);
                            }
                            // A part of it, or more than it.
                            Some(size) if size > write.bytes && !matches!(size, 1 | 2 | 4 | 8) => evidence.copy = true,
                            _ => {}
                        }
                    }
                }
                Origin::MapValue(map, at, bytes) if bytes == write.bytes => match self.member_of_value(map, at) {
                    Some((_, ty)) if self.size(ty) == Some(bytes) => {
                        field.meaning = self.typed(ty, bytes).unwrap_or(Meaning::Unsigned);
                    }
                    _ => {
                        evidence.copy = true;
                        field.certainty = self.copied(Region::Value(map), at, bytes);
                    }
                },
                // All of a global variable.
                Origin::Data(map, at, bytes) if bytes == write.bytes && self.number_at(map, at, bytes).is_some() => {
                    field.meaning = self.number_at(map, at, bytes).map_or(Meaning::Unsigned, |(_, meaning)| meaning);
                }
                Origin::Context(at, bytes)
                    if bytes == write.bytes && !copies && self.of_context(function, at, bytes, text).is_some() =>
                {
                    if let Some((name, ty)) = self.of_context(function, at, bytes, text) {
                        field.meaning = self.typed(ty, bytes).unwrap_or(Meaning::Unsigned);
                        by_origin(field, &name);
                    }
                }
                Origin::Memory(bytes)
                | Origin::Data(_, _, bytes)
                | Origin::Stack(_, _, bytes)
                | Origin::Context(_, bytes)
                    if bytes == write.bytes =>
                {
                    // What was read for this line alone was one number; else two may have been copied at once.
                    let macros = ["BPF_CORE_READ(", "BPF_PROBE_READ(", "BPF_CORE_READ_USER("];
                    let right = names::right_side(text);
                    if macros.iter().any(|name| right.starts_with(name)) {
                        let typed = core.as_ref().and_then(|(_, ty)| self.typed(*ty, write.bytes));
                        field.meaning = typed.unwrap_or(Meaning::Unsigned);
                    } else {
                        evidence.copy = true;
                        field.certainty = match origin {
                            Origin::Stack(of, at, _) => self.copied(Region::Frame(of), at, bytes),
                            // Arguments have 8 bytes each: no two fit into one load.
                            Origin::Context(_, 8) => Certainty::Likely,
                            _ if bytes == 1 => Certainty::Likely,
                            _ => Certainty::Guessed,
                        };
                    }
                }
                Origin::Memory(_)
                | Origin::Data(..)
                | Origin::Stack(..)
                | Origin::Context(..)
                | Origin::MapValue(..)
                | Origin::Other
                | Origin::Elapsed(_)
                | Origin::Time => {}
            },
        }
        evidence.copy |= copies && !evidence.helper;
        if let Some(name) = &evidence.field.name
            && evidence.field.meaning == Meaning::Unsigned
            && matches!(write.bytes, 4 | 8)
            && ["ret", "retval", "err", "error"].contains(&name.as_str())
        {
            evidence.field.meaning = Meaning::Signed;
        }
        // A copy that no neighbour can be a part of is one member's.
        if evidence.copy
            && !evidence.helper
            && evidence.field.certainty == Certainty::Guessed
            && matches!(write.bytes, 1 | 2 | 4 | 8)
            && self.alone(write.function, line, text)
        {
            evidence.field.certainty = Certainty::Likely;
        }
        let base = named.as_ref().map_or("", |named| &named.base);
        if evidence.field.certainty < Certainty::Guessed
            && matches!(write.by, By::Store(_))
            && line == line_of(function, write.insn)
            && (write.bytes <= 2 || (!text.contains('|') && self.ors(function, write.insn)))
            && self.joined_with_previous(write.function, line, base)
        {
            evidence.field.certainty = Certainty::Guessed;
        }
        if by_variable && evidence.field.certainty == Certainty::Certain {
            evidence.field.certainty = Certainty::Likely;
        }
        if evidence.field.name.is_none() {
            if evidence.copy {
                return None;
            }
            evidence.field.certainty = Certainty::Guessed;
        }
        Some(evidence)
    }

    /// The constants that a function compares with: where loops end.
    fn compared(&self, id: FunctionId) -> Rc<[u32]> {
        const X: u8 = 0x08;
        if let Some(known) = self.compared.borrow().get(&id) {
            return Rc::clone(known);
        }
        let insns = self.object.functions.get(id.0).map_or(&[][..], |function| &function.insns);
        let jumps = insns.iter().filter(|insn| matches!(insn.class(), Insn::JMP | Insn::JMP32) && insn.code & X == 0);
        let mut all: Vec<u32> = jumps
            .filter(|_| self.spend(1))
            // `> 15` is 16 of them.
            .filter_map(|insn| {
                let behind = u32::from(matches!(insn.code & 0xf0, 0x20 | 0x60 | 0xb0 | 0xd0));
                u32::try_from(insn.imm).ok()?.checked_add(behind)
            })
            .filter(|imm| *imm > 1)
            .collect();
        all.sort_unstable();
        all.dedup();
        let all: Rc<[u32]> = all.into();
        self.compared.borrow_mut().insert(id, Rc::clone(&all));
        all
    }

    /// Whether the store of this line stands alone. Stores that a compiler joins keep the line of the first: so it is
    /// alone if the next line has an instruction of its own, and a store if it names a member.
    fn alone(&self, function: FunctionId, line: Option<Line>, text: &str) -> bool {
        let Some(line) = line.filter(|line| line.line > 0) else { return false };
        // Several statements, several members.
        let plain = text.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", "");
        let of = self.object.functions.get(function.0);
        let sets = match plain.matches('=').count() {
            0 => of.is_some_and(|function| self.set_by_macro(function, text).is_some()),
            count => count == 1,
        };
        if !sets || plain.matches(';').count() > 1 || text.trim_end().ends_with('{') {
            return false;
        }
        self.accounted_for(function, line.file, line.line.saturating_add(1))
    }

    /// [`Reader::accounted`], asked once.
    fn accounted_for(&self, function: FunctionId, file: u32, number: u32) -> bool {
        let key = (function, file, number);
        if let Some(known) = self.lines.borrow().get(&key) {
            return *known;
        }
        let accounted = self.object.functions.get(function.0).is_some_and(|function| self.accounted(function, key));
        self.lines.borrow_mut().insert(key, accounted);
        accounted
    }

    /// Whether a line has instructions of its own, and one that stores if it names a member.
    fn accounted(&self, function: &Function, (id, file, number): (FunctionId, u32, u32)) -> bool {
        let all = self.places(id);
        let there = all.get(&(file, number)).map_or(&[][..], Vec::as_slice);
        let mut there = there.iter().filter_map(|at| Some((*at, function.lines.get(*at)?))).peekable();
        let Some((_, first)) = there.peek() else { return false };
        let text = self.text(Some(**first));
        let member = names::assigned(text, 1).is_some() || self.set_by_macro(function, text).is_some();
        !member
            || there.any(|(at, line)| {
                let end = function.lines.get(at.saturating_add(1)).map_or(function.insns.len(), |next| next.insn);
                let insns = function.insns.get(line.insn..end).unwrap_or_default();
                // What a helper writes is written there, too.
                insns.iter().any(|insn| matches!(insn.class(), Insn::ST | Insn::STX) || insn.is_helper_call())
            })
    }

    /// Where among a function's lines each line of the source stands, by file and number.
    fn places(&self, id: FunctionId) -> Rc<Places> {
        if let Some(known) = self.places.borrow().get(&id) {
            return Rc::clone(known);
        }
        let mut places = Places::default();
        if let Some(function) = self.object.functions.get(id.0).filter(|function| self.spend(function.lines.len())) {
            for (at, line) in function.lines.iter().enumerate() {
                places.entry((line.file, line.line)).or_default().push(at);
            }
        }
        let places = Rc::new(places);
        self.places.borrow_mut().insert(id, Rc::clone(&places));
        places
    }

    /// The line before sets another member of the same struct, and its instructions do not store: bit-fields and halves
    /// of one number are stored with the last of them.
    fn joined_with_previous(&self, id: FunctionId, line: Option<Line>, base: &str) -> bool {
        let Some(line) = line.filter(|line| line.line > 1 && !base.is_empty()) else { return false };
        let Some(function) = self.object.functions.get(id.0) else { return false };
        let before = line.line.saturating_sub(1);
        let places = self.places(id);
        let first = places.get(&(line.file, before)).and_then(|places| places.first());
        let there = first.and_then(|at| function.lines.get(*at));
        let same = |first: &Line| names::assigned(self.text(Some(*first)), 1).is_some_and(|named| named.base == base);
        there.is_some_and(same) && !self.accounted_for(id, line.file, before)
    }

    /// What is stored here is put together from two registers.
    fn ors(&self, function: &Function, insn: usize) -> bool {
        let start = line_of(function, insn).map_or(insn, |line| line.insn);
        let all = function.insns.get(start..insn).unwrap_or_default();
        self.spend(all.len()) && all.iter().any(|insn| matches!(insn.code, 0x4c | 0x4f))
    }

    fn member_of(&self, function: FunctionId, variable: &str) -> Option<Named> {
        let key = (function, variable.to_owned());
        if let Some(known) = self.members.borrow().get(&key) {
            return known.clone();
        }
        let found = self.member_set_to(self.object.functions.get(function.0)?, variable);
        self.members.borrow_mut().insert(key, found.clone());
        found
    }

    /// The member that some line of the function sets to this variable, and to nothing else.
    fn member_set_to(&self, function: &Function, variable: &str) -> Option<Named> {
        let btf = self.object.btf.as_ref()?;
        let mut found: Option<Named> = None;
        self.spend(function.lines.len().min(MAX_LINES)).then_some(())?;
        for line in function.lines.iter().take(MAX_LINES) {
            let Some(text) = btf.string(line.text).ok().filter(|text| text.len() <= MAX_LINE) else { continue };
            let named = match names::assigns(text, variable) {
                true => names::assigned(text, line.column.into()),
                false => names::initialised_with(text, variable),
            };
            let Some(named) = named else { continue };
            if found.as_ref().is_some_and(|found| found.name != named.name) {
                return None;
            }
            found = Some(named);
        }
        found
    }

    /// How sure it is that a copy of these bytes is one field's: something was written there in one piece. Compilers
    /// copy neighbours at once.
    fn copied(&self, region: Region, at: i32, bytes: u32) -> Certainty {
        let (start, end) = (i64::from(at), i64::from(at).saturating_add(bytes.into()));
        let Some(writes) = self.memory.writes.get(&region).filter(|_| bytes > 1) else {
            return if bytes == 1 { Certainty::Likely } else { Certainty::Guessed };
        };
        let mut whole = false;
        if !self.spend(writes.len()) {
            return Certainty::Guessed;
        }
        for write in writes {
            let to = write.at.saturating_add(write.bytes.into());
            match write.by {
                By::Constant(_) => {}
                _ if (write.at, to) == (start, end) => whole = true,
                // Temporaries of other sizes share the place.
                _ if write.at != start && write.at < end && start < to => return Certainty::Guessed,
                _ => {}
            }
        }
        if whole { Certainty::Likely } else { Certainty::Guessed }
    }

    /// The line of a store sets all of what this pointer leads to: `*value = x`.
    pub(crate) fn stores_through(&self, write: &Write, pointer: &str) -> bool {
        let line = self.object.functions.get(write.function.0).and_then(|function| line_of(function, write.insn));
        matches!(source::tokens(self.text(line)).as_slice(), ["*", name, "=", ..] if *name == pointer)
    }
}

/// What this helper writes is text.
pub(crate) fn is_text(helper: Helper) -> bool {
    #[rustfmt::skip]
    const TEXT: &[Helper] = &[
        Helper::GET_CURRENT_COMM, Helper::PROBE_READ_STR, Helper::PROBE_READ_USER_STR, Helper::PROBE_READ_KERNEL_STR,
        Helper::D_PATH, Helper::SNPRINTF,
    ];
    TEXT.contains(&helper)
}

/// A member whose name says that it is text.
pub(crate) fn texty(name: Option<&str>) -> bool {
    let whole = ["task", "file", "fname", "host", "str", "cmdline", "exe", "argv", "args", "fstype"];
    name.is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        whole.contains(&name.as_str())
            || ["comm", "name", "path", "hostname", "_str", "string", "text"].iter().any(|end| name.ends_with(end))
    })
}
