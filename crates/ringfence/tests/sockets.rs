//! Programs of socket maps, of socket groups, of routes and of network namespaces, each seen to run.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::load_object;
use common::net::{FAR, MAC, NEAR, WIRE, Wire, address, index, neighbour, segment_packet, send};
use ringfence::hook::{Infrared, ReusePort, Route, SocketMap, Tc};
use ringfence::{AttachType, Kernel, Kind, LinkDetails, Loaded, Map, MapType, Settings};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

fn counter(loaded: &Loaded, name: &str) -> u64 {
    loaded.variable(name).unwrap().get().unwrap()
}

fn since(major: u32, minor: u32) -> bool {
    Kernel::running().version_code() >= major << 16 | minor << 8
}

/// Two ends of a connection of this machine with itself.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_read_timeout(PATIENCE).unwrap();
    far.set_read_timeout(PATIENCE).unwrap();
    (near, far)
}

fn speak(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).unwrap();
    let mut heard = vec![0; text.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
}

#[test]
fn a_parser_and_a_verdict() {
    let loaded = load_object("sockets", Settings::new().only(["parse", "verdict"]));
    let map = loaded.map("received").unwrap();
    let place = SocketMap::new(map);
    let parser = loaded.program("parse").unwrap().attach_to(&place).unwrap();
    let verdict = loaded.program("verdict").unwrap().attach_to(&place).unwrap();
    let link =
        since(6, 10).then(|| LinkDetails::Sockmap { map_id: map.id(), attach_type: AttachType::SK_SKB_STREAM_VERDICT });
    assert_eq!(verdict.info().unwrap().map(|info| info.details), link);
    let (mut near, mut far) = connection();
    map.set_fd(&0u32.to_ne_bytes(), far.as_fd()).unwrap();
    speak(&mut near, &mut far, b"one");
    speak(&mut near, &mut far, b"another");
    assert!(counter(&loaded, "parsed") >= 2);
    assert_eq!(counter(&loaded, "judged"), 2);
    if since(5, 18) {
        let taken = loaded.program("verdict").unwrap().attach_to(&place).unwrap_err();
        assert!(taken.to_string().contains("has such a program already"), "{taken}");
    }
    let other = load_object("sockets", Settings::new().only(["verdict"]));
    let mut verdict = verdict;
    // Sockets keep the program that was there when they were put in (sock_map_link).
    verdict.replace(loaded.program("verdict").unwrap(), other.program("verdict").unwrap()).unwrap();
    speak(&mut near, &mut far, b"to the old one");
    let (mut later_near, mut later_far) = connection();
    map.set_fd(&1u32.to_ne_bytes(), later_far.as_fd()).unwrap();
    speak(&mut later_near, &mut later_far, b"to the new one");
    assert_eq!((counter(&loaded, "judged"), counter(&other, "judged")), (3, 1));
    map.delete(&0u32.to_ne_bytes()).unwrap();
    speak(&mut near, &mut far, b"to none");
    drop((parser, verdict));
    let (mut near, mut far) = connection();
    map.set_fd(&0u32.to_ne_bytes(), far.as_fd()).unwrap();
    speak(&mut near, &mut far, b"to none");
    assert_eq!((counter(&loaded, "judged"), counter(&other, "judged")), (3, 1));
}

#[test]
fn a_verdict_alone() {
    let Some(loaded) = common::load_since((5, 13), "sockets", Settings::new().only(["alone"])) else { return };
    let map = loaded.map("received").unwrap();
    let link = loaded.program("alone").unwrap().attach_to(&SocketMap::new(map)).unwrap();
    let (mut near, mut far) = connection();
    map.set_fd(&1u32.to_ne_bytes(), far.as_fd()).unwrap();
    speak(&mut near, &mut far, b"heard");
    assert_eq!(counter(&loaded, "judged"), 1);
    drop(link);
}

/// A section that does not say what the program does.
#[test]
fn a_verdict_that_the_user_names() {
    let loaded = load_object("sockets", Settings::new().only(["drop", "message"]));
    let map = loaded.map("received").unwrap();
    let program = loaded.program("drop").unwrap();
    let error = program.attach_to(&SocketMap::new(map)).unwrap_err();
    assert!(error.to_string().contains("does not say what it does"), "{error}");
    let place = SocketMap::new(map).at(AttachType::SK_SKB_STREAM_VERDICT);
    let link = program.attach_to(&place).unwrap();
    let (mut near, mut far) = connection();
    map.set_fd(&0u32.to_ne_bytes(), far.as_fd()).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    near.write_all(b"lost").unwrap();
    assert!(far.read(&mut [0; 8]).is_err(), "it was dropped");
    assert_eq!(counter(&loaded, "judged"), 1);
    link.detach().unwrap();

    let array = Map::create("no_sockets", MapType::ARRAY, 4, 8, 1).unwrap();
    let error = loaded.program("message").unwrap().attach_to(&SocketMap::new(&array)).unwrap_err();
    assert!(error.to_string().contains("the map is no socket map"), "{error}");
}

#[test]
fn messages_that_are_sent() {
    let loaded = load_object("sockets", Settings::new().only(["message"]));
    let map = loaded.map("sent").unwrap();
    let link = loaded.program("message").unwrap().attach_to(&SocketMap::new(map)).unwrap();
    let (mut near, mut far) = connection();
    map.set_fd(&7u32.to_ne_bytes(), near.as_fd()).unwrap();
    speak(&mut near, &mut far, b"twelve bytes");
    assert_eq!(counter(&loaded, "bytes_sent"), 12);
    drop(link);
}

/// Two sockets of one address; the last parameter of socket options is an int.
fn group() -> [UdpSocket; 2] {
    let bind = |port| {
        use rustix::net::{AddressFamily, SocketType, sockopt};
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let first = bind(0);
    let port = first.local_addr().unwrap().port();
    [first, bind(port)]
}

#[test]
fn one_of_a_group_is_chosen() {
    let loaded = load_object("sockets", Settings::new().only(["choose"]));
    let program = loaded.program("choose").unwrap();
    let sockets = group();
    let map = loaded.map("group").unwrap();
    for (key, socket) in [0u32, 1].into_iter().zip(&sockets) {
        map.set_fd(&key.to_ne_bytes(), socket.as_fd()).unwrap();
    }
    let mut link = program.attach_to(&ReusePort::new(&sockets[0])).unwrap();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for choice in [1u32, 0, 0, 1, 1] {
        loaded.variable("choice").unwrap().set(&choice).unwrap();
        sender.send_to(b"for one of two", sockets[0].local_addr().unwrap()).unwrap();
        let received = sockets.each_ref().map(|socket| socket.recv(&mut [0; 32]).is_ok());
        assert_eq!(received, [choice == 0, choice == 1]);
    }
    assert_eq!(counter(&loaded, "chosen"), 5);
    link.update(program).unwrap();
    assert_eq!(link.replace(program, program).unwrap_err().kind(), Kind::Unsupported);
    drop(link);
    sender.send_to(b"unseen", sockets[0].local_addr().unwrap()).unwrap();
    assert_eq!(counter(&loaded, "chosen"), 5);
    let alone = TcpStream::connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let error = program.attach_to(&ReusePort::new(&alone.map_or_else(|_| sender.into(), OwnedFd::from))).unwrap_err();
    assert!(error.to_string().contains("the socket is in none"), "{error}");
}

/// Packets along routes: what goes out, what is only passed on.
#[test]
fn routes() {
    let loaded = load_object("routes", Settings::new().only(["on_in", "on_out", "on_xmit"]));
    let wire = Wire::veth("lwt");
    let far = wire.far.namespace();
    let beyond = Ipv4Addr::new(10, 78, 0, 1);
    let route = |via: Ipv4Addr| Route::new(Ipv4Addr::new(10, 78, 0, 0).into(), 24, WIRE).via(via.into());

    for (program, name) in [("on_out", "out"), ("on_xmit", "xmit")] {
        let program = loaded.program(program).unwrap();
        let place = far.hook(route(NEAR));
        let mut link = program.attach_to(&place).unwrap();
        wire.far.inside(|| send(beyond, 6));
        assert_eq!(counter(&loaded, name), 6);
        let again = program.attach_to(&place).unwrap_err();
        assert!(again.to_string().contains("there is such a route already"), "{again}");
        let other = load_object("routes", Settings::new().only(["on_in", program.name()]));
        link.replace(program, other.program(program.name()).unwrap()).unwrap();
        assert!(link.update(other.program("on_in").unwrap()).is_err());
        wire.far.inside(|| send(beyond, 2));
        assert_eq!((counter(&loaded, name), counter(&other, name)), (6, 2));
        drop(link);
        let gone = wire.far.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (beyond, 9)));
        assert!(gone.is_err(), "the route is gone");
    }

    // The near end passes on what is not for it.
    wire.near.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let onward = Route::new(Ipv4Addr::new(10, 78, 0, 0).into(), 24, "lo");
    let to_near = load_object("routes", Settings::new().only(["on_out"]));
    let there = to_near.program("on_out").unwrap().attach_to(&far.hook(route(NEAR))).unwrap();
    let passed = loaded.program("on_in").unwrap().attach_to(&wire.near.namespace().hook(onward)).unwrap();
    wire.far.inside(|| send(beyond, 5));
    assert_eq!(counter(&loaded, "in"), 5);
    drop((there, passed));

    let error =
        loaded.program("on_in").unwrap().attach_to(&far.hook(Route::new(FAR.into(), 24, "nothing"))).unwrap_err();
    assert!(error.to_string().contains("no such device"), "{error}");
    let tc = load_object("routes", Settings::new().only(["ask"]));
    let error = tc.program("ask").unwrap().attach_to(&far.hook(route(NEAR))).unwrap_err();
    assert!(error.to_string().contains("not for routes"), "{error}");
}

/// A route to one of our segments: IPv6 packets with a header of segments end there.
#[test]
fn a_segment() {
    let loaded = load_object("routes", Settings::new().only(["on_segment"]));
    let program = loaded.program("on_segment").unwrap();
    let wire = Wire::veth("seg6");
    let near = wire.near.namespace();
    let error = program.attach_to(&near.hook(Route::new(NEAR.into(), 32, "lo"))).unwrap_err();
    assert!(error.to_string().contains("IPv6"), "{error}");
    let segment: Ipv6Addr = "fc00:1::6".parse().unwrap();
    let [here, there]: [Ipv6Addr; 2] = ["fc00:77::1", "fc00:77::2"].map(|text| text.parse().unwrap());
    if !(wire.near.enable_ipv6() && wire.far.enable_ipv6()) {
        println!("skipped: this machine has no IPv6");
        return;
    }
    wire.near.inside(|| address(index(WIRE), here.into(), 64));
    wire.far.inside(|| {
        address(index(WIRE), there.into(), 64);
        neighbour(index(WIRE), here.into(), MAC[0]);
    });
    let link = match program.attach_to(&near.hook(Route::new(segment.into(), 128, WIRE))) {
        Ok(link) => link,
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // The far end only has to find the way to the segment: a route with a program that lets everything pass.
    let way = load_object("routes", Settings::new().only(["on_out"]));
    let place = wire.far.namespace().hook(Route::new(segment.into(), 128, WIRE).via(here.into()));
    let way = (way.program("on_out").unwrap().attach_to(&place).unwrap(), way);
    wire.far.inside(|| segment_packet(there, segment));
    let start = std::time::Instant::now();
    while counter(&loaded, "segment") == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it did not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop((link, way));
}

#[test]
fn a_flow_dissector_of_a_namespace() {
    let loaded = load_object("routes", Settings::new().only(["ask", "dissect"]));
    let wire = Wire::veth("flow");
    let near = wire.near.namespace();
    let asks = loaded.program("ask").unwrap().attach_to(&near.hook(Tc::new(WIRE).ingress())).unwrap();
    let link = loaded.program("dissect").unwrap().attach_to(&near).unwrap();
    wire.send(9);
    assert_eq!(counter(&loaded, "hashed"), 9);
    // Newer kernels ask for the hash a second time.
    let dissected = counter(&loaded, "dissected");
    assert!(dissected >= 9, "{dissected}");
    let taken = loaded.program("dissect").unwrap().attach_to(&near).unwrap_err();
    assert!(taken.to_string().contains("are there already"), "{taken}");
    drop(link);
    wire.send(2);
    assert_eq!((counter(&loaded, "hashed"), counter(&loaded, "dissected")), (11, dissected));
    drop(asks);
}

/// No machine that the tests know has such a device, and their kernels no such programs.
#[test]
fn infrared_needs_a_device() {
    let loaded = load_object("routes", Settings::new().only(["dissect"]));
    let program = loaded.program("dissect").unwrap();
    let error = program.attach_to(&Infrared::new("/dev/lirc-absent")).unwrap_err();
    assert!(error.to_string().contains("it does not exist"), "{error}");
    let error = program.attach_to(&Infrared::new("/dev/null")).unwrap_err();
    assert!(error.to_string().contains("no infrared receiver"), "{error}");
}
