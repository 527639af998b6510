//! What lives without a process that owns it: why, and how it is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_sys as sys;
use ringfence_uapi::ProgramType;
use rustix::io::Errno;
use sys::AttachTo;
use sys::netlink::Netlink;
use sys::rtnetlink::xdp;

use super::pins::{pinned, reachable};
use super::{At, Attachment, Holder, Id, Machine};
use crate::error::{Cause, Error, Kind, Result};

/// Something that no process owns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Orphan {
    /// What it is.
    pub id: Id,
    /// Its kind: `xdp`, `hash`, `kprobe`.
    pub kind: String,
    /// Its name as the kernel has it; for a link that of its program.
    pub name: String,
    /// Why it lives, in words.
    pub why: String,
    /// What keeps it: a pin or a place without a link; `None`: something that the kernel does not tell.
    pub holder: Option<Holder>,
    /// What it keeps in turn: programs, maps, BTF.
    pub keeps: Vec<Id>,
    /// Bytes of the kernel's memory that it and what it keeps take, as far as known.
    pub memory: u64,
    /// A shell command that removes it; `None`: there is none.
    pub command: Option<String>,
    /// What to do where nothing can be removed from here; else empty.
    pub advice: String,
}

/// What nobody owns, and the machine that it was found on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Audit {
    /// What the kernel holds.
    pub machine: Machine,
    /// What no process owns.
    pub orphans: Vec<Orphan>,
}

/// How long something without any holder is given to go away, or its holder to be seen.
const GRACE: Duration = Duration::from_millis(150);

/// Finds what no process owns: only pinned, or attached without a link, or held by something that the kernel does not tell.
///
/// # Errors
/// As [`Machine::read`].
pub fn audit() -> Result<Audit> {
    let mut machine = Machine::read()?;
    let mut orphans = machine.orphans();
    // What has no holder at all may just be on its way: two looks must agree.
    if orphans.iter().any(|orphan| orphan.holder.is_none()) {
        std::thread::sleep(GRACE);
        let before: BTreeSet<_> = orphans.iter().map(|orphan| orphan.id).collect();
        machine = Machine::read()?;
        orphans = machine.orphans();
        orphans.retain(|orphan| orphan.holder.is_some() || before.contains(&orphan.id));
    }
    Ok(Audit { machine, orphans })
}

impl Machine {
    fn orphans(&self) -> Vec<Orphan> {
        let uses = self.uses();
        let owned = self.holders.iter().filter(|(_, holders)| {
            holders.iter().any(|holder| matches!(holder, Holder::Process { .. } | Holder::Kernel))
        });
        let owned = closure(owned.map(|(id, _)| *id), &uses);
        let mut orphans = Vec::new();
        for id in self.ids().filter(|id| !owned.contains(id)) {
            let holders = self.holders(id);
            let roots = holders.iter().filter(|holder| matches!(holder, Holder::Pin { .. } | Holder::Attachment(_)));
            for root in roots.filter(|root| !self.is_preloaded(id, root)) {
                orphans.push(self.orphan(id, Some(root.clone()), &uses, &owned));
            }
            if holders.is_empty() {
                orphans.push(self.orphan(id, None, &uses, &owned));
            }
        }
        orphans
    }

    /// The kernel's own iterators, which it puts into every bpffs (CONFIG_BPF_PRELOAD).
    fn is_preloaded(&self, id: Id, root: &Holder) -> bool {
        let Holder::Pin { path, .. } = root else { return false };
        let iterator = self.links.iter().any(|link| link.id() == id && link.hook == "iter");
        iterator && path.file_name().is_some_and(|name| name == "maps.debug" || name == "progs.debug")
    }

    /// What each object keeps.
    fn uses(&self) -> BTreeMap<Id, Vec<Id>> {
        let mut uses: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for (id, holders) in &self.holders {
            for holder in holders {
                if let Holder::Object(by) = holder {
                    uses.entry(*by).or_default().push(*id);
                }
            }
        }
        uses
    }

    fn orphan(&self, id: Id, holder: Option<Holder>, uses: &BTreeMap<Id, Vec<Id>>, owned: &BTreeSet<Id>) -> Orphan {
        let keeps: Vec<Id> =
            closure([id], uses).into_iter().filter(|kept| *kept != id && !owned.contains(kept)).collect();
        let memory = keeps.iter().chain([&id]).filter_map(|id| self.memory(*id)).sum();
        let (why, command, advice) = match &holder {
            Some(Holder::Pin { path, process }) => {
                let of = process.map_or(String::new(), |pid| format!(", as process {pid} sees it"));
                let command = format!("rm {}", quoted(&reachable(*process, path)));
                (format!("pinned at {}{of}", path.display()), Some(command), String::new())
            }
            Some(Holder::Attachment(at)) => {
                let advice = if at.command(id).is_some() { "" } else { "`ringfence audit --remove` removes it" };
                (at.why(), at.command(id), advice.to_owned())
            }
            _ => {
                let (why, advice) = self.unknown(id);
                (why, None, advice)
            }
        };
        Orphan { id, kind: self.kind(id), name: self.name(id).to_owned(), why, holder, keeps, memory, command, advice }
    }

    /// Its kind: type of a program or map, hook of a link.
    fn kind(&self, id: Id) -> String {
        let kind = match id {
            Id::Program(id) => self.program(id).map(|program| program.info.kind.to_string()),
            Id::Map(id) => self.map(id).map(|map| map.info.kind.to_string()),
            Id::Link(id) => self.link(id).map(|link| format!("{} {}", link.hook, link.target).trim().to_owned()),
            Id::Btf(_) => None,
        };
        kind.unwrap_or_default()
    }

    /// What may hold something of which the kernel tells no holder, and what to do.
    fn unknown(&self, id: Id) -> (String, String) {
        use ProgramType as P;
        let end = "end the process that made it";
        let (what, todo) = match id {
            Id::Program(number) => {
                let kind = self.program(number).map(|program| program.info.kind);
                match kind.unwrap_or(P::UNSPEC) {
                    P::SOCKET_FILTER | P::SK_REUSEPORT => {
                        ("a socket has it as its filter", "end the process that has the socket")
                    }
                    P::KPROBE | P::TRACEPOINT | P::PERF_EVENT | P::RAW_TRACEPOINT => {
                        ("a perf event runs it, or an iterator", end)
                    }
                    P::LWT_IN | P::LWT_OUT | P::LWT_XMIT | P::LWT_SEG6LOCAL => (
                        "a route has it",
                        "find the route with `ip route show table all`, in each network namespace, and delete it",
                    ),
                    P::SCHED_CLS | P::SCHED_ACT => (
                        "a filter in a block that devices share, or an action without a filter",
                        "look at `tc filter show` and `tc actions list action bpf`",
                    ),
                    P::XDP => (
                        "a device in a network namespace that cannot be reached",
                        "look for the namespace's sockets and mounts",
                    ),
                    P::STRUCT_OPS => ("a struct_ops map that is not registered", end),
                    P::LIRC_MODE2 => ("an infrared device", "`bpftool prog detach`"),
                    P::TRACING => ("an open iterator", end),
                    _ => ("a place that the kernel does not tell", end),
                }
            }
            Id::Map(_) => {
                let mapped = mapped();
                if !mapped.is_empty() {
                    let todo = format!("end {}, if it is theirs", mapped.join(" or "));
                    return (
                        "the kernel tells no holder; perhaps a process has it mapped into its memory".to_owned(),
                        todo,
                    );
                }
                ("a descriptor on its way through a socket", end)
            }
            Id::Link(_) | Id::Btf(_) => ("a descriptor on its way through a socket, or registered with io_uring", end),
        };
        (format!("the kernel tells no holder; perhaps {what}"), todo.to_owned())
    }
}

/// All that is reached from some.
fn closure(from: impl IntoIterator<Item = Id>, uses: &BTreeMap<Id, Vec<Id>>) -> BTreeSet<Id> {
    let mut left: Vec<Id> = from.into_iter().collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = left.pop() {
        if reached.insert(id) {
            left.extend(uses.get(&id).into_iter().flatten());
        }
    }
    reached
}

/// Processes that have some BPF map in their memory: the kernel does not tell which.
fn mapped() -> Vec<String> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let has = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("anon_inode:bpf-map"))
    };
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has);
    pids.map(|pid| format!("{}[{pid}]", super::process::command(pid))).collect()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl Attachment {
    fn why(&self) -> String {
        let stays = match &self.at {
            At::Xdp { .. } | At::Device { .. } => {
                "without a link: it stays until it is taken off or the device is gone"
            }
            At::Filter { .. } => "by a filter: it stays until that is deleted or the device is gone",
            At::Namespace { .. } => "without a link: it stays until it is taken off or the namespace is gone",
            At::Cgroup { .. } => "without a link: it stays until it is taken off or the cgroup is gone",
            At::StructOps { .. } => return "registered without a link: it stays until it is unregistered".to_owned(),
        };
        format!("attached to {self} {stays}")
    }

    fn command(&self, id: Id) -> Option<String> {
        let (Id::Program(number) | Id::Map(number) | Id::Link(number) | Id::Btf(number)) = id;
        Some(match &self.at {
            At::Xdp { space, device, mode, .. } => {
                let mode = match *mode {
                    xdp::SKB_MODE => "xdpgeneric",
                    xdp::HW_MODE => "xdpoffload",
                    _ => "xdpdrv",
                };
                format!("{}ip link set dev {device} {mode} off", space.prefix())
            }
            At::Filter { space, device, filter } => {
                let side = match filter.side().as_str() {
                    side @ ("ingress" | "egress") => side.to_owned(),
                    parent => format!("parent {parent}"),
                };
                let chain = if filter.chain == 0 { String::new() } else { format!(" chain {}", filter.chain) };
                let (priority, handle, kind) = (filter.priority, filter.handle, &filter.kind);
                let before = space.prefix();
                format!("{before}tc filter del dev {device} {side}{chain} pref {priority} handle {handle:#x} {kind}")
            }
            At::Device { space, device, hook, .. } => {
                let hook = hook.to_string();
                let known = hook.starts_with("tcx");
                return known.then(|| format!("{}bpftool net detach {hook} dev {device}", space.prefix()));
            }
            At::Namespace { space, hook } => format!("{}bpftool prog detach id {number} {hook}", space.prefix()),
            At::Cgroup { path, hook } => format!("bpftool cgroup detach {} {hook} id {number}", quoted(path)),
            At::StructOps { map } => format!("bpftool struct_ops unregister id {map}"),
        })
    }

    fn remove(&self, id: Id) -> Result<(), Cause> {
        let program = || match id {
            Id::Program(id) => sys::open_program(id).map_err(gone),
            _ => Err(gone(Errno::NOENT)),
        };
        let inside = |space: &super::network::Space, run: &(dyn Fn() -> Result<(), Cause> + Sync)| {
            space.enter(run).unwrap_or_else(|error| Err(Cause::new(error.kind(), error.to_string())))
        };
        match &self.at {
            At::Xdp { space, index, mode, .. } => inside(space, &|| {
                let netlink = Netlink::open().map_err(crate::explain::plain)?;
                let expected = program()?;
                netlink.xdp_set(*index, None, mode | xdp::REPLACE, Some(expected.as_fd())).map_err(|error| match error
                    .errno
                {
                    Errno::EXIST | Errno::NOENT | Errno::NODEV => gone(error.errno),
                    _ => crate::explain::netlink(error),
                })
            }),
            At::Filter { space, filter, .. } => inside(space, &|| {
                let netlink = Netlink::open().map_err(crate::explain::plain)?;
                // Its numbers may have been given to another filter since.
                if !netlink.program_filters().map_err(crate::explain::netlink)?.contains(filter) {
                    return Err(gone(Errno::NOENT));
                }
                netlink.program_filter_remove(filter).map_err(crate::explain::netlink)
            }),
            At::Device { space, index, hook, .. } => inside(space, &|| {
                let program = program()?;
                sys::program_detach(AttachTo::Device(*index), Some(program.as_fd()), *hook).map_err(gone)
            }),
            At::Namespace { space, hook } => inside(space, &|| {
                let program = program()?;
                sys::program_detach(AttachTo::Nothing, Some(program.as_fd()), *hook).map_err(gone)
            }),
            At::Cgroup { path, hook } => {
                let cgroup = std::fs::File::open(path)
                    .map_err(|error| gone(Errno::from_io_error(&error).unwrap_or(Errno::NOENT)))?;
                let program = program()?;
                sys::program_detach(AttachTo::Fd(cgroup.as_fd()), Some(program.as_fd()), *hook).map_err(gone)
            }
            At::StructOps { map } => {
                let map = sys::open_map(*map, 0).map_err(gone)?;
                map.delete(&0u32.to_ne_bytes()).map_err(gone)
            }
        }
    }
}

/// What an error number means when something is taken away.
fn gone(errno: Errno) -> Cause {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::EXIST => {
            Cause::new(Kind::Invalid, "it is no longer there, or another one is there instead").errno(errno)
        }
        _ => crate::explain::plain(errno),
    }
}

impl Orphan {
    /// It can be removed from here.
    pub fn is_removable(&self) -> bool {
        self.holder.is_some()
    }

    /// Removes what keeps it. That another one is at its place by now is seen and refused.
    ///
    /// # Errors
    /// It is gone or was replaced since, the process may not do it, or the kernel tells no holder.
    pub fn remove(&self) -> Result<()> {
        let removed = match &self.holder {
            Some(Holder::Pin { path, process }) => self.unpin(&reachable(*process, path)),
            Some(Holder::Attachment(at)) => at.remove(self.id),
            _ => Err(Cause::invalid("the kernel does not tell what holds it").action(self.advice.clone())),
        };
        removed.map_err(|cause| Error::system(&format!("removing {}", self.id), cause))
    }

    fn unpin(&self, path: &PathBuf) -> Result<(), Cause> {
        if pinned(path) != Some(self.id) {
            return Err(gone(Errno::NOENT));
        }
        std::fs::remove_file(path).map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => gone(errno),
            None => Cause::new(Kind::Io, error.to_string()),
        })
    }
}
