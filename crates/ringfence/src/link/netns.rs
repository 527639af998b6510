//! Network namespaces: hooks of one (`sk_lookup`, `flow_dissector`), and any hook inside of one.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfence_sys as sys;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::netlink::Netlink;
use sys::{AttachTo, LinkTail};

use super::{Link, create, failed};
use crate::error::{Cause, Error, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "network namespace";

/// A network namespace.
///
/// ```no_run
/// use ringfence::hook::{NetNamespace, Xdp};
/// # fn show(program: &ringfence::Program, lookup: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let blue = NetNamespace::named("blue"); // made by `ip netns add blue`
/// let link = program.attach_to(&blue.hook(Xdp::new("eth0")))?; // its eth0, not ours
/// let own = lookup.attach_to(&blue)?; // a hook of the namespace itself
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct NetNamespace(Name);

#[derive(Clone, Debug)]
enum Name {
    Path(PathBuf),
    Fd(Arc<OwnedFd>),
}

impl fmt::Display for NetNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Path(path) => path.display().fmt(f),
            Name::Fd(_) => f.write_str("of the caller"),
        }
    }
}

impl NetNamespace {
    /// By its file: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        NetNamespace(Name::Path(path.as_ref().to_owned()))
    }

    /// One that has a name, as `ip netns` gives them.
    pub fn named(name: &str) -> Self {
        NetNamespace::new(Path::new("/run/netns").join(name))
    }

    /// That of a process.
    pub fn of_process(pid: u32) -> Self {
        NetNamespace::new(format!("/proc/{pid}/ns/net"))
    }

    /// That of the calling thread.
    pub fn own() -> Self {
        NetNamespace::new("/proc/thread-self/ns/net")
    }

    /// By a descriptor of its file.
    pub fn from_fd(fd: OwnedFd) -> Self {
        NetNamespace(Name::Fd(Arc::new(fd)))
    }

    fn open(&self) -> Result<Arc<OwnedFd>, Cause> {
        let path = match &self.0 {
            Name::Fd(fd) => return Ok(Arc::clone(fd)),
            Name::Path(path) => path,
        };
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        file.map(Arc::new).map_err(|errno| match errno {
            Errno::NOENT => {
                let cause = Cause::invalid("there is no such network namespace").errno(errno);
                match names() {
                    known if known.is_empty() => cause,
                    known => cause.action(format!("there is {}", known.join(", "))),
                }
            }
            // What `proc_ns_readlink` asks for is what tracing that process takes.
            Errno::ACCESS | Errno::PERM => crate::explain::plain(errno).action(
                "another user's process: this takes CAP_SYS_PTRACE, and to enter CAP_SYS_ADMIN; run it as root",
            ),
            _ => crate::explain::plain(errno),
        })
    }

    /// Runs something inside: sockets that it makes and devices that it names are the namespace's.
    ///
    /// It runs on a thread of its own, which ends with it. So nothing can leave the caller in the wrong namespace: no
    /// error, no panic, no failure to come back.
    ///
    /// # Errors
    /// There is no such namespace; the process may not enter it.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> Result<T> {
        self.run_in(run).map_err(|cause| Error::system(&format!("entering network namespace {self}"), cause))
    }

    fn run_in<T: Send>(&self, run: impl FnOnce() -> T + Send) -> Result<T, Cause> {
        let namespace = self.open()?;
        std::thread::scope(|scope| {
            let inside = || -> Result<T, Errno> {
                // To enter even the own one takes CAP_SYS_ADMIN.
                if !is_here(namespace.as_fd()) {
                    sys::enter_network_namespace(namespace.as_fd())?;
                }
                Ok(run())
            };
            let thread = std::thread::Builder::new().name("ringfence-netns".to_owned()).spawn_scoped(scope, inside);
            let thread =
                thread.map_err(|error| Cause::new(Kind::Io, format!("no thread can be had for it: {error}")))?;
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.map_err(|errno| match errno {
                Errno::INVAL => Cause::invalid("the file is no network namespace").errno(errno),
                Errno::PERM => Cause::new(Kind::Permission, "this process may not enter it")
                    .action(
                        "it takes CAP_SYS_ADMIN, here and in the user namespace that the network namespace belongs to",
                    )
                    .errno(errno),
                _ => crate::explain::plain(errno),
            })
        })
    }

    /// Its devices, with their XDP programs and what they have counted themselves.
    ///
    /// # Errors
    /// As [`NetNamespace::enter`]; the kernel refuses.
    ///
    /// ```
    /// # fn main() -> Result<(), ringfence::Error> {
    /// let devices = ringfence::hook::NetNamespace::own().devices()?;
    /// assert!(devices.iter().any(|device| device.name == "lo"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn devices(&self) -> Result<Vec<sys::survey::Device>> {
        let devices = self.run_in(|| {
            let netlink = Netlink::open().map_err(crate::explain::plain)?;
            netlink.devices().map_err(crate::explain::netlink)
        });
        let fail = |cause| Error::system(&format!("listing the devices of network namespace {self}"), cause);
        devices.and_then(|listed| listed).map_err(fail)
    }

    /// A hook inside: its devices are looked for there. The link that comes of it can be held, replaced and dropped anywhere.
    pub fn hook<H: Hook + Sync>(&self, hook: H) -> Inside<H> {
        Inside { namespace: self.clone(), hook }
    }
}

/// Whether the calling thread is in it.
fn is_here(namespace: BorrowedFd<'_>) -> bool {
    let here = rustix::fs::stat("/proc/thread-self/ns/net");
    let same = |of: rustix::fs::Stat| {
        rustix::fs::fstat(namespace).is_ok_and(|is| (is.st_dev, is.st_ino) == (of.st_dev, of.st_ino))
    };
    here.is_ok_and(same)
}

/// Namespaces that have names.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(10);
    names
}

/// A hook inside of a network namespace: see [`NetNamespace::hook`].
#[derive(Clone, Debug)]
pub struct Inside<H> {
    namespace: NetNamespace,
    hook: H,
}

impl<H> sealed::Sealed for Inside<H> {}

impl<H: Hook + Sync> Hook for Inside<H> {
    fn attach(&self, program: &Program) -> Result<Link> {
        let done = self.namespace.run_in(|| self.hook.attach(program));
        done.unwrap_or_else(|cause| Err(failed(program, HOOK, &self.namespace.to_string(), cause)))
    }
}

impl sealed::Sealed for NetNamespace {}

impl Hook for NetNamespace {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.to_string();
        let file = self.open().map_err(|cause| failed(program, HOOK, &target, cause))?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: program.attach_type(),
            to: AttachTo::Fd(file.as_fd()),
            flags: 0,
            tail: LinkTail::None,
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::INVAL => Some(Cause::invalid("the file is no network namespace, or the program is not for one")),
            Errno::EXIST | Errno::TOOBIG => Some(Cause::new(
                Kind::Io,
                "as many programs as the kernel allows are there already (of flow dissectors one, and none below that of the first namespace)",
            )),
            _ => None,
        })
    }
}
