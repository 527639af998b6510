//! How a kernel is locked down, as far as it concerns BPF.

use crate::read;

/// What the kernel's lockdown forbids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lockdown {
    /// Nothing.
    None,
    /// Changing the running kernel: `bpf_probe_write_user`.
    Integrity,
    /// Also reading it: `bpf_probe_read_kernel`, kprobes, perf, tracefs.
    Confidentiality,
}

/// `none [integrity] confidentiality`
pub(crate) fn lockdown() -> Option<Lockdown> {
    parse_lockdown(&read("/sys/kernel/security/lockdown").ok()?)
}

fn parse_lockdown(text: &str) -> Option<Lockdown> {
    let (_, rest) = text.split_once('[')?;
    match rest.split_once(']')?.0 {
        "none" => Some(Lockdown::None),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

/// `lockdown,capability,bpf`
pub(crate) fn lsms() -> Option<Vec<String>> {
    let text = read("/sys/kernel/security/lsm").ok()?;
    Some(text.trim().split(',').map(str::to_owned).collect())
}

/// A number under /proc/sys that decides about BPF.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Sysctl {
    /// `net.core.bpf_jit_enable`: 0 interpreter, 1 JIT, 2 JIT that prints.
    JitEnable,
    /// `net.core.bpf_jit_harden`: 0 no, 1 for the unprivileged, 2 for all.
    JitHarden,
    /// `kernel.unprivileged_bpf_disabled`: 0 no, 1 for good, 2 until changed.
    UnprivilegedBpfDisabled,
    /// `kernel.perf_event_paranoid`.
    PerfEventParanoid,
    /// `kernel.kptr_restrict`.
    KptrRestrict,
    /// `kernel.bpf_stats_enabled`.
    BpfStatsEnabled,
}

impl Sysctl {
    /// Every one of them.
    pub const ALL: [Sysctl; 6] = [
        Sysctl::JitEnable,
        Sysctl::JitHarden,
        Sysctl::UnprivilegedBpfDisabled,
        Sysctl::PerfEventParanoid,
        Sysctl::KptrRestrict,
        Sysctl::BpfStatsEnabled,
    ];

    /// Its name, as sysctl(8) wants it.
    pub fn name(self) -> &'static str {
        match self {
            Sysctl::JitEnable => "net.core.bpf_jit_enable",
            Sysctl::JitHarden => "net.core.bpf_jit_harden",
            Sysctl::UnprivilegedBpfDisabled => "kernel.unprivileged_bpf_disabled",
            Sysctl::PerfEventParanoid => "kernel.perf_event_paranoid",
            Sysctl::KptrRestrict => "kernel.kptr_restrict",
            Sysctl::BpfStatsEnabled => "kernel.bpf_stats_enabled",
        }
    }

    pub(crate) fn value(self) -> Option<i64> {
        read(&format!("/proc/sys/{}", self.name().replace('.', "/"))).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lockdown, parse_lockdown};

    #[test]
    fn lockdown_texts() {
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Some(Lockdown::None));
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Some(Lockdown::Integrity));
        assert_eq!(parse_lockdown("none integrity [confidentiality]\n"), Some(Lockdown::Confidentiality));
        assert_eq!(parse_lockdown("none\n"), None);
    }
}
