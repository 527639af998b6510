//! What the bare numbers in keys and values of maps mean, by where programs take them from.
//!
//! A key is in the frame of the function that hands it over, a value in a frame too or in the map itself. All numbers that
//! are stored at one place must agree: a place of the stack that is used twice says nothing. Constants go with everything:
//! they stand for "none yet".

use std::collections::{BTreeMap, BTreeSet};

use ringfence_btf::Def;
use ringfence_object::{CoreKind, CoreReloc, FunctionId, MapId, Object};
use ringfence_uapi::Helper;

use crate::origin::Origin;
use crate::value::{Site, Value};
use crate::walk::{self, Call, Seen, Store};

/// Most stores, and most calls, that are remembered.
const MAX_STORES: usize = 50_000;
const MAX_CALLS: usize = 5_000;
/// Instructions between the computation of a field's address and the call that reads it.
const NEAR: usize = 12;
/// Largest key or value that is looked at.
const MAX_BYTES: i64 = 1 << 16;

/// A part of a map's entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The key.
    Key,
    /// The value; of a per-CPU map, each.
    Value,
}

/// What a number means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Quantity {
    /// A process, as user space numbers them.
    Process,
    /// A thread.
    Thread,
    /// A process in the upper half, a thread in the lower.
    ProcessAndThread,
    /// The number of a kernel stack in a stack-trace map.
    KernelStack,
    /// The number of a stack of user space.
    UserStack,
    /// When something was, in nanoseconds of a clock of the kernel.
    Time,
    /// Time that has passed, in units of this many nanoseconds.
    Elapsed(u32),
}

/// A number in the keys or values of a map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Scalar {
    /// The map.
    pub map: MapId,
    /// Where in its entries.
    pub side: Side,
    /// The member, `key.pid`; empty where the key or value is the number.
    pub path: String,
    /// What it means.
    pub quantity: Quantity,
}

/// A place in a key or value: map, side, bytes from its start, bytes.
type Place = (MapId, Side, u32, u32);
/// What was read into a place of a frame: whose, bytes from its top, bytes.
type Reads = BTreeMap<(FunctionId, i64, u32), BTreeSet<Option<Quantity>>>;

/// The numbers in maps whose meaning the programs tell, by map and place.
pub fn scalars(object: &Object) -> Vec<Scalar> {
    let mut frames: BTreeMap<FunctionId, BTreeSet<(i64, u32, Origin)>> = BTreeMap::new();
    let mut handed: BTreeSet<(MapId, Side, FunctionId, i64)> = BTreeSet::new();
    let mut found: BTreeMap<Place, BTreeSet<Origin>> = BTreeMap::new();
    let mut reads = Reads::new();
    let mut stores = 0usize;
    walk::walk(object, &mut |seen| match seen {
        Seen::Store(store) if stores < MAX_STORES => {
            stores = stores.saturating_add(1);
            let Some(origin) = origin(store) else { return };
            match store.to {
                Value::Stack(frame, Some(at)) => {
                    frames.entry(frame.of).or_default().insert((at.into(), store.bytes, origin));
                }
                Value::MapValue(map, Some(at)) => {
                    if let Ok(at) = u32::try_from(at) {
                        found.entry((map, Side::Value, at, store.bytes)).or_default().insert(origin);
                    }
                }
                _ => {}
            }
        }
        Seen::Store(_) | Seen::Load(_) => {}
        Seen::Call(call) => {
            if let Some((place, site)) = read(call)
                && reads.len() < MAX_STORES
            {
                reads.entry(place).or_default().insert(of_read(object, site));
            }
            for (map, side, pointer) in taken(call) {
                if let Value::Stack(frame, Some(at)) = pointer
                    && handed.len() < MAX_CALLS
                {
                    handed.insert((map, side, frame.of, at.into()));
                }
            }
        }
    });
    for (map, side, frame, start) in handed {
        let Some(info) = object.maps.get(map.0) else { continue };
        let bytes = i64::from(if side == Side::Key { info.key_size } else { info.value_size }).min(MAX_BYTES);
        for (at, width, origin) in frames.get(&frame).into_iter().flatten() {
            let offset = at.saturating_sub(start);
            if let Ok(place) = u32::try_from(offset)
                && offset.saturating_add((*width).into()) <= bytes
            {
                found.entry((map, side, place, *width)).or_default().insert(*origin);
            }
        }
    }
    // What is copied from another map means what it means there.
    let direct: BTreeMap<Place, Quantity> = found
        .iter()
        .filter_map(|(place, all)| Some((*place, agreed(object, place.3, all, &BTreeMap::new(), &reads)?)))
        .collect();
    let all = found.iter().filter_map(|(place, all)| {
        let (map, side, offset, bytes) = *place;
        let quantity = agreed(object, bytes, all, &direct, &reads)?;
        let wide = if matches!(quantity, Quantity::ProcessAndThread | Quantity::Time) { 8 } else { 4 };
        let path = member(object, map, side, offset, bytes).filter(|_| bytes >= wide)?;
        Some(Scalar { map, side, path, quantity })
    });
    all.collect()
}

/// The integer of this width at this place of a key or value.
fn member(object: &Object, map: MapId, side: Side, offset: u32, bytes: u32) -> Option<String> {
    let (btf, map) = (object.btf.as_ref()?, object.maps.get(map.0)?);
    let ty = match side {
        Side::Key => map.key_type?,
        Side::Value => map.value_type?,
    };
    let integer = |ty| matches!(btf.resolve(ty).map(|ty| ty.def), Ok(Def::Int(_)));
    if integer(ty) {
        return (offset == 0 && btf.size_of(ty) == Ok(bytes.into())).then(String::new);
    }
    let (path, field) = btf.member_at(ty, offset.into()).ok()?;
    let (start, bits) = (u64::from(offset).saturating_mul(8), u64::from(bytes).saturating_mul(8));
    let whole = integer(field.ty) && !field.bitfield && (field.bit_offset, field.bit_size) == (start, bits);
    (whole && !path.contains('[')).then_some(path)
}

/// Where a stored number comes from; `None`: it is a constant.
fn origin(store: &Store) -> Option<Origin> {
    store.value.as_constant().is_none().then_some(store.origin)
}

/// Keys and values that a call hands over.
fn taken(call: &Call<'_>) -> Vec<(MapId, Side, Value)> {
    let [Value::Map(map), key, value, ..] = *call.arguments else { return Vec::new() };
    match call.helper {
        Helper::MAP_LOOKUP_ELEM | Helper::MAP_DELETE_ELEM | Helper::MAP_LOOKUP_PERCPU_ELEM => {
            vec![(map, Side::Key, key)]
        }
        Helper::MAP_UPDATE_ELEM => vec![(map, Side::Key, key), (map, Side::Value, value)],
        _ => Vec::new(),
    }
}

/// What a call reads from kernel memory into a frame, and the call.
fn read(call: &Call<'_>) -> Option<((FunctionId, i64, u32), Site)> {
    if !matches!(call.helper, Helper::PROBE_READ | Helper::PROBE_READ_KERNEL) {
        return None;
    }
    let [Value::Stack(frame, Some(at)), bytes, ..] = *call.arguments else { return None };
    let bytes = u32::try_from(bytes.as_constant()?).ok()?;
    Some(((frame.of, at.into(), bytes), Site { function: call.function, insn: call.insn }))
}

/// What all of them mean.
fn agreed(
    object: &Object,
    bytes: u32,
    all: &BTreeSet<Origin>,
    known: &BTreeMap<Place, Quantity>,
    reads: &Reads,
) -> Option<Quantity> {
    // A narrow store takes the lower half.
    let narrow = |quantity| match quantity {
        Quantity::ProcessAndThread if bytes == 4 => Quantity::Thread,
        quantity => quantity,
    };
    let mut meanings = all.iter().map(|origin| quantity(object, *origin, known, reads).map(narrow));
    let first = meanings.next()??;
    meanings.all(|other| other == Some(first)).then_some(first)
}

fn quantity(object: &Object, origin: Origin, known: &BTreeMap<Place, Quantity>, reads: &Reads) -> Option<Quantity> {
    match origin {
        Origin::Tgid => Some(Quantity::Process),
        Origin::Pid => Some(Quantity::Thread),
        Origin::PidTgid => Some(Quantity::ProcessAndThread),
        Origin::StackId => Some(Quantity::KernelStack),
        Origin::UserStackId => Some(Quantity::UserStack),
        Origin::Time => Some(Quantity::Time),
        Origin::Elapsed(unit) => Some(Quantity::Elapsed(unit)),
        Origin::Core(site) => of_field(object, site),
        Origin::MapValue(map, at, bytes) => known.get(&(map, Side::Value, u32::try_from(at).ok()?, bytes)).copied(),
        Origin::Stack(function, at, bytes) => {
            let mut all = reads.get(&(function, at.into(), bytes))?.iter();
            let first = *all.next()?;
            first.filter(|_| all.next().is_none())
        }
        Origin::TgidPid
        | Origin::GidUid
        | Origin::Other
        | Origin::Signed
        | Origin::UidGid
        | Origin::Gid
        | Origin::Uid
        | Origin::Cpu
        | Origin::CgroupId
        | Origin::Context(..)
        | Origin::Data(..)
        | Origin::Memory(_) => None,
    }
}

/// `pid` and `tgid` of `struct task_struct`.
fn of_field(object: &Object, site: Site) -> Option<Quantity> {
    let function = object.functions.get(site.function.0)?;
    field(object, function.core.iter().find(|core| core.insn == site.insn)?)
}

/// What `bpf_probe_read_kernel` reads: the field whose offset was computed for it.
fn of_read(object: &Object, site: Site) -> Option<Quantity> {
    let function = object.functions.get(site.function.0)?;
    let before = function.core.iter().filter(|core| core.insn < site.insn);
    let core = before.max_by_key(|core| core.insn)?;
    let between = function.insns.get(core.insn..site.insn)?;
    (between.len() <= NEAR && !between.iter().any(|insn| insn.is_helper_call())).then(|| field(object, core))?
}

fn field(object: &Object, core: &CoreReloc) -> Option<Quantity> {
    if core.kind != CoreKind::FieldByteOffset {
        return None;
    }
    let btf = object.btf.as_ref()?;
    let ty = btf.resolve(core.ty).ok()?;
    let Def::Struct(body) = ty.def else { return None };
    let member = body.member(core.access.strip_prefix("0:")?.parse().ok()?)?.ok()?;
    match (ringfence_btf::essential_name(ty.name), member.name) {
        ("task_struct", "pid") => Some(Quantity::Thread),
        ("task_struct", "tgid") => Some(Quantity::Process),
        _ => None,
    }
}
