//! A small program on the tracepoint behind `bpf_printk`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ringfence_kernel::Kernel;
use ringfence_plan::{Fixup, FixupWith, MapPlan, Plan, PlanMap, ProgramPlan};
use ringfence_uapi::{Helper, Insn, MapType, ProgramType};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::formats::Formats;
use super::{Message, Writer};
use crate::error::Result;
use crate::events::Events;
use crate::hook::{Hook, RawTracepoint};
use crate::link::Link;
use crate::loaded::Loaded;

/// Kernel frames that are kept: the caller of `bpf_trace_printk` is among the first few.
const FRAMES: usize = 16;
/// `BPF_TRACE_PRINTK_SIZE`.
const TEXT: usize = 1024;
const RING_BYTES: u32 = 1 << 20;

/// What the program writes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    time_ns: u64,
    /// Process << 32 | thread.
    ids: u64,
    cpu: u32,
    /// Bytes of the text, its final zero included; negative: it could not be read.
    text_len: i32,
    task: [u8; 16],
    stack: [u64; FRAMES],
    /// Bytes of the stack; negative: there is none.
    stack_len: i64,
    text: [u8; TEXT],
}

/// A program of ours, and where its machine code lies.
#[derive(Debug)]
struct Code {
    program: String,
    ranges: Vec<(u64, u32)>,
}

#[derive(Debug)]
pub(super) struct Watch {
    own: Loaded,
    events: Events,
    _link: Link,
    codes: Vec<Code>,
}

impl Watch {
    pub(super) fn start(loaded: &Loaded) -> Result<Watch> {
        let own = crate::load::load(&plan(), &Kernel::running())?;
        let events = own.events("lines")?;
        let link = RawTracepoint::new("bpf_trace_printk").attach(own.program("watch")?)?;
        let code = |program: &crate::program::Program| Code {
            program: program.name().to_owned(),
            ranges: program.fd().machine_code().unwrap_or_default(),
        };
        let codes = loaded.programs().iter().map(code).collect();
        Ok(Watch { own, events, _link: link, codes })
    }

    pub(super) fn poll(
        &mut self,
        timeout: Option<Duration>,
        formats: &Formats,
        each: &mut impl FnMut(Message<'_>),
    ) -> Result<usize> {
        let codes = &self.codes;
        self.events.poll(timeout, |event| {
            let Some(record) = event.read::<Record>() else { return };
            let (text, task) = (text(&record.text, record.text_len), text(&record.task, record.task.len() as i32));
            each(Message {
                task: &task,
                pid: record.ids as u32,
                cpu: record.cpu,
                time_ns: record.time_ns,
                text: text.trim_end_matches('\n'),
                writer: writer(codes, &record, formats, text.trim_end_matches('\n')),
            });
        })
    }

    pub(super) fn lost(&self) -> Result<u64> {
        Ok(self.own.map("lost")?.table::<u32, u64>()?.get(&0)?.unwrap_or(0))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn text(bytes: &[u8], len: i32) -> std::borrow::Cow<'_, str> {
    let bytes = &bytes[..usize::try_from(len).unwrap_or(0).min(bytes.len())];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

/// By the stack; where that shows nothing, by the text.
fn writer<'a>(codes: &'a [Code], record: &Record, formats: &'a Formats, text: &str) -> Writer<'a> {
    let stack = &record.stack[..(usize::try_from(record.stack_len).unwrap_or(0) / 8).min(FRAMES)];
    let visible = !stack.is_empty() && codes.iter().all(|code| !code.ranges.is_empty());
    if !visible {
        return formats.writer(text);
    }
    let inside = |code: &Code, at: &u64| {
        code.ranges.iter().any(|(start, len)| at.checked_sub(*start).is_some_and(|off| off <= u64::from(*len)))
    };
    let found = stack.iter().find_map(|at| codes.iter().find(|code| inside(code, at)));
    match found {
        // A program of ours may be further up while another one, called by what it does, is speaking.
        Some(code) if !formats.excludes(&code.program, text) => Writer::Program(&code.program),
        Some(_) | None => Writer::Other,
    }
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

const fn call(helper: Helper) -> Insn {
    insn(Insn::CALL, 0, 0, 0, helper.0.cast_signed())
}

/// Offset of a field of [`Record`], for an instruction.
macro_rules! at {
    ($field:ident) => {
        std::mem::offset_of!(Record, $field) as i32
    };
}

/// `r6` is the context, `r7` the record.
fn program() -> Vec<Insn> {
    const MOV: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const STORE_64: u8 = 0x7b;
    const STORE_32: u8 = 0x63;
    const LOAD_64: u8 = 0x79;
    const JUMP_NOT: u8 = 0x55;
    const ATOMIC_64: u8 = 0xdb;
    let field = |register, offset| [insn(MOV, register, 7, 0, 0), insn(ADD, register, 0, 0, offset)];
    let mut insns = vec![
        insn(MOV, 6, 1, 0, 0),
        insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_FD, 0, 0),
        Insn::default(),
        insn(SET, 2, 0, 0, size_of::<Record>() as i32),
        insn(SET, 3, 0, 0, 0),
        call(Helper::RINGBUF_RESERVE),
        insn(JUMP_NOT, 0, 0, 6, 0),
        // No room: count it.
        insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_VALUE, 0, 0),
        Insn::default(),
        insn(SET, 2, 0, 0, 1),
        insn(ATOMIC_64, 1, 2, 0, 0),
        insn(SET, 0, 0, 0, 0),
        insn(Insn::EXIT, 0, 0, 0, 0),
        insn(MOV, 7, 0, 0, 0),
        call(Helper::KTIME_GET_NS),
        insn(STORE_64, 7, 0, at!(time_ns) as i16, 0),
        call(Helper::GET_CURRENT_PID_TGID),
        insn(STORE_64, 7, 0, at!(ids) as i16, 0),
        call(Helper::GET_SMP_PROCESSOR_ID),
        insn(STORE_32, 7, 0, at!(cpu) as i16, 0),
    ];
    insns.extend(field(1, at!(task)));
    insns.extend([insn(SET, 2, 0, 0, 16), call(Helper::GET_CURRENT_COMM), insn(MOV, 1, 6, 0, 0)]);
    insns.extend(field(2, at!(stack)));
    insns.extend([
        insn(SET, 3, 0, 0, (FRAMES * 8) as i32),
        insn(SET, 4, 0, 0, 0),
        call(Helper::GET_STACK),
        insn(STORE_64, 7, 0, at!(stack_len) as i16, 0),
    ]);
    insns.extend(field(1, at!(text)));
    insns.extend([
        insn(SET, 2, 0, 0, TEXT as i32),
        // The tracepoint's only argument: the text.
        insn(LOAD_64, 3, 6, 0, 0),
        call(Helper::PROBE_READ_KERNEL_STR),
        insn(STORE_32, 7, 0, at!(text_len) as i16, 0),
        insn(MOV, 1, 7, 0, 0),
        insn(SET, 2, 0, 0, 0),
        call(Helper::RINGBUF_SUBMIT),
        insn(SET, 0, 0, 0, 0),
        insn(Insn::EXIT, 0, 0, 0, 0),
    ]);
    insns
}

fn map(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapPlan {
    let plan = MapPlan::new(name, kind, key_size, value_size, max_entries);
    MapPlan { kernel_name: format!("rf_{name}"), ..plan }
}

pub(super) fn program_plan(name: &str, kind: ProgramType, insns: Vec<Insn>) -> ProgramPlan {
    ProgramPlan { kernel_name: format!("rf_{name}"), ..ProgramPlan::new(name, kind, "Dual MIT/GPL", insns) }
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.object = "printk".to_owned();
    plan.maps = vec![map("lines", MapType::RINGBUF, 0, 0, RING_BYTES), map("lost", MapType::ARRAY, 4, 8, 1)];
    let mut watch = program_plan("watch", ProgramType::RAW_TRACEPOINT, program());
    let uses = |insn, map| Fixup { insn, with: FixupWith::Map(PlanMap(map)) };
    watch.fixups = vec![uses(1, 0), uses(7, 1)];
    plan.programs = vec![watch];
    plan
}
