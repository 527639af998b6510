//! bpf(2), perf_event_open(2), memory-mapped rings and arrays: thin and safe.
//!
//! This room takes no decision: one function is one system call (and what it takes to make that call
//! safe). It retries nothing but EAGAIN of `BPF_PROG_LOAD`. Errors are bare
//! [`Errno`]s; whoever calls knows the names that make a message of them.
//!
//! It is the only room with `unsafe`. What makes the functions safe to call:
//! - the kernel only ever writes into buffers whose size was checked against what the kernel itself
//!   reported for that file descriptor ([`MapFd`], [`MapShape`]), or whose size is passed along;
//! - file descriptors that decide how the kernel reads a structure are typed ([`MapFd`], [`ProgramFd`],
//!   [`LinkFd`], [`BtfFd`]);
//! - memory that the kernel may change at any time is never handed out as `&[u8]`: [`MapMemory`] copies,
//!   [`RingConsumer`] and [`PerfRing`] lend records that the kernel has given to user space, and
//!   [`UserRing`] lends room that the kernel leaves to user space.
//!
//! A program that is loaded can write anywhere it likes (`bpf_probe_write_user`): like `/proc/self/mem`,
//! that is outside of what a type can promise.

mod attr;
mod btf_file;
mod call;
mod fd;
mod info;
mod link;
mod map;
mod memory;
pub mod netlink;
mod object;
mod perf;
mod perf_ring;
mod process;
mod program;
mod progress;
mod ring;
pub mod rtnetlink;
mod socket;
pub mod survey;
mod user_ring;

#[doc(hidden)]
pub use attr::{Layout, layout};
pub use btf_file::{Bytes, kernel_btf};
pub use fd::{BtfFd, LinkFd, MapFd, ProgramFd, TokenFd};
pub use info::{BtfInfo, LinkDetails, LinkInfo, MapInfo, PerfLinkDetails, ProgramInfo};
pub use link::{
    AttachTo, LinkCreate, LinkTail, Multi, Queried, Relative, iter_create, link_create, link_detach, link_update,
    link_update_map, program_attach, program_detach, program_query, raw_tracepoint_open,
};
pub use map::{Batch, BatchError, BatchPosition, MapBtf, MapCreate, MapShape, map_create, possible_cpus};
pub use memory::{MapMemory, Words};
pub use object::{
    Ids, TaskFd, TaskFdKind, enable_run_time_stats, object_get, object_pin, open_btf, open_link, open_map,
    open_program, task_fd_query, token_create,
};
#[doc(hidden)]
pub use perf::BITS as PERF_EVENT_BITS;
pub use perf::{
    PerfOpen, PerfTarget, Sampling, Wakeup, perf_disable, perf_enable, perf_event_open, perf_lost, perf_set_period,
    perf_set_program,
};
pub use perf_ring::{PerfRecord, PerfRing};
pub use process::{
    CapabilitySet, Epoll, capabilities, descriptor_of, enter_network_namespace, kernel_release, memlock_limit, mount,
    new_network_namespace, page_size, process_descriptor, set_memlock_limit,
};
pub use program::{
    FuncInfo, LineInfo, Log, ProgLoad, Target, TestRun, TestRunResult, btf_load, prog_bind_map, prog_load, test_run,
};
pub use ring::{Drained, RingConsumer, RingError};
pub use rustix::io::Errno;
pub use socket::{reuseport_attach, reuseport_detach, socket_attach, socket_detach};
pub use user_ring::{UserRecord, UserRing};

/// What every call here gives back.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

/// Flags of the kernel's interface that these calls set or check themselves, and those that callers need.
#[allow(missing_docs, reason = "the kernel's own names")]
pub mod flags {
    pub const BPF_ANY: u64 = 0;
    pub const BPF_NOEXIST: u64 = 1;
    pub const BPF_EXIST: u64 = 2;
    pub const BPF_F_LOCK: u64 = 4;

    pub const BPF_F_NO_PREALLOC: u32 = 1;
    pub const BPF_F_NUMA_NODE: u32 = 1 << 2;
    pub const BPF_F_RDONLY: u32 = 1 << 3;
    pub const BPF_F_WRONLY: u32 = 1 << 4;
    pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
    pub const BPF_F_MMAPABLE: u32 = 1 << 10;
    pub const BPF_F_INNER_MAP: u32 = 1 << 12;
    pub const BPF_F_LINK: u32 = 1 << 13;
    pub const BPF_F_PATH_FD: u32 = 1 << 14;
    pub const BPF_F_VTYPE_BTF_OBJ_FD: u32 = 1 << 15;
    pub const BPF_F_TOKEN_FD: u32 = 1 << 16;
    pub const BPF_F_SEGV_ON_FAULT: u32 = 1 << 17;

    pub const BPF_F_REPLACE: u32 = 1 << 2;
    pub const BPF_F_BEFORE: u32 = 1 << 3;
    pub const BPF_F_AFTER: u32 = 1 << 4;
    pub const BPF_F_ID: u32 = 1 << 5;

    pub const BPF_F_SLEEPABLE: u32 = 1 << 4;
    pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
    pub const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

    pub const BPF_F_QUERY_EFFECTIVE: u32 = 1;

    pub const BPF_F_KPROBE_MULTI_RETURN: u32 = 1;
    pub const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

    pub const BPF_F_TEST_RUN_ON_CPU: u32 = 1;
    pub const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
}
