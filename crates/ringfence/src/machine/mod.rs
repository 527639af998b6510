//! All that the kernel of this machine holds: programs, maps, links and BTF, whoever made them; who holds each, and what
//! nobody holds.
//!
//! Listing takes CAP_SYS_ADMIN; seeing what other users' processes hold takes CAP_SYS_PTRACE as well.
//!
//! ```no_run
//! use ringfence::machine::{self, Machine};
//!
//! # fn show() -> Result<(), ringfence::Error> {
//! for program in machine::programs()? {
//!     let program = program?;
//!     println!("{} {} {} runs", program.info.id, program.name, program.info.run_count);
//! }
//! let machine = Machine::read()?;
//! for link in &machine.links {
//!     println!("{} {} {}: {:?}", link.info.id, link.hook, link.target, machine.holders(link.id()));
//! }
//! for orphan in machine::audit()?.orphans {
//!     println!("{} {}: {}", orphan.id, orphan.name, orphan.why);
//! }
//! # Ok(())
//! # }
//! ```

mod cgroups;
mod contents;
mod list;
mod network;
mod orphan;
mod pins;
mod process;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use ringfence_kernel::Kernel;
pub use ringfence_sys::BtfInfo;
use ringfence_sys::{LinkInfo, MapInfo, ProgramInfo};

use crate::error::Result;
pub use list::{btfs, links, maps, programs};
pub use orphan::{Audit, Orphan, audit};

/// An object of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the four kinds of the kernel")]
pub enum Id {
    Program(u32),
    Map(u32),
    Link(u32),
    Btf(u32),
}

impl Id {
    /// The kernel still has it. `true` also where that cannot be asked.
    pub fn is_there(self) -> bool {
        use ringfence_sys as sys;
        let found = match self {
            Id::Program(id) => sys::open_program(id).map(drop),
            Id::Map(id) => sys::open_map(id, sys::flags::BPF_F_RDONLY).map(drop),
            Id::Link(id) => sys::open_link(id).map(drop),
            Id::Btf(id) => sys::open_btf(id).map(drop),
        };
        found != Err(sys::Errno::NOENT)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Program(id) => write!(f, "program {id}"),
            Id::Map(id) => write!(f, "map {id}"),
            Id::Link(id) => write!(f, "link {id}"),
            Id::Btf(id) => write!(f, "BTF {id}"),
        }
    }
}

/// A program of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Program {
    /// What the kernel tells of it.
    pub info: ProgramInfo,
    /// Its name in its source: the kernel keeps 15 bytes of it, the types of the program the whole.
    pub name: String,
    /// When it was loaded, by the wall clock.
    pub loaded: SystemTime,
    /// Ids of the maps that it uses.
    pub maps: Vec<u32>,
    /// Bytes of the kernel's memory that its instructions take, in whole pages; `None`: not known.
    pub memory: Option<u64>,
}

impl Program {
    /// Its id.
    pub fn id(&self) -> Id {
        Id::Program(self.info.id)
    }
}

/// A map of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Map {
    /// What the kernel tells of it.
    pub info: MapInfo,
    /// Bytes of the kernel's memory that it takes (before 6.4 an estimate of the kernel's); `None`: not known.
    pub memory: Option<u64>,
    /// Processes can no longer write it.
    pub frozen: bool,
}

impl Map {
    /// Its id.
    pub fn id(&self) -> Id {
        Id::Map(self.info.id)
    }
}

/// A link of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Link {
    /// What the kernel tells of it.
    pub info: LinkInfo,
    /// Kind of the place: `kprobe`, `cgroup_inet_egress`, `xdp`.
    pub hook: String,
    /// Which place: `tcp_connect`, `/system.slice`, `eth0`.
    pub target: String,
}

impl Link {
    /// Its id.
    pub fn id(&self) -> Id {
        Id::Link(self.info.id)
    }
}

/// BTF that the kernel holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Btf {
    /// What the kernel tells of it.
    pub info: BtfInfo,
}

impl Btf {
    /// Its id.
    pub fn id(&self) -> Id {
        Id::Btf(self.info.id)
    }
}

/// Why something is there.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Holder {
    /// A process has a descriptor of it, or of a perf event that runs it.
    Process {
        /// The process.
        pid: u32,
        /// Its command's name.
        command: String,
        /// Number of the descriptor in that process.
        descriptor: u32,
        /// For a perf event: where it runs the program.
        event: Option<(&'static str, String)>,
    },
    /// It has a name in a bpffs.
    Pin {
        /// The name, as the mount namespace has it.
        path: PathBuf,
        /// A process that sees this name, where ours does not.
        process: Option<u32>,
    },
    /// Another object uses it: a link its program, a program its maps, an array of programs its entries.
    Object(Id),
    /// It is attached without a link, and stays so until somebody takes it off.
    Attachment(Attachment),
    /// Types of the kernel itself or of a module.
    Kernel,
}

/// A program at a place that keeps it without a link.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Attachment {
    /// Kind of the place: `xdp`, `tc ingress`, `cgroup_inet_egress`, `struct_ops`.
    pub hook: String,
    /// Which place: `eth0`, `/system.slice`.
    pub target: String,
    pub(crate) at: At,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hook, self.target)
    }
}

/// With what an attachment is found again, to take it off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum At {
    Xdp {
        space: network::Space,
        index: u32,
        device: String,
        mode: u32,
    },
    Filter {
        space: network::Space,
        device: String,
        filter: ringfence_sys::survey::ProgramFilter,
    },
    /// tcx and netkit.
    Device {
        space: network::Space,
        index: u32,
        device: String,
        hook: ringfence_uapi::AttachType,
    },
    Namespace {
        space: network::Space,
        hook: ringfence_uapi::AttachType,
    },
    Cgroup {
        path: PathBuf,
        hook: ringfence_uapi::AttachType,
    },
    StructOps {
        map: u32,
    },
}

/// What the kernel held at one moment, and who held it.
///
/// What comes or goes while it is read may be missing, or be there without its holder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Machine {
    /// Programs, by id.
    pub programs: Vec<Program>,
    /// Maps, by id.
    pub maps: Vec<Map>,
    /// Links, by id.
    pub links: Vec<Link>,
    /// BTF, by id.
    pub btfs: Vec<Btf>,
    /// What could not be looked at, in words.
    pub notices: Vec<String>,
    /// Processes that could not be looked into (CAP_SYS_PTRACE): what they hold may seem to have no owner.
    pub closed_processes: usize,
    holders: BTreeMap<Id, Vec<Holder>>,
    /// Programs at places without a link.
    attached: Vec<(u32, Attachment)>,
}

impl Machine {
    /// Looks at the kernel, all processes, every bpffs and network namespace that can be reached, and all cgroups.
    ///
    /// # Errors
    /// The process may not list objects (CAP_SYS_ADMIN).
    pub fn read() -> Result<Machine> {
        let mut machine = Machine {
            programs: programs()?.collect::<Result<_>>()?,
            maps: maps()?.collect::<Result<_>>()?,
            links: list::bare_links()?,
            btfs: btfs()?.collect::<Result<_>>()?,
            notices: Vec::new(),
            closed_processes: 0,
            holders: BTreeMap::new(),
            attached: Vec::new(),
        };
        let kernel = Kernel::running();
        let processes = process::scan(&machine)?;
        let mut notices = processes.notices();
        machine.closed_processes = processes.closed;
        let pins = pins::scan(&processes.mounts, &mut notices);
        let cgroups = cgroups::scan(&machine, &mut notices);
        let network = network::scan(&machine, &processes, &mut notices);
        machine.notices = notices;
        words::fill(&mut machine, &kernel, &cgroups, &network);

        for program in &machine.programs {
            let of = Holder::Object(program.id());
            let uses = program.maps.iter().map(|map| Id::Map(*map)).chain(btf_of(program.info.btf_id));
            uses.for_each(|used| machine.holders.entry(used).or_default().push(of.clone()));
        }
        for map in &machine.maps {
            let held = contents::of(map, &machine, &kernel);
            let registered = held.registered && !machine.links.iter().any(|link| link.keeps() == Some(map.id()));
            for used in held.objects.into_iter().chain(btf_of(map.info.btf_id)) {
                machine.holders.entry(used).or_default().push(Holder::Object(map.id()));
            }
            if registered {
                let at = At::StructOps { map: map.info.id };
                let attachment = Attachment { hook: "struct_ops".to_owned(), target: map.info.name.clone(), at };
                machine.holders.entry(map.id()).or_default().push(Holder::Attachment(attachment));
            }
        }
        for link in &machine.links {
            let uses = [(link.info.program_id != 0).then_some(Id::Program(link.info.program_id)), link.keeps()];
            for used in uses.into_iter().flatten() {
                machine.holders.entry(used).or_default().push(Holder::Object(link.id()));
            }
        }
        for btf in machine.btfs.iter().filter(|btf| btf.info.kernel) {
            machine.holders.entry(btf.id()).or_default().push(Holder::Kernel);
        }
        machine.attached = cgroups.attached.into_iter().chain(network.attached).collect();
        let attached = machine.attached.iter();
        let attached = attached.map(|(program, at)| (Id::Program(*program), Holder::Attachment(at.clone())));
        for (id, holder) in processes.holders.into_iter().chain(pins).chain(attached) {
            machine.holders.entry(id).or_default().push(holder);
        }
        Ok(machine)
    }

    /// Who holds it directly.
    pub fn holders(&self, id: Id) -> &[Holder] {
        self.holders.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The processes because of which it is there, directly or through what holds it: number and command.
    pub fn owners(&self, id: Id) -> Vec<(u32, &str)> {
        let mut owners = BTreeMap::new();
        for holder in self.all_holders(id) {
            if let Holder::Process { pid, command, .. } = holder {
                owners.insert(*pid, command.as_str());
            }
        }
        owners.into_iter().collect()
    }

    /// The pins because of which it is there, directly or through what holds it.
    pub fn pins<'a>(&'a self, id: Id) -> Vec<&'a PathBuf> {
        let pin = |holder: &'a Holder| match holder {
            Holder::Pin { path, .. } => Some(path),
            _ => None,
        };
        self.all_holders(id).into_iter().filter_map(pin).collect()
    }

    /// Where a program runs: kind of the place and which, by links, without them, and by perf events.
    pub fn places(&self, program: u32) -> Vec<(String, String)> {
        let links = self.links.iter().filter(|link| link.info.program_id == program);
        let mut places: Vec<_> = links.map(|link| (link.hook.clone(), link.target.clone())).collect();
        for holder in self.holders(Id::Program(program)) {
            places.extend(match holder {
                Holder::Attachment(at) => Some((at.hook.clone(), at.target.clone())),
                Holder::Process { event: Some((hook, target)), .. } => Some(((*hook).to_owned(), target.clone())),
                Holder::Object(Id::Map(map)) => Some(self.place_in(*map)),
                _ => None,
            });
        }
        places.dedup();
        places
    }

    /// A program that a map holds.
    fn place_in(&self, map: u32) -> (String, String) {
        let found = self.map(map);
        let hook = found.map_or_else(|| "map".to_owned(), |map| map.info.kind.to_string());
        (hook, found.map_or_else(|| map.to_string(), |map| map.info.name.clone()))
    }

    /// Everybody who holds it, and who holds those.
    fn all_holders(&self, id: Id) -> Vec<&Holder> {
        let (mut all, mut seen, mut next) = (Vec::new(), BTreeSet::from([id]), vec![id]);
        while let Some(id) = next.pop() {
            for holder in self.holders(id) {
                all.push(holder);
                if let Holder::Object(by) = holder
                    && seen.insert(*by)
                {
                    next.push(*by);
                }
            }
        }
        all
    }

    /// Every object, by kind and id.
    fn ids(&self) -> impl Iterator<Item = Id> {
        let programs = self.programs.iter().map(Program::id).chain(self.maps.iter().map(Map::id));
        programs.chain(self.links.iter().map(Link::id)).chain(self.btfs.iter().map(Btf::id))
    }

    /// The program of this id.
    pub fn program(&self, id: u32) -> Option<&Program> {
        by_id(&self.programs, id, |program| program.info.id)
    }

    /// The map of this id.
    pub fn map(&self, id: u32) -> Option<&Map> {
        by_id(&self.maps, id, |map| map.info.id)
    }

    /// The link of this id.
    pub fn link(&self, id: u32) -> Option<&Link> {
        by_id(&self.links, id, |link| link.info.id)
    }

    /// The BTF of this id.
    pub fn btf(&self, id: u32) -> Option<&Btf> {
        by_id(&self.btfs, id, |btf| btf.info.id)
    }

    /// Its name as the kernel has it; empty where it has none. A link has that of its program.
    pub fn name(&self, id: Id) -> &str {
        let name = match id {
            Id::Program(id) => self.program(id).map(|program| &program.name),
            Id::Map(id) => self.map(id).map(|map| &map.info.name),
            Id::Btf(id) => self.btf(id).and_then(|btf| btf.info.name.as_ref()),
            Id::Link(id) => self.link(id).and_then(|link| Some(&self.program(link.info.program_id)?.name)),
        };
        name.map_or("", String::as_str)
    }

    /// Bytes of the kernel's memory that it takes itself; `None`: not known.
    pub fn memory(&self, id: Id) -> Option<u64> {
        match id {
            Id::Program(id) => self.program(id)?.memory,
            Id::Map(id) => self.map(id)?.memory,
            Id::Btf(id) => Some(self.btf(id)?.info.size.into()),
            Id::Link(_) => None,
        }
    }
}

/// The kernel lists objects by ascending id.
fn by_id<T>(objects: &[T], id: u32, of: impl Fn(&T) -> u32) -> Option<&T> {
    objects.get(objects.binary_search_by_key(&id, of).ok()?)
}

impl Link {
    /// What it keeps beside its program.
    fn keeps(&self) -> Option<Id> {
        use ringfence_sys::LinkDetails;
        match self.info.details {
            LinkDetails::StructOps { map_id } | LinkDetails::Sockmap { map_id, .. } if map_id != 0 => {
                Some(Id::Map(map_id))
            }
            _ => None,
        }
    }
}

fn btf_of(id: u32) -> Option<Id> {
    (id != 0).then_some(Id::Btf(id))
}
