//! What a number means, by its name and its type: the one table of rules.
//!
//! A rule needs both: a name alone is a guess. Where neither is enough, the number is shown as it is stored.
//! JSON keeps times and return values as numbers, because scripts compare them; addresses are text everywhere.

/// What the type of a member looks like, seen through typedefs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `struct in_addr`.
    InAddr,
    /// `struct in6_addr`.
    In6Addr,
    /// `__be32`.
    Be32,
    /// Another unsigned integer of 32 bits.
    U32,
    /// An unsigned integer of 64 bits.
    U64,
    /// An unsigned integer of 128 bits.
    U128,
    /// A signed integer of 32 or 64 bits.
    Signed,
    /// Four bytes, `__u8 x[4]`.
    Bytes4,
    /// Six bytes, `__u8 x[6]`.
    Bytes6,
    /// Sixteen bytes, `__u8 x[16]`.
    Bytes16,
    /// `__u32 x[4]` or `__be32 x[4]`.
    Words4,
    /// Unsigned bytes of any number.
    Bytes,
    /// An unsigned integer of up to 32 bits, which can tell a family.
    Small,
}

/// What a member means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sense {
    /// An IPv4 address: text.
    Ipv4,
    /// An IPv6 address: text.
    Ipv6,
    /// Room for both. A family beside it decides; without one it is IPv6, or a number when only the first
    /// four bytes are set.
    Ip,
    /// As [`Sense::Ip`], but only with a family beside it.
    IpWithFamily,
    /// An Ethernet address: text.
    Mac,
    /// Bytes that are text up to the first NUL.
    Text,
    /// A return value: in tables, a negative one has the error's name behind it.
    Return,
    /// A state of TCP, beside a family: in tables its name stands behind it.
    TcpState,
    /// A kernel time stamp of this many nanoseconds a tick: in tables wall clock, if it lies in the hour that ends now.
    Time(u32),
    /// Says the kind of the addresses beside it: `AF_INET` (2) or `AF_INET6` (10). In tables its name stands behind it.
    Family,
    /// The same as the IP version: 4 or 6.
    Version,
}

/// A rule: members of these shapes with one of these names have this sense.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Shapes, one of which the type must have.
    pub shapes: &'static [Shape],
    /// Names in lower case; `*` at an end stands for anything. Empty: the type alone says it.
    pub names: &'static [&'static str],
    /// What it means.
    pub sense: Sense,
}

const ADDRESS: &[&str] = &[
    "addr", "*saddr", "*daddr", "saddr*", "daddr*", "*_addr", "laddr", "raddr", "ip", "*_ip", "sip", "dip", "src",
    "dst",
];
const V4: &[&str] =
    &["v4", "*_v4", "*addr4", "ip4", "*_ip4", "ipv4", "*_ipv4", "saddr", "daddr", "skc_rcv_saddr", "skc_daddr"];
const V6: &[&str] = &["v6", "*_v6", "*addr6", "ip6", "*_ip6", "ipv6", "*_ipv6"];
const MAC: &[&str] =
    &["mac", "*_mac", "smac", "dmac", "h_source", "h_dest", "mac_addr", "dev_addr", "hwaddr", "eth_src", "eth_dst"];
const TEXT: &[&str] = &["comm", "*_comm", "task", "filename", "fname", "path", "*_path", "str", "text", "args", "argv"];
const RETURN: &[&str] = &["ret", "retval", "*_ret", "err", "error", "errno"];
/// Not `*_time`, `*_ns`: those are durations as often.
const TIME: &[&str] = &[
    "ts",
    "ts_ns",
    "*_ts",
    "*_ts_ns",
    "*timestamp",
    "*timestamp_ns",
    "ktime",
    "ktime_ns",
    "start_time",
    "end_time",
    "exit_time",
    "event_time",
];
const FAMILY: &[&str] = &["family", "af", "sa_family", "*_family"];
/// Nothing but sockets has these and a family; others have states, too.
const TCP_STATE: &[&str] = &["oldstate", "newstate", "old_state", "new_state", "skc_state", "tcp_state", "*_tcp_state"];
const VERSION: &[&str] = &["ver", "ip_ver", "ipver", "ip_version", "ipv"];

/// All rules; the first one that fits decides.
///
/// Besides these, the type alone says the byte order: `__be16`, `__be32`, `__be64` (and `__le*`) are shown as the
/// number that they mean, so a `__be16 dport` is a port. A `__u16 dport` is shown as stored: its order is not known.
/// Durations (`delta_us`, `latency_ns`), pids and user ids are plain numbers.
pub fn rules() -> &'static [Rule] {
    use Shape::{Be32, Bytes, Bytes4, Bytes6, Bytes16, In6Addr, InAddr, Signed, Small, U32, U64, U128, Words4};
    const RULES: &[Rule] = &[
        Rule { shapes: &[InAddr], names: &[], sense: Sense::Ipv4 },
        Rule { shapes: &[In6Addr], names: &[], sense: Sense::Ipv6 },
        Rule { shapes: &[Be32, U32, Bytes4], names: V4, sense: Sense::Ipv4 },
        Rule { shapes: &[Be32, Bytes4], names: ADDRESS, sense: Sense::Ipv4 },
        Rule { shapes: &[Bytes16, U128, Words4], names: V6, sense: Sense::Ipv6 },
        Rule { shapes: &[Bytes16, U128], names: ADDRESS, sense: Sense::Ip },
        Rule { shapes: &[Words4], names: ADDRESS, sense: Sense::IpWithFamily },
        Rule { shapes: &[Bytes6], names: MAC, sense: Sense::Mac },
        Rule { shapes: &[Bytes], names: TEXT, sense: Sense::Text },
        Rule { shapes: &[Signed], names: RETURN, sense: Sense::Return },
        Rule { shapes: &[U64], names: TIME, sense: Sense::Time(1) },
        Rule { shapes: &[U64], names: &["ts_us", "timestamp_us"], sense: Sense::Time(1_000) },
        Rule { shapes: &[U64], names: &["ts_ms", "timestamp_ms"], sense: Sense::Time(1_000_000) },
        Rule { shapes: &[Small], names: FAMILY, sense: Sense::Family },
        Rule { shapes: &[Small], names: TCP_STATE, sense: Sense::TcpState },
        Rule { shapes: &[Small], names: VERSION, sense: Sense::Version },
    ];
    RULES
}

/// What a member with this name means, if its type has one of these shapes.
pub(crate) fn sense(name: &str, shapes: &[Shape]) -> Option<Sense> {
    let fits = |rule: &&Rule| {
        rule.shapes.iter().any(|shape| shapes.contains(shape))
            && (rule.names.is_empty() || rule.names.iter().any(|pattern| matches(pattern, name)))
    };
    rules().iter().find(fits).map(|rule| rule.sense)
}

fn matches(pattern: &str, name: &str) -> bool {
    let (name, pattern) = (name.as_bytes(), pattern.as_bytes());
    match (pattern.strip_prefix(b"*"), pattern.strip_suffix(b"*")) {
        (Some(end), _) => {
            name.len().checked_sub(end.len()).and_then(|at| name.get(at..)).is_some_and(|n| n.eq_ignore_ascii_case(end))
        }
        (_, Some(start)) => name.get(..start.len()).is_some_and(|n| n.eq_ignore_ascii_case(start)),
        (None, None) => name.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_no_rule() {
        assert_eq!(sense("saddr", &[Shape::U64]), None);
        assert_eq!(sense("seq", &[Shape::Be32]), None);
        assert_eq!(sense("addr", &[Shape::U32]), None);
        assert_eq!(sense("delta_us", &[Shape::U64]), None);
        assert_eq!(sense("wait_time", &[Shape::U64]), None);
    }

    #[test]
    fn name_and_type_are() {
        assert_eq!(sense("saddr", &[Shape::Be32]), Some(Sense::Ipv4));
        assert_eq!(sense("daddr_v4", &[Shape::U32, Shape::Small]), Some(Sense::Ipv4));
        assert_eq!(sense("saddr_v6", &[Shape::Bytes, Shape::Bytes16]), Some(Sense::Ipv6));
        assert_eq!(sense("anything", &[Shape::In6Addr]), Some(Sense::Ipv6));
        assert_eq!(sense("Comm", &[Shape::Bytes, Shape::Bytes16]), Some(Sense::Text));
        assert_eq!(sense("ts_us", &[Shape::U64]), Some(Sense::Time(1_000)));
        assert_eq!(sense("start_ts", &[Shape::U64]), Some(Sense::Time(1)));
        assert_eq!(sense("exit_time", &[Shape::U64]), Some(Sense::Time(1)));
        assert_eq!(sense("af", &[Shape::U32, Shape::Small]), Some(Sense::Family));
    }
}
