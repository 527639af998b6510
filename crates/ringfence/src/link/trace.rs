//! Raw tracepoints, and programs that say at load time where they belong (tp_btf, fentry, fexit, fmod_ret, lsm, freplace).

use std::ffi::CString;
use std::os::fd::AsFd;

use ringfence_sys as sys;
use rustix::io::Errno;

use super::{Held, Link, attach_cause, failed};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;
use crate::tracefs::TraceFs;

const RAW: &str = "raw tracepoint";
const TRACE: &str = "its kernel function";

/// A tracepoint without its stable context: cheaper, and with the kernel's own arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawTracepoint {
    name: String,
    cookie: u64,
}

impl RawTracepoint {
    /// `RawTracepoint::new("sched_switch")`; with the module that has it: `RawTracepoint::new("xfs:xfs_file_read")`.
    pub fn new(name: &str) -> Self {
        RawTracepoint { name: name.to_owned(), cookie: 0 }
    }

    /// What `bpf_get_attach_cookie` gives in the program (6.10).
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }
}

impl sealed::Sealed for RawTracepoint {}

impl Hook for RawTracepoint {
    fn attach(&self, program: &Program) -> Result<Link> {
        let fail = |cause| failed(program, RAW, &self.name, cause);
        // The kernel knows them by name alone, whichever module they are in.
        let (module, bare) =
            self.name.split_once(':').map_or((None, &*self.name), |(module, bare)| (Some(module), bare));
        let name = CString::new(bare).map_err(|_| fail(Cause::invalid("its name holds a zero byte")))?;
        let link = sys::raw_tracepoint_open(Some(&name), program.as_fd(), self.cookie).map_err(|errno| {
            fail(match errno {
                Errno::NOENT => missing(module, bare).errno(errno),
                // bpf_probe_register: the program reads more arguments than there are.
                Errno::INVAL => Cause::invalid("the program reads more arguments than the tracepoint has").errno(errno),
                _ => attach_cause(errno),
            })
        })?;
        Ok(Link::new(program.name(), RAW, &self.name, Held::Link(link)))
    }
}

fn missing(module: Option<&str>, name: &str) -> Cause {
    if let Some(module) = module
        && !std::path::Path::new("/sys/module").join(module).exists()
    {
        return Cause::new(Kind::Unsupported, format!("the module {module} is not loaded"))
            .action(format!("load it: `modprobe {module}`"));
    }
    let cause = Cause::new(Kind::Unsupported, "this kernel has no such tracepoint");
    let known = TraceFs::open().map(|tracefs| tracefs.all_tracepoints()).unwrap_or_default();
    match crate::near::nearest(name, known.iter().map(String::as_str)) {
        near if near.is_empty() => cause,
        near => cause.action(format!("it has {}", near.join(", "))),
    }
}

/// The place for which the program was verified: a BTF tracepoint, a kernel function, a security hook, another program's function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    cookie: u64,
}

impl Trace {
    /// Where the program says.
    pub fn new() -> Self {
        Trace::default()
    }

    /// What `bpf_get_attach_cookie` gives in the program (5.19; for BTF tracepoints 6.10).
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }
}

impl sealed::Sealed for Trace {}

impl Hook for Trace {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = program.section().split_once('/').map_or(program.section(), |(_, target)| target);
        let result = if self.cookie == 0 {
            // Since 4.17, and for every kind of them (bpf_raw_tracepoint_open).
            sys::raw_tracepoint_open(None, program.as_fd(), 0)
        } else {
            sys::link_create(&sys::LinkCreate {
                program: program.as_fd(),
                attach_type: program.attach_type(),
                to: sys::AttachTo::Nothing,
                flags: 0,
                tail: sys::LinkTail::Tracing { btf_id: 0, cookie: self.cookie },
            })
        };
        let link = result.map_err(|errno| {
            let cause = match errno {
                Errno::BUSY => Cause::new(
                    Kind::Io,
                    "the function is being traced in a way that excludes this, or too many programs are there",
                ),
                Errno::TOOBIG => Cause::new(Kind::Io, "too many programs are attached there (38)"),
                Errno::OPNOTSUPP | crate::explain::ENOTSUPP => {
                    Cause::new(Kind::Unsupported, "this kernel cannot trace functions on this machine")
                }
                _ => attach_cause(errno),
            };
            failed(program, TRACE, target, cause.errno(errno))
        })?;
        Ok(Link::new(program.name(), TRACE, target, Held::Link(link)))
    }
}
