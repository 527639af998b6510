//! Reading a perf event array: a buffer for each CPU.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ringfence_sys as sys;
use rustix::io::Errno;
use sys::{PerfOpen, PerfRing, PerfTarget, Sampling, Wakeup};

use crate::error::{Cause, Kind, Result};
use crate::events::{Buffering, Seen, damaged};
use crate::map::Map;

const OPENING: &str = "opening its buffers";
/// CPUs that come are looked for this often, while there is nothing else to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct PerfSource {
    map: Map,
    cpus: BTreeMap<u32, Cpu>,
    /// Events and losses of CPUs that went away.
    gone: (u64, u64),
    /// The kernel counts all losses: since Linux 6.0. An older one tells of some only with the next event that finds room.
    counts_lost: bool,
    buffering: Buffering,
    token: u64,
    looked: Instant,
}

#[derive(Debug)]
struct Cpu {
    ring: PerfRing,
    event: OwnedFd,
    counts_lost: bool,
    events: u64,
    /// What records of the ring said.
    lost: u64,
    fullest: usize,
}

impl PerfSource {
    pub(crate) fn new(map: &Map, epoll: &sys::Epoll, token: u64, buffering: &Buffering) -> Result<PerfSource> {
        let now = Instant::now();
        let mut source = PerfSource {
            map: map.clone(),
            cpus: BTreeMap::new(),
            gone: (0, 0),
            counts_lost: true,
            buffering: *buffering,
            token,
            looked: now,
        };
        source.open_new_cpus(epoll)?;
        if source.cpus.is_empty() {
            return Err(map.invalid(
                OPENING,
                "no CPU that is online has a place in the map: make max_entries the number of CPUs",
            ));
        }
        Ok(source)
    }

    /// Opens buffers on CPUs that came since the last look.
    pub(crate) fn look_for_cpus(&mut self, epoll: &sys::Epoll, now: Instant) -> Result<()> {
        if now.saturating_duration_since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        self.open_new_cpus(epoll)
    }

    fn open_new_cpus(&mut self, epoll: &sys::Epoll) -> Result<()> {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/online").map_err(|error| {
            let cause = Cause::new(Kind::Io, format!("cannot read /sys/devices/system/cpu/online: {error}"));
            self.map.failed(OPENING, cause.action("mount sysfs"))
        })?;
        let online: Vec<u32> = cpu_list(&text).collect();
        // The event of a CPU that went away is dead: should it come back, it needs a new one.
        let gone = &mut self.gone;
        self.cpus.retain(|cpu, old| {
            let stays = online.contains(cpu) || old.ring.pending() > 0;
            if !stays {
                gone.0 += old.events;
                gone.1 += old.all_lost();
                let _ = epoll.remove(old.event.as_fd());
            }
            stays
        });
        let places = self.map.max_entries();
        for cpu in online.into_iter().filter(|cpu| *cpu < places) {
            if !self.cpus.contains_key(&cpu)
                && let Some(opened) = self.open(cpu, epoll)?
            {
                self.cpus.insert(cpu, opened);
            }
        }
        Ok(())
    }

    /// `None`: the CPU has just gone offline.
    fn open(&mut self, cpu: u32, epoll: &sys::Epoll) -> Result<Option<Cpu>> {
        let page = sys::page_size();
        let pages = self.buffering.bytes_per_cpu.div_ceil(page).clamp(1, 1 << 18).next_power_of_two();
        let wake = self.buffering.wake_bytes.clamp(1, pages * page / 2);
        let open = PerfOpen {
            cpu: Some(cpu),
            sampling: Sampling::Period(1),
            sample_type: PerfOpen::SAMPLE_RAW,
            wakeup: Wakeup::Bytes(u32::try_from(wake).unwrap_or(u32::MAX)),
            count_lost: self.counts_lost,
            ..PerfOpen::new(PerfTarget::BPF_OUTPUT)
        };
        let opened = match sys::perf_event_open(&open) {
            Err(Errno::INVAL) if self.counts_lost => {
                self.counts_lost = false;
                sys::perf_event_open(&PerfOpen { count_lost: false, ..open })
            }
            opened => opened,
        };
        let event = match opened {
            Ok(event) => event,
            Err(Errno::NODEV | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(self.map.failed(OPENING, perf_cause(errno))),
        };
        let ring = PerfRing::map(event.as_fd(), pages).map_err(|errno| {
            let cause = match errno {
                Errno::PERM => Cause::new(
                    Kind::Permission,
                    format!("{pages} pages for each CPU are more than perf_event_mlock_kb allows"),
                )
                .action("take smaller buffers, or run it with CAP_IPC_LOCK")
                .errno(errno),
                _ => crate::explain::plain(errno),
            };
            self.map.failed(OPENING, cause)
        })?;
        let fail = |errno| self.map.error(OPENING, errno);
        sys::perf_enable(event.as_fd()).map_err(fail)?;
        epoll.add(event.as_fd(), self.token).map_err(fail)?;
        self.map.set_fd(&cpu.to_ne_bytes(), event.as_fd())?;
        let counts_lost = self.counts_lost;
        Ok(Some(Cpu { ring, event, counts_lost, events: 0, lost: 0, fullest: 0 }))
    }

    #[inline]
    pub(crate) fn drain(&mut self, most: usize, mut each: impl FnMut(u32, &[u8])) -> Result<usize> {
        let mut count = 0;
        for (number, cpu) in &mut self.cpus {
            let pending = usize::try_from(cpu.ring.pending()).unwrap_or(usize::MAX);
            if pending == 0 {
                continue;
            }
            cpu.fullest = cpu.fullest.max(pending);
            let (events, lost) = (&mut cpu.events, &mut cpu.lost);
            let before = *events;
            // A round of one may meet a record that is no event.
            while *events == before {
                let drained = cpu.ring.drain(most, |record| {
                    if let Some(bytes) = record.raw() {
                        *events += 1;
                        each(*number, bytes);
                    } else if let Some(more) = record.lost() {
                        *lost = lost.saturating_add(more);
                    }
                    ControlFlow::Continue(())
                });
                if drained.map_err(|error| damaged(&self.map, error))?.emptied {
                    break;
                }
            }
            count += usize::try_from(*events - before).unwrap_or(usize::MAX);
            if count >= most {
                break;
            }
        }
        Ok(count)
    }

    pub(crate) fn seen(&self) -> Seen {
        let lost: Vec<(u32, u64)> = self.cpus.iter().map(|(number, cpu)| (*number, cpu.all_lost())).collect();
        Seen {
            map: self.map.name().to_owned(),
            events: self.gone.0 + self.cpus.values().map(|cpu| cpu.events).sum::<u64>(),
            lost: Some(self.gone.1 + lost.iter().map(|(_, lost)| lost).sum::<u64>()),
            lost_is_least: !self.counts_lost,
            lost_by_cpu: lost.into_iter().filter(|(_, lost)| *lost > 0).collect(),
            fullest: self.cpus.values().map(|cpu| cpu.fullest).max().unwrap_or(0),
            size: self.cpus.values().next().map_or(0, |cpu| cpu.ring.size()),
        }
    }
}

impl Cpu {
    /// Losses that the kernel counts, those that no record has told of yet included.
    fn all_lost(&self) -> u64 {
        let counted = if self.counts_lost { sys::perf_lost(self.event.as_fd()).ok() } else { None };
        counted.unwrap_or(0).max(self.lost)
    }
}

impl Drop for PerfSource {
    fn drop(&mut self) {
        // Else programs go on writing into buffers that nobody reads, as long as the map is there.
        for cpu in self.cpus.keys() {
            let _ = self.map.delete(&cpu.to_ne_bytes());
        }
    }
}

/// What perf_event_open(2) refuses.
pub(crate) fn perf_cause(errno: Errno) -> Cause {
    let cause = match errno {
        Errno::PERM | Errno::ACCESS => {
            Cause::new(Kind::Permission, "the kernel does not let this process open perf events")
                .action("run it with CAP_PERFMON, or lower kernel.perf_event_paranoid")
        }
        Errno::MFILE => Cause::new(Kind::Io, "the process has too many files open").action("raise `ulimit -n`"),
        Errno::NOENT | Errno::OPNOTSUPP => Cause::new(
            Kind::Unsupported,
            "this machine has no such event (virtual machines often have no hardware counters)",
        ),
        Errno::INVAL => Cause::invalid("the kernel does not know this event, or not with these settings"),
        Errno::SRCH => Cause::invalid("there is no such process"),
        _ => return crate::explain::plain(errno),
    };
    cause.errno(errno)
}

/// The numbers of a list like `0-3,6`.
pub(crate) fn cpu_list(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::cpu_list;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-3,6\n").collect::<Vec<_>>(), [0, 1, 2, 3, 6]);
        assert_eq!(cpu_list("0\n").collect::<Vec<_>>(), [0]);
        assert_eq!(cpu_list("").count(), 0);
    }
}
