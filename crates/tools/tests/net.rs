//! `net` on the real kernel: two namespaces with a wire between them, and frames of which it is known what they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "../../ringfence/tests/common/net.rs"]
#[allow(dead_code, reason = "the tests of the library use all of it")]
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::alone;
use pnet_datalink::{Channel, DataLinkReceiver, DataLinkSender};
use ringfence::hook::{Tc, Xdp};
use ringfence::{Kernel, Settings};
use ringfence_tools::Error;
use ringfence_tools::net::{Capture, Direction, End, Frames, Options, Place, Sampling, Traffic, Watch};
use wire::{FAR, NEAR, Space, WIRE, Wire};

fn options(space: &Space) -> Options {
    Options { devices: vec![WIRE.into()], namespace: Some(space.namespace()), ..Options::default() }
}

fn place(traffic: &Traffic, direction: Direction) -> &Place {
    traffic.places.iter().find(|place| place.direction == direction).expect("the place")
}

fn compile(source: &Path) -> Option<Vec<u8>> {
    // <linux/bpf.h> includes <asm/types.h>, which Debian keeps by architecture.
    let host = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    ringfence_testing::compile(source, &["-idirafter", &host])
}

/// Sends and receives whole frames.
fn channel(space: &Space) -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    space.inside(|| {
        let device = pnet_datalink::interfaces().into_iter().find(|device| device.name == WIRE).expect("the wire");
        let config = pnet_datalink::Config { read_timeout: Some(Duration::from_secs(5)), ..Default::default() };
        match pnet_datalink::channel(&device, config).expect("a packet socket") {
            Channel::Ethernet(sender, receiver) => (sender, receiver),
            _ => panic!("no channel for frames"),
        }
    })
}

/// To nobody: the kernel answers nothing.
const TO: [u8; 6] = [2, 0, 0, 0, 0, 99];

fn ethernet(tags: &[(u16, u16)], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [TO, [2, 0, 0, 0, 0, 2]].concat();
    for (protocol, tag) in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(proto: u8, fragment: u16, tos: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap();
    let mut head = vec![0x45, tos];
    head.extend(len.to_be_bytes());
    head.extend([0, 1]);
    head.extend(fragment.to_be_bytes());
    head.extend([64, proto, 0, 0]);
    head.extend(FAR.octets());
    head.extend(NEAR.octets());
    let check = sum(&head);
    head[10..12].copy_from_slice(&check.to_be_bytes());
    [head, payload.to_vec()].concat()
}

fn ipv6(next: u8, class: u8, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![0x60 | class >> 4, class << 4, 0, 0];
    head.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    head.extend([next, 64]);
    head.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    head.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    [head, payload.to_vec()].concat()
}

fn udp(from: u16, to: u16, payload: usize) -> Vec<u8> {
    let len = u16::try_from(8 + payload).unwrap();
    [from.to_be_bytes(), to.to_be_bytes(), len.to_be_bytes(), [0, 0]]
        .concat()
        .into_iter()
        .chain(vec![7; payload])
        .collect()
}

fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut head = [from.to_be_bytes(), to.to_be_bytes()].concat();
    head.extend([0; 8]);
    head.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    head
}

/// A frame, how often it is sent, and what it is.
struct Known {
    frame: Vec<u8>,
    times: u64,
    protocol: &'static str,
    family: u8,
    tagged: bool,
    fragment: bool,
    truncated: bool,
}

fn known_frames() -> Vec<Known> {
    let plain = |times, protocol, family, frame| Known {
        frame,
        times,
        protocol,
        family,
        tagged: false,
        fragment: false,
        truncated: false,
    };
    let fragment = |known: Known| Known { fragment: true, ..known };
    let truncated = |known: Known| Known { truncated: true, ..known };
    let tagged = |known: Known| Known { tagged: true, ..known };
    let v4 = |proto, payload: &[u8]| ethernet(&[], 0x0800, &ipv4(proto, 0, 0, payload));
    let v6 = |next, payload: &[u8]| ethernet(&[], 0x86dd, &ipv6(next, 0, payload));
    let options = |next: u8, payload: Vec<u8>| [vec![next, 0, 1, 4, 0, 0, 0, 0], payload].concat();
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend([0; 20]);
    vec![
        plain(3, "udp", 4, v4(17, &udp(1000, 2000, 18))),
        plain(5, "tcp", 4, v4(6, &tcp(1000, 443, 2))),
        plain(2, "icmp", 4, v4(1, &[8, 0, 0, 0, 0, 1, 0, 1])),
        plain(7, "sctp", 4, v4(132, &[3, 232, 7, 208, 0, 0, 0, 0, 0, 0, 0, 0])),
        plain(4, "gre", 4, v4(47, &[0, 0, 8, 0, 0x45, 0, 0, 20])),
        plain(6, "ipip", 4, v4(4, &ipv4(17, 0, 0, &udp(1, 2, 0)))),
        plain(3, "vxlan", 4, v4(17, &udp(5000, 4789, 40))),
        plain(2, "proto 200", 4, v4(200, &[1, 2, 3, 4])),
        plain(8, "udp", 6, v6(17, &udp(1000, 2000, 18))),
        plain(9, "icmp6", 6, v6(58, &[128, 0, 0, 0, 0, 1, 0, 1])),
        // Two headers of options before the transport.
        plain(4, "tcp", 6, v6(0, &options(60, options(6, tcp(1000, 443, 16))))),
        plain(5, "arp", 0, ethernet(&[], 0x0806, &arp)),
        plain(2, "lldp", 0, ethernet(&[], 0x88cc, &[0; 46])),
        plain(3, "802.3", 0, ethernet(&[], 46, &[0x42; 46])),
        tagged(plain(6, "udp", 4, ethernet(&[(0x8100, 7)], 0x0800, &ipv4(17, 0, 0, &udp(1000, 2000, 18))))),
        tagged(plain(5, "udp", 6, ethernet(&[(0x88a8, 9), (0x8100, 7)], 0x86dd, &ipv6(17, 0, &udp(1000, 2000, 18))))),
        fragment(plain(3, "udp", 4, ethernet(&[], 0x0800, &ipv4(17, 0x2000, 0, &udp(1000, 2000, 24))))),
        fragment(plain(3, "udp", 4, ethernet(&[], 0x0800, &ipv4(17, 0x0004, 0, &[9; 32])))),
        fragment(plain(2, "udp", 6, v6(44, &[vec![17, 0, 0, 1, 0, 0, 0, 1], udp(1000, 2000, 24)].concat()))),
        fragment(plain(2, "udp", 6, v6(44, &[vec![17, 0, 0, 0x20, 0, 0, 0, 1], vec![9; 32]].concat()))),
        // Ends within the header of IPv4, of TCP, of the options.
        truncated(plain(4, "proto 0", 4, ethernet(&[], 0x0800, &ipv4(6, 0, 0, &[])[..12]))),
        truncated(plain(3, "tcp", 4, ethernet(&[], 0x0800, &ipv4(6, 0, 0, &[0, 80])))),
        truncated(plain(2, "proto 0", 6, v6(0, &[6]))),
    ]
}

/// Sends all of them; what they are, and how many.
fn send_known(from: &Space) -> (Vec<Known>, u64) {
    let known = known_frames();
    let (mut sender, _receiver) = channel(from);
    for known in &known {
        for _ in 0..known.times {
            sender.send_to(&known.frame, None).unwrap().unwrap();
        }
    }
    let total = known.iter().map(|known| known.times).sum();
    (known, total)
}

fn counted_as_what_it_is(frames: Frames, name: &str) {
    let _alone = alone();
    let wire = Wire::veth(name);
    let watch = Watch::start(&Options { frames, ..options(&wire.near) }).unwrap();
    assert_eq!(watch.devices()[0].frames, frames, "{:?}", watch.devices());
    let (known, total) = send_known(&wire.far);
    let watched = arrived(watch, Direction::In, total);
    let total_of =
        |which: fn(&Known) -> bool| known.iter().filter(|known| which(known)).map(|known| known.times).sum::<u64>();
    let bytes: u64 = known.iter().map(|known| known.times * known.frame.len() as u64).sum();
    let mut seen = vec![Direction::In];
    if frames != Frames::Off {
        seen.push(Direction::Frame);
    }
    for direction in seen {
        let place = place(&watched, direction);
        let expected = [
            total,
            total_of(|known| known.tagged),
            total_of(|known| known.fragment),
            total_of(|known| known.truncated),
        ];
        assert_eq!([place.packets, place.tagged, place.fragments, place.truncated], expected, "{direction}");
        assert_eq!(place.sizes.iter().sum::<u64>(), total);
        assert_eq!(place.bytes, bytes);
        // The device says the same; with XDP in its driver it leaves out their link's header.
        assert_eq!(place.own.packets, total);
        if frames != Frames::Native {
            assert_eq!(place.own.bytes, bytes);
        }
        for (protocol, family) in known.iter().map(|known| (known.protocol, known.family)) {
            let expected: u64 = known
                .iter()
                .filter(|known| (known.protocol, known.family) == (protocol, family))
                .map(|known| known.times)
                .sum();
            let found: u64 = watched
                .protocols
                .iter()
                .filter(|one| one.direction == direction && one.name == protocol && one.family == family)
                .map(|one| one.packets)
                .sum();
            assert_eq!(found, expected, "{direction} {protocol} IPv{family}: {:?}", watched.protocols);
        }
    }
    assert_eq!(place(&watched, Direction::Out).packets, 0);
    assert_eq!(watched.lost.sum(), 0);
    assert_eq!(watched.flows.iter().map(|flow| flow.packets[0]).sum::<u64>(), total);
    let tagged: Vec<_> = watched.flows.iter().filter_map(|flow| flow.vlan).collect();
    assert!(tagged.contains(&7) && tagged.contains(&9), "{tagged:?}");
}

/// Waits until so many packets were counted, and takes everything off.
fn arrived(watch: Watch, direction: Direction, packets: u64) -> Traffic {
    let end = Instant::now() + Duration::from_secs(10);
    while place(&watch.so_far().unwrap(), direction).packets < packets && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    watch.finish().unwrap()
}

#[test]
fn every_frame_is_what_it_is_in_the_driver() {
    counted_as_what_it_is(Frames::Native, "netn");
}

#[test]
fn every_frame_is_what_it_is_in_the_stack() {
    counted_as_what_it_is(Frames::Generic, "netg");
}

#[test]
fn every_frame_is_what_it_is_without_xdp() {
    counted_as_what_it_is(Frames::Off, "neto");
}

#[test]
fn both_directions_are_one_flow() {
    let _alone = alone();
    let wire = Wire::veth("netf");
    let watch = Watch::start(&options(&wire.near)).unwrap();
    let listener = wire.near.inside(|| TcpListener::bind((NEAR, 7000)).unwrap());
    wire.far.inside(|| {
        use std::io::Write;
        let mut there = TcpStream::connect((NEAR, 7000)).unwrap();
        let (mut here, _) = listener.accept().unwrap();
        there.write_all(&[1; 100]).unwrap();
        here.read_exact(&mut [0; 100]).unwrap();
        here.write_all(&[2; 3000]).unwrap();
        there.read_exact(&mut [0; 3000]).unwrap();
    });
    wire.send(5);
    let traffic = arrived(watch, Direction::In, 10);
    let tcp = traffic.flows.iter().find(|flow| flow.protocol == "tcp").expect("the connection");
    assert_eq!(tcp.to.to_string(), format!("{NEAR}:7000"), "who began is known");
    assert!(tcp.flags.contains('S') && tcp.flags.contains('F'), "{tcp:?}");
    assert!(tcp.bytes[0] > 100 && tcp.bytes[1] > 3000, "{tcp:?}");
    assert_eq!(traffic.flows.iter().filter(|flow| flow.protocol == "tcp").count(), 1);
    // Datagrams that nobody reads: answers are ICMP, another flow.
    let udp = traffic.flows.iter().find(|flow| flow.protocol == "udp").expect("datagrams");
    assert_eq!((udp.packets, udp.to.to_string()), ([5, 0], format!("{NEAR}:9")));
    let talkers = traffic.talkers();
    let far = talkers.iter().find(|talker| talker.address == FAR).expect("the other end");
    assert!(far.sent > 0 && far.received > 3000, "{talkers:?}");
}

#[test]
fn marks_are_set_and_sums_stay_right() {
    let _alone = alone();
    let wire = Wire::veth("netm");
    let rules =
        ["out udp dport 2000 => prio 6 mark 0x10 dscp af41", "out udp => dscp ef"].map(|rule| rule.parse().unwrap());
    let watch = Watch::start(&Options { rules: rules.into(), ..options(&wire.near) }).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/seen.bpf.c");
    let seen = compile(&source).map(|object| {
        let object = ringfence::parse("seen", &object).unwrap();
        let kernel = Kernel::running();
        let plan = ringfence::plan(&object, &kernel, &Settings::new()).unwrap();
        let loaded = ringfence::load(&plan, &kernel).unwrap();
        let hook = wire.near.namespace().hook(Tc::new(WIRE).egress().last());
        let link = loaded.program("look").unwrap().attach_to(&hook).unwrap();
        (loaded, link)
    });
    let (mut sender, _own) = channel(&wire.near);
    let (_other, mut receiver) = channel(&wire.far);
    let v4 = |to, tos| ipv4(17, 0, tos, &udp(1, to, 10));
    let v6 = |to, class| ipv6(17, class, &udp(1, to, 10));
    // What is sent, and the traffic class that arrives: the two bits for congestion stay.
    let sent = [
        (ethernet(&[], 0x0800, &v4(2000, 0)), Some(34 << 2)),
        (ethernet(&[], 0x0800, &v4(2000, 0x03)), Some(34 << 2 | 3)),
        (ethernet(&[], 0x0800, &v4(53, 0xff)), Some(46 << 2 | 3)),
        (ethernet(&[(0x8100, 7)], 0x0800, &v4(2000, 1)), Some(34 << 2 | 1)),
        (ethernet(&[], 0x86dd, &v6(2000, 0x02)), Some(34 << 2 | 2)),
        (ethernet(&[], 0x86dd, &v6(53, 0)), Some(46 << 2)),
        // No rule: as it was sent.
        (ethernet(&[], 0x0800, &ipv4(6, 0, 5, &tcp(1, 2000, 2))), None),
    ];
    for (frame, class) in &sent {
        sender.send_to(frame, None).unwrap().unwrap();
        let arrived = receiver.next().unwrap();
        let start = frame.len() - arrived.len().min(frame.len());
        assert_eq!(arrived.len() + start, frame.len(), "a tag that the device has taken off");
        let network = if frame[12] == 0x81 && start == 0 { 18 } else { 14 };
        let packet = &arrived[network..];
        match (class, packet[0] >> 4) {
            (None, _) => assert_eq!(arrived, &frame[..]),
            (Some(class), 4) => {
                assert_eq!(packet[1], *class);
                assert_eq!(sum(&packet[..20]), 0, "the header's sum is right");
            }
            (Some(class), _) => assert_eq!(packet[0] << 4 | packet[1] >> 4, *class),
        }
        // All else is as it was sent.
        let behind = frame.len() - 12;
        assert_eq!(arrived[arrived.len() - 12..], frame[behind..]);
    }
    let traffic = arrived(watch, Direction::Out, 7);
    let out = place(&traffic, Direction::Out);
    assert_eq!((out.packets, out.marked, out.mark_failed), (7, 6, 0));
    assert!(traffic.flows.iter().any(|flow| flow.mark == 0x10));
    match seen {
        Some((loaded, _link)) => {
            let count = |name: &str| loaded.variable(name).unwrap().get::<u64>().unwrap();
            assert_eq!((count("marked"), count("others")), (4, 3));
        }
        None => println!("skipped: whether marks and priorities are set: no clang"),
    }
}

#[test]
fn only_what_fits_the_filter_is_counted() {
    let _alone = alone();
    let wire = Wire::veth("neti");
    let filter = format!("in udp dport 1990-2010 host {FAR}").parse().unwrap();
    let watch = Watch::start(&Options { filter: Some(filter), ..options(&wire.near) }).unwrap();
    let (_, total) = send_known(&wire.far);
    let end = Instant::now() + Duration::from_secs(10);
    let all = |place: &Place| place.packets + place.filtered;
    while all(place(&watch.so_far().unwrap(), Direction::In)) < total && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let traffic = watch.finish().unwrap();
    // IPv4 to port 2000: plain, in a VLAN, and as the first fragment.
    for direction in [Direction::Frame, Direction::In] {
        let place = place(&traffic, direction);
        assert_eq!((place.packets, place.filtered), (3 + 6 + 3, total - 12), "{direction}");
    }
    assert!(traffic.protocols.iter().all(|protocol| protocol.name == "udp" && protocol.family == 4));
}

#[test]
fn flows_that_give_way_are_counted() {
    let _alone = alone();
    let wire = Wire::veth("netl");
    let watch = Watch::start(&Options { most_flows: 64, ..options(&wire.near) }).unwrap();
    let (mut sender, _receiver) = channel(&wire.far);
    for port in 1..=5000 {
        sender.send_to(&ethernet(&[], 0x0800, &ipv4(17, 0, 0, &udp(port, 9, 0))), None).unwrap().unwrap();
    }
    let traffic = arrived(watch, Direction::In, 5000);
    assert_eq!(place(&traffic, Direction::In).packets, 5000);
    assert_eq!(traffic.flows_seen + traffic.lost.flows, 5000, "{traffic:?}");
    assert_eq!(traffic.flows_pushed_out, traffic.flows_seen - traffic.flows.len() as u64);
    assert!(traffic.flows_pushed_out > 4000);
}

#[test]
fn samples_are_a_file_of_packets() {
    let _alone = alone();
    let wire = Wire::veth("netp");
    let sampling = Some(Sampling { every: 1, snap: 60 });
    let mut watch = Watch::start(&Options { sampling, ..options(&wire.near) }).unwrap();
    let mut capture = Capture::new(Vec::new(), watch.devices(), 60).unwrap();
    let (known, total) = send_known(&wire.far);
    let end = Instant::now() + Duration::from_secs(10);
    while capture.written() < total && Instant::now() < end {
        watch.run(Duration::from_millis(20), |sample| capture.add(&sample).unwrap()).unwrap();
    }
    let traffic = watch.finish().unwrap();
    assert_eq!((capture.written(), traffic.sampled, traffic.lost.samples), (total, total, 0));
    let bytes = capture.into_inner();
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&bytes[..]).unwrap();
    let mut frames = known.iter().flat_map(|known| (0..known.times).map(|_| &known.frame));
    while let Some(block) = reader.next_block() {
        use pcap_file::pcapng::Block;
        match block.unwrap() {
            Block::InterfaceDescription(device) => assert_eq!(device.snaplen, 60),
            Block::EnhancedPacket(packet) => {
                let frame = frames.next().unwrap();
                assert_eq!(packet.original_len as usize, frame.len());
                let kept = packet.data.len();
                // The kernel has put a tag beside the packet, which makes room for as much of it.
                assert!(kept == frame.len().min(60) || kept == frame.len().min(64), "{kept} of {}", frame.len());
                assert_eq!(packet.data[..], frame[..kept]);
                let age = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH + packet.timestamp)
                    .expect("it is not of the future");
                assert!(age < Duration::from_secs(60), "{age:?}");
            }
            _ => {}
        }
    }
    assert!(frames.next().is_none());
}

#[test]
fn somebody_elses_program_stays() {
    let _alone = alone();
    let wire = Wire::veth("netx");
    let source = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }\n\
                  char LICENSE[] SEC(\"license\") = \"GPL\";\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pass.bpf.c");
    std::fs::write(&path, source).unwrap();
    let Some(object) = compile(&path) else { return };
    let object = ringfence::parse("pass", &object).unwrap();
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object, &kernel, &Settings::new()).unwrap();
    let loaded = ringfence::load(&plan, &kernel).unwrap();
    // A device of the same number elsewhere, which has nothing to do with it.
    let other = Wire::veth("nety");
    let frames = Frames::Native;
    let _elsewhere = Watch::start(&Options { frames, ..options(&other.near) }).unwrap();
    let hook = wire.near.namespace().hook(Xdp::new(WIRE));
    let _link = loaded.program("pass").unwrap().attach_to(&hook).unwrap();
    let before = wire.near.namespace().devices().unwrap();
    let refused = Watch::start(&options(&wire.near)).unwrap_err();
    assert!(matches!(refused, Error::Taken { .. }) && refused.to_string().contains("`pass`"), "{refused}");
    let watch = Watch::start(&Options { frames: Frames::Off, ..options(&wire.near) }).unwrap();
    wire.send(3);
    assert_eq!(place(&arrived(watch, Direction::In, 3), Direction::In).packets, 3);
    let xdp = |devices: &[ringfence::Device]| devices.iter().map(|device| device.xdp).collect::<Vec<_>>();
    assert_eq!(xdp(&before), xdp(&wire.near.namespace().devices().unwrap()));
}

#[test]
fn who_is_not_there_is_named() {
    let missing = Watch::start(&Options { devices: vec!["nosuch0".into()], ..Options::default() }).unwrap_err();
    assert!(missing.to_string().contains("nosuch0") && missing.to_string().contains("lo"), "{missing}");
}

/// Packets under way at most: who sends faster than the device takes loses them by himself.
const WINDOW: u64 = 32;

/// Segments that TCP of a namespace has sent again (`TcpRetransSegs`).
fn sent_again(space: &Space) -> u64 {
    let text = space.inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("the counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "RetransSegs");
    found.expect("the counter").1.parse().expect("a number")
}

#[test]
fn what_is_sent_again_is_counted() {
    const BYTES: usize = 32 << 20;
    let _alone = alone();
    let Some(object) = compile(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/drops.bpf.c"))) else {
        return;
    };
    let wire = Wire::veth("neta");
    let object = ringfence::parse("drops", &object).unwrap();
    let kernel = Kernel::running();
    let loaded = ringfence::load(&ringfence::plan(&object, &kernel, &Settings::new()).unwrap(), &kernel).unwrap();
    let hook = wire.far.namespace().hook(Xdp::new(WIRE).generic());
    let _link = loaded.program("drops").unwrap().attach_to(&hook).unwrap();
    let watch = Watch::start(&options(&wire.near)).unwrap();
    let before = sent_again(&wire.near);
    let listener = wire.far.inside(|| TcpListener::bind((FAR, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let mut stream = wire.near.inside(|| TcpStream::connect((FAR, port)).unwrap());
    let (mut other, _) = listener.accept().unwrap();
    let limit = Some(Duration::from_secs(20));
    for side in [&stream, &other] {
        side.set_read_timeout(limit).unwrap();
        side.set_write_timeout(limit).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut taken = vec![0; 1 << 16];
            while other.read(&mut taken).unwrap() > 0 {}
        });
        stream.write_all(&vec![7; BYTES]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Until the other side has read all.
        let _ = stream.read(&mut [0]);
    });
    let again = sent_again(&wire.near) - before;
    let traffic = watch.finish().unwrap();
    // What the kernel counts and then cannot send is none.
    assert!(
        (1..=again).contains(&traffic.retransmits) && traffic.retransmits * 100 >= again * 95,
        "{again} {traffic:?}"
    );
    let flow = traffic.flows.iter().find(|flow| flow.retransmits > 0).expect("the connection");
    assert_eq!(flow.retransmits, traffic.retransmits, "{flow:?}");
}

#[test]
fn nothing_is_lost_while_it_comes_and_goes() {
    const TURNS: u64 = 10;
    let _alone = alone();
    let wire = Wire::veth("netz");
    let socket = wire.near.inside(|| UdpSocket::bind((NEAR, 9)).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (received, turns) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            wire.far.inside(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                let (mut last, mut sent) = (Instant::now(), 0u64);
                while turns.load(Ordering::Relaxed) < TURNS {
                    while sent - received.load(Ordering::Relaxed) >= WINDOW {
                        assert!(last.elapsed() < Duration::from_secs(20), "{sent} sent, {received:?} received");
                        std::thread::yield_now();
                    }
                    socket.send_to(&sent.to_ne_bytes(), (NEAR, 9)).unwrap();
                    (last, sent) = (Instant::now(), sent + 1);
                }
                socket.send_to(&u64::MAX.to_ne_bytes(), (NEAR, 9)).unwrap();
                sent
            })
        });
        let receiving = scope.spawn(|| {
            let mut number = [0; 8];
            for expected in 0.. {
                socket.recv(&mut number).unwrap_or_else(|error| panic!("packet {expected} is lost: {error}"));
                match u64::from_ne_bytes(number) {
                    u64::MAX => return expected,
                    number => assert_eq!(number, expected, "what is between them is lost"),
                }
                received.store(expected + 1, Ordering::Relaxed);
            }
            unreachable!()
        });
        let mut idle = 0;
        for _ in 0..TURNS {
            let mut watch = Watch::start(&options(&wire.near)).unwrap();
            // A slow machine takes its time to send the next packet.
            let end = Instant::now() + Duration::from_secs(2);
            let seen = |watch: &Watch| place(&watch.so_far().unwrap(), Direction::In).packets > 0;
            watch.run(Duration::from_millis(20), |_| {}).unwrap();
            while !seen(&watch) && Instant::now() < end {
                watch.run(Duration::from_millis(20), |_| {}).unwrap();
            }
            let traffic = watch.finish().unwrap();
            idle += u64::from(place(&traffic, Direction::In).packets == 0);
            turns.fetch_add(1, Ordering::Relaxed);
        }
        let (sent, heard) = (sending.join().unwrap(), receiving.join().unwrap());
        assert_eq!((sent, idle), (heard, 0));
        println!("{sent} packets, started and stopped {TURNS} times");
    });
}

#[test]
fn a_million_packets() {
    const PACKETS: u64 = 1_000_000;
    let _alone = alone();
    let wire = Wire::veth("neth");
    // From the end that sends, all must be seen; at the other end, all that the device says it got.
    let out = Watch::start(&Options { frames: Frames::Off, ..options(&wire.far) }).unwrap();
    let near = Watch::start(&options(&wire.near)).unwrap();
    let (mut sender, _receiver) = channel(&wire.far);
    let frames: Vec<_> =
        (0..100).map(|port| ethernet(&[], 0x0800, &ipv4(17, 0, 0, &udp(1000 + port, 9, 18)))).collect();
    for number in 0..PACKETS {
        sender.send_to(&frames[(number % 100) as usize], None).unwrap().unwrap();
    }
    let (out, near) = (out.finish().unwrap(), near.finish().unwrap());
    assert_eq!(place(&out, Direction::Out).packets, PACKETS);
    assert_eq!(place(&out, Direction::Out).bytes, PACKETS * 60);
    assert_eq!(out.flows.len(), 100);
    assert!(out.flows.iter().all(|flow| flow.packets == [PACKETS / 100, 0]), "{:?}", out.flows);
    for direction in [Direction::Frame, Direction::In] {
        let place = place(&near, direction);
        assert_eq!((place.packets, place.bytes), (place.own.packets, place.own.packets * 60), "{direction}");
        assert!(place.packets > PACKETS / 2, "{direction}: {}", place.packets);
    }
    println!("{} of {PACKETS} packets came through", place(&near, Direction::In).packets);
}

/// A program with its output; it ends with the test. `None`, and a line that says so, where it is not installed.
fn spawn(space: &Space, program: &str, args: &[&str]) -> Option<Running> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = space.inside(|| command.spawn());
    spawned.map(Running).map_err(|error| println!("skipped: {program} is not installed ({error})")).ok()
}

struct Running(Child);

impl Running {
    /// Waits for its first line with these words.
    fn says(mut self, words: &str) -> Running {
        let out = self.0.stdout.as_mut().expect("stdout");
        let found = BufReader::new(out).lines().map_while(Result::ok).any(|line| line.contains(words));
        assert!(found, "it ended before it said {words:?}");
        self
    }

    fn output(mut self) -> String {
        let mut text = String::new();
        self.0.stdout.take().expect("stdout").read_to_string(&mut text).expect("its output");
        let (mut errors, status) = (String::new(), self.0.wait().expect("its end"));
        self.0.stderr.take().expect("stderr").read_to_string(&mut errors).expect("its errors");
        assert!(status.success(), "{text}{errors}");
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A packet as tcpdump writes it: the wire's bytes, as many packets as it has segments.
#[derive(Debug)]
struct Dumped {
    line: String,
    packets: u64,
    bytes: u64,
}

impl Dumped {
    fn of(line: String) -> Dumped {
        let numbers = |word: &str| -> Vec<u64> {
            let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
            line.split(word).skip(1).filter_map(digits).collect()
        };
        let lengths = numbers(" length ");
        let network = numbers("payload length: ").first().map(|payload| payload + 40).unwrap_or_else(|| lengths[0]);
        // Segments of TCP, with timestamps among its options.
        let payload = if line.contains("proto TCP") { *lengths.last().expect("a length") } else { 0 };
        let packets = payload.div_ceil(1448).max(1);
        let bytes = payload + packets * (network - payload + 14);
        Dumped { line, packets, bytes }
    }

    /// All that a file has between two addresses, in this direction.
    fn all(file: &Path, from: &str, to: &str) -> Vec<Dumped> {
        let output = Command::new("tcpdump").args(["-nnvvr"]).arg(file).output().expect("tcpdump");
        let text = String::from_utf8_lossy(&output.stdout).replace("\n    ", " ");
        let between = |line: &&str| {
            let mut words = line.split(") ").last().expect("the ends").split(' ');
            let is = |word: Option<&str>, end: &str| {
                let word = word.unwrap_or_default().trim_end_matches(':');
                word == end || word.strip_prefix(end).is_some_and(|port| port.starts_with('.'))
            };
            is(words.next(), from) && words.next() == Some(">") && is(words.next(), to)
        };
        text.lines()
            .filter(|line| line.contains(" IP"))
            .filter(between)
            .map(|line| Dumped::of(line.to_owned()))
            .collect()
    }
}

#[test]
fn real_programs_and_tcpdump_say_the_same() {
    let _alone = alone();
    let wire = Wire::veth("netr");
    let six = [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)];
    let with_six = [(&wire.near, 0), (&wire.far, 1)].into_iter().all(|(space, own)| {
        let there = space.enable_ipv6();
        space.inside(|| {
            let device = wire::index(WIRE);
            wire::address(device, six[own].into(), 64);
            wire::neighbour(device, six[1 - own].into(), wire::MAC[1 - own]);
        });
        there
    });
    assert!(with_six, "IPv6");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("far.pcap");
    let file_name = file.display().to_string();
    // At the other end of the wire, in both directions.
    let args = ["-i", WIRE, "-nn", "-U", "-Z", "root", "--immediate-mode", "-B", "16384", "-w", &file_name];
    let Some(_dump) = spawn(&wire.far, "tcpdump", &args) else { return };
    let begun = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24);
    let end = Instant::now() + Duration::from_secs(10);
    while !begun() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let rules = ["out tcp sport 5201 => prio 6 mark 0x10 dscp af41", "out icmp => dscp ef", "out icmp6 => dscp cs6"];
    let rules = rules.map(|rule| rule.parse().unwrap()).into();
    let watch = Watch::start(&Options { rules, ..options(&wire.near) }).unwrap();
    let Some(server) = spawn(&wire.near, "iperf3", &["-s", "-p", "5201", "--forceflush"]) else { return };
    let _server = server.says("listening");
    let near = NEAR.to_string();
    let iperf3 = |args: &[&str]| -> serde_json::Value {
        let args = [&["-c", &near, "-p", "5201", "-J"], args].concat();
        serde_json::from_str(&spawn(&wire.far, "iperf3", &args).expect("iperf3").output()).expect("JSON")
    };
    // The near end sends: segments are joined when rules see them.
    let tcp = iperf3(&["-R", "-n", "4M", "-b", "200M"]);
    let udp = iperf3(&["-u", "-l", "1000", "-n", "2M", "-b", "50M"]);
    for (to, size) in [(near.as_str(), "100"), (&near, "4000"), ("fd00::1", "200")] {
        let args = ["-q", "-c", "10", "-i", "0.01", "-s", size, to];
        let Some(ping) = spawn(&wire.far, "ping", &args) else { return };
        assert!(ping.output().contains("10 received, 0% packet loss"));
    }
    let far = FAR.to_string();
    let ends = [(&*near, &*far), (&*far, &*near), ("fd00::1", "fd00::2"), ("fd00::2", "fd00::1")];
    // What a flow says of one direction, and what tcpdump does.
    let both = |traffic: &Traffic| {
        ends.map(|(from, to)| {
            let mut ours = [0; 2];
            for flow in &traffic.flows {
                let end = |end: &End| match end {
                    End::Ip(address, _) => address.to_string(),
                    End::Mac(_) => String::new(),
                };
                for (a, b, way) in [(&flow.from, &flow.to, 0), (&flow.to, &flow.from, 1)] {
                    if end(a) == from && end(b) == to {
                        ours = [ours[0] + flow.packets[way], ours[1] + flow.bytes[way]];
                    }
                }
            }
            let theirs = Dumped::all(&file, from, to);
            let sum = |of: fn(&Dumped) -> u64| theirs.iter().map(of).sum::<u64>();
            (ours, [sum(|one| one.packets), sum(|one| one.bytes)])
        })
    };
    // Ends of connections are still under way, and tcpdump writes as fast as it can.
    let end = Instant::now() + Duration::from_secs(10);
    while both(&watch.so_far().unwrap()).iter().any(|(ours, theirs)| ours != theirs) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let traffic = watch.finish().unwrap();
    for ((from, to), (ours, theirs)) in ends.iter().zip(both(&traffic)) {
        assert_eq!(ours, theirs, "{from} > {to}");
    }
    let number =
        |of: &serde_json::Value, name: &str| of.pointer(name).and_then(serde_json::Value::as_u64).expect("a number");
    // One more of four bytes begins the test.
    let datagrams: u64 = traffic.flows.iter().filter(|flow| flow.protocol == "udp").map(|flow| flow.packets[0]).sum();
    assert_eq!(datagrams, number(&udp, "/end/sum/packets") + 1);
    let sent = number(&tcp, "/end/sum_received/bytes");
    let (out, all) = (place(&traffic, Direction::Out), Dumped::all(&file, &near, &far));
    let data: u64 = all.iter().filter(|one| one.line.contains("proto TCP")).map(|one| one.bytes).sum();
    assert!(sent >= 4 << 20 && data > sent, "{sent} {data}");
    assert!(all.iter().any(|one| one.packets > 1), "some were joined when the rule saw them");
    // The class of each packet, and its sums; those of TCP are made by the device.
    let mut classes = [0u64; 3];
    for one in all.iter().chain(&Dumped::all(&file, "fd00::1", "fd00::2")) {
        let kinds =
            [("proto TCP", "(tos 0x88,"), ("proto ICMP (1)", "(tos 0xb8,"), ("next-header ICMPv6", "class 0xc0,")];
        for ((kind, class), seen) in kinds.iter().zip(&mut classes) {
            if one.line.contains(kind) {
                assert!(one.line.contains(class), "{one:?}");
                *seen += one.packets;
            }
        }
        assert!(!one.line.contains("bad cksum") && !one.line.contains("bad icmp6"), "{one:?}");
        assert!(!one.line.contains("wrong icmp"), "{one:?}");
    }
    // Ten answers in one piece and ten in three; the neighbours' discovery is marked, too.
    assert_eq!(classes[1], 10 + 30);
    assert!(classes[2] >= 10 && out.marked >= classes.iter().sum(), "{classes:?} {out:?}");
}

#[test]
fn large_packets_are_watched_in_the_stack() {
    let _alone = alone();
    let wire = Wire::veth("netb");
    for space in [&wire.near, &wire.far] {
        space.inside(|| wire::set_mtu(WIRE, 9000));
    }
    let watch = Watch::start(&Options { frames: Frames::Native, ..options(&wire.near) }).unwrap();
    let device = &watch.devices()[0];
    assert_eq!(device.frames, Frames::Generic);
    assert!(device.why.as_ref().is_some_and(|why| why.contains("MTU")), "{device:?}");
    wire.far.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        for _ in 0..20 {
            socket.send_to(&[7; 8000], (NEAR, 9)).unwrap();
        }
    });
    let traffic = arrived(watch, Direction::In, 20);
    for direction in [Direction::Frame, Direction::In] {
        let place = place(&traffic, direction);
        assert_eq!((place.packets, place.bytes, place.sizes[6]), (20, 20 * 8042, 20), "{direction}");
    }
}
