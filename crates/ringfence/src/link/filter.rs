//! Packets as they pass traffic control, by filters: before links (tcx, 6.6), and for programs of the section `action`.
//!
//! A filter stays when its process ends in a way that runs no code (SIGKILL). Its name tells then whose it was:
//! `PROGRAM ringfence PID`, as `tc filter show` prints it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use ringfence_sys as sys;
use ringfence_uapi::ProgramType;
use rustix::io::Errno;
use sys::netlink::{Netlink, NetlinkError};
use sys::rtnetlink::{FilterKind, FilterPlace, FilterSet, Side};

use super::{Held, Link, Placed, not_there};
use crate::error::{Cause, Kind};
use crate::program::Program;

/// Network namespace (device and inode of its file) and device.
type Place = (u64, u64, u32);

/// The qdiscs that this process has made. They are removed with the last filter in them, whosever that is. The lock is held while
/// something changes, so that no thread removes a qdisc into which another one is just putting a filter.
static OURS: Mutex<BTreeSet<Place>> = Mutex::new(BTreeSet::new());

/// What a new filter's place is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Numbers {
    /// Before all others; else after them.
    pub(super) first: bool,
    /// Given by the user; 0: free.
    pub(super) priority: u16,
    /// Given by the user; 0: free.
    pub(super) handle: u32,
}

/// `tcf_auto_prio` of `net/sched/cls_api.c` begins there.
const MIDDLE: u16 = 0xc000;

/// Attaches a program by a filter, in the network namespace of the calling thread.
pub(super) fn attach(
    program: &Program,
    hook: &'static str,
    target: &str,
    (index, side): (u32, Side),
    numbers: Numbers,
) -> Result<Link, Cause> {
    let netlink = Netlink::open().map_err(crate::explain::plain)?;
    let namespace = rustix::fs::stat("/proc/thread-self/ns/net").map_err(crate::explain::plain)?;
    let key = (namespace.st_dev, namespace.st_ino, index);
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    match netlink.clsact_add(index) {
        Ok(()) => drop(ours.insert(key)),
        Err(error) if error.errno == Errno::EXIST => fits(&netlink, index, side)?,
        Err(error) => return Err(cause(error)),
    }
    let kind = if program.kind() == ProgramType::SCHED_ACT { FilterKind::Action } else { FilterKind::Classifier };
    let made = free_priority(&netlink, index, side, numbers).and_then(|priority| {
        let place = FilterPlace { index, side, priority, handle: numbers.handle, kind };
        netlink.filter_set(place, program.as_fd(), &name_of(program), FilterSet::New).map_err(cause)
    });
    match made {
        Ok(place) => {
            let filter = Filter { netlink, key, place, program: program.clone() };
            Ok(Link::new(program.name(), hook, target, Held::Placed(Box::new(filter))))
        }
        Err(cause) => {
            clean(&netlink, key, &mut ours);
            Err(cause)
        }
    }
}

/// The kernel's record of whose it is.
fn name_of(program: &Program) -> String {
    format!("{} ringfence {}", program.name(), std::process::id())
}

/// The qdisc `ingress` has the same place as clsact, and takes filters for the other side as its own.
fn fits(netlink: &Netlink, index: u32, side: Side) -> Result<(), Cause> {
    match netlink.qdisc(index).map_err(cause)?.as_deref() {
        Some("clsact") | None => Ok(()),
        Some("ingress") if side == Side::Ingress => Ok(()),
        Some(other) => Err(Cause::new(Kind::Io, format!("the device has the qdisc `{other}` where `clsact` would be"))
            .action("remove it: `tc qdisc del dev DEVICE ingress`")),
    }
}

fn free_priority(netlink: &Netlink, index: u32, side: Side, numbers: Numbers) -> Result<u16, Cause> {
    if numbers.priority != 0 {
        return Ok(numbers.priority);
    }
    let taken = netlink.filters(index, side).map_err(cause)?;
    let taken = taken.iter().map(|filter| filter.priority);
    let free = match numbers.first {
        true => taken.min().map(|least| least.checked_sub(1).filter(|free| *free != 0)),
        false => taken.max().map(|greatest| greatest.checked_add(1)),
    };
    free.unwrap_or(Some(MIDDLE)).ok_or_else(|| {
        Cause::new(Kind::Io, "a filter has the last possible priority already").action("give a priority")
    })
}

/// Removes the qdisc if it is ours and nobody uses it.
fn clean(netlink: &Netlink, key: Place, ours: &mut BTreeSet<Place>) {
    if !ours.contains(&key) {
        return;
    }
    let (_, _, index) = key;
    let left = [Side::Ingress, Side::Egress].map(|side| netlink.filters(index, side));
    if left.iter().all(|filters| filters.as_ref().is_ok_and(Vec::is_empty)) {
        let _ = netlink.clsact_remove(index);
        ours.remove(&key);
    } else if left.iter().any(|filters| filters.as_ref().is_err_and(is_gone)) {
        ours.remove(&key);
    }
}

fn is_gone(error: &NetlinkError) -> bool {
    error.errno == Errno::NODEV
}

fn cause(error: NetlinkError) -> Cause {
    let NetlinkError { errno, .. } = &error;
    match *errno {
        Errno::NOENT => Cause::new(
            Kind::Unsupported,
            "this kernel has no such qdisc or filter: it was built without clsact, cls_bpf or, for the section `action`, basic and act_bpf, or the module is not loaded",
        )
        .errno(*errno),
        Errno::NODEV => Cause::invalid("the device is gone").errno(*errno),
        Errno::EXIST => Cause::invalid("a filter of that priority and handle is there already").errno(*errno),
        _ => crate::explain::netlink(error),
    }
}

#[derive(Debug)]
struct Filter {
    netlink: Netlink,
    key: Place,
    place: FilterPlace,
    program: Program,
}

impl Placed for Filter {
    fn take_off(&self) -> Result<(), Cause> {
        let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.netlink.filter_remove(self.place);
        clean(&self.netlink, self.key, &mut ours);
        match done {
            // Somebody took it off, or its qdisc or device is gone.
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::INVAL | Errno::NODEV) => Ok(()),
            done => done.map_err(cause),
        }
    }

    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause> {
        if old.is_some_and(|old| !old.is(&self.program)) || new.kind() != self.program.kind() {
            return Err(not_there(old));
        }
        self.netlink.filter_set(self.place, new.as_fd(), &name_of(new), FilterSet::Replace).map_err(cause)?;
        self.program = new.clone();
        Ok(())
    }
}
