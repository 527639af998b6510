//! Packets as they pass traffic control, by links (tcx, 6.6).

use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::device::Device;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

/// A device's traffic control: many programs may be there, one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tc {
    device: Device,
    side: Option<AttachType>,
    first: bool,
}

impl Tc {
    /// By name, in the network namespace of the calling thread, on the side that the program's section says.
    pub fn new(device: &str) -> Self {
        Tc { device: Device::Name(device.to_owned()), side: None, first: false }
    }

    /// By the device's number.
    pub fn index(index: u32) -> Self {
        Tc { device: Device::Index(index), side: None, first: false }
    }

    /// What comes in.
    pub fn ingress(mut self) -> Self {
        self.side = Some(AttachType::TCX_INGRESS);
        self
    }

    /// What goes out.
    pub fn egress(mut self) -> Self {
        self.side = Some(AttachType::TCX_EGRESS);
        self
    }

    /// Before all programs that are there; without this after them.
    pub fn first(mut self) -> Self {
        self.first = true;
        self
    }
}

impl sealed::Sealed for Tc {}

impl Hook for Tc {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.device.to_string();
        let known = [AttachType::TCX_INGRESS, AttachType::TCX_EGRESS].contains(&program.attach_type());
        let Some(side) = self.side.or(known.then_some(program.attach_type())) else {
            let cause = Cause::invalid(format!("the section `{}` does not say which side", program.section()));
            return Err(failed(program, "tc on device", &target, cause.action("say `ingress` or `egress`")));
        };
        let hook = if side == AttachType::TCX_INGRESS { "tc ingress of device" } else { "tc egress of device" };
        let index = self.device.find().map_err(|cause| failed(program, hook, &target, cause))?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: side,
            to: AttachTo::Device(index),
            flags: if self.first { sys::flags::BPF_F_BEFORE } else { 0 },
            tail: LinkTail::Relative { to: None, expected_revision: 0 },
        };
        create(program, hook, &target, &link, |errno| match errno {
            Errno::INVAL => Some(
                Cause::new(
                    Kind::Unsupported,
                    "this kernel has no tc links (tcx, 6.6), or the program was loaded for the other side",
                )
                .action("use a newer kernel"),
            ),
            Errno::NODEV => Some(Cause::invalid("the device is gone")),
            Errno::RANGE => Some(Cause::new(Kind::Io, "64 programs are there already")),
            _ => None,
        })
    }
}
