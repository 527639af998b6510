//! Where a number comes from, as far as that says what it means.

use ringfence_object::{FunctionId, MapId};
use ringfence_uapi::Helper;

use crate::value::{Site, Value};

/// The source of a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Origin {
    /// Not known, or computed.
    Other,
    /// Computed, with a sign: an arithmetic shift or an extension of the sign.
    Signed,
    /// `bpf_get_current_pid_tgid`: both halves.
    PidTgid,
    /// Its upper half: what user space calls the process.
    Tgid,
    /// Its lower half: the thread.
    Pid,
    /// Both halves, turned round: two numbers that are stored at once.
    TgidPid,
    /// `bpf_get_current_uid_gid`: both halves.
    UidGid,
    /// Both halves, turned round.
    GidUid,
    /// Its upper half.
    Gid,
    /// Its lower half.
    Uid,
    /// A clock of the kernel, in nanoseconds.
    Time,
    /// The processor.
    Cpu,
    /// `bpf_get_stackid` of the kernel's stack.
    StackId,
    /// The same of the stack of user space.
    UserStackId,
    /// A time less another: units of this many nanoseconds.
    Elapsed(u32),
    /// `bpf_get_current_cgroup_id`.
    CgroupId,
    /// Read by an instruction with a CO-RE relocation.
    Core(Site),
    /// Read from a map's value: offset, bytes.
    MapValue(MapId, i32, u32),
    /// Read from a data section: offset, bytes.
    Data(MapId, i32, u32),
    /// Read from a frame of the call stack: whose, offset, bytes.
    Stack(FunctionId, i32, u32),
    /// Read from the context: bytes.
    Context(i16, u32),
    /// Read from other memory: bytes.
    Memory(u32),
}

impl Origin {
    /// What paths that meet agree on.
    pub(crate) fn join(self, other: Origin) -> Origin {
        if self == other { self } else { Origin::Other }
    }

    /// Of what a helper returns.
    pub(crate) fn of_helper(helper: Helper, arguments: [Value; 5]) -> Origin {
        /// `BPF_F_USER_STACK`.
        const USER: u64 = 1 << 8;
        let [_, _, flags, ..] = arguments;
        match helper {
            Helper::GET_STACKID if flags.as_constant().is_none() => Origin::Other,
            Helper::GET_STACKID if flags.range().0 & USER != 0 => Origin::UserStackId,
            Helper::GET_CURRENT_PID_TGID => Origin::PidTgid,
            Helper::GET_CURRENT_UID_GID => Origin::UidGid,
            Helper::KTIME_GET_NS | Helper::KTIME_GET_BOOT_NS | Helper::KTIME_GET_COARSE_NS => Origin::Time,
            Helper::GET_SMP_PROCESSOR_ID => Origin::Cpu,
            Helper::GET_STACKID => Origin::StackId,
            Helper::GET_CURRENT_CGROUP_ID => Origin::CgroupId,
            _ => Origin::Other,
        }
    }

    /// Of what is read through `base`.
    pub(crate) fn loaded(base: Value, off: i16, bytes: u32, core: Option<Site>, signed: bool) -> Origin {
        match (core, base) {
            (Some(site), _) => Origin::Core(site),
            (None, Value::MapValue(map, Some(at))) => match at.checked_add(off.into()) {
                Some(at) => Origin::MapValue(map, at, bytes),
                None => Origin::Memory(bytes),
            },
            _ if signed => Origin::Signed,
            (None, Value::Data(map, at)) => match i32::try_from(at).ok().and_then(|at| at.checked_add(off.into())) {
                Some(at) => Origin::Data(map, at, bytes),
                None => Origin::Memory(bytes),
            },
            (None, Value::Stack(frame, Some(at))) => match at.checked_add(off.into()) {
                Some(at) => Origin::Stack(frame.of, at, bytes),
                None => Origin::Memory(bytes),
            },
            (None, Value::Context) => Origin::Context(off, bytes),
            _ => Origin::Memory(bytes),
        }
    }

    /// Behind an operation of `BPF_ALU` or `BPF_ALU64`: `self` is what stands in the register that is changed, `from` what stands in the other.
    pub(crate) fn computed(self, op: u8, by: Option<u64>, from: Origin, narrow: bool) -> Origin {
        const MOV: u8 = 0xb0;
        const RSH: u8 = 0x70;
        const LSH: u8 = 0x60;
        const ARSH: u8 = 0xc0;
        const ADD: u8 = 0x00;
        const OR: u8 = 0x40;
        const SUB: u8 = 0x10;
        const DIV: u8 = 0x30;
        match (op, self, by) {
            // A constant is no time to be subtracted.
            (SUB, Origin::Time, None) => Origin::Elapsed(1),
            (ADD, _, None) if matches!(from, Origin::Elapsed(_)) && self != Origin::Time => from,
            (ADD, Origin::Elapsed(_), None) => self,
            (DIV, Origin::Elapsed(unit), Some(by)) => {
                let unit = u32::try_from(by).ok().and_then(|by| unit.checked_mul(by));
                unit.map_or(Origin::Other, Origin::Elapsed)
            }
            (MOV, ..) => match from {
                Origin::PidTgid if narrow => Origin::Pid,
                Origin::UidGid if narrow => Origin::Uid,
                from => from,
            },
            (RSH, Origin::PidTgid, Some(32)) => Origin::Tgid,
            (RSH, Origin::UidGid, Some(32)) => Origin::Gid,
            // `x << 32 >> 32`: how cpu v1 and v2 clear the upper half.
            (LSH, Origin::PidTgid, Some(32)) => Origin::Pid,
            (LSH, Origin::UidGid, Some(32)) => Origin::Uid,
            (RSH, Origin::Pid | Origin::Uid, Some(32)) => self,
            (OR, Origin::Tgid, _) if from == Origin::Pid => Origin::TgidPid,
            (OR, Origin::Pid, _) if from == Origin::Tgid => Origin::TgidPid,
            (OR, Origin::Gid, _) if from == Origin::Uid => Origin::GidUid,
            (OR, Origin::Uid, _) if from == Origin::Gid => Origin::GidUid,
            (ARSH, ..) => Origin::Signed,
            _ => Origin::Other,
        }
    }
}
