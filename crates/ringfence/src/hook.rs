//! Places to which programs are attached. Each is a structure that says where; [`Program::attach_to`] takes any of them.

use crate::error::Result;
use crate::link::Link;
use crate::program::Program;

pub use crate::link::cgroup::Cgroup;
pub use crate::link::function::Function;
pub use crate::link::iter::{Iter, Output, Walk};
pub use crate::link::kprobe::Kprobe;
pub use crate::link::kprobe_multi::KprobeMulti;
pub use crate::link::lirc::Infrared;
pub use crate::link::netfilter::{Family, Netfilter, Step};
pub use crate::link::netkit::Netkit;
pub use crate::link::netns::{Inside, NetNamespace};
pub use crate::link::order::{Listed, Neighbour};
pub use crate::link::perf_event::{Often, PerfEvent};
pub use crate::link::reuseport::ReusePort;
pub use crate::link::route::Route;
pub use crate::link::socket::SocketFilter;
pub use crate::link::sockmap::SocketMap;
pub use crate::link::tc::Tc;
pub use crate::link::trace::{RawTracepoint, Trace};
pub use crate::link::trace_multi::TraceMulti;
pub use crate::link::tracepoint::Tracepoint;
pub use crate::link::uprobe::Uprobe;
pub use crate::link::uprobe_multi::UprobeMulti;
pub use crate::link::usdt::Usdt;
pub use crate::link::xdp::Xdp;

/// A place to which a program can be attached. Only this crate's places are such.
pub trait Hook: sealed::Sealed {
    /// Attaches the program.
    ///
    /// # Errors
    /// There is no such place, the program is not for it, or the kernel refuses.
    fn attach(&self, program: &Program) -> Result<Link>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}
