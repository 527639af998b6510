//! Programs are replaced while packets flow, and no packet is lost or passes without one of them: counted at both ends.

mod common;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::load_object;
use common::net::{FAR, NEAR, Space, WIRE, Wire, index};
use ringfence::hook::{Hook, Tc, Xdp};
use ringfence::{Kernel, Loaded, Settings};
use ringfence_sys::netlink::{Message, Netlink};

/// At least so many packets, and at least so many replacements: some devices take 30 ms for one.
const PACKETS: u64 = 5_000;
const REPLACED: u64 = 20;
/// The last packet.
const END: u64 = u64::MAX;
/// Packets under way at most: more than the socket or the device can hold (a driver may give each a page) would be lost by
/// whoever sends too fast.
const WINDOW: u64 = 32;
const PATIENCE: Duration = Duration::from_secs(60);
/// Between packets once there are enough: a replacement waits until every CPU has been elsewhere, which a flood can put off for seconds.
const PAUSE: Duration = Duration::from_micros(100);

/// What the device itself has counted: received, sent.
fn device_counts(space: &Space) -> (u64, u64) {
    const IFLA_STATS64: u16 = 23;
    space.inside(|| {
        let mut head = [0; 16];
        head[4..8].copy_from_slice(&index(WIRE).to_ne_bytes());
        let replies = Netlink::open().unwrap().request(&Message::new(18, 0, &head)).unwrap();
        let statistics = replies[0].attributes(16).get(IFLA_STATS64).unwrap();
        let number = |at: usize| u64::from_ne_bytes(statistics[at..at + 8].try_into().unwrap());
        (number(0), number(8))
    })
}

fn count(loaded: &Loaded, key: u32) -> u64 {
    let table = loaded.map("packets").unwrap().per_cpu::<u32, u64>().unwrap();
    table.get(&key).unwrap().unwrap().iter().sum()
}

/// Sends packets, with at most a window of them on their way, and says how many.
fn sender(received: &AtomicU64, replaced: &AtomicU64) -> u64 {
    let socket = UdpSocket::bind((FAR, 0)).unwrap();
    let start = Instant::now();
    let mut sent = 0;
    while sent < PACKETS || replaced.load(Ordering::Relaxed) < REPLACED {
        while sent - received.load(Ordering::Relaxed) >= WINDOW {
            assert!(start.elapsed() < PATIENCE, "{sent} sent, {} received", received.load(Ordering::Relaxed));
            std::thread::yield_now();
        }
        assert!(start.elapsed() < PATIENCE, "{sent} sent, replaced {} times", replaced.load(Ordering::Relaxed));
        if sent >= PACKETS {
            std::thread::sleep(PAUSE);
        }
        socket.send_to(&sent.to_ne_bytes(), (NEAR, 9)).unwrap();
        sent += 1;
    }
    socket.send_to(&END.to_ne_bytes(), (NEAR, 9)).unwrap();
    sent + 1
}

/// Takes packets in, each of which must be the next one, and says how many.
fn receiver(socket: &UdpSocket, received: &AtomicU64) -> u64 {
    let mut number = [0; 8];
    for expected in 0.. {
        socket.recv(&mut number).unwrap_or_else(|error| panic!("packet {expected} is lost: {error}"));
        match u64::from_ne_bytes(number) {
            END => return expected + 1,
            number => assert_eq!(number, expected, "what is between them is lost"),
        }
        received.store(expected + 1, Ordering::Relaxed);
    }
    unreachable!()
}

/// The program at `place` is replaced as often as it goes while packets flow.
fn replaced_under_traffic(name: &str, place: &(impl Hook + Clone + Sync), program: &'static str, key: u32) {
    let wire = Wire::veth(name);
    let objects = [(); 2].map(|()| load_object("net", Settings::new().only([program])));
    let programs = objects.each_ref().map(|loaded| loaded.program(program).unwrap());
    let mut link = programs[0].attach_to(&wire.near.namespace().hook(place.clone())).unwrap();
    let socket = wire.near.inside(|| UdpSocket::bind((NEAR, 9)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (received, replaced, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (near_before, far_before) = (device_counts(&wire.near), device_counts(&wire.far));

    let [sent, heard] = std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            for turn in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                link.replace(programs[turn % 2], programs[(turn + 1) % 2]).unwrap();
                replaced.fetch_add(1, Ordering::Relaxed);
            }
        });
        let receiving = scope.spawn(|| receiver(&socket, &received));
        let sending = scope.spawn(|| wire.far.inside(|| sender(&received, &replaced)));
        let ends = [sending.join(), receiving.join()];
        done.store(true, Ordering::Relaxed);
        replacing.join().unwrap();
        ends.map(|end| end.unwrap())
    });

    let (seen, replaced) = (objects.each_ref().map(|loaded| count(loaded, key)), replaced.into_inner());
    println!("{name}: {sent} packets, replaced {replaced} times, seen {seen:?}");
    assert_eq!((heard, seen.iter().sum::<u64>()), (sent, sent), "{seen:?}");
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
    let (near, far) = (device_counts(&wire.near), device_counts(&wire.far));
    assert_eq!((near.0 - near_before.0, far.1 - far_before.1), (sent, sent), "the devices' own counts");
}

#[test]
fn xdp_in_the_driver() {
    replaced_under_traffic("txn", &Xdp::new(WIRE).native(), "ipv4", 0);
}

#[test]
fn xdp_in_the_stack() {
    replaced_under_traffic("txg", &Xdp::new(WIRE).generic(), "ipv4", 0);
}

#[test]
fn xdp_without_a_link() {
    replaced_under_traffic("txm", &Xdp::new(WIRE).native().without_link(), "ipv4", 0);
}

#[test]
fn tc_by_what_the_kernel_has() {
    replaced_under_traffic("ttc", &Tc::new(WIRE).ingress(), "classify", 1);
    println!("tc links: {}", Kernel::running().version_code() >= 6 << 16 | 6 << 8);
}

#[test]
fn tc_by_a_filter() {
    replaced_under_traffic("tcf", &Tc::new(WIRE).ingress().filter(0, 0), "classify", 1);
}
