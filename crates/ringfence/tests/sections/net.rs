//! Packets and sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use ringfence::hook::{
    Family, Hook, Infrared, NetNamespace, Netfilter, Netkit, ReusePort, Route, SocketFilter, SocketMap, Step, Tc, Xdp,
};
use ringfence::{AttachType, Map, MapType};

use crate::common::net::{MAC, NEAR, WIRE, Wire, address, index, neighbour, segment_packet};
use crate::row::{Fire, Row, Run, Stop};

const fn row(section: &'static str, fire: Fire) -> Row {
    Row::new("sections_net", section, fire)
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("socket", filtering),
    row("sk_reuseport", choosing),
    row("sk_reuseport/migrate", choosing),
    row("tc/ingress", |run| sending(run, &Tc::new("lo").ingress())),
    row("tc/egress", |run| sending(run, &Tc::new("lo").egress())),
    row("tcx/ingress", |run| sending(run, &Tc::new("lo"))),
    row("tcx/egress", |run| sending(run, &Tc::new("lo"))),
    row("tc", |run| sending(run, &Tc::new("lo").ingress())),
    row("classifier", |run| sending(run, &Tc::new("lo").egress())),
    row("action", |run| sending(run, &Tc::new("lo").ingress())),
    row("netkit/primary", wired),
    row("netkit/peer", wired),
    row("xdp", |run| sending(run, &Xdp::new("lo").generic())),
    row("xdp.frags", |run| sending(run, &Xdp::new("lo").generic())),
    row("xdp/devmap", |run| redirecting(run, "devices", "to_device")).with(&["pass", "to_device"]),
    row("xdp.frags/devmap", |run| redirecting(run, "devices", "parts_to_device")).with(&["pass", "parts_to_device"]),
    row("xdp/cpumap", |run| redirecting(run, "cpus", "to_cpu")).with(&["pass", "to_cpu"]),
    row("xdp.frags/cpumap", |run| redirecting(run, "cpus", "parts_to_cpu")).with(&["pass", "parts_to_cpu"]),
    row("lwt_in", routing_in).with(&["let_out"]),
    row("lwt_out", routing_out),
    row("lwt_xmit", routing_out),
    row("lwt_seg6local", ending_a_segment).with(&["let_out"]),
    row("sk_skb", |run| hearing(run, Some(AttachType::SK_SKB_STREAM_VERDICT), Some("parse"))).with(&["parse"]),
    row("sk_skb/stream_parser", |run| hearing(run, None, Some("judge"))).with(&["judge"]),
    row("sk_skb/stream_verdict", |run| hearing(run, None, Some("parse"))).with(&["parse"]),
    row("sk_skb/verdict", |run| hearing(run, None, None)),
    row("sk_msg", saying),
    row("lirc_mode2", |run| run.attach_to(&Infrared::new("/dev/lirc0"))),
    row("flow_dissector", dissecting).with(&["ask"]),
    row("sk_lookup", looking_up),
    row("netfilter", |run| sending(run, &Netfilter::new(Family::V4, Step::Input))),
];

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// A packet over the loopback device.
fn send() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"counted", receiver.local_addr().unwrap()).unwrap();
}

fn sending(run: &Run, hook: &impl Hook) -> Result<(), Stop> {
    run.attach_to(hook)?;
    send();
    Ok(())
}

fn filtering(run: &Run) -> Result<(), Stop> {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    run.attach_to(&SocketFilter::new(&receiver))?;
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"counted", receiver.local_addr().unwrap()).unwrap();
    Ok(())
}

/// A group of one socket.
fn choosing(run: &Run) -> Result<(), Stop> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let socket = UdpSocket::from(socket);
    run.attach_to(&ReusePort::new(&socket))?;
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"counted", socket.local_addr().unwrap()).unwrap();
    Ok(())
}

fn looking_up(run: &Run) -> Result<(), Stop> {
    run.attach_to(&NetNamespace::own())?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Ok(())
}

fn wired(run: &Run) -> Result<(), Stop> {
    let wire = Wire::of("netkit", "matrix-nk").map_err(Stop::Lacks)?;
    run.attach_to(&wire.near.namespace().hook(Netkit::new(WIRE)))?;
    wire.send(1);
    wire.send_back(1);
    Ok(())
}

/// A packet that comes in goes to the map's only entry, which has the row's program.
fn redirecting(run: &Run, map: &str, redirect: &str) -> Result<(), Stop> {
    let wire = Wire::veth("matrix-map");
    // A device or a CPU (with the length of its queue).
    let place = if map == "devices" { wire.near.inside(|| index(WIRE)) } else { 64 };
    let program = u32::try_from(run.program().as_fd().as_raw_fd()).unwrap();
    let table = run.loaded.map(map)?.table::<u32, [u32; 2]>()?;
    wire.near.inside(|| table.insert(&0, &[place, program]))?;
    let loaded = &run.loaded;
    let native = || Xdp::new(WIRE).native();
    run.keep(loaded.program(redirect)?.attach_to(&wire.near.namespace().hook(native()))?);
    // A veth device takes redirected packets only while its other end has a program.
    run.keep(loaded.program("pass")?.attach_to(&wire.far.namespace().hook(native()))?);
    wire.send(3);
    run.wait();
    table.remove(&0).ok();
    Ok(())
}

/// A network that only routes with programs lead to.
fn beyond() -> Route {
    Route::new(Ipv4Addr::new(10, 78, 0, 0).into(), 24, WIRE).via(NEAR.into())
}

fn send_beyond() {
    UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"counted", (Ipv4Addr::new(10, 78, 0, 1), 9)).unwrap();
}

fn routing_out(run: &Run) -> Result<(), Stop> {
    let wire = Wire::veth("matrix-lwt");
    run.attach_to(&wire.far.namespace().hook(beyond()))?;
    wire.far.inside(send_beyond);
    Ok(())
}

/// The near end passes on what is not for it.
fn routing_in(run: &Run) -> Result<(), Stop> {
    let wire = Wire::veth("matrix-lwt");
    wire.near.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let onward = Route::new(Ipv4Addr::new(10, 78, 0, 0).into(), 24, "lo");
    run.attach_to(&wire.near.namespace().hook(onward))?;
    run.keep(run.loaded.program("let_out")?.attach_to(&wire.far.namespace().hook(beyond()))?);
    wire.far.inside(send_beyond);
    run.wait();
    Ok(())
}

fn ending_a_segment(run: &Run) -> Result<(), Stop> {
    let wire = Wire::veth("matrix-seg6");
    if !(wire.near.enable_ipv6() && wire.far.enable_ipv6()) {
        return Err(Stop::Lacks("this machine has no IPv6".to_owned()));
    }
    let [segment, here, there]: [Ipv6Addr; 3] =
        ["fc00:1::6", "fc00:77::1", "fc00:77::2"].map(|text| text.parse().unwrap());
    wire.near.inside(|| address(index(WIRE), here.into(), 64));
    wire.far.inside(|| {
        address(index(WIRE), there.into(), 64);
        neighbour(index(WIRE), here.into(), MAC[0]);
    });
    run.attach_to(&wire.near.namespace().hook(Route::new(segment.into(), 128, WIRE)))?;
    // The far end only has to find the way to the segment.
    let way = wire.far.namespace().hook(Route::new(segment.into(), 128, WIRE).via(here.into()));
    run.keep(run.loaded.program("let_out")?.attach_to(&way)?);
    wire.far.inside(|| segment_packet(there, segment));
    run.wait();
    Ok(())
}

fn dissecting(run: &Run) -> Result<(), Stop> {
    let wire = Wire::veth("matrix-flow");
    let near = wire.near.namespace();
    run.attach_to(&near)?;
    run.keep(run.loaded.program("ask")?.attach_to(&near.hook(Tc::new(WIRE).ingress()))?);
    wire.send(1);
    run.wait();
    Ok(())
}

/// Two ends of a connection of this machine with itself.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(PATIENCE).unwrap();
    (near, far)
}

/// What a socket of the map receives. `beside`: another program that the kernel wants there before it runs this one.
fn hearing(run: &Run, hook: Option<AttachType>, beside: Option<&str>) -> Result<(), Stop> {
    let map = Map::create("sockets", MapType::SOCKMAP, 4, 8, 1)?;
    let place = SocketMap::new(&map);
    if let Some(beside) = beside {
        run.keep(run.loaded.program(beside)?.attach_to(&place)?);
    }
    run.attach_to(&match hook {
        Some(hook) => place.at(hook),
        None => place,
    })?;
    let (mut near, mut far) = connection();
    map.set_fd(&0u32.to_ne_bytes(), far.as_fd())?;
    near.write_all(b"counted").unwrap();
    far.read_exact(&mut [0; 7]).unwrap();
    Ok(())
}

/// What a socket of the map sends.
fn saying(run: &Run) -> Result<(), Stop> {
    let map = Map::create("sockets", MapType::SOCKMAP, 4, 8, 1)?;
    run.attach_to(&SocketMap::new(&map))?;
    let (mut near, mut far) = connection();
    map.set_fd(&0u32.to_ne_bytes(), near.as_fd())?;
    near.write_all(b"counted").unwrap();
    far.read_exact(&mut [0; 7]).unwrap();
    Ok(())
}
