//! Words for packets, `tcp dport 443 and host 10.0.0.1`, and for what becomes of them, `=> prio 6 dscp af41`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::raw;
use crate::error::Error;

/// Bits of `match.hooks`: by XDP, what comes in, what goes out.
const ALL: u8 = 7;
const IN: u8 = 3;
const OUT: u8 = 4;

const HAS_PROTO: u8 = 1;
const HAS_VLAN: u8 = 2;
const HAS_SPORT: u8 = 4;
const HAS_DPORT: u8 = 8;
const HAS_PORT: u8 = 16;
const HAS_SRC: u8 = 32;
const HAS_DST: u8 = 64;
const HAS_HOST: u8 = 128;

const SET_PRIO: u8 = 1;
const SET_MARK: u8 = 2;
const SET_DSCP: u8 = 4;

/// Names of protocols over IP. `/etc/protocols` has more, and need not be there.
pub(super) const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6-in-ip", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
    ("mpls-in-ip", 137),
];

/// Names of differentiated services (RFC 2474, 2597, 3246, 5865, 8622).
const DSCP: &[(&str, u8)] = &[
    ("be", 0),
    ("default", 0),
    ("le", 1),
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("va", 44),
    ("ef", 46),
];

/// Which packets: all conditions must hold.
///
/// `in`, `out`; `ip`, `ip6`; `tcp`, `udp`, `icmp`, .. or `proto N`; `host A`, `src A`, `dst A` with an address or network; `port N`,
/// `sport N`, `dport N` with a number or a range `N-M`; `vlan N`. `and` between them may be left out.
#[derive(Clone, Debug)]
pub struct Match {
    text: String,
    pub(super) raw: raw::Match,
}

/// A [`Match`], `=>`, and what is set in such packets: `prio N`, `mark N`, `dscp NAME|N`. The first rule that fits is taken.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    pub(super) raw: raw::Rule,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Match {
    type Err = Error;

    fn from_str(text: &str) -> Result<Match, Error> {
        let raw = conditions(text).map_err(|why| wrong(text, why))?;
        Ok(Match { text: text.trim().to_owned(), raw })
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rule, Error> {
        let halves = text
            .split_once("=>")
            .ok_or("what is to be set is missing: `=> prio 6`, `=> mark 0x10`, `=> dscp ef`".to_owned());
        let raw = halves.and_then(|(which, what)| actions(conditions(which)?, what)).map_err(|why| wrong(text, why))?;
        Ok(Rule { text: text.trim().to_owned(), raw })
    }
}

fn wrong(text: &str, why: String) -> Error {
    Error::Rule { text: text.trim().to_owned(), why }
}

/// Words, with the next one that a word needs.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn value(&mut self, of: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("`{of}` needs a value"))
    }
}

fn conditions(text: &str) -> Result<raw::Match, String> {
    let mut found = raw::Match { hooks: ALL, ..raw::Match::default() };
    let mut words = Words(text.split_whitespace());
    // What the next word may be: after `and` there must be one.
    let (mut any, mut open) = (false, false);
    while let Some(word) = words.0.next() {
        if word == "and" || word == "&&" {
            if !any || open {
                return Err("`and` stands between two conditions".to_owned());
            }
            open = true;
            continue;
        }
        (any, open) = (true, false);
        condition(word, &mut words, &mut found)?;
    }
    if open {
        return Err("something is missing behind `and`".to_owned());
    }
    Ok(found)
}

fn condition(word: &str, words: &mut Words<'_>, found: &mut raw::Match) -> Result<(), String> {
    let mut flag = |flag: u8| {
        let twice = found.flags & flag != 0;
        found.flags |= flag;
        if twice { Err(format!("`{word}`: there can be one such condition")) } else { Ok(()) }
    };
    match word {
        "in" => found.hooks &= IN,
        "out" => found.hooks &= OUT,
        "ip" | "ip4" | "ipv4" => family(found, 4)?,
        "ip6" | "ipv6" => family(found, 6)?,
        "proto" => {
            flag(HAS_PROTO)?;
            found.proto = number(words.value(word)?, u8::MAX.into())? as u8;
        }
        "vlan" => {
            flag(HAS_VLAN)?;
            found.vlan = number(words.value(word)?, 4095)? as u16;
        }
        "port" => {
            flag(HAS_PORT)?;
            found.port = range(words.value(word)?)?;
        }
        "sport" => {
            flag(HAS_SPORT)?;
            found.sport = range(words.value(word)?)?;
        }
        "dport" => {
            flag(HAS_DPORT)?;
            found.dport = range(words.value(word)?)?;
        }
        "host" | "net" => {
            flag(HAS_HOST)?;
            (found.host, found.host_mask) = network(words.value(word)?, found)?;
        }
        "src" => {
            flag(HAS_SRC)?;
            (found.src, found.src_mask) = network(words.value(word)?, found)?;
        }
        "dst" => {
            flag(HAS_DST)?;
            (found.dst, found.dst_mask) = network(words.value(word)?, found)?;
        }
        _ => match PROTOCOLS.iter().find(|(name, _)| *name == word) {
            Some((_, proto)) => {
                flag(HAS_PROTO)?;
                found.proto = *proto;
            }
            None => {
                let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "`{word}` is none of in, out, ip, ip6, host, src, dst, port, sport, dport, vlan, proto, {}",
                    names.join(", ")
                ));
            }
        },
    }
    Ok(())
}

fn family(found: &mut raw::Match, family: u8) -> Result<(), String> {
    if found.family != 0 && found.family != family {
        return Err("no packet is of both IPv4 and IPv6".to_owned());
    }
    found.family = family;
    Ok(())
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str, most: u64) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.filter(|number| *number <= most).ok_or_else(|| format!("`{text}` is no number from 0 to {most}"))
}

fn range(text: &str) -> Result<[u16; 2], String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let port = |text| number(text, u16::MAX.into()).map(|number| number as u16);
    let (least, most) = (port(least)?, port(most)?);
    if least > most { Err(format!("`{text}` begins behind its end")) } else { Ok([least, most]) }
}

type Network = ([u32; 4], [u32; 4]);

/// `10.0.0.0/8`, `fe80::1`. An address makes the condition one of its family.
fn network(text: &str, found: &mut raw::Match) -> Result<Network, String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is no address; names are not looked up"))?;
    let (word, width) = if address.is_ipv4() { (4, 32) } else { (6, 128) };
    family(found, word)?;
    let bits = bits.map_or(Ok(width), |bits| number(bits, width))? as u32;
    let mask: IpAddr = match address {
        IpAddr::V4(_) => u32::MAX.checked_shl(32 - bits).unwrap_or(0).to_be_bytes().into(),
        IpAddr::V6(_) => u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes().into(),
    };
    let mask = raw::words(mask);
    let mut net = raw::words(address);
    net.iter_mut().zip(mask).for_each(|(word, mask)| *word &= mask);
    Ok((net, mask))
}

fn actions(found: raw::Match, text: &str) -> Result<raw::Rule, String> {
    // Marks are of packets that the kernel has: XDP is before that.
    let mut rule = raw::Rule { match_: found, ..raw::Rule::default() };
    let mut words = Words(text.split_whitespace());
    while let Some(word) = words.0.next() {
        let set = match word {
            "and" | "," => continue,
            "prio" => {
                rule.prio = number(words.value(word)?, u32::MAX.into())? as u32;
                SET_PRIO
            }
            "mark" => {
                rule.mark = number(words.value(word)?, u32::MAX.into())? as u32;
                SET_MARK
            }
            "dscp" => {
                let name = words.value(word)?.to_ascii_lowercase();
                let known = DSCP.iter().find(|(known, _)| *known == name);
                rule.dscp =
                    known.map_or_else(|| number(&name, 63).map(|number| number as u8), |(_, dscp)| Ok(*dscp))?;
                SET_DSCP
            }
            _ => return Err(format!("`{word}` is none of prio, mark, dscp")),
        };
        if rule.set & set != 0 {
            return Err(format!("`{word}` is set twice"));
        }
        rule.set |= set;
    }
    if rule.set == 0 {
        return Err("nothing is set: `=> prio 6`, `=> mark 0x10`, `=> dscp ef`".to_owned());
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_matched() {
        let found = "in tcp dport 443 and host 10.1.2.3/8".parse::<Match>().expect("a match").raw;
        assert_eq!((found.hooks, found.family, found.proto, found.dport), (IN, 4, 6, [443, 443]));
        assert_eq!(found.flags, HAS_PROTO | HAS_DPORT | HAS_HOST);
        assert_eq!(raw::bytes(&found.host)[..4], [10, 0, 0, 0]);
        assert_eq!(raw::bytes(&found.host_mask)[..4], [255, 0, 0, 0]);
        let found = "src fe80::1/10 port 1000-2000".parse::<Match>().expect("a match").raw;
        assert_eq!((found.family, found.port), (6, [1000, 2000]));
        assert_eq!(raw::bytes(&found.src)[..4], [0xfe, 0x80, 0, 0]);
        assert_eq!("".parse::<Match>().expect("all").raw.flags, 0);
        let rule = "udp => prio 6 mark 0x10 dscp AF41".parse::<Rule>().expect("a rule").raw;
        assert_eq!((rule.prio, rule.mark, rule.dscp, rule.set), (6, 16, 34, 7));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let matches = |text: &str| text.parse::<Match>().expect_err(text).to_string();
        assert!(matches("tcp and").contains("missing behind `and`"));
        assert!(matches("tcp udp").contains("one such condition"));
        assert!(matches("dport").contains("needs a value"));
        assert!(matches("dport 70000").contains("from 0 to 65535"));
        assert!(matches("dport 9-8").contains("begins behind"));
        assert!(matches("host example.org").contains("no address"));
        assert!(matches("ip6 host 10.0.0.1").contains("both"));
        assert!(matches("tpc").contains("none of in, out"));
        let rules = |text: &str| text.parse::<Rule>().expect_err(text).to_string();
        assert!(rules("tcp").contains("=> prio 6"));
        assert!(rules("tcp =>").contains("nothing is set"));
        assert!(rules("tcp => dscp af99").contains("af99"));
        assert!(rules("tcp => prio 1 prio 2").contains("twice"));
        assert!(rules("tcp => drop").contains("none of prio"));
    }
}
