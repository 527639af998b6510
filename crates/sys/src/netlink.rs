//! Netlink messages to the kernel's routing socket, and what it answers.
//!
//! A socket belongs to the network namespace in which it was opened and keeps that namespace, wherever its holder goes:
//! what was attached by a socket can be taken off by it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::Result;

/// Flags and types of `include/uapi/linux/netlink.h`.
#[allow(missing_docs, reason = "the kernel's own names")]
pub mod flags {
    pub const NLM_F_REQUEST: u16 = 1;
    pub const NLM_F_ACK: u16 = 4;
    pub const NLM_F_ECHO: u16 = 8;
    pub const NLM_F_DUMP: u16 = 0x300;
    pub const NLM_F_REPLACE: u16 = 0x100;
    pub const NLM_F_EXCL: u16 = 0x200;
    pub const NLM_F_CREATE: u16 = 0x400;
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;
/// Flags in an attribute's kind.
const NLA_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = !(3 << 14);
/// The kernel answers while the request is being sent; this only bounds what should not happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel's refusal: a number, and for many a sentence of the code that refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetlinkError {
    /// The number.
    pub errno: Errno,
    /// The sentence; empty where there is none.
    pub text: String,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.errno),
            text => f.write_str(text),
        }
    }
}

impl std::error::Error for NetlinkError {}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> Self {
        NetlinkError { errno, text: String::new() }
    }
}

/// A message being written: attributes can be put into each other.
#[derive(Clone, Debug)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// Of this type, with the structure that such messages begin with.
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        Message { kind, flags, body: head.to_vec() }.padded()
    }

    fn padded(mut self) -> Self {
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self = self.open(kind, value.len());
        self.body.extend_from_slice(value);
        self.padded()
    }

    /// Adds what stands between an attribute's head and the attributes in it: some begin with a structure.
    pub fn with_head(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self.padded()
    }

    /// Adds a number.
    pub fn with_u32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds a descriptor, which the kernel takes from the calling process.
    pub fn with_fd(self, kind: u16, fd: BorrowedFd<'_>) -> Self {
        use std::os::fd::AsRawFd;
        self.with(kind, &fd.as_raw_fd().to_ne_bytes())
    }

    /// Adds a text, with a zero byte at its end.
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).chain([0]).collect();
        self.with(kind, &bytes)
    }

    /// Adds an attribute that holds others.
    pub fn nest(self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let (start, message) = (self.body.len(), self.open(kind | NLA_NESTED, 0));
        let mut message = inside(message);
        let length = u16::try_from(message.body.len() - start).unwrap_or(u16::MAX);
        message.body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    fn open(mut self, kind: u16, length: usize) -> Self {
        // What is too long for an attribute is refused by the kernel as a length that does not fit.
        let length = u16::try_from(length + 4).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self
    }

    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = (HEADER + self.body.len()) as u32;
        let flags = self.flags | flags::NLM_F_REQUEST | flags::NLM_F_ACK;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A message of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Type.
    pub kind: u16,
    /// What is behind the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The attributes behind a structure of `head` bytes.
    pub fn attributes(&self, head: usize) -> Attributes<'_> {
        Attributes(self.body.get(head.next_multiple_of(4)..).unwrap_or_default())
    }
}

/// Attributes, each with its kind.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those in the value of an attribute.
    pub fn of(value: &'a [u8]) -> Self {
        Attributes(value)
    }

    /// The first of this kind.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The first of this kind, as a number.
    pub fn get_u32(self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(|value| Some(u32::from_ne_bytes(*value.first_chunk()?)))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, kind) = (u16_at(self.0, 0)? as usize, u16_at(self.0, 2)?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A routing socket of one network namespace.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Netlink {
    /// One of the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptors left; the process may not have such sockets.
    pub fn open() -> Result<Self> {
        // No protocol is number 0, NETLINK_ROUTE.
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Sentences beside numbers (4.12), and no copy of the request in an answer. Without them it works as well.
        let _ = crate::socket::set_netlink(socket.as_fd(), libc::NETLINK_EXT_ACK);
        let _ = crate::socket::set_netlink(socket.as_fd(), libc::NETLINK_CAP_ACK);
        Ok(Netlink(socket))
    }

    /// Sends a request and waits for the kernel to say that it is done. Gives what it answered before that: the objects of
    /// a dump, or with `NLM_F_ECHO` what was made.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn request(&self, message: &Message) -> Result<Vec<Reply>, NetlinkError> {
        // Answers to a request that was given up on are told from those to this one.
        static SEQUENCE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let sequence = SEQUENCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let bytes = message.bytes(sequence);
        if rustix::net::send(&self.0, &bytes, SendFlags::empty())? != bytes.len() {
            return Err(Errno::MSGSIZE.into());
        }
        let mut replies = Vec::new();
        loop {
            let received = self.receive()?;
            let mut rest = received.as_slice();
            while let Some((head, body)) = split(&mut rest) {
                if head.sequence != sequence {
                    continue;
                }
                match head.kind {
                    NLMSG_ERROR => return outcome(&head, body).map(|()| replies),
                    NLMSG_DONE => return finished(body).map(|()| replies),
                    kind => replies.push(Reply { kind, body: body.to_vec() }),
                }
            }
        }
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let look = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut [0u8; 0][..], look))?;
        let mut buffer = vec![0u8; length];
        let (read, _) = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
        buffer.truncate(read);
        Ok(buffer)
    }
}

struct Head {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The next message of those that came together.
fn split<'a>(rest: &mut &'a [u8]) -> Option<(Head, &'a [u8])> {
    let length = u32_at(rest, 0)? as usize;
    let head = Head { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)? };
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((head, body))
}

fn errno(body: &[u8]) -> Option<Errno> {
    match u32_at(body, 0)?.cast_signed() {
        0 => None,
        number => Some(Errno::from_raw_os_error(number.wrapping_neg())),
    }
}

/// `struct nlmsgerr`: the number, the header of the request, the request itself unless it was left out, attributes.
fn outcome(head: &Head, body: &[u8]) -> Result<(), NetlinkError> {
    let Some(errno) = errno(body) else { return Ok(()) };
    let request = match head.flags & NLM_F_CAPPED {
        0 => (u32_at(body, 4).unwrap_or(0) as usize).next_multiple_of(4),
        _ => HEADER,
    };
    let text = match head.flags & NLM_F_ACK_TLVS {
        0 => None,
        _ => Attributes(body.get(4 + request..).unwrap_or_default()).get(NLMSGERR_ATTR_MSG),
    };
    Err(NetlinkError { errno, text: text.map(crate::call::text).unwrap_or_default() })
}

/// The end of a dump may tell of an error as well.
fn finished(body: &[u8]) -> Result<(), NetlinkError> {
    errno(body).map_or(Ok(()), |errno| Err(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_lie_as_they_are_read() {
        let message = Message::new(16, 0, &[7; 5])
            .with_text(3, "wire")
            .nest(18, |m| m.with_text(1, "veth").nest(2, |m| m.with_u32(1, 9)).with(4, &[]));
        let reply = Reply { kind: 16, body: message.body };
        let top = reply.attributes(5);
        assert_eq!(top.get(3), Some(&b"wire\0"[..]));
        let inner = Attributes::of(top.get(18).unwrap());
        assert_eq!((inner.get(1), inner.get(4)), (Some(&b"veth\0"[..]), Some(&[][..])));
        assert_eq!(Attributes::of(inner.get(2).unwrap()).get_u32(1), Some(9));
        assert_eq!(inner.count(), 3);
    }

    #[test]
    fn damaged_answers_end() {
        for bytes in [&[][..], &[3, 0, 1, 0], &[0, 0, 0, 0], &[255, 255, 1, 0, 9]] {
            assert_eq!(Attributes::of(bytes).count(), 0);
            let mut rest = bytes;
            assert!(split(&mut rest).is_none());
        }
    }

    #[test]
    fn the_kernel_answers_with_objects_and_sentences() {
        let netlink = Netlink::open().unwrap();
        // RTM_GETLINK of all devices: `struct ifinfomsg` of zeros.
        let devices = netlink.request(&Message::new(18, flags::NLM_F_DUMP, &[0; 16])).unwrap();
        let names: Vec<_> = devices.iter().filter_map(|reply| reply.attributes(16).get(3)).collect();
        assert!(names.contains(&&b"lo\0"[..]), "{names:?}");
        // RTM_NEWQDISC of an unknown kind, on the first device.
        let head = [0u32.to_ne_bytes(), 1i32.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
        let create = flags::NLM_F_CREATE | flags::NLM_F_EXCL;
        let error = netlink.request(&Message::new(36, create, &head).with_text(1, "nonsense")).unwrap_err();
        assert!(!error.text.is_empty() || error.errno == Errno::PERM, "{error:?}");
    }
}
