//! What programs write to memory that records are sent from, and what they read of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ringfence_object::{FunctionId, MapId, Object};
use ringfence_uapi::Helper;

use crate::origin::Origin;
use crate::outputs::{self, Output, Size};
use crate::value::{Base, Made, Site, Stride, Value};
use crate::walk::{self, Call, Load, Seen, Store};

/// Most writes that are remembered, most calls that send or fill, most bytes that one helper writes.
const MAX_WRITES: usize = 50_000;
const MAX_CALLS: usize = 2_000;
pub(crate) const MAX_BYTES: u32 = 1 << 16;

/// Memory that a record can be in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Region {
    Frame(FunctionId),
    Value(MapId),
    Data(MapId),
    Record(Site),
}

pub(crate) fn regions(pointer: Value) -> Vec<(Region, i64)> {
    match pointer {
        Value::Stack(frame, Some(at)) => vec![(Region::Frame(frame.of), at.into())],
        Value::MapValue(map, Some(at)) => vec![(Region::Value(map), at.into())],
        Value::Data(map, at) => vec![(Region::Data(map), at)],
        Value::Record(site, Some(at)) => vec![(Region::Record(site), at.into())],
        Value::Either(site, map, Some(at)) => vec![(Region::Record(site), at.into()), (Region::Value(map), at.into())],
        _ => Vec::new(),
    }
}

/// The places of several elements.
fn elements(pointer: Value) -> Vec<(Region, Stride)> {
    let Value::Every(base, stride) = pointer else { return Vec::new() };
    match base {
        Base::Stack(frame) => vec![(Region::Frame(frame.of), stride)],
        Base::MapValue(map) => vec![(Region::Value(map), stride)],
        Base::Record(site) => vec![(Region::Record(site), stride)],
        Base::Either(site, map) => vec![(Region::Record(site), stride), (Region::Value(map), stride)],
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum By {
    /// A store of a constant.
    Constant(u64),
    Store(Origin),
    Helper(Helper),
    /// Nothing was written: it was read, and the line says what it is.
    Read,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Write {
    pub(crate) at: i64,
    pub(crate) bytes: u32,
    pub(crate) function: FunctionId,
    pub(crate) insn: usize,
    pub(crate) by: By,
    /// The instructions that computed or read what is stored.
    pub(crate) made: Made,
    /// What it is a copy of.
    pub(crate) from: Option<(Region, i64)>,
    /// It is in every element of an array, one at a time: the step, and how many there are, or 0.
    pub(crate) every: Option<(u32, u32)>,
    /// As many bytes as a number says, which are at most these.
    pub(crate) most: bool,
}

impl Write {
    pub(crate) fn end(&self) -> i64 {
        self.at.saturating_add(self.bytes.into())
    }

    pub(crate) fn overlaps(&self, other: &Write) -> bool {
        self.at < other.end() && other.at < self.end()
    }

    pub(crate) fn covers(&self, other: &Write) -> bool {
        self.at <= other.at && self.end() >= other.end()
    }
}

/// A call that takes bytes out of memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Taken {
    pub(crate) function: FunctionId,
    pub(crate) insn: usize,
    /// Where they are.
    pub(crate) places: Vec<(Region, i64)>,
    /// How many, at most.
    pub(crate) bytes: u32,
}

/// All that the walk came across.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) writes: BTreeMap<Region, BTreeSet<Write>>,
    pub(crate) reads: BTreeMap<Region, BTreeSet<Write>>,
    /// The calls that send.
    pub(crate) outputs: Vec<Output>,
    /// Records on their way out.
    pub(crate) sent: Vec<(Output, Taken)>,
    /// Values on their way into maps.
    pub(crate) fills: Vec<(MapId, Taken)>,
    /// Those of both that are there.
    known: HashSet<(Option<MapId>, Option<Size>, Taken)>,
    count: usize,
}

impl Memory {
    pub(crate) fn of(object: &Object) -> Memory {
        let mut memory = Memory::default();
        let mut calls = outputs::Calls::default();
        let complete = walk::walk(object, &mut |seen| match seen {
            Seen::Store(store) => memory.written(store.to, of_store(store)),
            Seen::Load(load) => memory.read(load),
            Seen::Call(call) => {
                calls.take(object, call);
                memory.sends(object, call);
                memory.fills(object, call);
                if let Some((pointer, write)) = of_helper(call) {
                    memory.written(pointer, write);
                }
            }
        });
        memory.outputs = calls.all(object, complete);
        memory
    }

    fn written(&mut self, pointer: Value, write: Write) {
        for (region, at) in regions(pointer) {
            if self.count < MAX_WRITES && self.writes.entry(region).or_default().insert(Write { at, ..write }) {
                self.count = self.count.saturating_add(1);
            }
        }
        for (region, stride) in elements(pointer) {
            let write = Write { at: stride.start.into(), every: Some((stride.step, stride.count)), ..write };
            if self.count < MAX_WRITES && self.writes.entry(region).or_default().insert(write) {
                self.count = self.count.saturating_add(1);
            }
        }
    }

    fn read(&mut self, load: &Load) {
        for (region, at) in regions(load.from).into_iter().filter(|(region, _)| !matches!(region, Region::Frame(_))) {
            let Load { function, insn, bytes, .. } = *load;
            let read = Write {
                at,
                bytes,
                function,
                insn,
                by: By::Read,
                made: Made::default(),
                from: None,
                every: None,
                most: false,
            };
            if self.count < MAX_WRITES && self.reads.entry(region).or_default().insert(read) {
                self.count = self.count.saturating_add(1);
            }
        }
    }

    fn sends(&mut self, object: &Object, call: &Call<'_>) {
        let Some(output) = outputs::output(object, call).filter(|_| self.sent.len() < MAX_CALLS) else { return };
        let [_, second, _, fourth, _] = *call.arguments;
        let places = match output.kind {
            outputs::Kind::RingReserve | outputs::Kind::RingReserveDynptr => {
                vec![(Region::Record(Site { function: call.function, insn: call.insn }), 0)]
            }
            outputs::Kind::RingOutput => regions(second),
            outputs::Kind::PerfOutput => regions(fourth),
        };
        let bytes = match output.size {
            outputs::Size::Exact(most) | outputs::Size::Between(_, most) => most.min(MAX_BYTES),
            outputs::Size::Unknown => MAX_BYTES,
        };
        let taken = Taken { function: call.function, insn: call.insn, places, bytes };
        if self.known.insert((output.map, Some(output.size), taken.clone())) {
            self.sent.push((output, taken));
        }
    }

    fn fills(&mut self, object: &Object, call: &Call<'_>) {
        let [map, second, third, ..] = *call.arguments;
        let value = match call.helper {
            Helper::MAP_UPDATE_ELEM => third,
            Helper::MAP_PUSH_ELEM => second,
            _ => return,
        };
        let Value::Map(map) = map else { return };
        let places = regions(value);
        let Some(bytes) = object.maps.get(map.0).map(|map| map.value_size.min(MAX_BYTES)) else { return };
        let taken = Taken { function: call.function, insn: call.insn, places, bytes };
        let room = self.fills.len() < MAX_CALLS && !taken.places.is_empty();
        if room && self.known.insert((Some(map), None, taken.clone())) {
            self.fills.push((map, taken));
        }
    }
}

fn of_store(store: &Store) -> Write {
    let by = store.value.as_constant().map_or(By::Store(store.origin), By::Constant);
    let from = match by {
        By::Store(Origin::MapValue(map, at, bytes)) if bytes == store.bytes => Some((Region::Value(map), at.into())),
        By::Store(Origin::Stack(of, at, bytes)) if bytes == store.bytes => Some((Region::Frame(of), at.into())),
        _ => None,
    };
    let Store { function, insn, bytes, made, .. } = *store;
    Write { at: 0, bytes, function, insn, by, made, from, every: None, most: false }
}

/// What a helper writes, and where.
fn of_helper(call: &Call<'_>) -> Option<(Value, Write)> {
    let [a, b, c, d, _] = *call.arguments;
    let mut from = None;
    let (to, bytes) = match call.helper {
        Helper::PROBE_READ | Helper::PROBE_READ_KERNEL => {
            from = regions(c).first().copied();
            (a, b)
        }
        Helper::GET_CURRENT_COMM
        | Helper::PROBE_READ_STR
        | Helper::PROBE_READ_USER
        | Helper::PROBE_READ_USER_STR
        | Helper::PROBE_READ_KERNEL_STR
        | Helper::COPY_FROM_USER
        | Helper::COPY_FROM_USER_TASK
        | Helper::SNPRINTF => (a, b),
        Helper::GET_STACK | Helper::GET_TASK_STACK | Helper::D_PATH => (b, c),
        Helper::SKB_LOAD_BYTES | Helper::XDP_LOAD_BYTES | Helper::SKB_LOAD_BYTES_RELATIVE => (c, d),
        Helper::DYNPTR_WRITE => {
            from = regions(c).first().copied();
            (call.dynptr.add(b), d)
        }
        _ => return None,
    };
    let most = bytes.as_constant().is_none();
    let bytes = u32::try_from(bytes.range().1).ok().filter(|bytes| (1..=MAX_BYTES).contains(bytes))?;
    let (by, from) = (By::Helper(call.helper), from.filter(|_| !most));
    let place = call.arguments.iter().position(|argument| *argument == to);
    let made = place.and_then(|at| call.made.get(at)).copied().unwrap_or_default();
    let (function, insn) = (call.function, call.insn);
    Some((to, Write { at: 0, bytes, function, insn, by, made, from, every: None, most }))
}
