//! Packets as they come in, before the kernel has looked at them: by links (5.9), by messages where there are none.

use std::os::fd::AsFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::netlink::{Netlink, NetlinkError};
use sys::rtnetlink::xdp;
use sys::{AttachTo, LinkDetails, LinkTail};

use super::{Held, Link, Placed, attach_cause, failed, not_there};
use crate::device::Device;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "XDP on device";

/// A device's receiving side. It has one program.
///
/// By a link where the kernel has them (5.9). Without one the program is taken off when the [`Link`] is dropped, and stays if the process
/// is killed by SIGKILL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Xdp {
    device: Device,
    mode: u32,
    linked: bool,
}

impl Xdp {
    /// By name, in the network namespace of the calling thread. In the driver where it can, in the kernel's stack otherwise.
    pub fn new(device: &str) -> Self {
        Xdp { device: Device::Name(device.to_owned()), mode: 0, linked: true }
    }

    /// By the device's number.
    pub fn index(index: u32) -> Self {
        Xdp { device: Device::Index(index), mode: 0, linked: true }
    }

    /// In the driver, or not at all.
    pub fn native(mut self) -> Self {
        self.mode = xdp::DRV_MODE;
        self
    }

    /// In the kernel's stack, which works for every device and is slower.
    pub fn generic(mut self) -> Self {
        self.mode = xdp::SKB_MODE;
        self
    }

    /// In the device's hardware. The program must have been loaded for that device.
    pub fn offloaded(mut self) -> Self {
        self.mode = xdp::HW_MODE;
        self
    }

    /// By a message (netlink) even where the kernel has links.
    pub fn without_link(mut self) -> Self {
        self.linked = false;
        self
    }

    fn explain(&self, index: u32, errno: Errno) -> Cause {
        let cause = match errno {
            Errno::BUSY | Errno::EXIST => busy(index, &self.device.to_string()),
            Errno::OPNOTSUPP if self.mode == xdp::DRV_MODE => Cause::new(
                Kind::Unsupported,
                "the device's driver has no XDP, or not with its present settings (MTU, offloads)",
            )
            .action("take the generic mode"),
            Errno::OPNOTSUPP | Errno::INVAL if self.mode == xdp::HW_MODE => Cause::new(
                Kind::Unsupported,
                "the device's hardware runs no programs, or this one was not loaded for it",
            )
            .action("take the native mode"),
            Errno::RANGE | Errno::OPNOTSUPP => Cause::new(
                Kind::Unsupported,
                "the device cannot run XDP with its present settings (MTU, header split, offloads)",
            )
            .action("lower the MTU, turn LRO off, or load a program with fragments (`xdp.frags`)"),
            Errno::INVAL => {
                Cause::invalid("the program is no XDP program, or was loaded for another place (a device or CPU map)")
            }
            Errno::NODEV => Cause::invalid("the device is gone"),
            _ => attach_cause(errno),
        };
        cause.errno(errno)
    }

    fn message(&self, program: &Program, index: u32) -> Result<Message, Cause> {
        let netlink = Netlink::open().map_err(crate::explain::plain)?;
        let flags = self.mode | xdp::UPDATE_IF_NOEXIST;
        netlink.xdp_set(index, Some(program.as_fd()), flags, None).map_err(|error| {
            let known = self.explain(index, error.errno);
            with_text(known, error)
        })?;
        Ok(Message { netlink, index, mode: self.mode, program: program.clone() })
    }
}

/// The sentence of the driver, which knows best.
fn with_text(cause: Cause, error: NetlinkError) -> Cause {
    if error.text.is_empty() { cause } else { Cause { why: format!("{} ({})", cause.why, error.text), ..cause } }
}

impl sealed::Sealed for Xdp {}

impl Hook for Xdp {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.device.to_string();
        let fail = |cause| failed(program, HOOK, &target, cause);
        let index = self.device.find().map_err(fail)?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::XDP,
            to: AttachTo::Device(index),
            flags: self.mode,
            tail: LinkTail::None,
        };
        let made = if self.linked { sys::link_create(&link) } else { Err(Errno::INVAL) };
        let held = match made {
            Ok(link) => Held::Link(link),
            Err(Errno::INVAL) if !self.linked || !program.kernel().has(Feature::XdpLink) => {
                Held::Placed(Box::new(self.message(program, index).map_err(fail)?))
            }
            Err(errno) => return Err(fail(self.explain(index, errno))),
        };
        Ok(Link::new(program.name(), HOOK, &target, held))
    }
}

/// A program without a link. Changes name the program that is expected there, so nobody else's is touched.
#[derive(Debug)]
struct Message {
    netlink: Netlink,
    index: u32,
    mode: u32,
    program: Program,
}

impl Placed for Message {
    fn take_off(&self) -> Result<(), Cause> {
        let flags = self.mode | xdp::REPLACE;
        match self.netlink.xdp_set(self.index, None, flags, Some(self.program.as_fd())) {
            // Another one is there instead, or none, or the device is gone.
            Err(error) if matches!(error.errno, Errno::EXIST | Errno::NOENT | Errno::NODEV) => Ok(()),
            done => done.map_err(crate::explain::netlink),
        }
    }

    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause> {
        if old.is_some_and(|old| !old.is(&self.program)) {
            return Err(not_there(old));
        }
        let (flags, expected) = (self.mode | xdp::REPLACE, Some(self.program.as_fd()));
        self.netlink.xdp_set(self.index, Some(new.as_fd()), flags, expected).map_err(|error| match error.errno {
            Errno::EXIST => not_there(Some(&self.program)).errno(error.errno),
            Errno::INVAL => Cause::invalid("the new program is of another type").errno(error.errno),
            _ => crate::explain::netlink(error),
        })?;
        self.program = new.clone();
        Ok(())
    }
}

/// Who holds the device. Its number is another device's in each network namespace, and links do not say in which they are.
fn busy(index: u32, device: &str) -> Cause {
    let there = Netlink::open().ok().and_then(|netlink| netlink.xdp(index).ok()?.any());
    let name = there.map_or(String::new(), |id| format!(": `{}` (program {id})", program_name(id)));
    let mut last = 0;
    while let Ok(Some(id)) = sys::Ids::Link.after(last) {
        last = id;
        let Ok(info) = sys::open_link(id).and_then(|link| link.info()) else { continue };
        if info.details == (LinkDetails::Xdp { ifindex: index }) && Some(info.program_id) == there {
            return Cause::new(Kind::Io, format!("it has a program already{name}, by link {id}"))
                .action("take that off first: end the process that holds the link, or remove its pin");
        }
    }
    Cause::new(Kind::Io, format!("it has a program already, without a link{name}"))
        .action(format!("take that off first: `ip link set dev {device} xdp off`"))
}

fn program_name(id: u32) -> String {
    sys::open_program(id).and_then(|program| program.info()).map(|info| info.name).unwrap_or_default()
}
