//! What is attached in a whole network namespace: XDP programs of its devices, programs in filters and their actions.

use rustix::io::Errno;

use crate::netlink::flags::NLM_F_DUMP;
use crate::netlink::{Attributes, Message, Netlink, NetlinkError, Reply};
use crate::rtnetlink::{
    IFLA_XDP, RTM_DELTFILTER, RTM_GETLINK, RTM_GETQDISC, RTM_GETTFILTER, TCA_KIND, TCA_OPTIONS, TCMSG, XdpPrograms,
    tcmsg, text, word,
};

type Result<T> = std::result::Result<T, NetlinkError>;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
const TCA_CHAIN: u16 = 11;
/// TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and of egress.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its number, in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its XDP programs.
    pub xdp: XdpPrograms,
    /// What it is (`ARPHRD_*`): 1 is Ethernet, 772 the loopback, 65534 has no link layer.
    pub hardware: u16,
    /// Its kind, if it is a virtual one that has a name for it: `veth`, `bridge`, `vxlan`; else empty.
    pub kind: String,
    /// It is up.
    pub up: bool,
    /// What the device itself has counted.
    pub statistics: DeviceStatistics,
}

/// Since a device was made (the beginning of `struct rtnl_link_stats64`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DeviceStatistics {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Bad packets that came in.
    pub rx_errors: u64,
    /// Packets that could not go out.
    pub tx_errors: u64,
    /// Packets that came in and were dropped by the device or the kernel's stack, for want of room or of a reader.
    pub rx_dropped: u64,
    /// Packets that were dropped on their way out.
    pub tx_dropped: u64,
}

impl DeviceStatistics {
    fn of(bytes: &[u8]) -> DeviceStatistics {
        let mut words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
        let mut next = || words.next().unwrap_or(0);
        DeviceStatistics {
            rx_packets: next(),
            tx_packets: next(),
            rx_bytes: next(),
            tx_bytes: next(),
            rx_errors: next(),
            tx_errors: next(),
            rx_dropped: next(),
            tx_dropped: next(),
        }
    }
}

/// A filter of any qdisc that runs a program, itself or in an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramFilter {
    /// Its device.
    pub index: u32,
    /// Place in the tree of qdiscs.
    pub parent: u32,
    /// Lower runs first.
    pub priority: u16,
    /// `ETH_P_*`, in the order of the network.
    pub protocol: u16,
    /// Number among those of the same priority.
    pub handle: u32,
    /// Chain.
    pub chain: u32,
    /// `bpf`, `matchall`, `flower`.
    pub kind: String,
    /// The program's name as the filter's maker gave it, for the kind `bpf`.
    pub name: String,
    /// Ids of the programs.
    pub programs: Vec<u32>,
}

impl ProgramFilter {
    /// `ingress`, `egress`, or the qdisc's place (`1:0`).
    pub fn side(&self) -> String {
        match self.parent {
            INGRESS => "ingress".to_owned(),
            EGRESS => "egress".to_owned(),
            parent => format!("{:x}:{:x}", parent >> 16, parent & 0xffff),
        }
    }
}

fn half(reply: &Reply, at: usize) -> u16 {
    reply.body.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |half| u16::from_ne_bytes(*half))
}

impl Netlink {
    /// Every device of the namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let replies = self.request(&Message::new(RTM_GETLINK, NLM_F_DUMP, &[0; 16]))?;
        let device = |reply: &Reply| {
            let attributes = reply.attributes(16);
            let xdp = Attributes::of(attributes.get(IFLA_XDP).unwrap_or_default());
            let id = |kind| xdp.get_u32(kind).unwrap_or(0);
            let xdp = XdpPrograms { native: id(5), generic: id(6), offloaded: id(7) };
            Device {
                index: word(reply, 4),
                name: text(attributes.get(IFLA_IFNAME)),
                xdp,
                hardware: half(reply, 2),
                kind: text(Attributes::of(attributes.get(IFLA_LINKINFO).unwrap_or_default()).get(IFLA_INFO_KIND)),
                up: word(reply, 8) & 1 != 0,
                statistics: DeviceStatistics::of(attributes.get(IFLA_STATS64).unwrap_or_default()),
            }
        };
        Ok(replies.iter().map(device).collect())
    }

    /// Every filter of the namespace that runs a program. Blocks that devices share are not looked into.
    ///
    /// # Errors
    /// What the kernel says; `EOPNOTSUPP`: it was built without traffic control.
    pub fn program_filters(&self) -> Result<Vec<ProgramFilter>> {
        let qdiscs = self.request(&Message::new(RTM_GETQDISC, NLM_F_DUMP, &tcmsg(0, 0, 0, 0)))?;
        let mut found = Vec::new();
        for qdisc in &qdiscs {
            let (index, handle) = (word(qdisc, 4), word(qdisc, 8));
            let parents: &[u32] = match text(qdisc.attributes(TCMSG).get(TCA_KIND)).as_str() {
                "clsact" => &[INGRESS, EGRESS],
                "ingress" => &[INGRESS],
                _ if handle == 0 => &[],
                _ => &[handle],
            };
            for parent in parents {
                match self.request(&Message::new(RTM_GETTFILTER, NLM_F_DUMP, &tcmsg(index, 0, *parent, 0))) {
                    Ok(replies) => found.extend(replies.iter().filter_map(|reply| filter(reply, index, *parent))),
                    // The device or the qdisc went away in between, or takes no filters.
                    Err(error)
                        if matches!(error.errno, Errno::NODEV | Errno::INVAL | Errno::NOENT | Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Takes such a filter away.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL`, `ENODEV`: it, its qdisc or its device is gone.
    pub fn program_filter_remove(&self, filter: &ProgramFilter) -> Result<()> {
        let info = u32::from(filter.priority) << 16 | u32::from(filter.protocol);
        let head = tcmsg(filter.index, filter.handle, filter.parent, info);
        let message = Message::new(RTM_DELTFILTER, 0, &head).with_text(TCA_KIND, &filter.kind);
        let message = if filter.chain == 0 { message } else { message.with_u32(TCA_CHAIN, filter.chain) };
        self.request(&message).map(drop)
    }
}

fn filter(reply: &Reply, index: u32, parent: u32) -> Option<ProgramFilter> {
    let attributes = reply.attributes(TCMSG);
    let (handle, info) = (word(reply, 8), word(reply, 16));
    // The kernel also lists each priority by itself, without a handle.
    if handle == 0 {
        return None;
    }
    let options = Attributes::of(attributes.get(TCA_OPTIONS).unwrap_or_default());
    let kind = text(attributes.get(TCA_KIND));
    let (own, name) = match kind.as_str() {
        "bpf" => (options.get_u32(11), text(options.get(7))),
        _ => (None, String::new()),
    };
    // Each kind of filter has its actions under a number of its own; they look alike inside.
    let in_actions = options.flat_map(|(_, value)| Attributes::of(value)).filter_map(|(_, action)| {
        let action = Attributes::of(action);
        let is_bpf = action.get(1)? == b"bpf\0";
        if is_bpf { Attributes::of(action.get(2)?).get_u32(9) } else { None }
    });
    let programs: Vec<u32> = own.into_iter().chain(in_actions).collect();
    let chain = attributes.get_u32(TCA_CHAIN).unwrap_or(0);
    let (priority, protocol) = ((info >> 16) as u16, (info & 0xffff) as u16);
    let filter = ProgramFilter { index, parent, priority, protocol, handle, chain, kind, name, programs };
    (!filter.programs.is_empty()).then_some(filter)
}
