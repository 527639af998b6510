//! What this process may do.

use ringfence_sys as sys;

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A capability that loading, attaching or looking may take (capabilities(7)).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Capability {
            $($(#[$doc])* $name,)*
        }

        impl Capability {
            /// Every one of them.
            pub const ALL: &'static [Capability] = &[$(Capability::$name,)*];

            /// `CAP_...`.
            pub fn name(self) -> &'static str {
                match self { $(Capability::$name => $text,)* }
            }

            fn bit(self) -> u64 {
                1 << match self { $(Capability::$name => $number,)* }
            }
        }
    };
}

capabilities! {
    /// Reading past file permissions.
    DacReadSearch = 2, "CAP_DAC_READ_SEARCH";
    /// Programs on packets, sockets and cgroups.
    NetAdmin = 12, "CAP_NET_ADMIN";
    /// Raw sockets.
    NetRaw = 13, "CAP_NET_RAW";
    /// Looking into other processes.
    SysPtrace = 19, "CAP_SYS_PTRACE";
    /// Ids, tokens, mounts; stands in for most others.
    SysAdmin = 21, "CAP_SYS_ADMIN";
    /// Raising limits.
    SysResource = 24, "CAP_SYS_RESOURCE";
    /// Addresses in kallsyms.
    Syslog = 34, "CAP_SYSLOG";
    /// Tracing.
    Perfmon = 38, "CAP_PERFMON";
    /// BPF at all.
    Bpf = 39, "CAP_BPF";
}

/// What this process may do, at the time when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    effective: u64,
}

impl Process {
    /// Asks for this thread.
    ///
    /// # Errors
    /// What capget(2) says.
    pub fn current() -> Result<Process, sys::Errno> {
        Ok(Process { effective: sys::capabilities()?.bits() })
    }

    /// It has this very capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective & capability.bit() != 0
    }

    /// It may do what this capability is for in BPF: CAP_SYS_ADMIN does as well for CAP_BPF, CAP_PERFMON and
    /// CAP_NET_ADMIN there (`bpf_capable`, `perfmon_capable`, `bpf_net_capable` of the kernel), and before
    /// 5.8 it was the only one.
    pub fn may(&self, capability: Capability) -> bool {
        let replaceable = match capability {
            Capability::Bpf | Capability::Perfmon | Capability::NetAdmin | Capability::Syslog => true,
            Capability::DacReadSearch
            | Capability::NetRaw
            | Capability::SysPtrace
            | Capability::SysAdmin
            | Capability::SysResource => false,
        };
        self.has(capability) || replaceable && self.has(Capability::SysAdmin)
    }
}
