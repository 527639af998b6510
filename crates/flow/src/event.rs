//! Which struct a map's records are: the one place where that is decided.
//!
//! Records to one map are told apart by their size, so there is one [`EventChoice`] for each map and size. The
//! decision, first rule that applies:
//!
//! | # | what is known | choice |
//! |---|---|---|
//! | 1 | the line of the call names a struct (`sizeof(struct e)`, `struct e *p = reserve(..)`, or the variable that it sends is declared as one), the BTF has it, and its size fits | that struct ([`Basis::Source`]) |
//! | 2 | the bytes are a map's value or a global variable of a struct type, or a member of one, and its size fits | that type ([`Basis::Data`]) |
//! | 3 | as 2, but the record is smaller, and the line names that very type: the program sends the first part of it | that type |
//! | 4 | the line names a struct that no BTF has, or that has another size | none; [`EventChoice::said`] tells the name |
//! | 5 | the line sends a variable that is a number of this size | none |
//! | 6 | the line names nothing (it is a wrapper's, or a part of it was not kept), but the function declares a variable of one struct that is named like an event, and its size fits | that struct ([`Basis::Declared`]) |
//! | 7 | a global variable is a pointer to a struct that is not the kernel's and whose size is the record's (`const struct event *unused;`) | that struct ([`Basis::Global`]) |
//! | 8 | a struct that is not the kernel's has exactly the record's size and a name that events have (`event`, `*_event`, `data_t`, the map's name in the singular, ..) | that struct ([`Basis::Name`]) |
//! | 9 | anything else, the size alone above all | none |
//!
//! A struct that the code contradicts is no candidate ([`EventChoice::contradicted`]): a field that is certain goes to a
//! place that is no member of it, or that it has under another name. Calls that name different structs for records of one
//! size are told apart by a constant that they store ([`EventChoice::tag`]), if there is one.
//!
//! Where a rule finds several structs, the first by name is chosen and [`EventChoice::ambiguous`] says so; the same
//! where rule 1 and rule 2 disagree. The object's own BTF comes before what DWARF says. *Fits*: the size is exactly
//! the record's; for a record of varying size, the struct is the largest record, or ends in a flexible array and is
//! no larger than the smallest. *The kernel's*: a struct that CO-RE relocations access, that a context is or a kfunc
//! takes, with all that it holds and points at; local types that only happen to have the size are not taken.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use ringfence_btf::{Btf, Def, Kind, Linkage, TypeId};
use ringfence_object::{CoreKind, Function, MapId, Object, SlotTarget};
use ringfence_uapi::MapType;

use crate::contradict;
use crate::kinds;
use crate::layout::Layout;
use crate::outputs::{Output, Size, Source};
use crate::recover::{self, Sent};
use crate::source::{self, Named};
use crate::tags::Tag;

/// Source lines and types that are looked at, for one object.
const MAX_LOOKS: usize = 1_000_000;

/// Where a candidate's type is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Types {
    /// The object's BTF.
    Object,
    /// What DWARF says.
    Debug,
}

/// Why a struct is a candidate, the strongest reason first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Basis {
    /// The source line of a call names it.
    Source,
    /// The bytes that are sent have this type.
    Data,
    /// The function that sends it declares such a variable, and no other event.
    Declared,
    /// A global pointer to it exists, to keep the type in the object.
    Global,
    /// Its size, and a name that events have.
    Name,
}

impl Basis {
    /// In words, behind "because".
    pub fn because(self) -> &'static str {
        match self {
            Basis::Source => "the source line of the call names it",
            Basis::Data => "the bytes that are sent have this type",
            Basis::Declared => "the function has a variable of this type and it is as large as the record",
            Basis::Global => "a global variable points to this type and it is as large as the record",
            Basis::Name => "it is as large as the record and named like an event",
        }
    }
}

/// A struct that the records may be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate {
    /// Why.
    pub basis: Basis,
    /// In which BTF.
    pub types: Types,
    /// Its name.
    pub name: String,
    /// The struct, union or typedef.
    pub ty: TypeId,
}

/// The type of the records of one size that go to one map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventChoice {
    /// The map.
    pub map: MapId,
    /// Bytes of a record.
    pub size: Size,
    /// How these records are known among others of this size; `None`: there are no others, or nothing tells them apart.
    pub tag: Option<Tag>,
    /// The calls that send them.
    pub outputs: Vec<Output>,
    /// What they may be, the choice first.
    pub candidates: Vec<Candidate>,
    /// What they are shown as: the first candidate, or nothing.
    pub chosen: Option<Candidate>,
    /// Others fit as well.
    pub ambiguous: bool,
    /// Fewest bytes of a record, where records end before [`EventChoice::chosen`] does.
    pub least: Option<usize>,
    /// Nothing was chosen although the source says what it is: `struct event`, which no BTF has in this size.
    pub said: Option<String>,
    /// Structs that would have been chosen, and what the code does that they have no place for.
    pub contradicted: Vec<(Candidate, String)>,
    /// What is read out of the code alone.
    pub layout: Option<Layout>,
}

/// The types of all records that the object's programs send, by map and size. `debug`: types from DWARF.
pub fn event_types(object: &Object, debug: Option<&Btf>) -> Vec<EventChoice> {
    let mut groups: BTreeMap<(MapId, Size), Vec<Output>> = BTreeMap::new();
    // A map that could not be told from the code is the one that there is.
    let mut rings = (0..object.maps.len()).map(MapId).filter(|id| is_ring(object, *id));
    let only = rings.next().filter(|_| rings.next().is_none());
    let (outputs, sent) = recover::sent(object);
    for output in outputs {
        for map in output.map.or(only).into_iter().flat_map(|map| receivers(object, map)) {
            groups.entry((map, output.size)).or_default().push(output);
        }
    }
    let world = World::new(object, debug);
    let mut choices = Vec::new();
    for ((map, size), outputs) in groups {
        let goes_here = |sent: &&Sent| sent.size == size && receivers(object, sent.map).contains(&map);
        let here: Vec<&Sent> = sent.iter().filter(goes_here).collect();
        for (layout, outputs) in world.kinds(&here, outputs) {
            let mut choice = world.choose(map, size, outputs, layout.as_ref());
            choice.tag = layout.as_ref().and_then(|layout| layout.tag.clone());
            choice.layout = layout;
            choices.push(choice);
        }
    }
    choices
}

/// The program computes the logarithm of what it counts: `slots` arrays of this object are log2 histograms.
///
/// Only the source lines tell: `log2`, `log2l` are what the kernel's and bcc's headers call it.
pub fn slot_scale_is_log2(object: &Object) -> bool {
    object.btf.as_ref().is_some_and(|btf| object.functions.iter().any(|f| source::mentions(btf, f, "log2")))
}

fn is_ring(object: &Object, id: MapId) -> bool {
    let ring = |kind| matches!(kind, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY);
    object.maps.get(id.0).is_some_and(|map| ring(map.kind) || map.inner.as_ref().is_some_and(|inner| ring(inner.kind)))
}

/// Where records arrive that are sent to a map: to one of those that a map of maps holds from the start, if it is one.
fn receivers(object: &Object, map: MapId) -> Vec<MapId> {
    let slots =
        object.maps.get(map.0).filter(|of_maps| of_maps.inner.is_some()).map(|of_maps| of_maps.slots.as_slice());
    let targets = slots.into_iter().flatten().filter_map(|slot| match slot.target {
        SlotTarget::Map(held) => Some(held).filter(|held| is_ring(object, *held)),
        SlotTarget::Function(_) => None,
    });
    let held: BTreeSet<MapId> = targets.collect();
    if held.is_empty() { vec![map] } else { held.into_iter().collect() }
}

/// What is asked for every choice.
struct World<'a> {
    object: &'a Object,
    sets: Vec<(Types, &'a Btf)>,
    /// Names of the kernel's structs.
    kernel: BTreeSet<String>,
    /// Structs that global variables point at.
    globals: BTreeSet<(Types, TypeId)>,
    /// Structs that are keys of maps: no events.
    keys: BTreeSet<TypeId>,
    /// Of [`MAX_LOOKS`].
    left: Cell<usize>,
}

impl<'a> World<'a> {
    fn new(object: &'a Object, debug: Option<&'a Btf>) -> World<'a> {
        let own = object.btf.as_ref().map(|btf| (Types::Object, btf));
        let sets: Vec<_> = own.into_iter().chain(debug.map(|btf| (Types::Debug, btf))).collect();
        let mut globals = BTreeSet::new();
        for (types, btf) in &sets {
            for ty in btf.own_types().flatten() {
                if let Def::Var { ty, .. } = ty.def
                    && let Ok(Def::Ptr(ty)) = btf.resolve(ty).map(|ty| ty.def)
                    && let Some(found) = composite(btf, ty)
                {
                    globals.insert((*types, found.0));
                }
            }
        }
        let keys = object.btf.as_ref().map_or_else(BTreeSet::new, |btf| {
            let keys = object.maps.iter().filter_map(|map| map.key_type);
            keys.filter_map(|ty| composite(btf, ty)).map(|(id, _)| id).collect()
        });
        World { object, kernel: kernel_names(object, debug), sets, globals, keys, left: Cell::new(MAX_LOOKS) }
    }

    /// Records of one size in one map by their kind: by what the source calls them, else by what is stored.
    fn kinds(&self, sent: &[&Sent], outputs: Vec<Output>) -> Vec<(Option<Layout>, Vec<Output>)> {
        let big_endian = self.object.big_endian;
        let mut by_name: BTreeMap<Vec<Named>, Vec<Output>> = BTreeMap::new();
        for output in &outputs {
            by_name.entry(self.named_in_source(output)).or_default().push(*output);
        }
        let sent_by = |calls: &[Output]| -> Vec<&Sent> {
            let by = |sent: &&&Sent| calls.iter().any(|call| (call.function, call.insn) == sent.call);
            sent.iter().filter(by).copied().collect()
        };
        let named: Vec<Vec<&Sent>> = by_name.values().map(|calls| sent_by(calls)).collect();
        if let Some(tags) = kinds::tags(&named, big_endian).filter(|_| named.iter().all(|sent| !sent.is_empty())) {
            let layouts = named.iter().zip(tags).map(|(sent, tag)| kinds::layout(sent, Some(tag), false));
            return layouts.zip(by_name.into_values()).collect();
        }
        let mut layouts = kinds::kinds(sent, big_endian);
        if layouts.len() < 2 {
            return vec![(layouts.pop(), outputs)];
        }
        let of = |layout: &Layout| -> Vec<Output> {
            outputs.iter().filter(|output| layout.calls.contains(&(output.function, output.insn))).copied().collect()
        };
        layouts.into_iter().map(|layout| (Some(layout.clone()), of(&layout))).collect()
    }

    fn choose(&self, map: MapId, size: Size, outputs: Vec<Output>, layout: Option<&Layout>) -> EventChoice {
        let mut candidates = BTreeSet::new();
        let mut said = BTreeSet::new();
        for output in &outputs {
            let named = self.named_in_source(output);
            for name in &named {
                let found = self.find(name, size);
                if found.is_empty() {
                    said.insert(name.to_string());
                }
                candidates.extend(found);
            }
            candidates.extend(self.of_data(output, size, &named));
        }
        let mut hint = None;
        let number = outputs.iter().any(|output| self.is_number(output, size));
        if candidates.is_empty() && said.is_empty() && !number {
            for output in &outputs {
                match self.declared(output, map).as_slice() {
                    [name] => {
                        let found = self.find(name, size);
                        candidates.extend(found.into_iter().map(|c| Candidate { basis: Basis::Declared, ..c }));
                        hint = Some(name.to_string());
                    }
                    _ => continue,
                }
            }
        }
        if candidates.is_empty() && said.is_empty() && !number {
            candidates.extend(self.of_globals(size));
        }
        if candidates.is_empty() && said.is_empty() && !number {
            candidates.extend(self.of_names(map, size));
        }
        // One struct with two reasons is one candidate, with the stronger.
        let mut known = HashSet::new();
        let mut candidates: Vec<Candidate> =
            candidates.into_iter().filter(|candidate| known.insert((candidate.types, candidate.ty))).collect();
        // What DWARF says about a struct that the BTF has, too, says nothing new.
        let own: HashSet<String> =
            candidates.iter().filter(|c| c.types == Types::Object).map(|c| c.name.clone()).collect();
        candidates.retain(|c| c.types == Types::Object || !own.contains(&c.name));
        // A reason that was not looked at could be the better one.
        if self.left.get() == 0 {
            candidates.clear();
            said.clear();
        }
        let mut contradicted = Vec::new();
        // What calls of several kinds store says nothing of one of them.
        if let Some(layout) = layout.filter(|layout| !layout.ambiguous) {
            candidates.retain(|candidate| match self.contradiction(candidate, layout) {
                Some(why) => {
                    contradicted.push((candidate.clone(), why));
                    false
                }
                None => true,
            });
        }
        let chosen = candidates.first().cloned();
        let least = chosen.as_ref().and_then(|chosen| self.least(chosen, size));
        // A name that the source says and nothing has is another candidate, only out of sight.
        let ambiguous = chosen.is_some() && (candidates.len() > 1 || !said.is_empty());
        let said = if chosen.is_none() { said.into_iter().next().or(hint) } else { None };
        EventChoice {
            map,
            size,
            tag: None,
            outputs,
            candidates,
            chosen,
            ambiguous,
            least,
            said,
            contradicted,
            layout: None,
        }
    }

    fn contradiction(&self, candidate: &Candidate, layout: &Layout) -> Option<String> {
        let (_, btf) = self.sets.iter().find(|(types, _)| *types == candidate.types)?;
        contradict::contradiction(btf, candidate.ty, layout)
    }

    fn least(&self, chosen: &Candidate, size: Size) -> Option<usize> {
        let (_, btf) = self.sets.iter().find(|(types, _)| *types == chosen.types)?;
        let bytes = btf.size_of(chosen.ty).ok()?;
        let least = match size {
            Size::Exact(least) | Size::Between(least, _) => least,
            Size::Unknown => 0,
        };
        (u64::from(least) < bytes).then_some(least as usize)
    }

    /// Counts work; `false`: it was too much.
    fn look(&self, at: usize) -> bool {
        let left = self.left.get().checked_sub(at);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The function whose lines are looked at next.
    fn lines_of(&self, output: &Output) -> Option<&'a Function> {
        let function = self.object.functions.get(output.function.0)?;
        self.look(function.lines.len().min(source::MAX_LINES)).then_some(function)
    }

    fn named_in_source(&self, output: &Output) -> Vec<Named> {
        let (Some(btf), Some(line)) = (self.object.btf.as_ref(), output.line.as_ref()) else { return Vec::new() };
        let Some(function) = self.lines_of(output) else { return Vec::new() };
        let mut named = source::types_of_call(btf, function, line, output.kind.helper());
        // `__u32 *p` declares nothing that has members.
        named.retain(
            |named| !matches!(named, Named::Typedef(name) if is_scalar(btf, name) || source::number(&[name]).is_some()),
        );
        named
    }

    /// The line sends a variable that is declared as a number of this size.
    fn is_number(&self, output: &Output, size: Size) -> bool {
        let (Some(btf), Some(line)) = (self.object.btf.as_ref(), output.line.as_ref()) else { return false };
        let Some(function) = self.lines_of(output) else { return false };
        source::sent_variable(btf, function, line, output.kind.helper())
            .and_then(|variable| source::declared_number(btf, function, &variable))
            .is_some_and(|(bytes, _)| size == Size::Exact(bytes))
    }

    /// What the function declares that is named like an event.
    fn declared(&self, output: &Output, map: MapId) -> Vec<Named> {
        let Some(btf) = self.object.btf.as_ref() else { return Vec::new() };
        let Some(function) = self.lines_of(output) else { return Vec::new() };
        let map = self.object.maps.get(map.0).map_or("", |map| &map.name);
        let mut found = source::declared_structs(btf, function);
        found
            .retain(|named| like_an_event(named.name(), map, &self.object.name) && !self.kernel.contains(named.name()));
        found
    }

    /// Structs of this name that fit.
    fn find(&self, name: &Named, size: Size) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (types, btf) in &self.sets {
            for id in btf.named(name.name()) {
                let Ok(ty) = btf.get(id) else { continue };
                let right = match (name, ty.def) {
                    (Named::Struct(_), Def::Struct(_)) | (Named::Union(_), Def::Union(_)) => true,
                    (Named::Typedef(_), Def::Typedef(_)) => composite(btf, id).is_some(),
                    _ => false,
                };
                if right && ty.name == name.name() && fits(btf, id, size) {
                    let name = ty.name.to_owned();
                    found.push(Candidate { basis: Basis::Source, types: *types, name, ty: id });
                }
            }
        }
        found
    }

    /// The type of the bytes themselves.
    fn of_data(&self, output: &Output, size: Size, named: &[Named]) -> Option<Candidate> {
        let btf = self.object.btf.as_ref()?;
        let (ty, offset) = match output.source {
            Source::MapValue(map, Some(at)) => (self.object.maps.get(map.0)?.value_type?, u32::try_from(at).ok()?),
            Source::Data(map, offset) => {
                let mut globals = self.object.globals.iter().filter(|global| global.map == map);
                let holds = |at: u32, bytes: u32| offset.checked_sub(at).is_some_and(|inside| inside < bytes);
                let global = globals.find(|global| holds(global.offset, global.size))?;
                (global.ty?, offset.checked_sub(global.offset)?)
            }
            Source::MapValue(..) | Source::Reserved | Source::Stack(_) | Source::Unknown => return None,
        };
        beginning_at(btf, ty, offset.into()).into_iter().find_map(|ty| self.of_type(btf, ty, size, named))
    }

    /// This type, if the record is one, or as the line says the first part of one.
    fn of_type(&self, btf: &Btf, ty: TypeId, size: Size, named: &[Named]) -> Option<Candidate> {
        let alias = btf.get(ty).map_or("", |ty| ty.name);
        let (bare, name) = composite(btf, ty)?;
        // One without a name is known as the typedef.
        let ty = if btf.get(bare).is_ok_and(|ty| ty.name.is_empty()) { ty } else { bare };
        let first_part = named.iter().any(|named| named.name() == name || named.name() == alias)
            && size != Size::Unknown
            && btf.size_of(ty).is_ok_and(|bytes| bytes > most(size).into());
        (first_part || fits(btf, ty, size)).then_some(Candidate { basis: Basis::Data, types: Types::Object, name, ty })
    }

    fn of_globals(&self, size: Size) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (types, btf) in &self.sets {
            for (_, ty) in self.globals.iter().filter(|(of, _)| of == types) {
                if let Some((ty, name)) = composite(btf, *ty)
                    && exact(btf, ty, size)
                    && !name.is_empty()
                    && !self.kernel.contains(&name)
                {
                    found.push(Candidate { basis: Basis::Global, types: *types, name, ty });
                }
            }
        }
        found
    }

    fn of_names(&self, map: MapId, size: Size) -> Vec<Candidate> {
        let map = self.object.maps.get(map.0).map_or("", |map| &map.name);
        let mut found = Vec::new();
        for (types, btf) in &self.sets {
            if !self.look(btf.len() as usize) {
                return found;
            }
            for ty in btf.own_types().flatten() {
                let Def::Struct(_) = ty.def else { continue };
                if exact(btf, ty.id, size)
                    && like_an_event(ty.name, map, &self.object.name)
                    && !self.kernel.contains(ty.name)
                    && !(*types == Types::Object && self.keys.contains(&ty.id))
                {
                    found.push(Candidate { basis: Basis::Name, types: *types, name: ty.name.to_owned(), ty: ty.id });
                }
            }
        }
        found
    }
}

/// Names that people give to events.
fn like_an_event(name: &str, map: &str, object: &str) -> bool {
    let name = name.strip_suffix("_t").unwrap_or(name);
    let ends = |end: &str| name.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('_'));
    ends("event")
        || ends("evt")
        || ends("record")
        || (name == "data")
        || (!map.is_empty() && map.strip_suffix('s').unwrap_or(map) == name)
        || (!object.is_empty() && name == object)
}

/// The struct or union behind a type, and the name by which it is known.
fn composite(btf: &Btf, ty: TypeId) -> Option<(TypeId, String)> {
    let mut id = ty;
    let mut alias = "";
    for _ in 0..32 {
        let ty = btf.get(id).ok()?;
        id = match ty.def {
            Def::Struct(_) | Def::Union(_) => {
                let name = if ty.name.is_empty() { alias } else { ty.name };
                return Some((id, name.to_owned()));
            }
            Def::Typedef(next) => {
                alias = ty.name;
                next
            }
            Def::Const(next) | Def::Volatile(next) | Def::Restrict(next) | Def::TypeTag(next) => next,
            _ => return None,
        };
    }
    None
}

/// What begins so many bytes into a type, the outermost first: itself, or members of members.
fn beginning_at(btf: &Btf, ty: TypeId, mut offset: u64) -> Vec<TypeId> {
    let mut found = Vec::new();
    let mut next = Some(ty);
    for _ in 0..32 {
        let Some(ty) = next.take() else { break };
        if offset == 0 {
            found.push(ty);
        }
        match btf.resolve(ty).map(|ty| ty.def) {
            Ok(Def::Struct(body) | Def::Union(body)) => {
                for member in body.members().flatten() {
                    let inside = offset.checked_sub(u64::from(member.bit_offset / 8));
                    let bytes = btf.size_of(member.ty).unwrap_or(0);
                    if let Some(inside) = inside.filter(|inside| *inside < bytes) {
                        (next, offset) = (Some(member.ty), inside);
                        break;
                    }
                }
            }
            Ok(Def::Array(array)) => {
                let each = btf.size_of(array.element).unwrap_or(0);
                next = offset.checked_rem(each).map(|inside| {
                    offset = inside;
                    array.element
                });
            }
            _ => {}
        }
    }
    found
}

fn exact(btf: &Btf, ty: TypeId, size: Size) -> bool {
    size != Size::Unknown && btf.size_of(ty).is_ok_and(|bytes| bytes == u64::from(most(size)))
}

fn most(size: Size) -> u32 {
    match size {
        Size::Exact(most) | Size::Between(_, most) => most,
        Size::Unknown => u32::MAX,
    }
}

/// The record can be of this type.
fn fits(btf: &Btf, ty: TypeId, size: Size) -> bool {
    let Ok(bytes) = btf.size_of(ty) else { return false };
    let (least, most) = match size {
        Size::Exact(size) => (u64::from(size), u64::from(size)),
        Size::Between(least, most) => (least.into(), most.into()),
        Size::Unknown => return true,
    };
    bytes == most || (flexible(btf, ty) && bytes <= least)
}

/// A typedef of something without members.
fn is_scalar(btf: &Btf, name: &str) -> bool {
    btf.find(name, Kind::Typedef).is_some_and(|id| composite(btf, id).is_none())
}

/// The last member is an array of no length.
fn flexible(btf: &Btf, ty: TypeId) -> bool {
    let Some((id, _)) = composite(btf, ty) else { return false };
    let Ok(Def::Struct(found)) = btf.get(id).map(|ty| ty.def) else { return false };
    let last = found.members().last().and_then(Result::ok);
    last.and_then(|member| btf.resolve(member.ty).ok()).is_some_and(|ty| matches!(ty.def, Def::Array(a) if a.len == 0))
}

/// Names of the structs that field relocations access, of all that these hold and point at, and of contexts.
fn kernel_names(object: &Object, debug: Option<&Btf>) -> BTreeSet<String> {
    let Some(btf) = &object.btf else { return BTreeSet::new() };
    let field = |kind| !matches!(kind, CoreKind::TypeIdLocal | CoreKind::EnumvalExists | CoreKind::EnumvalValue);
    let relocs = object.functions.iter().flat_map(|function| &function.core);
    let mut todo: Vec<TypeId> = relocs.filter(|core| field(core.kind)).map(|core| core.ty).collect();
    // The first argument of a program is its context.
    let programs = object.programs.iter().filter_map(|program| object.functions.get(program.function.0)?.btf);
    for func in programs {
        if let Ok(Def::Func { proto, .. }) = btf.get(func).map(|ty| ty.def)
            && let Ok(Def::FuncProto(proto)) = btf.get(proto).map(|ty| ty.def)
        {
            todo.extend(proto.params().flatten().map(|param| param.ty).take(1));
        }
    }
    // Functions of the kernel take the kernel's types.
    let extern_protos = btf.own_types().flatten().filter_map(|ty| match ty.def {
        Def::Func { proto, linkage: Linkage::Extern } => Some(proto),
        _ => None,
    });
    todo.extend(extern_protos);
    let mut names = BTreeSet::new();
    reached(btf, todo, &mut names);
    if let Some(debug) = debug {
        // BTF ends at pointers to what the program does not use, DWARF goes on.
        let todo = names.iter().flat_map(|name| debug.named(name)).collect();
        reached(debug, todo, &mut names);
    }
    names
}

/// Names of the structs that these types are, hold and point at.
fn reached(btf: &Btf, mut todo: Vec<TypeId>, names: &mut BTreeSet<String>) {
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Ok(ty) = btf.get(id) else { continue };
        match ty.def {
            Def::Struct(found) | Def::Union(found) => {
                if !ty.name.is_empty() {
                    names.insert(ty.name.to_owned());
                }
                todo.extend(found.members().flatten().map(|member| member.ty));
            }
            Def::Ptr(next)
            | Def::Typedef(next)
            | Def::Const(next)
            | Def::Volatile(next)
            | Def::Restrict(next)
            | Def::TypeTag(next) => todo.push(next),
            Def::Array(array) => todo.push(array.element),
            // Tables of functions name what their arguments point at.
            Def::FuncProto(proto) => {
                todo.push(proto.ret);
                todo.extend(proto.params().flatten().map(|param| param.ty));
            }
            Def::Fwd { .. } => {
                names.insert(ty.name.to_owned());
            }
            Def::Void
            | Def::Int(_)
            | Def::Enum(_)
            | Def::Func { .. }
            | Def::Var { .. }
            | Def::Datasec(_)
            | Def::Float { .. }
            | Def::DeclTag { .. } => {}
        }
    }
}
