//! Fields of a record by what is written to it: which stores and helpers reach the call that sends it.
//!
//! A record can be in memory of four kinds ([`Region`]). What is in a frame of the stack is followed along the paths to
//! the call. What is in a map's value can have been put there by any program, in place or with `bpf_map_update_elem`,
//! and what was copied has the fields of what it was copied from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use ringfence_object::{FunctionId, MapId, Object};
use ringfence_uapi::MapType;

use crate::evidence::{self, Evidence, Reader};
use crate::headers;
use crate::layout::{Certainty, Field, Layout, Meaning};
use crate::merge::{merged, resolved};
use crate::outputs::{self, Output, Size};
use crate::source;
use crate::tags::Constants;
use crate::uses::uses;
use crate::walk;
use crate::writes::{By, MAX_BYTES, Memory, Region, Taken, Write};

/// Most writes that are looked at for one call that sends.
const MAX_REACHING: usize = 2_000;
/// Functions whose callees are told apart.
const MAX_FUNCTIONS: usize = 256;
/// Sources of copies that are looked at for one object.
const MAX_SOURCES: usize = 256;
/// From how far away fields are taken: a copy of a copy of a copy.
const MAX_COPIES: u8 = 3;

/// What is known of the records that one call sends.
pub(crate) struct Sent {
    pub(crate) map: MapId,
    pub(crate) size: Size,
    /// Function, and index into its instructions.
    pub(crate) call: (FunctionId, usize),
    pub(crate) fields: Vec<Field>,
    pub(crate) constants: Constants,
}

/// Every call that sends records, as [`outputs::outputs`] has them, and what is known of those records.
pub(crate) fn sent(object: &Object) -> (Vec<Output>, Vec<Sent>) {
    if !outputs::any(object) {
        return (Vec::new(), Vec::new());
    }
    let mut recovery = Recovery::of(object);
    let outputs = std::mem::take(&mut recovery.reader.memory.outputs);
    let all = std::mem::take(&mut recovery.reader.memory.sent);
    let of_map = all.iter().filter_map(|(output, taken)| Some((output.map?, output, taken)));
    let known = |(map, output, taken): (MapId, &Output, &Taken)| {
        let size = output.size;
        let (mut fields, mut constants) = (resolved(recovery.evidence(taken, 0), size), recovery.constants(taken));
        recovery.variable(output, taken, &mut fields);
        // What was not looked at could contradict the rest.
        if recovery.reader.exhausted() {
            (fields, constants) = (Vec::new(), Constants::default());
        }
        Sent { map, size, call: (taken.function, taken.insn), fields, constants }
    };
    (outputs, of_map.map(known).collect())
}

/// What the values of the object's maps hold, as far as it can be told from what programs write to them and read.
///
/// Maps whose values say nothing are left out.
pub fn contents(object: &Object) -> Vec<Layout> {
    let mut recovery = Recovery::of(object);
    let mut found = Vec::new();
    for (id, map) in object.maps.iter().enumerate() {
        let bytes = map.value_size.min(MAX_BYTES);
        let places = vec![(Region::Value(MapId(id)), 0)];
        let none = FunctionId(usize::MAX);
        let taken = Taken { function: none, insn: 0, places, bytes };
        let size = Size::Exact(map.value_size);
        let fields = resolved(recovery.evidence(&taken, 0), size);
        if !fields.is_empty() && !recovery.reader.exhausted() {
            let fields = merged(vec![fields]);
            found.push(Layout { map: MapId(id), size, tag: None, ambiguous: false, calls: Vec::new(), fields });
        }
    }
    found
}

/// Writes, and reads.
type Reaching = (Vec<Write>, Vec<Write>);

/// Where bytes are taken from, how many, and by which call.
type Asked = (Region, i64, u32, FunctionId, usize);

struct Recovery<'a> {
    reader: Reader<'a>,
    /// What each function reaches, of the first functions.
    reached: Vec<BTreeSet<FunctionId>>,
    /// Records of several kinds are sent from these maps' values.
    mixed: BTreeSet<MapId>,
    reaching: HashMap<Asked, Rc<Reaching>>,
    /// Sources of copies that are still looked at.
    copies: usize,
}

impl<'a> Recovery<'a> {
    fn of(object: &'a Object) -> Recovery<'a> {
        let memory = Memory::of(object);
        let ids = (0..object.functions.len()).take(MAX_FUNCTIONS).map(FunctionId);
        let reached = ids.map(|id| uses(object, id).functions).collect();
        let mut kinds: BTreeMap<MapId, BTreeSet<(Option<MapId>, Size)>> = BTreeMap::new();
        for (output, taken) in &memory.sent {
            for (region, _) in &taken.places {
                if let Region::Value(map) = region {
                    kinds.entry(*map).or_default().insert((output.map, output.size));
                }
            }
        }
        let mixed = kinds.into_iter().filter(|(_, kinds)| kinds.len() > 1).map(|(map, _)| map).collect();
        Recovery { reader: Reader::new(object, memory), reached, mixed, reaching: HashMap::new(), copies: MAX_SOURCES }
    }

    /// The functions that may fill what `function` takes out of a region; `None`: any.
    ///
    /// What is kept by a key in a map may be filled by any program. A scratch buffer that other programs use as well
    /// holds their records, too.
    fn fillers(&self, region: Region, function: FunctionId) -> Option<BTreeSet<FunctionId>> {
        let Region::Value(map) = region else { return None };
        let object = self.reader.object;
        let scratch = object.maps.get(map.0).is_some_and(|map| map.kind == MapType::PERCPU_ARRAY);
        let mixed = self.mixed.contains(&map);
        if !scratch && !mixed {
            return None;
        }
        let callers = self.reached.iter().enumerate().filter(|(_, all)| all.contains(&function));
        let with: BTreeSet<FunctionId> = if mixed {
            // Those that call it, and those that it calls; not what else its callers call.
            let below = self.reached.get(function.0).into_iter().flatten().copied();
            callers.map(|(id, _)| FunctionId(id)).chain(below).collect()
        } else {
            callers.flat_map(|(_, all)| all).copied().collect()
        };
        (!with.is_empty()).then_some(with)
    }

    /// The writes that reach a call, and what is read, of one of the places that it takes bytes from.
    fn reaching(&mut self, region: Region, start: i64, taken: &Taken) -> Rc<Reaching> {
        let key = (region, start, taken.bytes, taken.function, taken.insn);
        if let Some(known) = self.reaching.get(&key) {
            return Rc::clone(known);
        }
        let fillers = self.fillers(region, taken.function);
        let end = start.saturating_add(taken.bytes.into());
        let inside = |write: &&Write| {
            fillers.as_ref().is_none_or(|with| with.contains(&write.function))
                && write.at >= start
                && write.end() <= end
        };
        let memory = &self.reader.memory;
        let all = [&memory.writes, &memory.reads].map(|all| all.get(&region).map_or(0, BTreeSet::len));
        if !self.reader.spend(all.into_iter().fold(1, usize::saturating_add)) {
            return Rc::default();
        }
        let of = |writes: &BTreeMap<Region, BTreeSet<Write>>| -> Vec<Write> {
            writes.get(&region).into_iter().flatten().filter(inside).copied().take(MAX_REACHING).collect()
        };
        let (mut writes, reads) = (of(&memory.writes), of(&memory.reads));
        let others = writes.clone();
        writes.retain(|write| self.reaches(region, write, &others, taken));
        let found = Rc::new((writes, reads));
        self.reaching.insert(key, Rc::clone(&found));
        found
    }

    /// A record that is one variable, a number or text, has that as its field.
    fn variable(&mut self, output: &Output, taken: &Taken, fields: &mut Vec<Field>) -> Option<()> {
        let (Size::Exact(bytes), [place]) = (output.size, taken.places.as_slice()) else { return None };
        if fields.iter().any(|field| (field.offset, field.width) != (0, bytes)) {
            return None;
        }
        let object = self.reader.object;
        let (btf, function, line) = (object.btf.as_ref()?, object.functions.get(output.function.0)?, output.line?);
        self.reader.spend(function.lines.len().min(source::MAX_LINES)).then_some(())?;
        let global = match place {
            (Region::Data(map), at) => self.reader.number_at(*map, i32::try_from(*at).ok()?, bytes),
            _ => None,
        };
        let (name, meaning, by_origin) = match global {
            Some((name, meaning)) => (name.to_owned(), meaning, true),
            None => {
                let name = source::sent_variable(btf, function, &line, output.kind.helper())?;
                let number = source::declared_number(btf, function, &name).filter(|(width, _)| *width == bytes);
                let meaning = match number {
                    Some((_, true)) => Meaning::Signed,
                    Some((_, false)) => Meaning::Unsigned,
                    None => self.stored_at_once(*place, taken, &name)?,
                };
                (name, meaning, false)
            }
        };
        match fields.as_mut_slice() {
            // What it is was found out; the source calls it this.
            [field] if field.by_origin => (field.name, field.by_origin) = (Some(name), by_origin),
            [_, ..] => {}
            [] => fields.push(Field {
                offset: 0,
                width: bytes,
                name: Some(name),
                by_origin,
                meaning,
                certainty: Certainty::Likely,
                line: Some(line),
            }),
        }
        Some(())
    }

    /// What all of a record is that one write fills: text of a helper, or a number through a pointer of this name.
    fn stored_at_once(&mut self, (region, start): (Region, i64), taken: &Taken, name: &str) -> Option<Meaning> {
        let writes = self.reaching(region, start, taken);
        writes.0.iter().filter(|write| write.bytes == taken.bytes).find_map(|write| match write.by {
            By::Helper(by) if evidence::is_text(by) => Some(Meaning::Text),
            By::Store(_) | By::Constant(_) => self.reader.stores_through(write, name).then_some(Meaning::Unsigned),
            By::Helper(_) | By::Read => None,
        })
    }

    /// The bytes that a call sends every time.
    fn constants(&mut self, taken: &Taken) -> Constants {
        let mut constants = Constants::default();
        let big_endian = self.reader.object.big_endian;
        for (region, start) in &taken.places {
            let known = self.reaching(*region, *start, taken);
            // What else is stored in the same place counts behind what is known.
            let number = |write: &&Write| matches!(write.by, By::Constant(_));
            let others = known.0.iter().filter(|write| !number(write));
            for write in known.0.iter().filter(number).chain(others) {
                let halves = headers::halves(write, taken, big_endian);
                for piece in halves.map_or_else(|| vec![*write], Vec::from) {
                    let Ok(offset) = u32::try_from(piece.at.saturating_sub(*start)) else { continue };
                    match piece.by {
                        _ if piece.every.is_some() => constants.unknown(offset, taken.bytes),
                        By::Constant(value) => constants.store(offset, piece.bytes, value, big_endian),
                        By::Store(_) | By::Helper(_) | By::Read => constants.unknown(offset, piece.bytes),
                    }
                }
            }
        }
        constants
    }

    /// What is known of the bytes that a call takes.
    fn evidence(&mut self, taken: &Taken, depth: u8) -> Vec<Evidence> {
        let mut all = Vec::new();
        if depth > 0 {
            let Some(left) = self.copies.checked_sub(1) else { return all };
            self.copies = left;
        }
        for (region, start) in &taken.places {
            let known = self.reaching(*region, *start, taken);
            let (writes, reads) = known.as_ref();
            let mut own: Vec<Evidence> = Vec::new();
            for write in writes.iter().chain(reads) {
                let halves = headers::halves(write, taken, self.reader.object.big_endian);
                if let Some(halves) = halves.filter(|_| depth == 0) {
                    own.extend(self.reader.header(halves, taken, *start));
                } else if let Ok(offset) = u32::try_from(write.at.saturating_sub(*start)) {
                    own.extend(self.reader.evidence(write, offset));
                }
            }
            if depth < MAX_COPIES {
                let mut taken_over = self.copied(writes, *start, depth);
                if let Region::Value(map) = region {
                    taken_over.extend(self.filled(*map, *start, taken, depth));
                }
                if self.reader.spend(own.len().saturating_mul(taken_over.len()) / 16) {
                    take_over(&mut own, taken_over);
                }
            }
            all.extend(own);
        }
        // All of it at once says nothing of its fields.
        let number = |field: &Field| matches!(field.width, 1 | 2 | 4 | 8) && field.name.is_some();
        // Of what was copied here from elsewhere, that it is text does.
        let text = |field: &Field| depth > 0 && field.meaning == Meaning::Text;
        all.retain(|evidence| evidence.field.width < taken.bytes || number(&evidence.field) || text(&evidence.field));
        // What a pointer leads to is the record, or an unknown part of it.
        let through = |evidence: &Evidence| evidence.constant && evidence.path.is_empty();
        all.retain(|evidence| !through(evidence) || evidence.field.width == taken.bytes);
        all
    }

    /// What was put into a map's value, of the bytes that a call takes from `start`.
    fn filled(&mut self, map: MapId, start: i64, taken: &Taken, depth: u8) -> Vec<Evidence> {
        let fillers = self.fillers(Region::Value(map), taken.function);
        let end = start.saturating_add(taken.bytes.into());
        let of_map = |(of, taken): &&(MapId, Taken)| {
            *of == map && fillers.as_ref().is_none_or(|with| with.contains(&taken.function))
        };
        let fills: Vec<Taken> =
            self.reader.memory.fills.iter().filter(of_map).map(|(_, taken)| taken.clone()).take(64).collect();
        let mut found = Vec::new();
        for fill in fills.iter().filter(|fill| !fill.places.contains(&(Region::Value(map), 0))) {
            for mut evidence in self.evidence(fill, depth.saturating_add(1)) {
                let at = i64::from(evidence.field.offset).saturating_sub(start);
                let behind = i64::from(evidence.field.offset).saturating_add(evidence.field.width.into());
                if let Some(offset) = u32::try_from(at).ok().filter(|_| behind <= end) {
                    evidence.field.offset = offset;
                    found.push(evidence);
                }
            }
        }
        found
    }

    /// The fields of what was copied here.
    fn copied(&mut self, writes: &[Write], start: i64, depth: u8) -> Vec<Evidence> {
        // Pieces by what they are copies of: the source, and how far away.
        let mut pieces: HashMap<(Region, i64, FunctionId), Vec<Write>> = HashMap::new();
        for write in writes {
            if let Some((region, at)) = write.from.filter(|_| write.every.is_none()) {
                let away = write.at.saturating_sub(at);
                pieces.entry((region, away, write.function)).or_default().push(*write);
            }
        }
        let mut pieces: Vec<_> = pieces.into_iter().collect();
        pieces.sort_by_key(|(key, _)| *key);
        let mut found = Vec::new();
        for ((region, away, function), pieces) in pieces.into_iter().take(16) {
            let (Some(from), Some(to)) =
                (pieces.iter().map(|piece| piece.at).min(), pieces.iter().map(Write::end).max())
            else {
                continue;
            };
            let Some(bytes) = u32::try_from(to.saturating_sub(from)).ok().filter(|bytes| *bytes <= MAX_BYTES) else {
                continue;
            };
            let Some(insn) = pieces.iter().map(|piece| piece.made.steps().next().unwrap_or(piece.insn)).min() else {
                continue;
            };
            let places = vec![(region, from.saturating_sub(away))];
            let all = self.evidence(&Taken { function, insn, places, bytes }, depth.saturating_add(1));
            let whole = joined(&pieces);
            for field in resolved(all, Size::Exact(bytes)) {
                let at = from.saturating_add(field.offset.into());
                let end = at.saturating_add(field.width.into());
                let covered = whole.iter().any(|(start, stop)| *start <= at && end <= *stop);
                if field.certainty < Certainty::Guessed
                    && covered
                    && let Ok(offset) = u32::try_from(at.saturating_sub(start))
                {
                    found.push(Evidence::taken_over(Field { offset, certainty: Certainty::Likely, ..field }));
                }
            }
        }
        found
    }

    /// Whether some way leads from the write to the call on which it is not overwritten.
    fn reaches(&self, region: Region, write: &Write, others: &[Write], taken: &Taken) -> bool {
        // In other memory, or from another function: not followed.
        let scratch = matches!(region, Region::Value(map) if self.mixed.contains(&map));
        if (region != Region::Frame(taken.function) && !scratch) || write.function != taken.function {
            return true;
        }
        let Some(function) = self.reader.object.functions.get(write.function.0) else { return false };
        // What a number is, a part of it tells no more; text is still text when its end is.
        let number = matches!(write.by, By::Store(_) | By::Constant(_)) || write.bytes <= 8;
        let kills = |other: &&Write| {
            // One element, or a part, says nothing of the rest.
            let whole = other.every.is_none() && !other.most;
            whole && other.function == write.function && (other.covers(write) || (number && other.overlaps(write)))
        };
        if !self.reader.spend(others.len().saturating_add(function.insns.len() / 64)) {
            return false;
        }
        // Where the way ends: at what overwrites it, and where it was before.
        let mut ends = vec![false; function.insns.len()];
        for killer in others.iter().filter(kills) {
            if let Some(end) = ends.get_mut(killer.insn) {
                *end = true;
            }
        }
        let mut todo = vec![write.insn.saturating_add(1)];
        while let Some(at) = todo.pop() {
            if at == taken.insn {
                return true;
            }
            if !self.reader.spend(1) {
                return false;
            }
            let Some(insn) = function.insns.get(at) else { continue };
            if ends.get_mut(at).is_none_or(|end| std::mem::replace(end, true)) {
                continue;
            }
            todo.extend(walk::jump_target(*insn, at));
            if walk::falls_through(*insn) {
                todo.push(at.saturating_add(if insn.is_ld_imm64() { 2 } else { 1 }));
            }
        }
        false
    }
}

/// Stretches of bytes that pieces make up together.
fn joined(pieces: &[Write]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = pieces.iter().map(|piece| (piece.at, piece.end())).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// Adds what is known from elsewhere where nothing is known from here.
fn take_over(own: &mut Vec<Evidence>, found: Vec<Evidence>) {
    let before = own.clone();
    for evidence in found {
        let field = &evidence.field;
        let range = (field.offset, field.width);
        let overlaps = |other: &&Evidence| other.field.offset < field.end() && field.offset < other.field.end();
        let mut here = before.iter().filter(overlaps).peekable();
        if here.peek().is_none() {
            own.push(evidence);
            continue;
        }
        // A name from here, a width from there.
        let unsure = here.clone().all(|other| other.field.certainty == Certainty::Guessed);
        let same = here.clone().all(|other| (other.field.offset, other.field.width) == range);
        let nameless = here.all(|other| other.field.name.is_none());
        if !unsure {
            continue;
        }
        if nameless || !same {
            own.push(evidence);
            continue;
        }
        for other in own.iter_mut().filter(|other| (other.field.offset, other.field.width) == range) {
            if other.field.certainty == Certainty::Guessed && field.certainty < Certainty::Guessed {
                other.field.certainty = Certainty::Likely;
                other.field.meaning = field.meaning;
                other.copy = false;
                other.constant = false;
            }
        }
    }
}
