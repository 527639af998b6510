//! Tracepoints with a stable context (`tracepoint/CATEGORY/NAME`).

use ringfence_sys as sys;
use sys::{PerfOpen, PerfTarget};

use super::{Link, failed, on_event};
use crate::error::Result;
use crate::hook::{Hook, sealed};
use crate::perf::perf_cause;
use crate::program::Program;
use crate::tracefs::TraceFs;

const HOOK: &str = "tracepoint";

/// A tracepoint: a place that the kernel's authors have marked, with fields that stay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracepoint {
    category: String,
    name: String,
    cookie: u64,
}

impl Tracepoint {
    /// `Tracepoint::new("syscalls", "sys_enter_openat")`.
    pub fn new(category: &str, name: &str) -> Self {
        Tracepoint { category: category.to_owned(), name: name.to_owned(), cookie: 0 }
    }

    /// What `bpf_get_attach_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }
}

impl sealed::Sealed for Tracepoint {}

impl Hook for Tracepoint {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("{}/{}", self.category, self.name);
        let fail = |cause| failed(program, HOOK, &target, cause);
        let id = TraceFs::open().and_then(|tracefs| tracefs.tracepoint(&self.category, &self.name)).map_err(fail)?;
        let open = PerfOpen::new(PerfTarget::Tracepoint(id));
        let event = sys::perf_event_open(&open).map_err(|errno| fail(perf_cause(errno)))?;
        on_event(program, HOOK, &target, event, self.cookie)
    }
}
