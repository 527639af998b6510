//! Packets of a route (lightweight tunnels): `lwt_in`, `lwt_out`, `lwt_xmit`, `lwt_seg6local`.

use std::net::IpAddr;
use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::ProgramType;
use rustix::io::Errno;
use sys::netlink::{Netlink, NetlinkError};
use sys::rtnetlink::{LwtRoute, LwtStep};

use super::{Held, Link, Placed, failed, not_there};
use crate::device::Device;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "route";
/// `RT_TABLE_MAIN`
const MAIN: u32 = 254;

/// A route that is made for the program, and is gone with the link. It stays if the process is killed by SIGKILL.
///
/// Which step of the way the program sees is said by its type: packets that came in by such a route's destination (`lwt_in`), that go
/// out (`lwt_out`, `lwt_xmit`, which may add headers), or that end at a segment (`lwt_seg6local`, IPv6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    destination: IpAddr,
    prefix: u8,
    device: Device,
    gateway: Option<IpAddr>,
    table: u32,
    metric: u32,
    headroom: u32,
}

impl Route {
    /// To `destination`/`prefix` by a device of the calling thread's network namespace.
    pub fn new(destination: IpAddr, prefix: u8, device: &str) -> Self {
        let device = Device::Name(device.to_owned());
        Route { destination, prefix, device, gateway: None, table: MAIN, metric: 0, headroom: 0 }
    }

    /// By this next hop.
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// In this table; else in the main one.
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// Of this metric: of routes to the same destination the least one is taken.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = metric;
        self
    }

    /// Bytes to be kept free for headers that the program adds, at most 256.
    pub fn headroom(mut self, bytes: u32) -> Self {
        self.headroom = bytes;
        self
    }
}

fn cause(error: NetlinkError) -> Cause {
    let errno = error.errno;
    let cause = match errno {
        Errno::EXIST => Cause::invalid("there is such a route already").action("give another metric or table"),
        Errno::NETUNREACH | Errno::HOSTUNREACH => Cause::invalid("the next hop cannot be reached by that device"),
        Errno::NETDOWN => Cause::invalid("the device is down"),
        Errno::OPNOTSUPP if error.text.is_empty() => {
            Cause::new(Kind::Unsupported, "this kernel has no such tunnels (CONFIG_LWTUNNEL_BPF, CONFIG_IPV6_SEG6_BPF)")
        }
        _ => return crate::explain::netlink(error),
    };
    cause.errno(errno)
}

/// The kernel tells programs of routes by their names alone (bpf_lwt_prog_cmp) and keeps the old one where the new one's name is the
/// same: so the id is part of it.
fn name_of(program: &Program) -> Result<String, Cause> {
    let info = program.fd().info().map_err(crate::explain::plain)?;
    Ok(format!("{} {}", program.name(), info.id))
}

impl sealed::Sealed for Route {}

impl Hook for Route {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("to {}/{} by {}", self.destination, self.prefix, self.device);
        let fail = |cause| failed(program, HOOK, &target, cause);
        let step = match program.kind() {
            ProgramType::LWT_IN => LwtStep::In,
            ProgramType::LWT_OUT => LwtStep::Out,
            ProgramType::LWT_XMIT => LwtStep::Xmit,
            ProgramType::LWT_SEG6LOCAL => LwtStep::Seg6Local,
            _ => return Err(fail(Cause::invalid("the program is not for routes (`lwt_in`, `lwt_out`, `lwt_xmit`)"))),
        };
        if step == LwtStep::Seg6Local && self.destination.is_ipv4() {
            return Err(fail(Cause::invalid("segments are IPv6 addresses")));
        }
        let route = LwtRoute {
            destination: self.destination,
            prefix: self.prefix,
            index: self.device.find().map_err(fail)?,
            gateway: self.gateway,
            table: self.table,
            metric: self.metric,
            step,
            headroom: self.headroom,
        };
        let netlink = Netlink::open().map_err(|errno| fail(crate::explain::plain(errno)))?;
        let name = name_of(program).map_err(fail)?;
        netlink.lwt_set(&route, program.as_fd(), &name, false).map_err(|error| fail(cause(error)))?;
        let placed = Tunnel { netlink, route, program: program.clone() };
        Ok(Link::new(program.name(), HOOK, &target, Held::Placed(Box::new(placed))))
    }
}

#[derive(Debug)]
struct Tunnel {
    netlink: Netlink,
    route: LwtRoute,
    program: Program,
}

impl Placed for Tunnel {
    fn take_off(&self) -> Result<(), Cause> {
        match self.netlink.lwt_remove(&self.route) {
            // It is gone, or its device is.
            Err(error) if matches!(error.errno, Errno::SRCH | Errno::NODEV) => Ok(()),
            done => done.map_err(cause),
        }
    }

    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause> {
        if old.is_some_and(|old| !old.is(&self.program)) || new.kind() != self.program.kind() {
            return Err(not_there(old));
        }
        self.netlink.lwt_set(&self.route, new.as_fd(), &name_of(new)?, true).map_err(cause)?;
        self.program = new.clone();
        Ok(())
    }
}
