//! Packets as they come in, before the kernel has looked at them.

use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkDetails, LinkTail};

use super::{Link, create, failed};
use crate::device::Device;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "XDP on device";

// XDP_FLAGS_* of include/uapi/linux/if_link.h.
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

/// A device's receiving side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Xdp {
    device: Device,
    flags: u32,
}

impl Xdp {
    /// By name, in the network namespace of the calling thread. In the driver where it can, in the kernel's stack otherwise.
    pub fn new(device: &str) -> Self {
        Xdp { device: Device::Name(device.to_owned()), flags: 0 }
    }

    /// By the device's number.
    pub fn index(index: u32) -> Self {
        Xdp { device: Device::Index(index), flags: 0 }
    }

    /// In the driver, or not at all.
    pub fn native(mut self) -> Self {
        self.flags = DRV_MODE;
        self
    }

    /// In the kernel's stack, which works for every device and is slower.
    pub fn generic(mut self) -> Self {
        self.flags = SKB_MODE;
        self
    }
}

impl sealed::Sealed for Xdp {}

impl Hook for Xdp {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.device.to_string();
        let index = self.device.find().map_err(|cause| failed(program, HOOK, &target, cause))?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::XDP,
            to: AttachTo::Device(index),
            flags: self.flags,
            tail: LinkTail::None,
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::BUSY | Errno::EXIST => Some(busy(index, &target)),
            Errno::OPNOTSUPP if self.flags == DRV_MODE => Some(
                Cause::new(
                    Kind::Unsupported,
                    "the device's driver has no XDP, or not with its present settings (MTU, offloads)",
                )
                .action("take the generic mode"),
            ),
            Errno::RANGE | Errno::OPNOTSUPP => Some(
                Cause::new(
                    Kind::Unsupported,
                    "the device cannot run XDP with its present settings (MTU, header split, offloads)",
                )
                .action("lower the MTU, turn LRO off, or load a program with fragments (`xdp.frags`)"),
            ),
            Errno::INVAL => Some(Cause::invalid(
                "the program was loaded for another place (a device or CPU map), or the kernel has no XDP links (5.9)",
            )),
            Errno::NODEV => Some(Cause::invalid("the device is gone")),
            _ => None,
        })
    }
}

/// Who holds the device.
fn busy(index: u32, device: &str) -> Cause {
    let mut last = 0;
    while let Ok(Some(id)) = sys::Ids::Link.after(last) {
        last = id;
        let Ok(info) = sys::open_link(id).and_then(|link| link.info()) else { continue };
        if info.details == (LinkDetails::Xdp { ifindex: index }) {
            let name = sys::open_program(info.program_id).and_then(|program| program.info()).map(|info| info.name);
            return Cause::new(
                Kind::Io,
                format!(
                    "it has a program already: `{}` (program {}, link {id})",
                    name.unwrap_or_default(),
                    info.program_id
                ),
            )
            .action("take that off first: end the process that holds the link, or remove its pin");
        }
    }
    Cause::new(Kind::Io, "it has a program already, without a link")
        .action(format!("take that off first: `ip link set dev {device} xdp off`"))
}
