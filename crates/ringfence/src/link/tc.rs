//! Packets as they pass traffic control: by links (tcx, 6.6), by filters where there are none.

use std::os::fd::AsFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::{AttachType, ProgramType};
use rustix::io::Errno;
use sys::AttachTo;
use sys::rtnetlink::Side;

use super::filter::{self, Numbers};
use super::order::{Listed, Neighbour, Order};
use super::{Held, Link, attach_cause, failed};
use crate::device::Device;
use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

/// A device's traffic control: many programs may be there, one after another.
///
/// By a link where the kernel has them (tcx, 6.6), else by a filter (`cls_bpf` in direct action) of the device's clsact qdisc, which
/// is made if it is missing and removed with the last filter in it. Programs of the section `action` are always run by a
/// filter (`basic`). A filter is taken off when the link is dropped; it stays if the process is killed by SIGKILL.
///
/// ```no_run
/// use ringfence::hook::Tc;
/// # fn show(count: &ringfence::Program, mark: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let count = count.attach_to(&Tc::new("eth0").ingress())?;
/// let mark = mark.attach_to(&Tc::new("eth0").ingress().before(&count))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tc {
    device: Device,
    side: Option<Side>,
    order: Order,
    filter: Option<(u16, u32)>,
}

impl Tc {
    fn at(device: Device) -> Self {
        Tc { device, side: None, order: Order::default(), filter: None }
    }

    /// By name, in the network namespace of the calling thread, on the side that the program's section says.
    pub fn new(device: &str) -> Self {
        Tc::at(Device::Name(device.to_owned()))
    }

    /// By the device's number.
    pub fn index(index: u32) -> Self {
        Tc::at(Device::Index(index))
    }

    /// What comes in.
    pub fn ingress(mut self) -> Self {
        self.side = Some(Side::Ingress);
        self
    }

    /// What goes out.
    pub fn egress(mut self) -> Self {
        self.side = Some(Side::Egress);
        self
    }

    /// Before all programs that are there.
    pub fn first(mut self) -> Self {
        self.order.first();
        self
    }

    /// After all programs that are there, which is so unless something else is said.
    pub fn last(mut self) -> Self {
        self.order.last();
        self
    }

    /// Right before this program or link (links alone).
    pub fn before(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.before(neighbour.into());
        self
    }

    /// Right after this program or link (links alone).
    pub fn after(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.after(neighbour.into());
        self
    }

    /// Only while the list is at this revision (links alone).
    pub fn revision(mut self, revision: u64) -> Self {
        self.order.revision(revision);
        self
    }

    /// By a filter even where the kernel has links. All links run before all filters. `priority`: lower runs first, `handle`: number
    /// among those of the same priority; 0: a free one.
    pub fn filter(mut self, priority: u16, handle: u32) -> Self {
        self.filter = Some((priority, handle));
        self
    }

    /// The programs that links hold on the side that was chosen, by default ingress.
    ///
    /// # Errors
    /// There is no such device, or the kernel has no links here (6.6).
    pub fn list(&self) -> Result<Listed> {
        let side = attach_type(self.side.unwrap_or(Side::Ingress));
        let listed = self.device.find().and_then(|index| Listed::of(AttachTo::Device(index), side, true));
        listed.map_err(|cause| Error::system(&format!("listing the programs of device {}", self.device), cause))
    }

    fn link(&self, program: &Program, index: u32, side: Side) -> Result<Option<sys::LinkFd>, Cause> {
        let (flags, tail) = self.order.ask()?;
        let (attach_type, to) = (attach_type(side), AttachTo::Device(index));
        let create = sys::LinkCreate { program: program.as_fd(), attach_type, to, flags, tail };
        let errno = match sys::link_create(&create) {
            Ok(link) => return Ok(Some(link)),
            Err(errno) => errno,
        };
        let cause = match errno {
            Errno::INVAL if !program.kernel().has(Feature::Tcx) => {
                if self.order.is_exact() {
                    let why = "this kernel has no tc links (tcx, 6.6), so the place among others cannot be given";
                    return Err(Cause::new(Kind::Unsupported, why).action("say `first`, or give a filter's priority"));
                }
                return Ok(None);
            }
            Errno::INVAL => Cause::invalid("the program is not for traffic control, or was loaded for the other side"),
            Errno::NODEV => Cause::invalid("the device is gone"),
            _ => self.order.explain(errno).unwrap_or_else(|| attach_cause(errno)),
        };
        Err(cause.errno(errno))
    }
}

fn attach_type(side: Side) -> AttachType {
    match side {
        Side::Ingress => AttachType::TCX_INGRESS,
        Side::Egress => AttachType::TCX_EGRESS,
    }
}

impl sealed::Sealed for Tc {}

impl Hook for Tc {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.device.to_string();
        let known = [Side::Ingress, Side::Egress].into_iter().find(|side| attach_type(*side) == program.attach_type());
        let Some(side) = self.side.or(known) else {
            let cause = Cause::invalid(format!("the section `{}` does not say which side", program.section()));
            return Err(failed(program, "tc on device", &target, cause.action("say `ingress` or `egress`")));
        };
        let hook = if side == Side::Ingress { "tc ingress of device" } else { "tc egress of device" };
        let fail = |cause| failed(program, hook, &target, cause);
        if !matches!(program.kind(), ProgramType::SCHED_CLS | ProgramType::SCHED_ACT) {
            return Err(fail(Cause::invalid("the program is not for traffic control")));
        }
        let index = self.device.find().map_err(fail)?;
        let link = match (self.filter, program.kind()) {
            (Some(_), _) | (None, ProgramType::SCHED_ACT) if self.order.is_exact() => {
                let why = "a filter has a priority, no place between others";
                return Err(fail(Cause::invalid(why).action("say `first`, or give the filter's priority")));
            }
            (Some(_), _) | (None, ProgramType::SCHED_ACT) => None,
            (None, _) => self.link(program, index, side).map_err(fail)?,
        };
        match link {
            Some(link) => Ok(Link::new(program.name(), hook, &target, Held::Link(link))),
            None => {
                let (priority, handle) = self.filter.unwrap_or_default();
                let numbers = Numbers { first: self.order.is_first(), priority, handle };
                filter::attach(program, hook, &target, (index, side), numbers).map_err(fail)
            }
        }
    }
}
