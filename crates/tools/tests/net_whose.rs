//! `net` with a filter for processes: whose packet it is, known by the socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "../../ringfence/tests/common/net.rs"]
#[allow(dead_code, reason = "the tests of the library use all of it")]
mod wire;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::alone;
use ringfence_tools::net::{Direction, Flow, Options, Place, Traffic, Watch};
use ringfence_tools::{Cgroup, Error, Filter};
use wire::{FAR, NEAR, Space, WIRE, Wire};

fn watch(space: &Space, device: &str, whose: Filter) -> Watch {
    let options =
        Options { devices: vec![device.into()], namespace: Some(space.namespace()), whose, ..Options::default() };
    Watch::start(&options).unwrap()
}

fn named(name: &str) -> Filter {
    Filter { comm: Some(name.to_owned()), ..Filter::default() }
}

fn place(traffic: &Traffic, direction: Direction) -> &Place {
    traffic.places.iter().find(|place| place.direction == direction).expect("the place")
}

fn flow(traffic: &Traffic, port: u16) -> Option<&Flow> {
    let end = format!(":{port}");
    traffic.flows.iter().find(|flow| flow.to.to_string().ends_with(&end))
}

fn udp(space: &Space, address: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let address = SocketAddr::new(address.into(), port);
    let socket = space.inside(|| UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Sends and gets it back.
fn back_and_forth(here: &UdpSocket, there: &UdpSocket, times: usize) {
    let (own, other) = (here.local_addr().unwrap(), there.local_addr().unwrap());
    for _ in 0..times {
        here.send_to(&[1; 20], other).unwrap();
        there.recv(&mut [0; 20]).unwrap();
        there.send_to(&[2; 30], own).unwrap();
        here.recv(&mut [0; 30]).unwrap();
    }
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(&[1; 100]).unwrap();
    server.read_exact(&mut [0; 100]).unwrap();
    server.write_all(&[2; 3000]).unwrap();
    client.read_exact(&mut [0; 3000]).unwrap();
}

/// Sockets of whoever runs on a namespace's thread have its name; this gives them another one.
fn rename(name: &str) {
    rustix::thread::set_name(&std::ffi::CString::new(name).unwrap()).unwrap();
}

#[test]
fn sockets_that_were_there_and_those_that_come() {
    let _alone = alone();
    let wire = Wire::veth("netw");
    let (held, answers) = (udp(&wire.near, NEAR, 7100), udp(&wire.far, FAR, 7101));
    let listener = wire.near.inside(|| TcpListener::bind((NEAR, 7000)).unwrap());
    let connected = |port| wire.far.inside(|| TcpStream::connect((NEAR, port)).unwrap());
    let mut early = (connected(7000), listener.accept().unwrap().0);

    let all = watch(&wire.far, WIRE, Filter::default());
    let own = watch(&wire.near, WIRE, Filter { pid: Some(std::process::id()), ..Filter::default() });
    assert!(own.sockets().unwrap() >= 5, "{:?}", own.sockets());
    assert_eq!(own.devices()[0].frames, ringfence_tools::net::Frames::Off);
    back_and_forth(&held, &answers, 10);
    exchange(&mut early.0, &mut early.1);
    let mut late = (connected(7000), listener.accept().unwrap().0);
    exchange(&mut late.0, &mut late.1);
    drop((early, late));
    let fresh = udp(&wire.near, NEAR, 7200);
    back_and_forth(&fresh, &answers, 3);
    // To a port that nobody has: neither they nor the answers are this process's.
    wire.send(5);
    std::thread::sleep(Duration::from_millis(200));
    let (own, all) = (own.finish().unwrap(), all.finish().unwrap());

    let known = flow(&own, 7101).expect("the held socket");
    assert_eq!(known.packets, [10, 10]);
    assert_eq!(own.flows.iter().filter(|flow| flow.protocol == "udp").count(), 2, "{:?}", own.flows);
    // To the last packet, after the sockets were closed.
    let tcp = |traffic: &Traffic| {
        let mut flows: Vec<_> =
            traffic.flows.iter().filter(|flow| flow.protocol == "tcp").map(|flow| flow.packets).collect();
        flows.sort_unstable();
        flows
    };
    assert_eq!(tcp(&own).len(), 2);
    assert_eq!(tcp(&own), tcp(&all));
    assert!(flow(&own, 9).is_none() && flow(&all, 9).is_some());
    let incoming = place(&own, Direction::In);
    assert_eq!(incoming.filtered, 5);
    assert_eq!(incoming.packets + incoming.filtered, incoming.own.packets);
    assert_eq!(own.lost.sum(), 0, "{:?}", own.lost);
}

#[test]
fn sockets_of_threads_with_a_name() {
    let _alone = alone();
    let wire = Wire::veth("netx");
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
    let watch = watch(&wire.near, WIRE, named("rf-own"));
    let bind = |name: &str, address: IpAddr, port| {
        wire.near.inside(|| {
            rename(name);
            UdpSocket::bind((address, port)).unwrap()
        })
    };
    let ends: &[(IpAddr, IpAddr)] = if with_six {
        &[(NEAR.into(), FAR.into()), (six[0].into(), six[1].into())]
    } else {
        &[(NEAR.into(), FAR.into())]
    };
    for (here, there) in ends {
        let answers = udp(&wire.far, *there, 7101);
        for (name, port, times) in [("rf-own", 7100, 6), ("rf-other", 7102, 4)] {
            let socket = bind(name, *here, port);
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            back_and_forth(&socket, &answers, times);
        }
    }
    let traffic = watch.finish().unwrap();
    assert_eq!(traffic.flows.len(), ends.len(), "{:?}", traffic.flows);
    assert!(traffic.flows.iter().all(|flow| flow.packets == [6, 6] && flow.from.to_string().ends_with(":7100")));
    for direction in [Direction::In, Direction::Out] {
        let place = place(&traffic, direction);
        assert_eq!(place.packets, 6 * ends.len() as u64, "{direction}");
        assert!(place.filtered >= 4 * ends.len() as u64, "{direction}: {}", place.filtered);
    }
}

#[test]
fn over_the_loopback_both_ends_count() {
    let _alone = alone();
    let space = Space::new("netl");
    let watch = watch(&space, "lo", named("rf-own"));
    let pair = |name: &str, port| {
        space.inside(|| {
            rename(name);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            rename("rf-client");
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            (client, listener.accept().unwrap().0)
        })
    };
    for (name, port) in [("rf-own", 7000), ("rf-other", 7001)] {
        let mut pair = pair(name, port);
        exchange(&mut pair.0, &mut pair.1);
    }
    let traffic = watch.finish().unwrap();
    let (own, flow) = (place(&traffic, Direction::In), flow(&traffic, 7000).expect("the server's flow"));
    assert_eq!(traffic.flows.len(), 1, "{:?}", traffic.flows);
    assert_eq!(own.packets, flow.packets.iter().sum::<u64>());
    assert_eq!(own.packets, place(&traffic, Direction::Out).packets);
    assert!(own.filtered >= 8 && own.packets >= 8, "{own:?}");
}

/// A control group; gone when dropped.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn sockets_of_a_control_group() {
    let _alone = alone();
    let root = Cgroup::at("/").unwrap();
    let group = Group(root.path().join(format!("cri-feed{:012x}.scope", std::process::id())));
    std::fs::create_dir(&group.0).unwrap();
    let wire = Wire::veth("netc");
    let _answers = udp(&wire.far, FAR, 7101);
    let cgroup = Cgroup::of_container(&format!("feed{:012x}", std::process::id())).unwrap();
    assert_eq!(cgroup.path(), group.0);
    let watch = watch(&wire.near, WIRE, Filter { cgroup: Some(cgroup), ..Filter::default() });
    assert_eq!(watch.sockets(), Some(0));
    let script = format!(
        "echo $$ > {}/cgroup.procs && for i in 1 2 3; do echo x > /dev/udp/{FAR}/7101; done",
        group.0.display()
    );
    let run = |script: &str| wire.near.inside(|| Command::new("bash").args(["-c", script]).status());
    if run(&script).is_err() {
        return println!("skipped: bash is not installed (sockets_of_a_control_group)");
    }
    assert!(run(&format!("echo x > /dev/udp/{FAR}/7101")).unwrap().success());
    let traffic = watch.finish().unwrap();
    let out = place(&traffic, Direction::Out);
    assert_eq!((out.packets, out.filtered, traffic.flows.len()), (3, 1, 3), "{:?}", traffic.flows);
}

#[test]
fn processes_that_are_not_there_are_named() {
    let _alone = alone();
    let options = |whose| Options { devices: vec!["lo".into()], whose, ..Options::default() };
    let gone = Watch::start(&options(Filter { pid: Some(u32::MAX - 1), ..Filter::default() }));
    assert!(matches!(gone, Err(Error::NoProcess { .. })), "{gone:?}");
    assert!(matches!(Watch::start(&options(named("sixteen-is-a-lot"))), Err(Error::LongName { .. })));
    assert!(matches!(Cgroup::at(Path::new("no/such")), Err(Error::NoCgroup { .. })));
    let nobody = Watch::start(&options(named("rf-noone"))).unwrap();
    assert_eq!(nobody.sockets(), Some(0));
}
