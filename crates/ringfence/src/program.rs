//! A loaded program.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringfence_kernel::Kernel;
use ringfence_plan::{Attach, Plan, ProgramPlan};
use ringfence_sys as sys;
use ringfence_uapi::{AttachType, ProgramType};
use rustix::io::Errno;
use sys::ProgramFd;

use crate::error::{Cause, Error, Kind, Result};
use crate::hook::Hook;
use crate::link::Link;
use crate::usdt::Specs;

/// A program that the kernel holds. Cheap to clone: clones are the same program, which the kernel keeps until the last of them is gone
/// and nothing runs it.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    fd: ProgramFd,
    object: String,
    name: String,
    section: String,
    kind: ProgramType,
    attach_type: AttachType,
    attach: Attach,
    kernel: Kernel,
    log: String,
    /// Where it finds the arguments of static probes.
    usdt: Option<Arc<Specs>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({}, {})", self.name(), self.kind())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// What a test run gave.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TestRun {
    /// What the program returned last.
    pub retval: u32,
    /// Mean time of a run.
    pub duration: Duration,
    /// The packet afterwards.
    pub data: Vec<u8>,
}

impl Program {
    pub(crate) fn new(
        fd: ProgramFd,
        plan: &Plan,
        program: &ProgramPlan,
        kernel: &Kernel,
        log: String,
        usdt: Option<Arc<Specs>>,
    ) -> Program {
        Program(Arc::new(Inner {
            fd,
            object: plan.object.clone(),
            name: program.name.clone(),
            section: program.section.clone(),
            kind: program.kind,
            attach_type: program.attach_type,
            attach: program.attach.clone(),
            kernel: kernel.clone(),
            log,
            usdt,
        }))
    }

    pub(crate) fn fd(&self) -> &ProgramFd {
        &self.0.fd
    }

    pub(crate) fn kernel(&self) -> &Kernel {
        &self.0.kernel
    }

    pub(crate) fn usdt(&self) -> Option<&Arc<Specs>> {
        self.0.usdt.as_ref()
    }

    /// Name of the object that it is from.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Name in the object.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its section.
    pub fn section(&self) -> &str {
        &self.0.section
    }

    /// What it is.
    pub fn kind(&self) -> ProgramType {
        self.0.kind
    }

    /// Hook for which it was verified.
    pub fn attach_type(&self) -> AttachType {
        self.0.attach_type
    }

    /// Where it goes without a word of the user's.
    pub fn attach_place(&self) -> &Attach {
        &self.0.attach
    }

    /// What the verifier wrote, where a log level was asked for.
    pub fn log(&self) -> &str {
        &self.0.log
    }

    /// What the kernel tells of it: id, tag, sizes, and while statistics are on how often and how long it ran.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn info(&self) -> Result<sys::ProgramInfo> {
        self.0.fd.info().map_err(|errno| self.error("asking about it", errno))
    }

    /// It is the same program in the kernel.
    pub(crate) fn is(&self, other: &Program) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || matches!((self.0.fd.info(), other.0.fd.info()), (Ok(one), Ok(two)) if one.id == two.id)
    }

    /// Attaches it where its section says.
    ///
    /// # Errors
    /// The section does not say, there is no such place, or the kernel refuses.
    pub fn attach(&self) -> Result<Link> {
        crate::link::attach(self)
    }

    /// Attaches it to a place that the caller names.
    ///
    /// ```no_run
    /// use ringfence::hook::Xdp;
    /// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
    /// let link = program.attach_to(&Xdp::new("eth0").generic())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no such place, the program is not for it, or the kernel refuses.
    pub fn attach_to(&self, hook: &impl Hook) -> Result<Link> {
        hook.attach(self)
    }

    /// Runs it `repeat` times on a packet (or, for programs without one, an empty slice) and gives what it returned last.
    ///
    /// # Errors
    /// The kernel cannot run programs of this type so, or the packet is too short for one (14 bytes).
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> Result<TestRun> {
        // A program may make a packet larger (bpf_skb_adjust_room, bpf_xdp_adjust_head).
        let mut data = vec![0; if packet.is_empty() { 0 } else { packet.len() + 512 }];
        let mut run = sys::TestRun { data_in: packet, data_out: &mut data, repeat, ..Default::default() };
        let result = sys::test_run(self.as_fd(), &mut run).map_err(|errno| self.error("running it", errno))?;
        data.truncate(result.data_len);
        Ok(TestRun { retval: result.retval, duration: result.duration, data })
    }

    /// Runs it once on a context: how programs of the `syscall` type are called. What they write to it is there afterwards.
    ///
    /// # Errors
    /// The kernel cannot run programs of this type so, or the context has not the length that the program reads.
    pub fn call(&self, context: &mut [u8]) -> Result<u32> {
        let mut run = sys::TestRun { ctx_in: context, ..Default::default() };
        let result = sys::test_run(self.as_fd(), &mut run).map_err(|errno| self.error("running it", errno))?;
        Ok(result.retval)
    }

    /// Pins it: it stays in the kernel, under this path of a bpffs, until the file is removed.
    ///
    /// # Errors
    /// The path is taken or is in no bpffs.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        sys::object_pin(self.as_fd(), path).map_err(|errno| Error::Program {
            program: self.name().to_owned(),
            step: "pinning it",
            cause: crate::map::pin_cause(errno, path).into(),
        })
    }

    fn error(&self, step: &'static str, errno: Errno) -> Error {
        let kind = self.kind();
        let cause = match errno {
            Errno::OPNOTSUPP | crate::explain::ENOTSUPP => {
                Cause::new(Kind::Unsupported, format!("this kernel cannot run programs of the type {kind} for a test"))
                    .errno(errno)
            }
            Errno::INVAL => Cause::invalid("the packet or the context is not what such a program takes").errno(errno),
            _ => crate::explain::plain(errno),
        };
        Error::Program { program: self.name().to_owned(), step, cause: cause.into() }
    }
}
