use ringfence_sys::Errno;

/// Why a fact could not be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Types that the kernel shows are not readable as such.
    #[error("the types of {name} in /sys/kernel/btf are damaged: {cause}")]
    Btf {
        /// `vmlinux` or a module.
        name: String,
        /// What is wrong.
        #[source]
        cause: ringfence_btf::Error,
    },
    /// A file of proc, sys or boot cannot be read.
    #[error("cannot read {path}: {cause}; {hint}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: Errno,
        /// What to do.
        hint: &'static str,
    },
    /// A question that types do not answer.
    #[error("{fact} cannot be known of a kernel of which there are only the types")]
    OnlyTypes {
        /// What was asked.
        fact: &'static str,
    },
    /// No file with the kernel's configuration.
    #[error(
        "the kernel's configuration is neither in {boot} nor in /proc/config.gz: copy it there, or give the values \
         yourself"
    )]
    NoConfig {
        /// `/boot/config-RELEASE`.
        boot: String,
    },
    /// Addresses in kallsyms are all zero.
    #[error(
        "/proc/kallsyms shows no addresses: it takes CAP_SYSLOG, and kernel.kptr_restrict below 2 \
         (`sysctl kernel.kptr_restrict=1`)"
    )]
    HiddenAddresses,
    /// Several symbols of one name.
    #[error(
        "the kernel has symbols named {name} at several addresses ({first:#x}, {second:#x}): none of them is meant for sure"
    )]
    AmbiguousSymbol {
        /// The name.
        name: String,
        /// One address.
        first: u64,
        /// Another.
        second: u64,
    },
    /// Tracepoints are found in tracefs, and it is not there.
    #[error("tracefs is not mounted: `mount -t tracefs tracefs /sys/kernel/tracing` (it takes CAP_SYS_ADMIN)")]
    NoTracefs,
    /// No such tracepoint.
    #[error("this kernel has no tracepoint {category}/{name}: those that it has are in {events}")]
    NoTracepoint {
        /// Category.
        category: String,
        /// Name.
        name: String,
        /// Directory of the tracepoints.
        events: String,
    },
}
