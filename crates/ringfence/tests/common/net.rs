//! Network namespaces and devices for tests, made by netlink: a guest has no `ip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;

use ringfence::hook::NetNamespace;
use ringfence_sys::netlink::{Message, Netlink, flags};

pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Name of the device at both ends.
pub(crate) const WIRE: &str = "wire";

const NEW: u16 = flags::NLM_F_CREATE | flags::NLM_F_EXCL;
const RTM_NEWLINK: u16 = 16;

/// A network namespace with a name; the name is gone when dropped.
pub(crate) struct Space {
    pub(crate) name: String,
    path: PathBuf,
}

impl Space {
    pub(crate) fn new(name: &str) -> Space {
        let name = format!("rf-{name}-{}", std::process::id());
        let path = PathBuf::from("/run/netns").join(&name);
        std::fs::create_dir_all("/run/netns").unwrap();
        std::fs::write(&path, "").unwrap();
        let space = Space { name, path };
        // `ip netns add` does the same: a namespace stays as long as its file is mounted somewhere.
        std::thread::scope(|scope| {
            let make = || {
                // Only this thread is moved, and it ends here.
                ringfence_sys::new_network_namespace().unwrap();
                rustix::mount::mount_bind("/proc/thread-self/ns/net", &space.path).unwrap();
            };
            scope.spawn(make).join().unwrap();
        });
        space.inside(|| {
            // No address resolution, no router solicitations: every frame is one that the test sends.
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
            up(index("lo"));
        });
        space
    }

    pub(crate) fn namespace(&self) -> NetNamespace {
        NetNamespace::named(&self.name)
    }

    /// `false`: the kernel has no IPv6.
    pub(crate) fn enable_ipv6(&self) -> bool {
        let set = |option: &str, value| std::fs::write(format!("/proc/sys/net/ipv6/conf/all/{option}"), value).is_ok();
        self.inside(|| set("disable_ipv6", "0") && set("forwarding", "1"))
    }

    pub(crate) fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        self.namespace().enter(run).unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `struct ifinfomsg`
fn device(index: u32, device_flags: u32) -> Vec<u8> {
    [0, index, device_flags, device_flags].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn request(message: &Message) {
    Netlink::open().unwrap().request(message).unwrap_or_else(|error| panic!("{error:?}: {message:?}"));
}

/// Number of a device of the calling thread's namespace.
pub(crate) fn index(name: &str) -> u32 {
    let reply = Netlink::open().unwrap().request(&Message::new(18, 0, &device(0, 0)).with_text(3, name)).unwrap();
    u32::from_ne_bytes(reply[0].body[4..8].try_into().unwrap())
}

pub(crate) fn up(index: u32) {
    request(&Message::new(RTM_NEWLINK, 0, &device(index, 1)));
}

pub(crate) fn set_mtu(name: &str, mtu: u32) {
    request(&Message::new(RTM_NEWLINK, 0, &device(index(name), 0)).with_u32(4, mtu));
}

pub(crate) fn address(index: u32, address: IpAddr, prefix: u8) {
    const NODAD: u8 = 2;
    let (family, octets) = bytes(address);
    let mut head = vec![family, prefix, NODAD, 0];
    head.extend(index.to_ne_bytes());
    request(&Message::new(20, NEW, &head).with(2, &octets).with(1, &octets));
}

/// Two network namespaces with a pair of devices between them; gone when dropped.
pub(crate) struct Wire {
    pub(crate) near: Space,
    pub(crate) far: Space,
}

/// Addresses of the near and the far end of a pair of veth devices.
pub(crate) const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

impl Wire {
    pub(crate) fn veth(name: &str) -> Wire {
        Wire::of("veth", name).unwrap_or_else(|error| panic!("{error}: load the module veth"))
    }

    /// The near end is the primary one. `None`, and a line that says so, where the kernel has none.
    pub(crate) fn netkit(name: &str) -> Option<Wire> {
        Wire::of("netkit", name).map_err(|error| println!("skipped: {error}")).ok()
    }

    /// An error says that the kernel has no such devices.
    pub(crate) fn of(kind: &'static str, name: &str) -> Result<Wire, String> {
        let wire = Wire { near: Space::new(&format!("{name}-a")), far: Space::new(&format!("{name}-b")) };
        let far = std::fs::File::open(&wire.far.path).unwrap();
        // A netkit pair has no link layer by default.
        let named = |message: Message, mac: &[u8]| {
            let message = message.with_text(3, WIRE);
            if kind == "netkit" { message } else { message.with(1, mac) }
        };
        let made = wire.near.inside(|| {
            let message = named(Message::new(RTM_NEWLINK, NEW, &device(0, 0)), &MAC[0]).nest(18, |info| {
                info.with_text(1, kind).nest(2, |data| {
                    data.nest(1, |peer| named(peer.with_head(&device(0, 0)), &MAC[1]).with_fd(28, far.as_fd()))
                })
            });
            Netlink::open().unwrap().request(&message)
        });
        made.map_err(|error| format!("this kernel has no {kind} devices ({error})"))?;
        for (space, here, there, mac) in [(&wire.near, NEAR, FAR, MAC[1]), (&wire.far, FAR, NEAR, MAC[0])] {
            space.inside(|| {
                let index = index(WIRE);
                address(index, here.into(), 24);
                up(index);
                if kind == "veth" {
                    neighbour(index, there.into(), mac);
                }
            });
        }
        Ok(wire)
    }

    /// Sends UDP packets from the far end to the near one.
    pub(crate) fn send(&self, count: usize) {
        self.far.inside(|| send(NEAR, count));
    }

    /// And from the near end to the far one.
    pub(crate) fn send_back(&self, count: usize) {
        self.near.inside(|| send(FAR, count));
    }
}

/// Never asked for, never forgotten.
pub(crate) fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) {
    const NUD_PERMANENT: u16 = 0x80;
    let (family, octets) = bytes(address);
    let mut head = vec![family, 0, 0, 0];
    head.extend(index.to_ne_bytes());
    head.extend(NUD_PERMANENT.to_ne_bytes());
    head.extend([0, 0]);
    request(&Message::new(28, NEW, &head).with(1, &octets).with(2, &mac));
}

/// Family and octets.
fn bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().to_vec()),
        IpAddr::V6(address) => (10, address.octets().to_vec()),
    }
}

/// Sends UDP packets of seven bytes to port 9, which nobody reads.
pub(crate) fn send(to: Ipv4Addr, count: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    for _ in 0..count {
        socket.send_to(b"counted", (to, 9)).unwrap();
    }
}

/// An IPv6 packet whose header of segments names `segment` as the present stop, and its sender as the last.
pub(crate) fn segment_packet(sender: Ipv6Addr, segment: Ipv6Addr) {
    // `struct ipv6_sr_hdr`: next header UDP, four words of eight bytes, kind 4, one segment left, the second is the last.
    let mut payload = vec![17, 4, 4, 1, 1, 0, 0, 0];
    payload.extend(sender.octets());
    payload.extend(segment.octets());
    payload.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([43, 64]);
    packet.extend(sender.octets());
    packet.extend(segment.octets());
    packet.extend(payload);
    use rustix::net::{AddressFamily, RawProtocol, SendFlags, SocketType};
    let raw = rustix::net::Protocol::from_raw(RawProtocol::new(255).unwrap());
    let socket = rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(raw)).unwrap();
    let to = SocketAddr::new(segment.into(), 0);
    assert_eq!(rustix::net::sendto(&socket, &packet, SendFlags::empty(), &to).unwrap(), packet.len());
}
