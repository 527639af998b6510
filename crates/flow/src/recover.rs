//! Fields of a record by what is written to it: which stores and helpers reach the call that sends it, and what the
//! source lines of these say.
//!
//! Wrong is worse than unknown. A compiler joins stores of neighbours (constants, copies, the halves of one number), so
//! a width is believed only where that cannot be: what was computed, what a helper wrote, what was read from a member of
//! that width. Bytes that nothing names and whose meaning nothing tells are left out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_object::{CoreKind, Function, FunctionId, Line, MapId, Object};
use ringfence_uapi::{Helper, MapType};

use crate::layout::{Certainty, Field, Layout, Meaning};
use crate::names::{self, Named};
use crate::origin::Origin;
use crate::outputs::{self, Output, Size};
use crate::uses::uses;
use crate::value::{Site, Value};
use crate::walk::{self, Call, Seen, Store};

/// Most writes that are remembered, and most that are looked at for one call that sends.
const MAX_WRITES: usize = 50_000;
const MAX_REACHING: usize = 2_000;
/// Programs whose callees are told apart.
const MAX_PROGRAMS: usize = 256;
/// Instructions that are followed to see which writes reach a call, for one object.
const MAX_STEPS: usize = 4_000_000;
/// Largest record whose fields are looked for.
const MAX_BYTES: u32 = 1 << 16;
/// Longest line of source that is read.
const MAX_LINE: usize = 1024;
/// Most lines of a function that are read for one write.
const MAX_LINES: usize = 5_000;

/// Memory that a record can be in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Region {
    Frame(FunctionId),
    Value(MapId),
    Data(MapId),
    Record(Site),
}

fn regions(pointer: Value) -> Vec<(Region, i64)> {
    match pointer {
        Value::Stack(frame, Some(at)) => vec![(Region::Frame(frame.of), at.into())],
        Value::MapValue(map, Some(at)) => vec![(Region::Value(map), at.into())],
        Value::Data(map, at) => vec![(Region::Data(map), at)],
        Value::Record(site, Some(at)) => vec![(Region::Record(site), at.into())],
        Value::Either(site, map, Some(at)) => vec![(Region::Record(site), at.into()), (Region::Value(map), at.into())],
        _ => Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum By {
    /// A store of a constant.
    Constant(u64),
    Store(Origin),
    Helper(Helper),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Write {
    at: i64,
    bytes: u32,
    function: FunctionId,
    insn: usize,
    by: By,
}

/// A record on its way out.
struct Sent {
    output: Output,
    places: Vec<(Region, i64)>,
}

/// The layouts of all records that the object's programs send, by map and size; as far as they can be told.
pub fn layouts(object: &Object) -> Vec<Layout> {
    let mut writes: BTreeMap<Region, BTreeSet<Write>> = BTreeMap::new();
    let mut sent: Vec<Sent> = Vec::new();
    let mut count = 0usize;
    walk::walk(object, &mut |seen| {
        let (pointer, write) = match seen {
            Seen::Store(store) => (store.to, of_store(store)),
            Seen::Call(call) => {
                if let Some(output) = outputs::output(object, call)
                    && sent.len() < MAX_REACHING
                {
                    let places = places(call, &output);
                    if !sent.iter().any(|known| known.output == output && known.places == places) {
                        sent.push(Sent { output, places });
                    }
                }
                let Some((pointer, write)) = of_helper(call) else { return };
                (pointer, write)
            }
        };
        for (region, at) in regions(pointer) {
            if count < MAX_WRITES && writes.entry(region).or_default().insert(Write { at, ..write }) {
                count = count.saturating_add(1);
            }
        }
    });
    let reached = programs(object);
    let mut recovery = Recovery { object, writes, reached, steps: MAX_STEPS };
    let mut groups: BTreeMap<(MapId, Size), Vec<Vec<Field>>> = BTreeMap::new();
    for sent in &sent {
        if let Some(map) = sent.output.map {
            groups.entry((map, sent.output.size)).or_default().push(recovery.fields(sent));
        }
    }
    groups.into_iter().map(|((map, size), all)| Layout { map, size, fields: merged(all) }).collect()
}

/// What each program reaches, of the first programs.
fn programs(object: &Object) -> Vec<BTreeSet<FunctionId>> {
    object.programs.iter().take(MAX_PROGRAMS).map(|program| uses(object, program.function).functions).collect()
}

fn places(call: &Call<'_>, output: &Output) -> Vec<(Region, i64)> {
    let [_, second, _, fourth, _] = *call.arguments;
    match output.kind {
        outputs::Kind::RingReserve => vec![(Region::Record(Site { function: call.function, insn: call.insn }), 0)],
        outputs::Kind::RingReserveDynptr => Vec::new(),
        outputs::Kind::RingOutput => regions(second),
        outputs::Kind::PerfOutput => regions(fourth),
    }
}

fn of_store(store: &Store) -> Write {
    let by = store.value.as_constant().map_or(By::Store(store.origin), By::Constant);
    Write { at: 0, bytes: store.bytes, function: store.function, insn: store.insn, by }
}

/// What a helper writes, and where.
fn of_helper(call: &Call<'_>) -> Option<(Value, Write)> {
    let [a, b, c, d, _] = *call.arguments;
    let (to, bytes) = match call.helper {
        Helper::GET_CURRENT_COMM
        | Helper::PROBE_READ
        | Helper::PROBE_READ_STR
        | Helper::PROBE_READ_USER
        | Helper::PROBE_READ_KERNEL
        | Helper::PROBE_READ_USER_STR
        | Helper::PROBE_READ_KERNEL_STR
        | Helper::COPY_FROM_USER
        | Helper::COPY_FROM_USER_TASK
        | Helper::SNPRINTF => (a, b),
        Helper::GET_STACK | Helper::GET_TASK_STACK | Helper::D_PATH => (b, c),
        Helper::SKB_LOAD_BYTES | Helper::XDP_LOAD_BYTES | Helper::SKB_LOAD_BYTES_RELATIVE => (c, d),
        _ => return None,
    };
    let bytes = u32::try_from(bytes.as_constant()?).ok().filter(|bytes| (1..=MAX_BYTES).contains(bytes))?;
    Some((to, Write { at: 0, bytes, function: call.function, insn: call.insn, by: By::Helper(call.helper) }))
}

struct Recovery<'a> {
    object: &'a Object,
    writes: BTreeMap<Region, BTreeSet<Write>>,
    /// What each program reaches.
    reached: Vec<BTreeSet<FunctionId>>,
    steps: usize,
}

/// What one write says.
#[derive(Clone, Debug)]
struct Evidence {
    field: Field,
    /// A constant: it may be that of several fields.
    constant: bool,
    /// A copy of bytes from elsewhere: it may be of several fields, or a part of one.
    copy: bool,
    element: bool,
    helper: bool,
}

impl Recovery<'_> {
    /// The fields of one record.
    fn fields(&mut self, sent: &Sent) -> Vec<Field> {
        let extent = match sent.output.size {
            Size::Exact(most) | Size::Between(_, most) => most.min(MAX_BYTES),
            Size::Unknown => MAX_BYTES,
        };
        // A scratch buffer that other programs use as well holds their records, too; what is kept by a key in a map may
        // be filled by several programs.
        let with: Vec<_> = self.reached.iter().filter(|all| all.contains(&sent.output.function)).collect();
        let with: BTreeSet<FunctionId> = with.into_iter().flatten().copied().collect();
        let mut all = Vec::new();
        for (region, start) in &sent.places {
            let scratch = |map: MapId| self.object.maps.get(map.0).is_some_and(|map| map.kind == MapType::PERCPU_ARRAY);
            let shared = with.is_empty() || matches!(region, Region::Value(map) if !scratch(*map));
            let end = start.saturating_add(extent.into());
            let Some(writes) = self.writes.get(region) else { continue };
            let inside = |write: &&Write| {
                (shared || with.contains(&write.function))
                    && write.at >= *start
                    && write.at.saturating_add(write.bytes.into()) <= end
            };
            let inside: Vec<Write> = writes.iter().filter(inside).copied().take(MAX_REACHING).collect();
            for write in &inside {
                if self.reaches(*region, write, &inside, &sent.output)
                    && let Ok(offset) = u32::try_from(write.at.saturating_sub(*start))
                    && let Some(evidence) = self.evidence(write, offset)
                {
                    all.push(evidence);
                }
            }
        }
        // All of it at once says nothing of its fields.
        all.retain(|evidence| evidence.field.width < extent || evidence.field.name.is_some());
        resolved(all, sent.output.size)
    }

    /// Whether some way leads from the write to the call on which it is not overwritten.
    fn reaches(&mut self, region: Region, write: &Write, others: &[Write], output: &Output) -> bool {
        // In other memory, or from another function: not followed.
        if region != Region::Frame(output.function) || write.function != output.function {
            return true;
        }
        let Some(function) = self.object.functions.get(write.function.0) else { return false };
        let covers = |other: &&Write| {
            other.at <= write.at
                && other.at.saturating_add(other.bytes.into()) >= write.at.saturating_add(write.bytes.into())
                && other.function == write.function
        };
        let killers: HashSet<usize> = others.iter().filter(covers).map(|other| other.insn).collect();
        let mut seen = HashSet::new();
        let mut todo = vec![write.insn.saturating_add(1)];
        while let Some(at) = todo.pop() {
            if at == output.insn {
                return true;
            }
            let Some(left) = self.steps.checked_sub(1) else { return false };
            self.steps = left;
            if !seen.insert(at) || killers.contains(&at) {
                continue;
            }
            let Some(insn) = function.insns.get(at) else { continue };
            todo.extend(walk::jump_target(*insn, at));
            if walk::falls_through(*insn) {
                todo.push(at.saturating_add(if insn.is_ld_imm64() { 2 } else { 1 }));
            }
        }
        false
    }

    fn evidence(&self, write: &Write, offset: u32) -> Option<Evidence> {
        let function = self.object.functions.get(write.function.0)?;
        let line = line_of(function, write.insn);
        let text = line.and_then(|line| self.object.btf.as_ref()?.string(line.text).ok()).unwrap_or_default();
        let text = text.get(..MAX_LINE).unwrap_or(text);
        let assigned = || line.and_then(|line| names::assigned(text, line.column.into()));
        let copies = text.contains("memcpy") || text.contains("memmove");
        let named: Option<Named> = match write.by {
            By::Helper(_) => names::handed(text).or_else(assigned),
            By::Store(_) if copies => names::handed(text),
            By::Store(_) | By::Constant(_) => assigned(),
        };
        let named = named.or_else(|| {
            let variable = names::variable(text).filter(|_| matches!(write.by, By::Helper(_) | By::Store(_)))?;
            self.member_set_to(function, variable)
        });
        let by_variable = named.is_some() && names::variable(text).is_some();
        let core = line.filter(|line| line.line > 0).and_then(|line| self.core_of_line(function, line, write.insn));
        let mut evidence = Evidence {
            field: Field {
                offset,
                width: write.bytes,
                name: named.as_ref().map(|named| named.name.clone()),
                meaning: Meaning::Unsigned,
                certainty: Certainty::Certain,
                line,
            },
            constant: false,
            copy: false,
            element: named.as_ref().is_some_and(|named| named.element),
            helper: matches!(write.by, By::Helper(_)),
        };
        let field = &mut evidence.field;
        let by_origin = |field: &mut Field, name: &str| {
            if field.name.is_none() {
                field.name = Some(name.to_owned());
                field.certainty = Certainty::Likely;
            }
        };
        match write.by {
            By::Constant(_) if field.name.is_none() => return None,
            By::Constant(_) => {
                field.certainty = Certainty::Guessed;
                evidence.constant = true;
            }
            By::Helper(helper) => {
                field.meaning = match helper {
                    Helper::GET_CURRENT_COMM => {
                        by_origin(field, "comm");
                        Meaning::Text
                    }
                    Helper::PROBE_READ_STR
                    | Helper::PROBE_READ_USER_STR
                    | Helper::PROBE_READ_KERNEL_STR
                    | Helper::D_PATH
                    | Helper::SNPRINTF => Meaning::Text,
                    Helper::GET_STACK | Helper::GET_TASK_STACK if write.bytes.is_multiple_of(8) => Meaning::Words,
                    _ => {
                        let typed = core.as_ref().and_then(|(_, ty)| self.typed(*ty, write.bytes));
                        let plain =
                            if matches!(write.bytes, 1 | 2 | 4 | 8) { Meaning::Unsigned } else { Meaning::Bytes };
                        typed.unwrap_or(if texty(field.name.as_deref()) { Meaning::Text } else { plain })
                    }
                };
                if field.name.is_none()
                    && let Some((name, _)) = core.filter(|(_, ty)| self.size(*ty) == Some(write.bytes))
                {
                    by_origin(field, &name);
                }
                // `sizeof(&x)` is a pointer's, `sizeof(*array)` one element's.
                if field.meaning == Meaning::Text && (write.bytes < 2 || text.contains("sizeof(&")) {
                    field.certainty = Certainty::Guessed;
                }
            }
            By::Store(origin) => match origin {
                Origin::PidTgid | Origin::UidGid if write.bytes == 8 => {
                    // Two halves that were stored at once look the same.
                    let halves = ["pid", "tid", "tgid", "uid", "gid"];
                    if field.name.as_deref().is_some_and(|name| halves.contains(&name)) {
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
                    by_origin(field, "stack_id");
                    field.meaning = Meaning::Signed;
                }
                Origin::CgroupId => by_origin(field, "cgroup_id"),
                Origin::Signed => field.meaning = Meaning::Signed,
                Origin::Elapsed(_) => {}
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
                Origin::Memory(bytes) | Origin::Stack(_, _, bytes) | Origin::Context(bytes) if bytes == write.bytes => {
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
                            Origin::Context(8) => Certainty::Likely,
                            _ if bytes == 1 => Certainty::Likely,
                            _ => Certainty::Guessed,
                        };
                    }
                }
                Origin::Memory(_)
                | Origin::Stack(..)
                | Origin::Context(_)
                | Origin::MapValue(..)
                | Origin::Other
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

    /// The member that some line of the function sets to this variable, and to nothing else.
    fn member_set_to(&self, function: &Function, variable: &str) -> Option<Named> {
        let btf = self.object.btf.as_ref()?;
        let mut found: Option<Named> = None;
        for line in function.lines.iter().take(MAX_LINES) {
            let Some(text) = btf.string(line.text).ok().filter(|text| text.len() <= MAX_LINE) else { continue };
            if !names::assigns(text, variable) {
                continue;
            }
            let Some(named) = names::assigned(text, line.column.into()) else { continue };
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
        let Some(writes) = self.writes.get(&region).filter(|_| bytes > 1) else {
            return if bytes == 1 { Certainty::Likely } else { Certainty::Guessed };
        };
        let mut whole = false;
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

    fn size(&self, ty: TypeId) -> Option<u32> {
        self.object.btf.as_ref()?.size_of(ty).ok().and_then(|size| u32::try_from(size).ok())
    }

    /// A type of these many bytes that says more than a number does.
    fn typed(&self, ty: TypeId, bytes: u32) -> Option<Meaning> {
        let btf = self.object.btf.as_ref()?;
        if self.size(ty)? != bytes {
            return None;
        }
        Some(match btf.resolve(ty).ok()?.def {
            // A pointer is shown as the number that it is.
            Def::Ptr(_) => Meaning::Unsigned,
            Def::Array(array) if btf.size_of(array.element) == Ok(1) && is_text(btf, array.element) => Meaning::Text,
            _ => Meaning::Typed(ty),
        })
    }

    /// The last member that the CO-RE relocations of this line, up to this instruction, lead to.
    fn core_of_line(&self, function: &Function, line: Line, insn: usize) -> Option<(String, TypeId)> {
        let here =
            |at: usize| line_of(function, at).is_some_and(|other| (other.file, other.line) == (line.file, line.line));
        let field = function.core.iter().filter(|core| core.kind == CoreKind::FieldByteOffset && core.insn <= insn);
        let near = field.filter(|core| insn.saturating_sub(core.insn) < 64);
        let last = near
            .filter(|core| here(core.insn) || here(core.insn.saturating_add(1)) || here(core.insn.saturating_add(2)));
        let last = last.max_by_key(|core| core.insn)?;
        member(self.object.btf.as_ref()?, last.ty, &last.access)
    }

    fn core_at(&self, site: Site) -> Option<(String, TypeId)> {
        let function = self.object.functions.get(site.function.0)?;
        let core =
            function.core.iter().find(|core| core.insn == site.insn && core.kind == CoreKind::FieldByteOffset)?;
        member(self.object.btf.as_ref()?, core.ty, &core.access)
    }

    fn member_of_value(&self, map: MapId, at: i32) -> Option<(String, TypeId)> {
        let btf = self.object.btf.as_ref()?;
        let ty = self.object.maps.get(map.0)?.value_type?;
        let resolved = btf.resolve(ty).ok()?;
        if !matches!(resolved.def, Def::Struct(_) | Def::Union(_)) {
            return (at == 0).then(|| (resolved.name.to_owned(), ty));
        }
        let (path, field) = btf.member_at(ty, u64::try_from(at).ok()?).ok()?;
        let start = u64::try_from(at).ok()?.checked_mul(8)?;
        (field.bit_offset == start).then_some((path, field.ty))
    }
}

fn is_text(btf: &Btf, element: TypeId) -> bool {
    btf.resolve(element).is_ok_and(|ty| matches!(ty.def, Def::Int(int) if int.char || int.signed))
}

/// The member at the end of a CO-RE access path.
fn member(btf: &Btf, root: TypeId, access: &str) -> Option<(String, TypeId)> {
    let (mut ty, mut name) = (root, String::new());
    // The first number counts whole roots.
    for step in access.split(':').skip(1).take(64) {
        let step: u32 = step.parse().ok()?;
        match btf.resolve(ty).ok()?.def {
            Def::Struct(found) | Def::Union(found) => {
                let member = found.member(step)?.ok()?;
                if member.bit_size > 0 {
                    return None;
                }
                if !member.name.is_empty() {
                    name = member.name.to_owned();
                }
                ty = member.ty;
            }
            Def::Array(array) => ty = array.element,
            _ => return None,
        }
    }
    (!name.is_empty()).then_some((name, ty))
}

fn texty(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.ends_with("comm") || name == "task" || name.ends_with("filename") || name == "fname")
}

fn line_of(function: &Function, insn: usize) -> Option<Line> {
    // Lines are in the order of instructions.
    let behind = function.lines.partition_point(|line| line.insn <= insn);
    function.lines.get(behind.checked_sub(1)?).copied()
}

/// One record's fields, from all that was written to it.
fn resolved(mut all: Vec<Evidence>, size: Size) -> Vec<Field> {
    all = joined(all, size);
    // The same bytes: the most certain name, unless others disagree.
    let mut by_range: BTreeMap<(u32, u32), Vec<Evidence>> = BTreeMap::new();
    for evidence in all {
        by_range.entry((evidence.field.offset, evidence.field.width)).or_default().push(evidence);
    }
    let mut fields: Vec<Evidence> = by_range.into_values().filter_map(agreed).collect();
    // Overlaps: members of a union start together and have names; else the stronger stays.
    let strength = |e: &Evidence| (e.field.certainty, !e.helper, e.constant, u32::MAX.saturating_sub(e.field.width));
    fields.sort_by_key(|e| (strength(e), e.field.offset));
    let mut kept: Vec<Evidence> = Vec::new();
    for evidence in fields {
        let field = &evidence.field;
        let union = |other: &Field| {
            other.offset == field.offset
                && other.width != field.width
                && other.name != field.name
                && field.certainty < Certainty::Guessed
        };
        let clash = |other: &Evidence| {
            other.field.offset < field.end() && field.offset < other.field.end() && !union(&other.field)
        };
        match kept.iter_mut().find(|other| clash(other)) {
            None => kept.push(evidence),
            // An element of an array, or a NUL in text, says nothing new; anything else says that the width is not sure.
            Some(other) => {
                let inside = field.offset >= other.field.offset && field.end() <= other.field.end();
                if !(other.helper
                    || evidence.constant
                    || field.certainty == Certainty::Guessed
                    || (inside && evidence.copy))
                {
                    other.field.certainty = Certainty::Guessed;
                }
            }
        }
    }
    // One name at two places: neither is sure.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for name in kept.iter().filter(|e| e.field.certainty < Certainty::Guessed).filter_map(|e| e.field.name.clone()) {
        let count = places.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    let mut fields: Vec<Field> = kept.into_iter().map(|e| e.field).collect();
    for field in &mut fields {
        if field.name.as_ref().and_then(|name| places.get(name)).is_some_and(|times| *times > 1) {
            field.certainty = Certainty::Guessed;
        }
    }
    // A constant that fills up an array or padding has the name of the line before.
    fields.retain(|f| {
        f.certainty < Certainty::Guessed
            || f.name.as_ref().is_none_or(|name| !places.contains_key(name))
            || places.get(f.name.as_deref().unwrap_or_default()).is_some_and(|n| *n > 1)
    });
    fields.sort_by_key(|field| (field.offset, field.width));
    // What has no fixed length is at the end: text that starts where the shortest record ends.
    if let (Size::Between(least, most), Some(last)) = (size, fields.last_mut())
        && last.offset >= least
        && most <= MAX_BYTES
        && matches!(last.meaning, Meaning::Text | Meaning::Bytes)
    {
        last.width = most.saturating_sub(last.offset);
        last.certainty = last.certainty.max(Certainty::Likely);
    }
    fields
}

/// Copies of one line that touch are copies of one thing.
fn joined(all: Vec<Evidence>, size: Size) -> Vec<Evidence> {
    let (elements, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.element);
    let (mut copies, mut rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.copy);
    let line = |e: &Evidence| e.field.line.map(|line| (line.file, line.line));
    copies.sort_by_key(|e| (line(e), e.field.name.clone(), e.field.offset, e.field.width));
    copies.dedup_by_key(|e| (line(e), e.field.name.clone(), e.field.offset, e.field.width));
    let mut joined: Vec<Evidence> = Vec::new();
    for evidence in copies {
        match joined.last_mut() {
            Some(last)
                if line(last) == line(&evidence)
                    && last.field.name == evidence.field.name
                    && last.field.end() == evidence.field.offset =>
            {
                last.field.width = last.field.width.saturating_add(evidence.field.width);
                last.field.meaning = if texty(last.field.name.as_deref()) { Meaning::Text } else { Meaning::Bytes };
                last.field.certainty = Certainty::Likely;
            }
            _ => joined.push(evidence),
        }
    }
    rest.extend(joined);
    let arrays = arrays(elements, &rest, size);
    rest.extend(arrays);
    rest
}

/// Elements that touch are an array, if it ends where something else starts.
fn arrays(mut elements: Vec<Evidence>, others: &[Evidence], size: Size) -> Vec<Evidence> {
    elements.sort_by_key(|e| (e.field.name.clone(), e.field.offset, e.field.width));
    elements.dedup_by_key(|e| (e.field.name.clone(), e.field.offset, e.field.width));
    let mut arrays: Vec<(u32, Evidence)> = Vec::new();
    for mut evidence in elements {
        evidence.field.certainty = Certainty::Guessed;
        match arrays.last_mut() {
            Some((width, last))
                if last.field.name == evidence.field.name
                    && last.field.end() == evidence.field.offset
                    && *width == evidence.field.width =>
            {
                last.field.width = last.field.width.saturating_add(*width);
                last.field.meaning = if *width == 8 { Meaning::Words } else { Meaning::Bytes };
            }
            _ => arrays.push((evidence.field.width, evidence)),
        }
    }
    for (width, array) in &mut arrays {
        let end = array.field.end();
        let ends = others.iter().any(|other| other.field.offset == end) || size == Size::Exact(end);
        if ends && array.field.width > *width && !array.helper {
            array.field.certainty = Certainty::Likely;
        }
    }
    arrays.into_iter().map(|(_, array)| array).collect()
}

/// What writes of the same bytes say together.
fn agreed(same: Vec<Evidence>) -> Option<Evidence> {
    let names: BTreeSet<&String> =
        same.iter().filter(|e| e.field.certainty < Certainty::Guessed).filter_map(|e| e.field.name.as_ref()).collect();
    let disagree = names.len() > 1 && {
        let certain: BTreeSet<_> = same
            .iter()
            .filter(|e| e.field.certainty == Certainty::Certain)
            .filter_map(|e| e.field.name.as_ref())
            .collect();
        certain.len() != 1
    };
    let mut best = same.iter().min_by_key(|e| (e.field.certainty, e.field.meaning == Meaning::Unsigned))?.clone();
    if disagree {
        best.field.certainty = Certainty::Guessed;
    }
    Some(best)
}

/// What the calls that send records of one size to one map say together.
fn merged(all: Vec<Vec<Field>>) -> Vec<Field> {
    let mut by_range: BTreeMap<(u32, u32), Vec<Field>> = BTreeMap::new();
    for field in all.into_iter().flatten() {
        by_range.entry((field.offset, field.width)).or_default().push(field);
    }
    let mut fields: Vec<Field> = Vec::new();
    for same in by_range.into_values() {
        let sure = same.iter().filter(|field| field.certainty < Certainty::Guessed);
        let names: BTreeSet<_> = sure.filter_map(|field| field.name.as_ref()).collect();
        let several = names.len() > 1;
        let Some(mut field) = same.iter().min_by_key(|field| field.certainty).cloned() else { continue };
        if several {
            // Several events in one buffer: the bytes are there, the name depends.
            field.certainty = Certainty::Guessed;
        }
        fields.push(field);
    }
    let sure: Vec<Field> = fields.iter().filter(|field| field.certainty < Certainty::Guessed).cloned().collect();
    let overlaps = |a: &Field, b: &Field| a.offset < b.end() && b.offset < a.end();
    fields.retain(|field| field.certainty < Certainty::Guessed || !sure.iter().any(|other| overlaps(field, other)));
    // Members of a union start together. What overlaps otherwise belongs to different events, and which one a record is
    // the bytes do not say.
    let mut kept: Vec<Field> = Vec::new();
    let mut cluster: Vec<Field> = Vec::new();
    let mut end = 0;
    for field in fields {
        if field.offset >= end {
            kept.extend(union(std::mem::take(&mut cluster)));
        }
        end = end.max(field.end());
        cluster.push(field);
    }
    kept.extend(union(cluster));
    kept
}

fn union(cluster: Vec<Field>) -> Vec<Field> {
    let first = cluster.first().map(|field| field.offset);
    if cluster.iter().all(|field| Some(field.offset) == first) { cluster } else { Vec::new() }
}
