//! Events of perf_event_open(2): tracepoints, probes, counters, samples.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Result;
use crate::attr::{PerfEventAttr, Plain};
use crate::call::{address, check};

/// What an event counts.
#[derive(Clone, Copy, Debug)]
pub enum PerfTarget<'a> {
    /// A tracepoint by its id (tracefs, `events/CATEGORY/NAME/id`).
    Tracepoint(u64),
    /// A kprobe or uprobe, made for this event alone.
    Probe {
        /// Number of the `kprobe` or `uprobe` PMU (`/sys/bus/event_source/devices/NAME/type`).
        pmu: u32,
        /// Bits that its `format` files name: return probe, reference counter.
        config: u64,
        /// Kernel function or path of the binary; `None`: a kernel address.
        name: Option<&'a CStr>,
        /// Offset in the function or file, or the kernel address.
        offset: u64,
    },
    /// Any other: `PERF_TYPE_SOFTWARE` (1), `PERF_TYPE_HARDWARE` (0) and so on.
    Counter {
        /// `PERF_TYPE_*` or the number of a PMU.
        kind: u32,
        /// Which of them.
        config: u64,
    },
}

impl PerfTarget<'_> {
    /// What programs write by `bpf_perf_event_output`: `PERF_COUNT_SW_BPF_OUTPUT`.
    pub const BPF_OUTPUT: PerfTarget<'static> = PerfTarget::Counter { kind: 1, config: 10 };
    /// `PERF_COUNT_SW_CPU_CLOCK`.
    pub const CPU_CLOCK: PerfTarget<'static> = PerfTarget::Counter { kind: 1, config: 0 };
}

/// When an event overflows: when its program runs and a sample is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sampling {
    /// Never.
    #[default]
    Never,
    /// After this many.
    Period(u64),
    /// This often a second, about.
    Frequency(u64),
}

/// When a reader of the ring is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wakeup {
    /// Never, or half a ring.
    #[default]
    Default,
    /// After this many samples.
    Samples(u32),
    /// After this many bytes.
    Bytes(u32),
}

/// What perf_event_open(2) takes. Start from [`PerfOpen::new`].
#[derive(Clone, Copy, Debug)]
pub struct PerfOpen<'a> {
    /// What it counts.
    pub target: PerfTarget<'a>,
    /// One process (thread); `None`: all, on `cpu`.
    pub pid: Option<u32>,
    /// One CPU; `None`: all, of `pid`.
    pub cpu: Option<u32>,
    /// When it overflows.
    pub sampling: Sampling,
    /// `PERF_SAMPLE_*`.
    pub sample_type: u64,
    /// When a reader is woken.
    pub wakeup: Wakeup,
    /// Count for threads that `pid` makes later, too.
    pub inherit: bool,
    /// Begin only with [`perf_enable`](crate::perf_enable).
    pub disabled: bool,
    /// For [`perf_lost`](crate::perf_lost); kernels before 6.0 refuse it with `EINVAL`.
    pub count_lost: bool,
}

impl<'a> PerfOpen<'a> {
    /// `PERF_SAMPLE_RAW`.
    pub const SAMPLE_RAW: u64 = 1 << 10;

    /// For all processes, on CPU 0, never overflowing.
    pub fn new(target: PerfTarget<'a>) -> Self {
        Self {
            target,
            pid: None,
            cpu: Some(0),
            sampling: Sampling::Never,
            sample_type: 0,
            wakeup: Wakeup::Default,
            inherit: false,
            disabled: false,
            count_lost: false,
        }
    }
}

// The bits of `struct perf_event_attr`, in their order; on big-endian machines C counts from the other end.
const DISABLED: u32 = 0;
const INHERIT: u32 = 1;
const FREQ: u32 = 10;
const WATERMARK: u32 = 14;

#[doc(hidden)]
pub const BITS: &[(&str, u32)] =
    &[("disabled", DISABLED), ("inherit", INHERIT), ("freq", FREQ), ("watermark", WATERMARK)];

fn bit(number: u32, set: bool) -> u64 {
    let place = if cfg!(target_endian = "little") { number } else { 63 - number };
    u64::from(set) << place
}

/// perf_event_open(2), closed on exec.
///
/// # Errors
/// What the kernel says: `EACCES`, `EPERM`: not allowed (`perf_event_paranoid`, CAP_PERFMON); `ENOENT`: no such
/// event here.
pub fn perf_event_open(open: &PerfOpen<'_>) -> Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FORMAT_LOST: u64 = 1 << 4;

    let mut attr = PerfEventAttr { size: size_of::<PerfEventAttr>() as u32, ..PerfEventAttr::ZERO };
    match open.target {
        PerfTarget::Tracepoint(id) => (attr.type_, attr.config) = (PERF_TYPE_TRACEPOINT, id),
        PerfTarget::Probe { pmu, config, name, offset } => {
            attr.type_ = pmu;
            attr.config = config;
            attr.config1 = name.map_or(0, |name| address(name.to_bytes_with_nul()));
            attr.config2 = offset;
        }
        PerfTarget::Counter { kind, config } => (attr.type_, attr.config) = (kind, config),
    }
    attr.sample_type = open.sample_type;
    attr.read_format = if open.count_lost { PERF_FORMAT_LOST } else { 0 };
    attr._bits = bit(DISABLED, open.disabled) | bit(INHERIT, open.inherit);
    match open.sampling {
        Sampling::Never => {}
        Sampling::Period(period) => attr.sample_period = period,
        Sampling::Frequency(frequency) => {
            attr.sample_period = frequency;
            attr._bits |= bit(FREQ, true);
        }
    }
    match open.wakeup {
        Wakeup::Default => {}
        Wakeup::Samples(count) => attr.wakeup_events = count,
        Wakeup::Bytes(count) => {
            attr.wakeup_events = count;
            attr._bits |= bit(WATERMARK, true);
        }
    }
    let number = |id: Option<u32>| id.map_or(-1, u32::cast_signed);
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    // SAFETY: `attr` is as long as it says; the kernel reads it, and the name, and writes neither (but for
    // `size`, when that is wrong).
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_mut(&mut attr),
            number(open.pid),
            number(open.cpu),
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) })
}

/// Which way an ioctl's argument goes.
#[derive(Clone, Copy)]
enum Direction {
    None,
    Write,
    Read,
}

/// `_IO('$', n)`, `_IOW`, `_IOR` of include/uapi/linux/perf_event.h. Some architectures number the directions in
/// another way (their asm/ioctl.h).
const fn ioctl_number(direction: Direction, number: u32, size: u32) -> u32 {
    let other = cfg!(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    ));
    let direction = match (direction, other) {
        (Direction::None, false) => 0,
        (Direction::None, true) => 1 << 29,
        (Direction::Write, false) => 1 << 30,
        (Direction::Write, true) => 4 << 29,
        (Direction::Read, false) => 2 << 30,
        (Direction::Read, true) => 2 << 29,
    };
    direction | size << 16 | (b'$' as u32) << 8 | number
}

/// # Safety
/// `argument` must be what the request takes.
unsafe fn ioctl(event: BorrowedFd<'_>, request: u32, argument: libc::c_ulong) -> Result<()> {
    // SAFETY: passed on.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) };
    check(libc::c_long::from(result)).map(drop)
}

/// `PERF_EVENT_IOC_SET_BPF`: runs `program` at each overflow or hit, until the event is closed.
///
/// # Errors
/// What the kernel says; `EEXIST`: it has one.
pub fn perf_set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes a descriptor's number.
    unsafe { ioctl(event, ioctl_number(Direction::Write, 8, 4), program.as_raw_fd() as libc::c_ulong) }
}

/// `PERF_EVENT_IOC_ENABLE`.
///
/// # Errors
/// What the kernel says.
pub fn perf_enable(event: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes flags.
    unsafe { ioctl(event, ioctl_number(Direction::None, 0, 0), 0) }
}

/// `PERF_EVENT_IOC_DISABLE`.
///
/// # Errors
/// What the kernel says.
pub fn perf_disable(event: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes flags.
    unsafe { ioctl(event, ioctl_number(Direction::None, 1, 0), 0) }
}

/// Samples that found no room so far, of an event opened with [`PerfOpen::count_lost`]. Those that were lost last are in no
/// record of the ring until one finds room again.
///
/// # Errors
/// What the kernel says; `EINVAL`: the event was opened without it.
pub fn perf_lost(event: BorrowedFd<'_>) -> Result<u64> {
    // The count of the event, then its losses (`perf_read_one` in kernel/events/core.c).
    let mut answer = [0; 16];
    let read = rustix::io::read(event, &mut answer)?;
    let lost = answer.last_chunk().filter(|_| read == answer.len()).ok_or(rustix::io::Errno::INVAL)?;
    Ok(u64::from_ne_bytes(*lost))
}

/// `PERF_EVENT_IOC_PERIOD`: another period, or another frequency for an event that has one.
///
/// # Errors
/// What the kernel says.
pub fn perf_set_period(event: BorrowedFd<'_>, period: u64) -> Result<()> {
    // SAFETY: the request takes the address of a 64-bit number, which outlives the call.
    unsafe {
        ioctl(
            event,
            ioctl_number(Direction::Write, 4, 8),
            std::ptr::from_ref(&period).expose_provenance() as libc::c_ulong,
        )
    }
}

/// `PERF_EVENT_IOC_ID`: no other event has this number.
pub(crate) fn perf_event_id(event: BorrowedFd<'_>) -> Result<u64> {
    let mut id = 0u64;
    let argument = std::ptr::from_mut(&mut id).expose_provenance() as libc::c_ulong;
    // SAFETY: the request writes a 64-bit number to an address that is valid for it.
    unsafe { ioctl(event, ioctl_number(Direction::Read, 7, size_of::<usize>() as u32), argument)? };
    Ok(id)
}
