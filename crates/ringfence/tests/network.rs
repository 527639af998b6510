//! XDP and tc on a pair of devices in network namespaces of their own: what is sent is counted, exactly.

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use common::{load_object, load_since};
use ringfence::hook::{Tc, Xdp};
use ringfence::{Kind, LinkDetails, Loaded, Settings};

/// Two network namespaces with a pair of devices between them; gone when dropped.
struct Wire {
    near: String,
    far: String,
}

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Wire {
    fn new(name: &str) -> Wire {
        let (near, far) =
            (format!("rf-{name}-{}-a", std::process::id()), format!("rf-{name}-{}-b", std::process::id()));
        let wire = Wire { near, far };
        let Wire { near, far } = &wire;
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!("-n {near} link add wire type veth peer name wire netns {far}"));
        for (space, address) in [(near, NEAR), (far, FAR)] {
            // A thread sees the settings of the namespace that it is in.
            Wire::inside(space, || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
            ip(&format!("-n {space} addr add {address}/24 dev wire"));
            ip(&format!("-n {space} link set wire up"));
        }
        // No address resolution: every frame is one that the test sends.
        for (here, there, address) in [(near, far, FAR), (far, near, NEAR)] {
            let output = Command::new("ip").args(["-n", there, "-br", "link", "show", "wire"]).output().unwrap();
            let mac = String::from_utf8(output.stdout).unwrap().split_whitespace().nth(2).unwrap().to_owned();
            ip(&format!("-n {here} neigh replace {address} lladdr {mac} dev wire nud permanent"));
        }
        wire
    }

    /// Runs it in one of the namespaces, on a thread of its own.
    fn inside<T: Send>(space: &str, run: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(space);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = std::fs::File::open(path).unwrap();
                ringfence_sys::enter_network_namespace(namespace.as_fd()).unwrap();
                run()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends UDP packets from the far end to the near one.
    fn send(&self, count: usize) {
        Wire::inside(&self.far, || {
            let socket = UdpSocket::bind((FAR, 0)).unwrap();
            for _ in 0..count {
                socket.send_to(b"counted", (NEAR, 9)).unwrap();
            }
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for space in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

fn packets(loaded: &Loaded, key: u32) -> u64 {
    let table = loaded.map("packets").unwrap().per_cpu::<u32, u64>().unwrap();
    table.get(&key).unwrap().unwrap().iter().sum()
}

#[test]
fn xdp_counts_every_frame() {
    let wire = Wire::new("xdp");
    let loaded = load_object("net", Settings::new().only(["ipv4"]));
    let program = loaded.program("ipv4").unwrap();
    for (place, sent) in [(Xdp::new("wire").generic(), 100), (Xdp::new("wire").native(), 250), (Xdp::new("wire"), 1)] {
        let before = packets(&loaded, 0);
        let link = Wire::inside(&wire.near, || program.attach_to(&place)).unwrap();
        assert!(matches!(link.info().unwrap().unwrap().details, LinkDetails::Xdp { .. }));
        wire.send(sent);
        assert_eq!(packets(&loaded, 0) - before, sent as u64);
        let second = Wire::inside(&wire.near, || program.attach_to(&place)).unwrap_err();
        assert!(second.to_string().contains("it has a program already: `ipv4`"), "{second}");
        assert_eq!(second.kind(), Kind::Io);
        drop(link);
        wire.send(3);
        assert_eq!(packets(&loaded, 0) - before, sent as u64, "it is off");
    }
    let error = Wire::inside(&wire.near, || program.attach_to(&Xdp::new("wrie"))).unwrap_err();
    assert!(error.to_string().contains("there is lo, wire"), "{error}");
}

#[test]
fn another_program_takes_its_place_without_a_gap() {
    let wire = Wire::new("swap");
    let load = || load_object("net", Settings::new().only(["ipv4", "sockets"]));
    let (old, new) = (load(), load());
    let mut link = Wire::inside(&wire.near, || old.program("ipv4").unwrap().attach_to(&Xdp::new("wire"))).unwrap();
    wire.send(10);
    link.update(new.program("ipv4").unwrap()).unwrap();
    wire.send(20);
    assert_eq!((packets(&old, 0), packets(&new, 0)), (10, 20));
    assert!(link.update(new.program("sockets").unwrap()).unwrap_err().to_string().contains("another type"));
}

#[test]
fn tc_on_both_sides() {
    let Some(loaded) = load_since((6, 6), "net", Settings::new()) else { return };
    let wire = Wire::new("tc");
    let both = loaded.program("either_side").unwrap();
    let near =
        |place: &Tc, program: &str| Wire::inside(&wire.near, || loaded.program(program).unwrap().attach_to(place));
    let error = near(&Tc::new("wire"), "either_side").unwrap_err();
    assert!(error.to_string().contains("say `ingress` or `egress`"), "{error}");
    let ingress = near(&Tc::new("wire").ingress(), "either_side").unwrap();
    let again = near(&Tc::new("wire").ingress(), "either_side").unwrap_err();
    assert!(again.to_string().contains("attached there already"), "{again}");
    let other = load_object("net", Settings::new());
    let before = Tc::new("wire").ingress().first();
    let first = Wire::inside(&wire.near, || other.program("either_side").unwrap().attach_to(&before)).unwrap();
    let egress = Wire::inside(&wire.far, || loaded.program("egress").unwrap().attach_to(&Tc::new("wire"))).unwrap();
    assert_eq!((ingress.hook(), egress.hook()), ("tc ingress of device", "tc egress of device"));
    wire.send(40);
    // The first says "go on with the next" (TCX_NEXT): both see the packet.
    assert_eq!((packets(&loaded, 1), packets(&other, 1), packets(&loaded, 2)), (40, 40, 40));
    drop((ingress, first, egress));
    wire.send(5);
    assert_eq!((packets(&loaded, 1), packets(&loaded, 2)), (40, 40));
    assert_eq!(both.attach().unwrap_err().kind(), Kind::Invalid);
}
