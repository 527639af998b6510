//! Packets between a netkit device and its peer (6.7): the device of a container, without a detour by a queue.

use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::AttachTo;

use super::order::{Listed, Neighbour, Order};
use super::{Link, create, failed};
use crate::device::Device;
use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

/// A pair of netkit devices, by its primary one. What leaves the primary device goes through the programs of
/// `netkit/primary`, what leaves its peer through those of `netkit/peer`.
#[derive(Clone, Debug)]
pub struct Netkit {
    device: Device,
    side: Option<AttachType>,
    order: Order,
}

impl Netkit {
    /// By the primary device's name, in the network namespace of the calling thread; the side is that of the program's section.
    pub fn new(device: &str) -> Self {
        Netkit { device: Device::Name(device.to_owned()), side: None, order: Order::default() }
    }

    /// By the primary device's number.
    pub fn index(index: u32) -> Self {
        Netkit { device: Device::Index(index), side: None, order: Order::default() }
    }

    /// What leaves the primary device.
    pub fn primary(mut self) -> Self {
        self.side = Some(AttachType::NETKIT_PRIMARY);
        self
    }

    /// What leaves its peer.
    pub fn peer(mut self) -> Self {
        self.side = Some(AttachType::NETKIT_PEER);
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

    /// Right before this program or link.
    pub fn before(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.before(neighbour.into());
        self
    }

    /// Right after this program or link.
    pub fn after(mut self, neighbour: impl Into<Neighbour>) -> Self {
        self.order.after(neighbour.into());
        self
    }

    /// Only while the list is at this revision.
    pub fn revision(mut self, revision: u64) -> Self {
        self.order.revision(revision);
        self
    }

    /// The programs of the side that was chosen, by default the primary one.
    ///
    /// # Errors
    /// There is no such device, or it is no netkit device.
    pub fn list(&self) -> Result<Listed> {
        let side = self.side.unwrap_or(AttachType::NETKIT_PRIMARY);
        let listed = self.device.find().and_then(|index| Listed::of(AttachTo::Device(index), side, true));
        listed.map_err(|cause| Error::system(&format!("listing the programs of device {}", self.device), cause))
    }
}

impl sealed::Sealed for Netkit {}

impl Hook for Netkit {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.device.to_string();
        let known = [AttachType::NETKIT_PRIMARY, AttachType::NETKIT_PEER].contains(&program.attach_type());
        let Some(side) = self.side.or(known.then_some(program.attach_type())) else {
            let cause = Cause::invalid(format!("the section `{}` does not say which side", program.section()));
            return Err(failed(program, "netkit device", &target, cause.action("say `primary` or `peer`")));
        };
        let hook = if side == AttachType::NETKIT_PRIMARY { "netkit primary" } else { "netkit peer of" };
        let fail = |cause| failed(program, hook, &target, cause);
        let index = self.device.find().map_err(fail)?;
        let (flags, tail) = self.order.ask().map_err(fail)?;
        let to = AttachTo::Device(index);
        let link = sys::LinkCreate { program: program.as_fd(), attach_type: side, to, flags, tail };
        create(program, hook, &target, &link, |errno| match errno {
            Errno::INVAL if !program.kernel().has(ringfence_kernel::Feature::Netkit) => {
                Some(Cause::new(Kind::Unsupported, "this kernel has no netkit devices (6.7)"))
            }
            Errno::INVAL | Errno::NXIO => Some(
                Cause::invalid("the device is no netkit device, or the program is not for one")
                    .action("`ip -d link show` tells a device's kind"),
            ),
            Errno::ACCESS => Some(
                Cause::invalid("it is the peer: programs of both sides are attached by the primary device")
                    .action("name the primary device"),
            ),
            Errno::NODEV => Some(Cause::invalid("the device is gone")),
            _ => self.order.explain(errno),
        })
    }
}
