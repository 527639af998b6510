//! Network devices by name.

use std::fmt;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::Cause;

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    Name(String),
    Index(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Name(name) => f.write_str(name),
            Device::Index(index) => write!(f, "number {index}"),
        }
    }
}

impl Device {
    /// Its number, in the network namespace of the calling thread.
    pub(crate) fn find(&self) -> Result<u32, Cause> {
        let name = match self {
            Device::Index(index) => return Ok(*index),
            Device::Name(name) => name,
        };
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .or_else(|_| rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None))
            .map_err(crate::explain::plain)?;
        rustix::net::netdevice::name_to_index(&socket, name).map_err(|errno| match errno {
            Errno::NODEV | Errno::NAMETOOLONG | Errno::INVAL => {
                let cause = Cause::invalid("there is no such device in this network namespace").errno(Errno::NODEV);
                let known = names();
                match known.is_empty() {
                    true => cause,
                    false => cause.action(format!("there is {}", known.join(", "))),
                }
            }
            _ => crate::explain::plain(errno),
        })
    }
}

/// Devices of the calling thread's namespace: `/proc/thread-self/net` follows the thread, unlike `/sys/class/net`.
fn names() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}
