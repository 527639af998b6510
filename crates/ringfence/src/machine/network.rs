//! Network namespaces: their devices, and what is attached there without a link.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ringfence_sys::{self as sys, LinkDetails};
use ringfence_uapi::AttachType;
use sys::netlink::Netlink;
use sys::rtnetlink::xdp;
use sys::{AttachTo, survey};

use super::pins::reachable;
use super::process::{Processes, command, mounts, namespace};
use super::{At, Attachment, Machine};
use crate::error::Result;
use crate::hook::NetNamespace;

/// A network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    /// Its file.
    file: PathBuf,
    name: Name,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    /// That of this process.
    Own,
    /// As `ip netns` lists it.
    Named(String),
    /// Mounted elsewhere.
    Path(String),
    /// That of a process.
    Process(u32, String),
}

impl Space {
    /// Runs it inside.
    pub(crate) fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> Result<T> {
        NetNamespace::new(&self.file).enter(run)
    }

    /// What a shell command needs before it to run inside.
    pub(crate) fn prefix(&self) -> String {
        match &self.name {
            Name::Own => String::new(),
            Name::Named(name) => format!("ip netns exec {name} "),
            Name::Path(path) => format!("nsenter --net={path} "),
            Name::Process(pid, _) => format!("nsenter -t {pid} -n "),
        }
    }

    /// What is in it, with its name where it is not ours.
    fn with(&self, what: &str) -> String {
        match &self.name {
            Name::Own => what.to_owned(),
            _ => format!("{what} (netns {self})"),
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Own => f.write_str("this"),
            Name::Named(name) | Name::Path(name) => f.write_str(name),
            Name::Process(pid, command) => write!(f, "of {command}[{pid}]"),
        }
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Network {
    /// Names of namespaces, by number.
    pub(super) spaces: BTreeMap<u32, String>,
    /// Where links to devices are: device and namespace, in words.
    pub(super) devices: BTreeMap<u32, String>,
    /// Programs without a link.
    pub(super) attached: Vec<(u32, Attachment)>,
}

/// Looks into every namespace.
pub(super) fn scan(machine: &Machine, processes: &Processes, notices: &mut Vec<String>) -> Network {
    let mut found = Network::default();
    for (number, space) in spaces(processes) {
        let name = match space.name {
            Name::Own => "this".to_owned(),
            _ => space.to_string(),
        };
        found.spaces.insert(u32::try_from(number).unwrap_or(0), name);
        let (links, attached) = match space.enter(|| inside(&space, number, machine)) {
            Ok(Ok(looked)) => looked,
            Ok(Err(why)) => {
                notices.push(format!("network namespace {space}: {why}"));
                continue;
            }
            // Gone with its last process.
            Err(error) if error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error()) => continue,
            Err(error) => {
                notices.push(error.to_string());
                continue;
            }
        };
        found.devices.extend(links);
        found.attached.extend(attached);
    }
    found
}

/// Every namespace that has a process or a name.
fn spaces(processes: &Processes) -> BTreeMap<u64, Space> {
    let own = namespace(Path::new("/proc/self/ns/net"));
    let mut spaces = BTreeMap::new();
    for (number, pid) in &processes.networks {
        let name = if own == Some(*number) { Name::Own } else { Name::Process(*pid, command(*pid)) };
        spaces.insert(*number, Space { file: PathBuf::from(format!("/proc/{pid}/ns/net")), name });
    }
    for (_, pid) in &processes.mounts {
        let process = (*pid != std::process::id()).then_some(*pid);
        for mount in mounts(*pid, "nsfs") {
            let number = mount.root.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            let Some(number) = number.filter(|number| own != Some(*number)) else { continue };
            let file = reachable(process, Path::new(&mount.at));
            let by_ip = ["/run/netns/", "/var/run/netns/"].iter().find_map(|dir| mount.at.strip_prefix(dir));
            let name = match by_ip {
                Some(name) if process.is_none() => Name::Named(name.to_owned()),
                _ => Name::Path(file.display().to_string()),
            };
            let better = !matches!(spaces.get(&number), Some(Space { name: Name::Named(_), .. }));
            if better && (process.is_none() || !spaces.contains_key(&number)) {
                spaces.insert(number, Space { file, name });
            }
        }
    }
    spaces
}

type Looked = (BTreeMap<u32, String>, Vec<(u32, Attachment)>);

fn inside(space: &Space, number: u64, machine: &Machine) -> Result<Looked, String> {
    let words = |error: sys::netlink::NetlinkError| error.to_string();
    let netlink = Netlink::open().map_err(|errno| errno.to_string())?;
    let devices = netlink.devices().map_err(words)?;
    let (mut links, mut attached) = (BTreeMap::new(), Vec::new());
    for device in &devices {
        on_device(space, device, machine, &mut links, &mut attached);
    }
    // Kernels without traffic control have no filters.
    for filter in netlink.program_filters().unwrap_or_default() {
        let device = devices.iter().find(|device| device.index == filter.index);
        let device = device.map_or_else(|| filter.index.to_string(), |device| device.name.clone());
        for program in filter.programs.clone() {
            let (hook, target) = (format!("tc {}", filter.side()), space.with(&device));
            let at = At::Filter { space: space.clone(), device: device.clone(), filter: filter.clone() };
            attached.push((program, Attachment { hook, target, at }));
        }
    }
    let Ok(file) = std::fs::File::open(&space.file) else { return Ok((links, attached)) };
    for hook in [AttachType::FLOW_DISSECTOR, AttachType::SK_LOOKUP] {
        let Ok(queried) = sys::program_query(AttachTo::Fd(file.as_fd()), hook, 0, false) else { continue };
        for program in queried.programs {
            let linked = machine.links.iter().any(|link| {
                let LinkDetails::Netns { inode, attach_type } = link.info.details else { return false };
                link.info.program_id == program && u64::from(inode) == number && attach_type == hook
            });
            if !linked {
                let at = At::Namespace { space: space.clone(), hook };
                attached.push((program, Attachment { hook: hook.to_string(), target: format!("netns {space}"), at }));
            }
        }
    }
    Ok((links, attached))
}

/// The programs of one device: which of them a link keeps there, and which stay by themselves.
fn on_device(
    space: &Space,
    device: &survey::Device,
    machine: &Machine,
    links: &mut BTreeMap<u32, String>,
    attached: &mut Vec<(u32, Attachment)>,
) {
    let (index, name) = (device.index, &device.name);
    let modes = [
        (device.xdp.native, xdp::DRV_MODE, "xdp"),
        (device.xdp.generic, xdp::SKB_MODE, "xdp generic"),
        (device.xdp.offloaded, xdp::HW_MODE, "xdp offload"),
    ];
    for (program, mode, hook) in modes.into_iter().filter(|(program, ..)| *program != 0) {
        let here = LinkDetails::Xdp { ifindex: index };
        match machine.links.iter().find(|link| link.info.program_id == program && link.info.details == here) {
            Some(link) => _ = links.insert(link.info.id, space.with(name)),
            None => {
                let at = At::Xdp { space: space.clone(), index, device: name.clone(), mode };
                attached.push((program, Attachment { hook: hook.to_owned(), target: space.with(name), at }));
            }
        }
    }
    let hooks = [AttachType::TCX_INGRESS, AttachType::TCX_EGRESS, AttachType::NETKIT_PRIMARY, AttachType::NETKIT_PEER];
    for hook in hooks {
        // Kernels and devices without such hooks say so here.
        let Ok(queried) = sys::program_query(AttachTo::Device(index), hook, 0, true) else { continue };
        for (program, link) in queried.programs.into_iter().zip(queried.links) {
            if link != 0 {
                links.insert(link, space.with(name));
                continue;
            }
            let at = At::Device { space: space.clone(), index, device: name.clone(), hook };
            attached.push((program, Attachment { hook: hook.to_string(), target: space.with(name), at }));
        }
    }
}
