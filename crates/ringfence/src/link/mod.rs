//! Links: what keeps a program attached. Dropping one takes the program off.
//!
//! One file a hook, all of one shape: a structure that says where ([`Hook`](crate::hook::Hook)), `attach` that asks the kernel, and the
//! words for what can go wrong there.

pub(crate) mod cgroup;
pub(crate) mod filter;
pub(crate) mod function;
pub(crate) mod iter;
pub(crate) mod kprobe;
pub(crate) mod kprobe_multi;
pub(crate) mod lirc;
pub(crate) mod netfilter;
pub(crate) mod netkit;
pub(crate) mod netns;
pub(crate) mod order;
pub(crate) mod perf_event;
pub(crate) mod reuseport;
pub(crate) mod route;
pub(crate) mod socket;
pub(crate) mod sockmap;
pub(crate) mod struct_ops;
pub(crate) mod tc;
pub(crate) mod trace;
pub(crate) mod trace_multi;
pub(crate) mod tracepoint;
pub(crate) mod uprobe;
pub(crate) mod uprobe_multi;
pub(crate) mod usdt;
pub(crate) mod xdp;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ringfence_kernel::{Feature, Kernel};
use ringfence_plan::Attach;
use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::LinkFd;

use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{
    Hook, Iter, Kprobe, KprobeMulti, RawTracepoint, Trace, TraceMulti, Tracepoint, Uprobe, UprobeMulti, Usdt,
};
use crate::map::Map;
use crate::program::Program;
use crate::usdt::Claim;

/// A program at its place. Dropping it takes the program off; what was pinned stays.
#[derive(Debug)]
#[must_use = "dropping a link takes the program off"]
pub struct Link {
    /// Of the program, or of the struct_ops map.
    name: String,
    hook: &'static str,
    target: String,
    held: Held,
    /// What is worth knowing of the place.
    notices: Vec<String>,
    /// Entries of a map that the program reads: given back when it is off.
    claim: Option<Claim>,
}

/// What keeps the program where it is.
#[derive(Debug)]
pub(crate) enum Held {
    /// A link of the kernel's.
    Link(LinkFd),
    /// A link of the kernel's to a perf event, which the link keeps: it takes up to 60 ms to go.
    EventLink(LinkFd),
    /// A perf event that runs the program, on kernels without links for it: gone when it closes.
    Event(OwnedFd),
    /// A socket with a filter.
    Socket(OwnedFd),
    /// Links of one program that are one to the user, where the kernel has none for many places.
    Many(Links),
    /// A registered struct_ops map without a link: taken off by deleting its only key.
    StructOps(Map),
    /// What a call has attached and another call takes off.
    Placed(Box<dyn Placed>),
    /// Taken off already.
    Nothing,
}

/// A program at a place for which the kernel has no link, or had none yet: each such place says how it is taken off.
pub(crate) trait Placed: std::fmt::Debug + Send + Sync {
    /// Takes the program off.
    fn take_off(&self) -> Result<(), Cause>;

    /// Puts another in its place without a gap. `old`: only where that one is there.
    fn replace(&mut self, new: &Program, old: Option<&Program>) -> Result<(), Cause>;
}

impl Link {
    pub(crate) fn new(name: &str, hook: &'static str, target: &str, held: Held) -> Link {
        Link { name: name.to_owned(), hook, target: target.to_owned(), held, notices: Vec::new(), claim: None }
    }

    pub(crate) fn noticing(mut self, notices: impl IntoIterator<Item = String>) -> Link {
        self.notices.extend(notices);
        self
    }

    /// `claim` is given back when the link has gone.
    pub(crate) fn claiming(mut self, claim: Option<Claim>) -> Link {
        self.claim = claim;
        self
    }

    /// Name of the program; for struct_ops that of the map.
    pub fn program(&self) -> &str {
        &self.name
    }

    /// Kind of the place: `tracepoint`.
    pub fn hook(&self) -> &'static str {
        self.hook
    }

    /// Which place: `syscalls/sys_enter_openat`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What stopped nothing but should be known: that each hit of a user function is slow, that an argument cannot be read.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the kernel tells of it; `None`: it is held without a link of the kernel's (old kernels, socket filters), or by several.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn info(&self) -> Result<Option<sys::LinkInfo>> {
        let info = self.link_fd().map(LinkFd::info).transpose();
        info.map_err(|errno| self.failed("asking about it", crate::explain::plain(errno)))
    }

    /// Takes the program off and says whether that went well; dropping does the same and cannot say.
    ///
    /// # Errors
    /// The kernel refuses. It is gone all the same once nobody holds it.
    pub fn detach(mut self) -> Result<()> {
        self.take_off().map_err(|cause| self.failed("taking it off", cause))
    }

    /// Pins it: the program stays attached, under this path of a bpffs, until the file is removed.
    ///
    /// # Errors
    /// The path is taken or is in no bpffs, or it is held without a link of the kernel's.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let cause = match self.link_fd().map(|link| sys::object_pin(link.as_fd(), path)) {
            Some(Ok(())) => {
                // The pin keeps the program where it is, so what it reads must stay too.
                if let Some(claim) = &self.claim {
                    claim.keep();
                }
                return Ok(());
            }
            Some(Err(errno)) => crate::map::pin_cause(errno, path),
            None => Cause::new(Kind::Unsupported, "the kernel has no link here that could be pinned, or several"),
        };
        Err(self.failed("pinning it", cause))
    }

    /// Puts another program in the place of this one, without a gap.
    ///
    /// # Errors
    /// The kernel cannot do that here (it can for XDP, tc, netkit, cgroups, iterators, network namespaces, socket maps,
    /// routes), or the program is of another type.
    pub fn update(&mut self, program: &Program) -> Result<()> {
        self.exchange(program, None)
    }

    /// As [`Link::update`], but only where `old` is what is there: somebody who holds the same link may have replaced it.
    ///
    /// # Errors
    /// Another program is there; what stops an update.
    pub fn replace(&mut self, old: &Program, new: &Program) -> Result<()> {
        self.exchange(new, Some(old))
    }

    fn exchange(&mut self, new: &Program, old: Option<&Program>) -> Result<()> {
        let done = match &mut self.held {
            Held::Link(link) | Held::EventLink(link) => {
                sys::link_update(link, new.as_fd(), old.map(AsFd::as_fd)).map_err(|errno| update_cause(errno, old))
            }
            Held::Placed(placed) => placed.replace(new, old),
            Held::Event(_) | Held::Socket(_) | Held::Many(_) | Held::StructOps(_) | Held::Nothing => {
                Err(Cause::new(Kind::Unsupported, "programs cannot be replaced here: attach the new one beside it"))
            }
        };
        done.map_err(|cause| self.failed("replacing its program", cause))?;
        self.name = new.name().to_owned();
        Ok(())
    }

    pub(crate) fn link_fd(&self) -> Option<&LinkFd> {
        match &self.held {
            Held::Link(link) | Held::EventLink(link) => Some(link),
            Held::Event(_) | Held::Socket(_) | Held::Many(_) | Held::StructOps(_) | Held::Placed(_) | Held::Nothing => {
                None
            }
        }
    }

    /// The descriptor that keeps it: the kernel's link, the event, the socket, the map. `None`: no descriptor does.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Link(link) | Held::EventLink(link) => Some(link.as_fd()),
            Held::Event(fd) | Held::Socket(fd) => Some(fd.as_fd()),
            Held::StructOps(map) => Some(map.as_fd()),
            Held::Many(_) | Held::Placed(_) | Held::Nothing => None,
        }
    }

    fn take_off(&mut self) -> Result<(), Cause> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            // Closing is enough: the kernel takes the program off with the last descriptor or pin.
            Held::Link(_) | Held::EventLink(_) | Held::Nothing => Ok(()),
            Held::Event(event) => sys::perf_disable(event.as_fd()).map_err(crate::explain::plain),
            Held::Socket(socket) => socket::detach(socket.as_fd()).map_err(crate::explain::plain),
            Held::Many(links) => {
                drop(links);
                Ok(())
            }
            Held::StructOps(map) => map.fd().delete(&0u32.to_ne_bytes()).map_err(crate::explain::plain),
            Held::Placed(placed) => placed.take_off(),
        }
    }

    fn failed(&self, step: &'static str, cause: Cause) -> Error {
        Error::Link {
            program: self.name.clone(),
            hook: self.hook,
            target: self.target.clone(),
            step,
            cause: cause.into(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody is left to tell; what a failure could leave goes with the last descriptor.
        let _ = self.take_off();
    }
}

/// Links that were made together. Dropping them takes all off, several at a time: a perf event takes up to 60 ms to go.
#[derive(Debug, Default)]
#[must_use = "dropping links takes the programs off"]
pub struct Links(Vec<Link>);

impl std::ops::Deref for Links {
    type Target = [Link];

    fn deref(&self) -> &[Link] {
        &self.0
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Links {
        Links(links.into_iter().collect())
    }
}

impl Extend<Link> for Links {
    fn extend<I: IntoIterator<Item = Link>>(&mut self, links: I) {
        self.0.extend(links);
    }
}

impl IntoIterator for Links {
    type Item = Link;
    type IntoIter = std::vec::IntoIter<Link>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.0).into_iter()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let mut links = std::mem::take(&mut self.0);
        let events = links.iter().filter(|link| matches!(link.held, Held::Event(_) | Held::EventLink(_))).count();
        let threads = events.min(16);
        if threads < 2 {
            return;
        }
        let share = links.len().div_ceil(threads);
        std::thread::scope(|scope| {
            while links.len() > share {
                let part = links.split_off(links.len() - share);
                // Where no thread can be had the part is dropped here.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(part));
            }
        });
    }
}

/// What replacing a link's program means by an error number.
fn update_cause(errno: Errno, old: Option<&Program>) -> Cause {
    match errno {
        Errno::INVAL | Errno::OPNOTSUPP => {
            Cause::new(Kind::Unsupported, "programs cannot be replaced here, or the new one is of another type")
                .errno(errno)
        }
        // bpf_xdp_link_update, tcx_link_update and their like.
        Errno::PERM if old.is_some() => not_there(old).errno(errno),
        Errno::NOLINK => Cause::new(Kind::Io, "its place is gone: the device, group or namespace").errno(errno),
        _ => crate::explain::plain(errno),
    }
}

/// Another program than the one that was named is at the place.
pub(crate) fn not_there(old: Option<&Program>) -> Cause {
    let name = old.map_or("the old one", Program::name);
    Cause::invalid(format!("another program than `{name}` is there, or the new one is of another type"))
}

/// What could not be attached.
pub(crate) fn failed(program: &Program, hook: &'static str, target: &str, cause: Cause) -> Error {
    Error::Attach { program: program.name().to_owned(), hook, target: target.to_owned(), cause: cause.into() }
}

/// A link of the kernel's. `explain` has the words for what is special about the place.
pub(crate) fn create(
    program: &Program,
    hook: &'static str,
    target: &str,
    create: &sys::LinkCreate<'_>,
    explain: impl FnOnce(Errno) -> Option<Cause>,
) -> Result<Link> {
    match sys::link_create(create) {
        Ok(link) => Ok(Link::new(program.name(), hook, target, Held::Link(link))),
        Err(errno) => {
            let unknown = lacks_hook(program.kernel(), create.attach_type).filter(|_| errno == Errno::INVAL);
            let cause = unknown.or_else(|| explain(errno)).unwrap_or_else(|| attach_cause(errno));
            Err(failed(program, hook, target, cause.errno(errno)))
        }
    }
}

/// The kernel's types do not name this hook: why it refuses programs for it.
pub(crate) fn lacks_hook(kernel: &Kernel, hook: AttachType) -> Option<Cause> {
    let since = ringfence_plan::since::attach_type(hook);
    let since = since.map_or(String::new(), |since| format!(" (it came with {since})"));
    (hook != AttachType(0) && kernel.knows_attach_type(hook) == Some(false))
        .then(|| Cause::new(Kind::Unsupported, format!("this kernel has no attach type {hook}{since}")))
}

/// Runs the program at an event: by a link, or on kernels before 5.15 as long as the event is open.
pub(crate) fn on_event(
    program: &Program,
    hook: &'static str,
    target: &str,
    event: OwnedFd,
    cookie: u64,
) -> Result<Link> {
    let create = sys::LinkCreate {
        program: program.as_fd(),
        attach_type: AttachType::PERF_EVENT,
        to: sys::AttachTo::Fd(event.as_fd()),
        flags: 0,
        tail: sys::LinkTail::PerfEvent { cookie },
    };
    let errno = match sys::link_create(&create) {
        Ok(link) => return Ok(Link::new(program.name(), hook, target, Held::EventLink(link))),
        Err(errno) => errno,
    };
    if errno != Errno::INVAL || program.kernel().has(Feature::PerfLink) {
        return Err(failed(program, hook, target, attach_cause(errno)));
    }
    if cookie != 0 {
        let cause = Cause::new(Kind::Unsupported, "this kernel has no cookies for events (5.15)");
        return Err(failed(program, hook, target, cause));
    }
    sys::perf_set_program(event.as_fd(), program.as_fd())
        .and_then(|()| sys::perf_enable(event.as_fd()))
        .map_err(|errno| failed(program, hook, target, attach_cause(errno)))?;
    Ok(Link::new(program.name(), hook, target, Held::Event(event)))
}

/// What attaching means by an error number, whatever the place.
pub(crate) fn attach_cause(errno: Errno) -> Cause {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            Cause::new(Kind::Permission, "the kernel does not let this process attach it").errno(errno)
        }
        Errno::INVAL => {
            Cause::new(Kind::Unsupported, "this kernel cannot attach such a program there, or not by a link")
                .errno(errno)
        }
        Errno::BUSY => Cause::new(Kind::Io, "the place is taken").errno(errno),
        Errno::EXIST => Cause::invalid("the program is attached there already").errno(errno),
        _ => crate::explain::plain(errno),
    }
}

/// The section names the place.
pub(crate) fn is_named(attach: &Attach) -> bool {
    !matches!(attach, Attach::ByUser { .. } | Attach::Nothing | Attach::StructOps)
}

/// Attaches a program where its section says.
pub(crate) fn attach(program: &Program) -> Result<Link> {
    let by_user = |cause: Cause| Err(failed(program, "a place", "of its section", cause));
    match program.attach_place() {
        Attach::Tracepoint { category, name } => Tracepoint::new(category, name).attach(program),
        Attach::RawTracepoint { name } => RawTracepoint::new(name).attach(program),
        Attach::Trace => Trace::new().attach(program),
        Attach::TraceMulti { pattern } => TraceMulti::matching(pattern).attach(program),
        Attach::Iter => Iter::new().attach(program),
        Attach::Kprobe { ret, function, syscall } => Kprobe::from_section(*ret, function, *syscall).attach(program),
        Attach::Uprobe { ret, binary, function } => Uprobe::from_section(*ret, binary, function).attach(program),
        Attach::KprobeMulti { ret, pattern, .. } => KprobeMulti::from_section(*ret, pattern).attach(program),
        Attach::UprobeMulti { ret, binary, pattern, .. } => {
            UprobeMulti::from_section(*ret, binary, pattern).attach(program)
        }
        Attach::Usdt { binary, provider, name } => Usdt::new(binary, provider, name).attach(program),
        Attach::ByUser { what } => by_user(
            Cause::invalid(format!("the section `{}` does not say where", program.section()))
                .action(format!("give {what}")),
        ),
        Attach::StructOps => by_user(Cause::invalid("it is registered with its struct_ops map")),
        Attach::Nothing => by_user(Cause::invalid(
            "such programs are not attached: they are run by `test_run`, `call` or by other programs",
        )),
        _ => by_user(Cause::new(Kind::Unsupported, "this version of Ringfence does not know the place")),
    }
}
