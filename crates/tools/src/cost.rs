//! What a tool itself costs.

use std::time::Duration;

use ringfence::{Loaded, Result, RunTimeStatistics};
use rustix::time::{ClockId, clock_gettime};

/// Time of all CPUs together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cost {
    /// Of this process.
    pub own_cpu: Duration,
    /// Of its programs in the kernel, and how often they ran; `None`: the kernel does not measure it.
    pub in_kernel: Option<(Duration, u64)>,
}

/// Since when it is counted.
#[derive(Debug)]
pub(crate) struct Meter {
    before: Duration,
    statistics: Option<RunTimeStatistics>,
}

impl Meter {
    /// From now on. To be called before programs run.
    pub(crate) fn start() -> Meter {
        Meter { before: cpu_time(), statistics: ringfence::run_time_statistics().ok() }
    }

    /// Loading is over: what is measured from now on is the work itself.
    pub(crate) fn loaded(&mut self) {
        self.before = cpu_time();
    }

    /// Whether the kernel measures programs.
    pub(crate) fn measures_programs(&self) -> bool {
        self.statistics.is_some()
    }

    /// CPU time of this process until now.
    pub(crate) fn own_cpu(&self) -> Duration {
        cpu_time().saturating_sub(self.before)
    }

    /// Until now.
    pub(crate) fn read(&self, loaded: &Loaded) -> Result<Cost> {
        let (mut ns, mut runs) = (0, 0);
        for program in loaded.programs() {
            let info = program.info()?;
            (ns, runs) = (ns + info.run_time_ns, runs + info.run_count);
        }
        let in_kernel = self.measures_programs().then(|| (Duration::from_nanos(ns), runs));
        Ok(Cost { own_cpu: self.own_cpu(), in_kernel })
    }
}

/// What this process has had of all CPUs.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
