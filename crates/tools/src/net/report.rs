//! What went through devices, as numbers.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use ringfence::DeviceStatistics;

use super::{Direction, raw};
use crate::cost::Cost;

/// Upper ends of the classes of sizes, in bytes; what is larger is the last class.
pub const SIZES: [u64; 7] = [64, 128, 256, 512, 1024, 1518, 9018];

/// Everything that was counted.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Since the first program was attached.
    pub time: Duration,
    /// Devices that are not there any more. What came before is counted; their own numbers went with them.
    pub gone: Vec<String>,
    /// By device and direction, those with packets and those without.
    pub places: Vec<Place>,
    /// By device, direction and protocol, the most bytes first.
    pub protocols: Vec<Protocol>,
    /// The most bytes first.
    pub flows: Vec<Flow>,
    /// Flows that were seen for the first time, or again after they were pushed out.
    pub flows_seen: u64,
    /// Flows that gave way to others in the kernel's table.
    pub flows_pushed_out: u64,
    /// Packets whose flow, or whose protocol, found no room. They are in `places`.
    pub lost: Lost,
    /// TCP segments that were sent again.
    pub retransmits: u64,
    /// Packets that were handed out.
    pub sampled: u64,
    /// What it cost to know all this.
    pub cost: Cost,
}

/// What was not counted where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// Packets without a flow.
    pub flows: u64,
    /// Packets without a protocol.
    pub protocols: u64,
    /// Samples for which there was no room.
    pub samples: u64,
    /// Segments that were sent again, of connections that found no room.
    pub retransmits: u64,
    /// Packets of devices that came while it ran.
    pub unexpected: u64,
    /// Sockets that could not be marked as those of a process that is watched.
    pub sockets: u64,
}

impl Lost {
    /// All of it.
    pub fn sum(&self) -> u64 {
        self.flows + self.protocols + self.samples + self.retransmits + self.unexpected + self.sockets
    }
}

/// A device's packets in one direction, or as frames before the kernel has looked at them.
#[derive(Clone, Debug)]
pub struct Place {
    /// The device.
    pub device: String,
    /// Where.
    pub direction: Direction,
    /// Packets; one that stands for several segments is as many.
    pub packets: u64,
    /// With the headers of devices, without what the wire adds.
    pub bytes: u64,
    /// Packets that the filter left out; they are in no other number.
    pub filtered: u64,
    /// With a VLAN tag.
    pub tagged: u64,
    /// Parts of larger packets.
    pub fragments: u64,
    /// That ended within their headers, or had none that make sense.
    pub truncated: u64,
    /// To which a rule was applied.
    pub marked: u64,
    /// That a rule could not change.
    pub mark_failed: u64,
    /// By size: see [`SIZES`].
    pub sizes: [u64; 8],
    /// What the device has counted itself in this direction meanwhile: packets, bytes, drops and errors.
    pub own: Own,
}

/// A device's own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Own {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Packets that were bad.
    pub errors: u64,
}

impl Own {
    pub(super) fn of(direction: Direction, now: DeviceStatistics, before: DeviceStatistics) -> Own {
        let numbers = |of: DeviceStatistics| match direction {
            Direction::Out => [of.tx_packets, of.tx_bytes, of.tx_dropped, of.tx_errors],
            Direction::Frame | Direction::In => [of.rx_packets, of.rx_bytes, of.rx_dropped, of.rx_errors],
        };
        let (now, before) = (numbers(now), numbers(before));
        let [packets, bytes, dropped, errors] = std::array::from_fn(|n| now[n].saturating_sub(before[n]));
        Own { packets, bytes, dropped, errors }
    }
}

/// Packets of one protocol.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The device.
    pub device: String,
    /// Where.
    pub direction: Direction,
    /// `tcp`, `vxlan`, `arp`, `eth 0x88cc`.
    pub name: String,
    /// `4`, `6`, or 0 for what is not IP.
    pub family: u8,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One end of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Of IP, with a port where the protocol has them.
    Ip(IpAddr, Option<u16>),
    /// Of the device's own link, where it is not IP.
    Mac([u8; 6]),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Ip(IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
            End::Ip(address, Some(port)) => write!(f, "{address}:{port}"),
            End::Ip(address, None) => write!(f, "{address}"),
            End::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        }
    }
}

/// Packets between two ends.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The device.
    pub device: String,
    /// As in [`Protocol::name`].
    pub protocol: String,
    /// The outer VLAN's number.
    pub vlan: Option<u16>,
    /// Who sent the first packet that was seen.
    pub from: End,
    /// The other end.
    pub to: End,
    /// Packets there, and back.
    pub packets: [u64; 2],
    /// Bytes there, and back.
    pub bytes: [u64; 2],
    /// From the first packet to the last.
    pub time: Duration,
    /// Since the last packet.
    pub idle: Duration,
    /// TCP: letters of all flags that were seen, `S`, `SA.`, `F`.
    pub flags: String,
    /// TCP segments that this machine has sent again.
    pub retransmits: u64,
    /// Some were parts of larger packets.
    pub fragments: bool,
    /// The mark that a rule gave its last marked packet.
    pub mark: u32,
}

impl Flow {
    /// Bytes of both directions.
    pub fn all_bytes(&self) -> u64 {
        self.bytes[0] + self.bytes[1]
    }

    pub(super) fn of(device: String, key: &raw::FlowKey, flow: &raw::Flow, now: u64, retransmits: u64) -> Flow {
        let ports = matches!(key.proto, 6 | 17 | 33 | 132 | 136);
        let end = |words: &[u32; 4], port: u16| match raw::address(key.family, words) {
            Some(address) => End::Ip(address, ports.then_some(port)),
            None => {
                let [a, b, c, d, e, g, ..] = raw::bytes(words);
                End::Mac([a, b, c, d, e, g])
            }
        };
        let (a, b) = (end(&key.a, key.a_port), end(&key.b, key.b_port));
        let swap = flow.b_began != 0;
        let both = |[a, b]: [u64; 2]| if swap { [b, a] } else { [a, b] };
        let (from, to) = if swap { (b, a) } else { (a, b) };
        let to_port = if swap { key.a_port } else { key.b_port };
        // As the protocols are told: by where a datagram goes.
        let tunnel = if key.proto == 17 { to_port.into() } else { 0 };
        Flow {
            device,
            protocol: protocol_name(key.eth, key.proto.into(), tunnel),
            vlan: (flow.notes & raw::TAGGED != 0).then_some(key.vlan),
            from,
            to,
            packets: both(flow.packets),
            bytes: both(flow.bytes),
            time: Duration::from_nanos(flow.last_ns.saturating_sub(flow.first_ns)),
            idle: Duration::from_nanos(now.saturating_sub(flow.last_ns)),
            flags: flags(flow.tcp),
            retransmits,
            fragments: flow.notes & raw::FRAGMENT != 0,
            mark: flow.mark,
        }
    }
}

/// As tcpdump writes them.
fn flags(tcp: u32) -> String {
    const LETTERS: &[(u32, char)] =
        &[(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')];
    LETTERS.iter().filter(|(bit, _)| tcp & bit != 0).map(|(_, letter)| *letter).collect()
}

/// What is behind the device's header: by the number of the tunnel's port, of the protocol over IP, of the kind of frame.
pub(super) fn protocol_name(eth: u16, proto: u32, tunnel: u32) -> String {
    const ETH: &[(u16, &str)] = &[
        (0x0806, "arp"),
        (0x8035, "rarp"),
        (0x8100, "vlan"),
        (0x88a8, "qinq"),
        (0x8847, "mpls"),
        (0x8848, "mpls"),
        (0x8863, "pppoe"),
        (0x8864, "pppoe"),
        (0x888e, "eapol"),
        (0x88cc, "lldp"),
        (0x88e5, "macsec"),
        (0x8906, "fcoe"),
    ];
    const TUNNELS: &[(u32, &str)] = &[(4789, "vxlan"), (6081, "geneve"), (2152, "gtp")];
    if let Some((_, name)) = TUNNELS.iter().find(|(port, _)| *port == tunnel) {
        return (*name).to_owned();
    }
    match eth {
        0x0800 | 0x86dd => {
            let known = super::rules::PROTOCOLS.iter().find(|(_, known)| u32::from(*known) == proto);
            known.map_or_else(|| format!("proto {proto}"), |(name, _)| (*name).to_owned())
        }
        // Below it is the length of an 802.3 frame (spanning tree).
        0..0x0600 => "802.3".to_owned(),
        _ => {
            let known = ETH.iter().find(|(known, _)| *known == eth);
            known.map_or_else(|| format!("eth {eth:#06x}"), |(_, name)| (*name).to_owned())
        }
    }
}

/// A host, by what the flows say that it sent and got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Talker {
    /// Its address.
    pub address: IpAddr,
    /// Bytes from it.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// Its flows.
    pub flows: u64,
}

impl Traffic {
    /// Hosts by their bytes, the most first: of the flows that are in the table.
    pub fn talkers(&self) -> Vec<Talker> {
        let mut all: HashMap<IpAddr, Talker> = HashMap::new();
        for flow in &self.flows {
            for (end, sent, received) in
                [(&flow.from, flow.bytes[0], flow.bytes[1]), (&flow.to, flow.bytes[1], flow.bytes[0])]
            {
                let End::Ip(address, _) = *end else { continue };
                let none = Talker { address, sent: 0, received: 0, flows: 0 };
                let talker = all.entry(address).or_insert(none);
                talker.sent += sent;
                talker.received += received;
                talker.flows += 1;
            }
        }
        let mut all: Vec<Talker> = all.into_values().collect();
        all.sort_by_key(|talker| (Reverse(talker.sent + talker.received), talker.address));
        all
    }
}
