//! The calls that send records to user space.

use std::collections::HashSet;

use ringfence_object::{Function, FunctionId, Line, MapId, Object};
use ringfence_uapi::{Helper, Insn};

use crate::value::Value;
use crate::walk;

/// A call that sends a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    /// The function that the call is in.
    pub function: FunctionId,
    /// Index into its instructions.
    pub insn: usize,
    /// How it is sent.
    pub kind: Kind,
    /// Where it goes; `None`: not known.
    pub map: Option<MapId>,
    /// It goes to a map inside [`Output::map`].
    pub inner: bool,
    /// Bytes.
    pub size: Size,
    /// Bytes of the packet may follow (`BPF_F_CTXLEN_MASK` of the flags).
    pub appended: bool,
    /// Where the bytes come from.
    pub source: Source,
    /// The source line, where the object has them.
    pub line: Option<Line>,
}

/// Which helper sends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `bpf_ringbuf_reserve`, filled in place.
    RingReserve,
    /// `bpf_ringbuf_reserve_dynptr`.
    RingReserveDynptr,
    /// `bpf_ringbuf_output`.
    RingOutput,
    /// `bpf_perf_event_output`, `bpf_skb_output`, `bpf_xdp_output`.
    PerfOutput,
}

impl Kind {
    /// The helper, as sources call it.
    pub(crate) fn helper(self) -> &'static str {
        match self {
            Kind::RingReserveDynptr => "bpf_ringbuf_reserve_dynptr",
            Kind::RingReserve => "bpf_ringbuf_reserve",
            Kind::RingOutput => "bpf_ringbuf_output",
            Kind::PerfOutput => "bpf_perf_event_output",
        }
    }
}

/// Bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Size {
    /// Always this many.
    Exact(u32),
    /// From the first to the second, both included.
    Between(u32, u32),
    /// Not known.
    Unknown,
}

/// Where the bytes of a record come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Written in place.
    Reserved,
    /// The stack: bytes from the top of the frame.
    Stack(Option<i32>),
    /// A value of a map: bytes from its start.
    MapValue(MapId, Option<i32>),
    /// A data section: bytes from its start.
    Data(MapId, u32),
    /// Not known.
    Unknown,
}

/// Every call by which a program can send a record, by function and instruction.
///
/// A function that is called with different maps or sizes has several for one instruction.
pub fn outputs(object: &Object) -> Vec<Output> {
    if !any(object) {
        return Vec::new();
    }
    let mut calls = Calls::default();
    let complete = walk::calls(object, &mut |call| calls.take(object, call));
    calls.all(object, complete)
}

/// There is a call that may send.
pub(crate) fn any(object: &Object) -> bool {
    let sends = |insn: &Insn| insn.is_helper_call() && SENDING.contains(&Helper(insn.imm.cast_unsigned()));
    object.functions.iter().any(|function| function.insns.iter().any(sends))
}

/// What [`output`] knows.
const SENDING: &[Helper] = &[
    Helper::RINGBUF_RESERVE,
    Helper::RINGBUF_RESERVE_DYNPTR,
    Helper::RINGBUF_OUTPUT,
    Helper::PERF_EVENT_OUTPUT,
    Helper::SKB_OUTPUT,
    Helper::XDP_OUTPUT,
];

/// The calls that a walk comes across.
#[derive(Default)]
pub(crate) struct Calls {
    found: Vec<Output>,
    seen: HashSet<(FunctionId, usize, Option<MapId>, bool, Size, Source)>,
}

impl Calls {
    pub(crate) fn take(&mut self, object: &Object, call: &walk::Call<'_>) {
        if let Some(output) = output(object, call)
            && self.seen.insert((output.function, output.insn, output.map, output.inner, output.size, output.source))
        {
            self.found.push(output);
        }
    }

    /// Those, and where the walk gave up somewhere, the calls that it did not reach.
    pub(crate) fn all(self, object: &Object, complete: bool) -> Vec<Output> {
        let mut found = self.found;
        if !complete {
            found.extend(unreached(object, &found));
        }
        found.sort_by_key(|output| (output.function, output.insn, output.map, output.size));
        found
    }
}

/// The calls among an object's instructions that are none of these; of what they send nothing is known.
fn unreached(object: &Object, found: &[Output]) -> Vec<Output> {
    let known: HashSet<_> = found.iter().map(|output| (output.function, output.insn)).collect();
    let mut others = Vec::new();
    for (id, function) in object.functions.iter().enumerate() {
        for (at, insn) in function.insns.iter().enumerate().filter(|(_, insn)| insn.is_helper_call()) {
            let function = FunctionId(id);
            let helper = Helper(insn.imm.cast_unsigned());
            let arguments = &[Value::Unknown; 5];
            let made = Default::default();
            let call = walk::Call { function, insn: at, helper, arguments, made, dynptr: Value::Unknown };
            if !known.contains(&(function, at)) {
                others.extend(output(object, &call));
            }
        }
    }
    others
}

pub(crate) fn output(object: &Object, call: &walk::Call<'_>) -> Option<Output> {
    let [a, b, c, d, e] = *call.arguments;
    let (kind, map, data, size, flags) = match call.helper {
        Helper::RINGBUF_RESERVE => (Kind::RingReserve, a, None, b, Value::constant(0)),
        Helper::RINGBUF_RESERVE_DYNPTR => (Kind::RingReserveDynptr, a, None, b, Value::constant(0)),
        Helper::RINGBUF_OUTPUT => (Kind::RingOutput, a, Some(b), c, Value::constant(0)),
        Helper::PERF_EVENT_OUTPUT | Helper::SKB_OUTPUT | Helper::XDP_OUTPUT => (Kind::PerfOutput, b, Some(d), e, c),
        _ => return None,
    };
    let (map, inner) = walk::map_of(object, map);
    let source = match data.map(Value::loose) {
        None => Source::Reserved,
        Some(Value::Stack(_, at)) => Source::Stack(at),
        Some(Value::MapValue(map, at) | Value::Either(_, map, at)) => Source::MapValue(map, at),
        Some(Value::Data(map, at)) => u32::try_from(at).map_or(Source::Unknown, |at| Source::Data(map, at)),
        Some(_) => Source::Unknown,
    };
    let function = object.functions.get(call.function.0)?;
    Some(Output {
        function: call.function,
        insn: call.insn,
        kind,
        map,
        inner,
        size: size_of(size),
        // BPF_F_CTXLEN_MASK: bits 32 to 51 of the flags (bpf_skb_event_output in net/core/filter.c).
        appended: flags.range().1 >> 32 != 0,
        source,
        line: line_of(function, call.insn),
    })
}

/// The source line of an instruction.
pub(crate) fn line_of(function: &Function, insn: usize) -> Option<Line> {
    let behind = function.lines.partition_point(|line| line.insn <= insn);
    function.lines.get(behind.checked_sub(1)?).copied()
}

fn size_of(value: Value) -> Size {
    /// No record is larger; what seems to be is a number that nothing bounds.
    const MOST: u64 = 1 << 28;
    match value {
        Value::Number(low, high) if high <= MOST => {
            let (low, high) = (u32::try_from(low).unwrap_or(u32::MAX), u32::try_from(high).unwrap_or(u32::MAX));
            if low == high { Size::Exact(low) } else { Size::Between(low, high) }
        }
        _ => Size::Unknown,
    }
}
