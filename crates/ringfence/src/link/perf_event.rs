//! Perf events: clocks and counters that run a program again and again.

use std::os::fd::AsFd;

use ringfence_sys as sys;
use sys::{PerfOpen, PerfTarget, Sampling};

use super::{Link, Links, failed, on_event};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::perf::{cpu_list, perf_cause};
use crate::program::Program;

const HOOK: &str = "perf event";

/// How often a program is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Often {
    /// Once in this many events.
    Every(u64),
    /// About this often a second.
    PerSecond(u64),
}

/// An event of perf_event_open(2).
///
/// ```no_run
/// use ringfence::hook::{Often, PerfEvent};
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// // 99 times a second on every CPU, in whatever runs there.
/// let links = PerfEvent::cpu_clock(Often::PerSecond(99)).on_each_cpu(program)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerfEvent {
    kind: u32,
    config: u64,
    often: Often,
    cpu: Option<u32>,
    pid: Option<u32>,
    cookie: u64,
}

impl PerfEvent {
    /// `PERF_TYPE_*` (or the number of a source of events) and which of its events. On CPU 0, in all processes.
    pub fn new(kind: u32, config: u64, often: Often) -> Self {
        PerfEvent { kind, config, often, cpu: Some(0), pid: None, cookie: 0 }
    }

    /// The CPU's clock (`PERF_COUNT_SW_CPU_CLOCK`), which every machine has.
    pub fn cpu_clock(often: Often) -> Self {
        PerfEvent::new(1, 0, often)
    }

    /// The processor's cycles (`PERF_COUNT_HW_CPU_CYCLES`), which few virtual machines have.
    pub fn cycles(often: Often) -> Self {
        PerfEvent::new(0, 0, often)
    }

    /// On this CPU.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// In this process (thread) alone, on whatever CPU it runs.
    pub fn pid(mut self, pid: u32) -> Self {
        (self.pid, self.cpu) = (Some(pid), None);
        self
    }

    /// What `bpf_get_attach_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    /// Attaches the program to such an event on every CPU that is online.
    ///
    /// # Errors
    /// The first that fails; those before it are taken off again.
    pub fn on_each_cpu(self, program: &Program) -> Result<Links> {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").map_err(|error| {
            failed(
                program,
                HOOK,
                "on each CPU",
                Cause::new(Kind::Io, format!("cannot read which CPUs are online: {error}")),
            )
        })?;
        cpu_list(&online).map(|cpu| PerfEvent { cpu: Some(cpu), ..self }.attach(program)).collect()
    }
}

impl sealed::Sealed for PerfEvent {}

impl Hook for PerfEvent {
    fn attach(&self, program: &Program) -> Result<Link> {
        let mut target = format!("{}:{:#x}", self.kind, self.config);
        if let Some(cpu) = self.cpu {
            target += &format!(" on CPU {cpu}");
        }
        if let Some(pid) = self.pid {
            target += &format!(" in process {pid}");
        }
        let open = PerfOpen {
            pid: self.pid,
            cpu: self.cpu,
            sampling: match self.often {
                Often::Every(count) => Sampling::Period(count),
                Often::PerSecond(count) => Sampling::Frequency(count),
            },
            // The program is there before the first sample.
            disabled: true,
            ..PerfOpen::new(PerfTarget::Counter { kind: self.kind, config: self.config })
        };
        let fail = |errno| failed(program, HOOK, &target, perf_cause(errno));
        let event = sys::perf_event_open(&open).map_err(fail)?;
        let switch = rustix::io::fcntl_dupfd_cloexec(&event, 3).map_err(fail)?;
        let link = on_event(program, HOOK, &target, event, self.cookie)?;
        sys::perf_enable(switch.as_fd()).map_err(fail)?;
        Ok(link)
    }
}
