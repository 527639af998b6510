//! Functions of programs and libraries in user space, at their start or return.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ringfence_sys as sys;
use rustix::io::Errno;
use sys::{PerfOpen, PerfTarget};

use super::kprobe::Pmu;
use super::{Link, failed, on_event};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::perf::perf_cause;
use crate::program::Program;

/// A function in user space.
///
/// ```no_run
/// use ringfence::hook::Uprobe;
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let every_malloc = program.attach_to(&Uprobe::new("libc.so.6", "malloc"))?;
/// let own = program.attach_to(&Uprobe::new("/proc/self/exe", "my_function").pid(std::process::id()))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uprobe {
    binary: String,
    function: String,
    ret: bool,
    pid: Option<u32>,
    cookie: u64,
}

impl Uprobe {
    /// At the start of a function: its binary is a path, or a name that is looked for (`libc.so.6`, `bash`); the function is a symbol, `SYMBOL+OFFSET`,
    /// `SYMBOL@VERSION`, or an offset in the file (`0x1234`).
    pub fn new(binary: &str, function: &str) -> Self {
        Uprobe { binary: binary.to_owned(), function: function.to_owned(), ret: false, pid: None, cookie: 0 }
    }

    /// At the function's return.
    pub fn at_return(mut self) -> Self {
        self.ret = true;
        self
    }

    /// In this process alone; without this in all, also in those that start later.
    pub fn pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// What `bpf_get_attach_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    pub(super) fn from_section(ret: bool, binary: &str, function: &str) -> Self {
        Uprobe { ret, ..Uprobe::new(binary, function) }
    }

    fn hook(&self) -> &'static str {
        if self.ret { "the return of user function" } else { "user function" }
    }

    /// The file, and the place in it.
    fn place(&self) -> Result<(PathBuf, u64), Cause> {
        let path = crate::binary::find(&self.binary)?;
        // The kernel takes paths from the point of view of the process that asks it, but /proc/self/exe is clearer resolved.
        let path = if path == Path::new("/proc/self/exe") { std::fs::read_link(&path).unwrap_or(path) } else { path };
        let offset = crate::binary::offset(&path, &self.function)?;
        Ok((path, offset))
    }
}

impl sealed::Sealed for Uprobe {}

impl Hook for Uprobe {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("{}:{}", self.binary, self.function);
        let fail = |cause| failed(program, self.hook(), &target, cause);
        let (path, offset) = self.place().map_err(fail)?;
        let pmu = Pmu::find("uprobe").map_err(fail)?;
        let text = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| fail(Cause::invalid("the path holds a zero byte")))?;
        let probe = PerfTarget::Probe { pmu: pmu.number, config: pmu.config(self.ret), name: Some(&text), offset };
        let open = PerfOpen { pid: self.pid, cpu: self.pid.is_none().then_some(0), ..PerfOpen::new(probe) };
        let event = sys::perf_event_open(&open).map_err(|errno| {
            fail(match errno {
                Errno::NOENT => Cause::invalid(format!("{} does not exist", path.display())).errno(errno),
                Errno::INVAL | Errno::OPNOTSUPP => {
                    Cause::invalid(format!("the kernel takes no probe at byte {offset:#x} of {}", path.display()))
                        .action("the place must be the start of an instruction, in a file of a real file system")
                        .errno(errno)
                }
                Errno::SRCH => Cause::new(Kind::Io, "there is no such process").errno(errno),
                _ => perf_cause(errno),
            })
        })?;
        on_event(program, self.hook(), &target, event, self.cookie)
    }
}
