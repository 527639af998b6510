//! Functions of other programs, replaced by programs of the section `freplace`.

use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::error::{Cause, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "function";

/// A function of a loaded program. A program of the section `freplace` takes its place, also in another program than the one
/// for which it was verified ([`Trace`](super::trace::Trace) is that one), as long as the functions are of the same type (5.10).
///
/// ```no_run
/// use ringfence::hook::Function;
/// # fn show(better: &ringfence::Program, dispatcher: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let link = better.attach_to(&Function::new(dispatcher, "slot_3"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Function<'a> {
    of: &'a Program,
    name: &'a str,
}

impl<'a> Function<'a> {
    /// By its name in the program's BTF.
    pub fn new(of: &'a Program, name: &'a str) -> Self {
        Function { of, name }
    }
}

impl sealed::Sealed for Function<'_> {}

impl Hook for Function<'_> {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("{} of program {}", self.name, self.of.name());
        let function = crate::load::function_in(self.of, self.name);
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType(0),
            to: AttachTo::Fd(self.of.as_fd()),
            flags: 0,
            tail: LinkTail::Tracing {
                btf_id: function.map_err(|cause| failed(program, HOOK, &target, cause))?,
                cookie: 0,
            },
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::INVAL => Some(Cause::invalid(
                "the function is of another type than the one for which the program was verified, or the program is no freplace",
            )),
            Errno::BUSY => Some(Cause::invalid("the function is replaced already")),
            _ => None,
        })
    }
}
