//! Programs at places that the kernel gives by routing messages: devices (XDP), filters of traffic control, routes.
//!
//! What is attached by these calls stays until it is taken off or its device is gone: it outlives the process.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::netlink::flags::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use crate::netlink::{Attributes, Message, Netlink, NetlinkError, Reply};

type Result<T> = std::result::Result<T, NetlinkError>;

// include/uapi/linux/rtnetlink.h
pub(crate) const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
pub(crate) const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
pub(crate) const RTM_DELTFILTER: u16 = 45;
pub(crate) const RTM_GETTFILTER: u16 = 46;
pub(crate) const TCA_KIND: u16 = 1;
pub(crate) const TCA_OPTIONS: u16 = 2;

/// Flags of [`Netlink::xdp_set`]: `XDP_FLAGS_*` of `include/uapi/linux/if_link.h`.
#[allow(missing_docs, reason = "the kernel's own names")]
pub mod xdp {
    pub const UPDATE_IF_NOEXIST: u32 = 1;
    pub const SKB_MODE: u32 = 1 << 1;
    pub const DRV_MODE: u32 = 1 << 2;
    pub const HW_MODE: u32 = 1 << 3;
    pub const REPLACE: u32 = 1 << 4;
}

/// Which programs a device has, by id; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct XdpPrograms {
    /// In its driver.
    pub native: u32,
    /// In the kernel's stack.
    pub generic: u32,
    /// In its hardware.
    pub offloaded: u32,
}

impl XdpPrograms {
    /// The one that is there; a device has one as a rule.
    pub fn any(self) -> Option<u32> {
        [self.native, self.generic, self.offloaded].into_iter().find(|id| *id != 0)
    }
}

/// `struct ifinfomsg`
fn device(index: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head
}

pub(crate) const IFLA_XDP: u16 = 43;

impl Netlink {
    /// Sets or (`None`) clears the XDP program of a device. `expected`: the one that must be there, with
    /// [`xdp::REPLACE`] (5.7).
    ///
    /// # Errors
    /// `EBUSY`: one is there and [`xdp::UPDATE_IF_NOEXIST`] was said, or a link holds the device; `EEXIST`: another one
    /// than the expected is there.
    pub fn xdp_set(
        &self,
        index: u32,
        program: Option<BorrowedFd<'_>>,
        flags: u32,
        expected: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        const NOTHING: u32 = u32::MAX;
        let message = Message::new(RTM_SETLINK, 0, &device(index)).nest(IFLA_XDP, |message| {
            let message = match program {
                Some(program) => message.with_fd(1, program),
                None => message.with_u32(1, NOTHING),
            };
            let message = message.with_u32(3, flags);
            match expected {
                Some(expected) => message.with_fd(8, expected),
                None => message,
            }
        });
        self.request(&message).map(drop)
    }

    /// The XDP programs of a device.
    ///
    /// # Errors
    /// `ENODEV`: there is no such device.
    pub fn xdp(&self, index: u32) -> Result<XdpPrograms> {
        let replies = self.request(&Message::new(RTM_GETLINK, 0, &device(index)))?;
        let found = replies.iter().find_map(|reply| reply.attributes(16).get(IFLA_XDP));
        let xdp = Attributes::of(found.unwrap_or_default());
        let id = |kind| xdp.get_u32(kind).unwrap_or(0);
        Ok(XdpPrograms { native: id(5), generic: id(6), offloaded: id(7) })
    }
}

/// Side of a device, as the place of filters of its clsact qdisc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    /// TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and of egress.
    fn parent(self) -> u32 {
        match self {
            Side::Ingress => 0xffff_fff2,
            Side::Egress => 0xffff_fff3,
        }
    }
}

const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `struct tcmsg`
pub(crate) const TCMSG: usize = 20;
const ETH_P_ALL: u16 = 3;

pub(crate) fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// How a program is run by a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterKind {
    /// `cls_bpf` in direct action: the program both matches and decides.
    Classifier,
    /// `basic` with the action `bpf`: a program of the type SCHED_ACT.
    Action,
}

impl FilterKind {
    fn name(self) -> &'static str {
        match self {
            FilterKind::Classifier => "bpf",
            FilterKind::Action => "basic",
        }
    }
}

/// A filter's place: with these numbers it is found again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterPlace {
    /// Device.
    pub index: u32,
    /// Side.
    pub side: Side,
    /// Lower runs first; 0 when it is made: the kernel's choice.
    pub priority: u16,
    /// Number among those of the same priority; 0 when it is made: the kernel's choice.
    pub handle: u32,
    /// What it is.
    pub kind: FilterKind,
}

impl FilterPlace {
    fn head(self) -> Vec<u8> {
        let info = u32::from(self.priority) << 16 | u32::from(ETH_P_ALL.to_be());
        tcmsg(self.index, self.handle, self.side.parent(), info)
    }
}

/// A filter of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Lower runs first.
    pub priority: u16,
    /// Number among those of the same priority.
    pub handle: u32,
    /// Kind: `bpf`, `basic`, `flower`.
    pub kind: String,
    /// Its program, for the kind `bpf` (4.15).
    pub program_id: Option<u32>,
    /// Its name, for the kind `bpf`.
    pub name: String,
}

/// What a new filter is to do if one is at its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterSet {
    /// Fail.
    New,
    /// Give it this program, without a gap.
    Replace,
}

pub(crate) fn text(value: Option<&[u8]>) -> String {
    value.map(crate::call::text).unwrap_or_default()
}

pub(crate) fn word(reply: &Reply, at: usize) -> u32 {
    reply.body.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word))
}

impl Netlink {
    /// Gives a device a clsact qdisc. `EEXIST`: something is at its place, see [`Netlink::qdisc`].
    ///
    /// # Errors
    /// `ENODEV`, `ENOENT`: no such device, or the kernel has no clsact.
    pub fn clsact_add(&self, index: u32) -> Result<()> {
        let head = tcmsg(index, CLSACT_HANDLE, CLSACT, 0);
        self.request(&Message::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &head).with_text(TCA_KIND, "clsact"))
            .map(drop)
    }

    /// Takes the clsact qdisc of a device away, with all filters in it.
    ///
    /// # Errors
    /// `EINVAL`, `ENOENT`: it has none.
    pub fn clsact_remove(&self, index: u32) -> Result<()> {
        let head = tcmsg(index, CLSACT_HANDLE, CLSACT, 0);
        self.request(&Message::new(RTM_DELQDISC, 0, &head).with_text(TCA_KIND, "clsact")).map(drop)
    }

    /// Kind of the qdisc at the place of clsact: `clsact`, `ingress`; `None`: none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn qdisc(&self, index: u32) -> Result<Option<String>> {
        let replies = self.request(&Message::new(RTM_GETQDISC, NLM_F_DUMP, &tcmsg(index, 0, 0, 0)))?;
        let at_place = |reply: &&Reply| word(reply, 4) == index && word(reply, 12) == CLSACT;
        Ok(replies.iter().find(at_place).map(|reply| text(reply.attributes(TCMSG).get(TCA_KIND))))
    }

    /// Makes a filter, or puts another program into one, and says where it is.
    ///
    /// # Errors
    /// `EEXIST`: one is there; `EINVAL`: there is no clsact qdisc, or the program is of another type; `ENOENT`: the kernel
    /// has no such filters.
    pub fn filter_set(
        &self,
        place: FilterPlace,
        program: BorrowedFd<'_>,
        name: &str,
        set: FilterSet,
    ) -> Result<FilterPlace> {
        let flags = match set {
            FilterSet::New => NLM_F_EXCL,
            FilterSet::Replace => NLM_F_REPLACE,
        };
        let message = Message::new(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_ECHO | flags, &place.head());
        let message = message.with_text(TCA_KIND, place.kind.name()).nest(TCA_OPTIONS, |options| match place.kind {
            FilterKind::Classifier => {
                const DIRECT_ACTION: u32 = 1;
                options.with_fd(6, program).with_text(7, name).with_u32(8, DIRECT_ACTION)
            }
            FilterKind::Action => options.nest(3, |actions| {
                actions.nest(1, |action| {
                    // `struct tc_act_bpf`: where the program says TC_ACT_UNSPEC, so does the action.
                    let parameters: Vec<u8> = [0, 0, -1, 0, 0i32].iter().flat_map(|word| word.to_ne_bytes()).collect();
                    let options = |m: Message| m.with(2, &parameters).with_fd(5, program).with_text(6, name);
                    action.with_text(1, "bpf").nest(2, options)
                })
            }),
        });
        let replies = self.request(&message)?;
        let made = replies.iter().find(|reply| reply.kind == RTM_NEWTFILTER).ok_or(Errno::NOMSG)?;
        Ok(FilterPlace { handle: word(made, 8), priority: (word(made, 16) >> 16) as u16, ..place })
    }

    /// Takes a filter away.
    ///
    /// # Errors
    /// `ENOENT`: it is gone already, or `EINVAL`: with its qdisc; `ENODEV`: with its device.
    pub fn filter_remove(&self, place: FilterPlace) -> Result<()> {
        let message = Message::new(RTM_DELTFILTER, 0, &place.head()).with_text(TCA_KIND, place.kind.name());
        self.request(&message).map(drop)
    }

    /// The filters of a side of a device, in the order in which they run.
    ///
    /// # Errors
    /// `ENODEV`: there is no such device.
    pub fn filters(&self, index: u32, side: Side) -> Result<Vec<Filter>> {
        let head = tcmsg(index, 0, side.parent(), 0);
        let replies = self.request(&Message::new(RTM_GETTFILTER, NLM_F_DUMP, &head))?;
        let filter = |reply: &Reply| {
            let attributes = reply.attributes(TCMSG);
            let options = Attributes::of(attributes.get(TCA_OPTIONS).unwrap_or_default());
            Filter {
                priority: (word(reply, 16) >> 16) as u16,
                handle: word(reply, 8),
                kind: text(attributes.get(TCA_KIND)),
                program_id: options.get_u32(11),
                name: text(options.get(7)),
            }
        };
        // The kernel also lists each priority by itself, without a handle.
        Ok(replies.iter().map(filter).filter(|filter| filter.handle != 0).collect())
    }
}

/// At which step of a packet's way along a route the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LwtStep {
    /// It has come in and was routed.
    In,
    /// It goes out, before its fragments are made.
    Out,
    /// It goes out, with the right to add headers.
    Xmit,
    /// It ends at a segment of IPv6 segment routing.
    Seg6Local,
}

/// A route whose packets go through a program.
#[derive(Clone, Debug)]
pub struct LwtRoute {
    /// Destinations.
    pub destination: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
    /// Device.
    pub index: u32,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Routing table.
    pub table: u32,
    /// Metric; 0: the kernel's choice.
    pub metric: u32,
    /// Step.
    pub step: LwtStep,
    /// Bytes that are kept free for headers (xmit alone).
    pub headroom: u32,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl LwtRoute {
    fn message(&self, kind: u16, flags: u16) -> Message {
        const RTPROT_STATIC: u8 = 4;
        const RTN_UNICAST: u8 = 1;
        const RT_SCOPE_LINK: u8 = 253;
        let (family, scope) = match self.destination {
            IpAddr::V4(_) => (libc::AF_INET, if self.gateway.is_some() { 0 } else { RT_SCOPE_LINK }),
            IpAddr::V6(_) => (libc::AF_INET6, 0),
        };
        // `struct rtmsg`; the table's number is an attribute, which has more room.
        let head = [family as u8, self.prefix, 0, 0, 0, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0];
        let message = Message::new(kind, flags, &head)
            .with(1, &octets(self.destination))
            .with_u32(4, self.index)
            .with_u32(15, self.table);
        let message = match self.gateway {
            Some(gateway) => message.with(5, &octets(gateway)),
            None => message,
        };
        if self.metric == 0 { message } else { message.with_u32(6, self.metric) }
    }
}

impl Netlink {
    /// Makes a route whose packets go through a program, or puts another program into it.
    ///
    /// # Errors
    /// `EEXIST`: there is such a route; `EOPNOTSUPP`: the kernel has no such tunnels; `EINVAL`: the program is of another
    /// type.
    pub fn lwt_set(&self, route: &LwtRoute, program: BorrowedFd<'_>, name: &str, replace: bool) -> Result<()> {
        const LWTUNNEL_ENCAP_BPF: u16 = 6;
        const LWTUNNEL_ENCAP_SEG6_LOCAL: u16 = 7;
        const SEG6_LOCAL_ACTION_END_BPF: u32 = 15;
        let one = |message: Message| message.with_fd(1, program).with_text(2, name);
        let (kind, step) = match route.step {
            LwtStep::In => (LWTUNNEL_ENCAP_BPF, 1),
            LwtStep::Out => (LWTUNNEL_ENCAP_BPF, 2),
            LwtStep::Xmit => (LWTUNNEL_ENCAP_BPF, 3),
            LwtStep::Seg6Local => (LWTUNNEL_ENCAP_SEG6_LOCAL, 8),
        };
        let flags = NLM_F_CREATE | if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
        let message = route.message(RTM_NEWROUTE, flags).with(21, &kind.to_ne_bytes()).nest(22, |message| {
            let message = match route.step {
                LwtStep::Seg6Local => message.with_u32(1, SEG6_LOCAL_ACTION_END_BPF),
                _ => message,
            };
            let message = message.nest(step, one);
            if route.headroom == 0 { message } else { message.with_u32(4, route.headroom) }
        });
        self.request(&message).map(drop)
    }

    /// Takes a route away.
    ///
    /// # Errors
    /// `ESRCH`: there is no such route.
    pub fn lwt_remove(&self, route: &LwtRoute) -> Result<()> {
        self.request(&route.message(RTM_DELROUTE, 0)).map(drop)
    }
}
