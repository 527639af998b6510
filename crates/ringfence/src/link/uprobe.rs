//! Functions of programs and libraries in user space, at their start or return.

use std::os::fd::OwnedFd;

use ringfence_sys as sys;
use rustix::io::Errno;
use sys::{PerfOpen, PerfTarget};

use super::kprobe::Pmu;
use super::{Link, failed, on_event};
use crate::binary::Binary;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::perf::perf_cause;
use crate::program::Program;

/// A function in user space.
///
/// ```no_run
/// use ringfence::hook::Uprobe;
/// # fn show(program: &ringfence::Program, container: u32) -> Result<(), ringfence::Error> {
/// let every_malloc = program.attach_to(&Uprobe::new("libc.so.6", "malloc"))?;
/// let own = program.attach_to(&Uprobe::new("/proc/self/exe", "my_function").pid(std::process::id()))?;
/// let packed = program.attach_to(&Uprobe::new("/data/app.apk!/lib/x86_64/libgame.so", "draw"))?;
/// let theirs = program.attach_to(&Uprobe::new("libssl.so.3", "SSL_read").seen_by(container))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uprobe {
    user: User,
    function: String,
    ret: bool,
    cookie: u64,
    counter: Option<u64>,
}

/// A program or library, and whose runs of it count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) binary: String,
    pub(super) pid: Option<u32>,
    pub(super) seen_by: Option<u32>,
}

impl User {
    pub(super) fn new(binary: &str) -> User {
        User { binary: binary.to_owned(), pid: None, seen_by: None }
    }

    pub(super) fn open(&self) -> Result<Binary, Cause> {
        Binary::open(&self.binary, self.seen_by)
    }
}

impl Uprobe {
    /// At the start of a function. Its binary is a path, a name that is looked for (`libc.so.6`, `bash`), or a member of an
    /// archive that is stored uncompressed (`app.apk!/lib/x.so`); the function is a symbol, `SYMBOL+OFFSET`, `SYMBOL@VERSION`,
    /// or an offset in the file (`0x1234`).
    pub fn new(binary: &str, function: &str) -> Self {
        let function = function.to_owned();
        Uprobe { user: User::new(binary), function, ret: false, cookie: 0, counter: None }
    }

    /// At the function's return.
    pub fn at_return(mut self) -> Self {
        self.ret = true;
        self
    }

    /// In this process alone; without this in all, also in those that start later.
    pub fn pid(mut self, pid: u32) -> Self {
        self.user.pid = Some(pid);
        self
    }

    /// Looks for the binary where this process would: in its container. All processes that run the file count, unless
    /// [`pid`](Self::pid) says otherwise.
    pub fn seen_by(mut self, pid: u32) -> Self {
        self.user.seen_by = Some(pid);
        self
    }

    /// What `bpf_get_attach_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    /// A counter of 16 bits, by its offset in the file, that the kernel keeps above 0 as long as this is attached (4.20).
    pub fn counter(mut self, offset: u64) -> Self {
        self.counter = Some(offset);
        self
    }

    pub(super) fn from_section(ret: bool, binary: &str, function: &str) -> Self {
        Uprobe { ret, ..Uprobe::new(binary, function) }
    }

    fn hook(&self) -> &'static str {
        if self.ret { "the return of user function" } else { "user function" }
    }
}

impl sealed::Sealed for Uprobe {}

impl Hook for Uprobe {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("{}:{}", self.user.binary, self.function);
        let fail = |cause| failed(program, self.hook(), &target, cause);
        let binary = self.user.open().map_err(fail)?;
        if self.ret {
            binary.check_return().map_err(fail)?;
        }
        let offset = binary.image().and_then(|image| image.offset(&self.function)).map_err(fail)?;
        let probe = Probe { ret: self.ret, offset, counter: self.counter };
        let event = event(&binary, self.user.pid, probe).map_err(fail)?;
        let link = on_event(program, self.hook(), &target, event, self.cookie)?;
        Ok(link.noticing(binary.slow_places(&[offset])))
    }
}

/// One place.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    pub(super) ret: bool,
    pub(super) offset: u64,
    pub(super) counter: Option<u64>,
}

/// An event that fires at a place of a program.
pub(super) fn event(binary: &Binary, pid: Option<u32>, probe: Probe) -> Result<OwnedFd, Cause> {
    let Probe { ret, offset, counter } = probe;
    let pmu = Pmu::find("uprobe")?;
    let text = binary.c_path()?;
    let config = pmu.config(ret) | counter.map_or(Ok(0), |counter| pmu.counter(counter))?;
    let target = PerfTarget::Probe { pmu: pmu.number, config, name: Some(&text), offset };
    let open = PerfOpen { pid, cpu: pid.is_none().then_some(0), ..PerfOpen::new(target) };
    sys::perf_event_open(&open)
        .map_err(|errno| place_cause(errno, binary, &[offset]).unwrap_or_else(|| perf_cause(errno)))
}

/// What the kernel's refusal of places in a program means.
pub(super) fn place_cause(errno: Errno, binary: &Binary, offsets: &[u64]) -> Option<Cause> {
    let path = binary.path().display();
    let what = match offsets {
        [offset] => format!("no probe at byte {offset:#x}"),
        _ => format!("one of these {} places", offsets.len()),
    };
    let cause = match errno {
        Errno::NOENT => Cause::invalid(format!("{path} does not exist")),
        Errno::INVAL | Errno::OPNOTSUPP | Errno::IO | Errno::BADF | crate::explain::ENOTSUPP => {
            let takes = if offsets.len() == 1 { "takes" } else { "refuses" };
            Cause::invalid(format!("the kernel {takes} {what} of {path}"))
                .action("the place must be the start of an instruction, in a file of a real file system")
        }
        Errno::SRCH => Cause::new(Kind::Io, "there is no such process"),
        Errno::TOOBIG => Cause::new(Kind::Unsupported, format!("{} places are more than a link takes", offsets.len())),
        _ => return None,
    };
    Some(cause.errno(errno))
}
