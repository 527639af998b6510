//! What a loader asks of the system beside bpf(2): waiting, limits, capabilities, mounts, namespaces.
//!
//! All of it is rustix's; it is here so that the rooms above need to know one place only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
pub use rustix::thread::CapabilitySet;

use crate::Result;

/// Waits for descriptors that become readable.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> Result<Self> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Self)
    }

    /// Adds a descriptor; [`Epoll::wait`] will name it by `token`.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
    }

    /// Adds a descriptor that becomes writable. It is named once each time that it does, not as long as it is.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn add_writable(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        let wanted = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), wanted)
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<()> {
        epoll::delete(&self.0, fd)
    }

    /// Waits until descriptors are readable (or broken) and puts their tokens into `ready`; none when the time
    /// is over. `None`: without end.
    ///
    /// # Errors
    /// `EINTR`: a signal came; what else epoll_wait(2) says.
    pub fn wait(&self, ready: &mut Vec<u64>, timeout: Option<Duration>) -> Result<()> {
        ready.clear();
        let timeout = timeout.and_then(|time| rustix::event::Timespec::try_from(time).ok());
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 32];
        let (events, _) = epoll::wait(&self.0, &mut events, timeout.as_ref())?;
        ready.extend(events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// RLIMIT_MEMLOCK in bytes, soft and hard; `None`: unlimited.
pub fn memlock_limit() -> (Option<u64>, Option<u64>) {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Memlock);
    (current, maximum)
}

/// Sets RLIMIT_MEMLOCK, soft and hard.
///
/// # Errors
/// `EPERM`: above the hard limit, without CAP_SYS_RESOURCE.
pub fn set_memlock_limit(soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    rustix::process::setrlimit(Resource::Memlock, Rlimit { current: soft, maximum: hard })
}

/// Effective capabilities of this thread.
///
/// # Errors
/// What capget(2) says.
pub fn capabilities() -> Result<CapabilitySet> {
    Ok(rustix::thread::capabilities(None)?.effective)
}

/// Mounts a file system without a device: `mount("bpf", "/sys/fs/bpf")`, `mount("tracefs", "/sys/kernel/tracing")`.
///
/// # Errors
/// What mount(2) says.
pub fn mount(kind: &str, at: &Path) -> Result<()> {
    use rustix::mount::MountFlags;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(kind, at, kind, flags, None::<&std::ffi::CStr>)
}

/// A descriptor that stands for a process, or with `thread` for one thread (6.9; the kernel's number of it).
///
/// # Errors
/// `ESRCH`: there is no such process, or before 6.9 the number is that of a thread; `EINVAL`: `thread` before 6.9.
pub fn process_descriptor(pid: u32, thread: bool) -> Result<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    // `PIDFD_THREAD`, which is `O_EXCL`.
    let thread = if thread { PidfdFlags::from_bits_retain(0o200) } else { PidfdFlags::empty() };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(pid, thread)
}

/// A descriptor of another process, as our own (`pidfd_getfd`, 5.6).
///
/// # Errors
/// `EPERM`: that process may not be traced by this one; `ESRCH`, `EBADF`: it or its descriptor is gone.
pub fn descriptor_of(pid: u32, descriptor: u32) -> Result<OwnedFd> {
    use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let descriptor = ForeignRawFd::try_from(descriptor).map_err(|_| Errno::BADF)?;
    pidfd_getfd(pidfd_open(pid, PidfdFlags::empty())?, descriptor, PidfdGetfdFlags::empty())
}

/// Moves this thread into a network namespace (`/proc/PID/ns/net`, `/run/netns/NAME`).
///
/// # Errors
/// `EINVAL`: it is none; `EPERM`: without CAP_SYS_ADMIN.
pub fn enter_network_namespace(namespace: BorrowedFd<'_>) -> Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

/// Moves this thread into a new network namespace, which is gone with its last thread, mount and descriptor.
///
/// # Errors
/// `EPERM`: without CAP_SYS_ADMIN.
pub fn new_network_namespace() -> Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: the table of descriptors stays shared: only the network namespace is another one.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

/// Release and version of the kernel, as `uname -r` and `uname -v` say. Nothing has to be mounted for it.
pub fn kernel_release() -> (String, String) {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    (text(name.release()), text(name.version()))
}

/// Bytes of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}
