//! `bpf/net.bpf.c` seen from this side: the module made from its types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod made {
    include!(concat!(env!("OUT_DIR"), "/net.rs"));
}
pub(super) use made::net::{
    Amount, Connection, Counts, Flow, FlowKey, Match, Net as Programs, Place, Protocol, Rule, Sample, Totals,
};

/// `MOST_RULES`.
pub(super) const MOST_RULES: usize = 32;
/// `enum note`.
pub(super) const FRAGMENT: u32 = 2;
pub(super) const TAGGED: u32 = 4;

/// An address as packets are compared with it: of IPv4 the first four bytes.
pub(super) fn words(address: IpAddr) -> [u32; 4] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// The bytes of what `words` made.
pub(super) fn bytes(words: &[u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_ne_bytes();
    }
    bytes
}

/// The address; `None`: the packet has none of this family.
pub(super) fn address(family: u8, words: &[u32; 4]) -> Option<IpAddr> {
    let bytes = bytes(words);
    match family {
        4 => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}
