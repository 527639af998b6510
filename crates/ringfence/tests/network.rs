//! XDP, traffic control, netkit and netfilter on a pair of devices in network namespaces of their own: what is sent is
//! counted, exactly.

mod common;

use std::os::fd::AsFd;

use common::load_object;
use common::net::{Space, WIRE, Wire, index, set_mtu};
use ringfence::hook::{Family, Neighbour, NetNamespace, Netfilter, Netkit, Step, Tc, Xdp};
use ringfence::{AttachType, Kernel, Kind, Link, LinkDetails, Loaded, Settings};
use ringfence_sys::netlink::Netlink;
use ringfence_sys::rtnetlink::Side;

fn packets(loaded: &Loaded, key: u32) -> u64 {
    let table = loaded.map("packets").unwrap().per_cpu::<u32, u64>().unwrap();
    table.get(&key).unwrap().unwrap().iter().sum()
}

#[test]
fn xdp_counts_every_frame() {
    let wire = Wire::veth("xdp");
    let near = wire.near.namespace();
    let loaded = load_object("net", Settings::new());
    let program = loaded.program("ipv4").unwrap();
    for (place, sent) in [(Xdp::new(WIRE).generic(), 100), (Xdp::new(WIRE).native(), 250), (Xdp::new(WIRE), 1)] {
        let before = packets(&loaded, 0);
        let link = program.attach_to(&near.hook(place.clone())).unwrap();
        assert!(matches!(link.info().unwrap().unwrap().details, LinkDetails::Xdp { .. }));
        wire.send(sent);
        assert_eq!(packets(&loaded, 0) - before, sent as u64);
        let second = program.attach_to(&near.hook(place.clone())).unwrap_err();
        assert!(second.to_string().contains("it has a program already: `ipv4`"), "{second}");
        assert_eq!(second.kind(), Kind::Io);
        drop(link);
        wire.send(3);
        assert_eq!(packets(&loaded, 0) - before, sent as u64, "it is off");
    }
    let error = wire.near.inside(|| program.attach_to(&Xdp::new("wrie"))).unwrap_err();
    assert!(error.to_string().contains("there is lo, wire"), "{error}");
}

#[test]
fn another_program_takes_its_place_without_a_gap() {
    let wire = Wire::veth("swap");
    let (old, new) = (load_object("net", Settings::new()), load_object("net", Settings::new()));
    let mut link = wire.near.inside(|| old.program("ipv4").unwrap().attach_to(&Xdp::new(WIRE))).unwrap();
    wire.send(10);
    link.update(new.program("ipv4").unwrap()).unwrap();
    wire.send(20);
    assert_eq!((packets(&old, 0), packets(&new, 0)), (10, 20));
    assert!(link.update(new.program("sockets").unwrap()).unwrap_err().to_string().contains("another type"));
}

/// XDP by messages, as before there were links: what is there is known by the program that is expected.
#[test]
fn xdp_without_a_link() {
    let wire = Wire::veth("xdpnl");
    let near = wire.near.namespace();
    let (old, new) = (load_object("net", Settings::new()), load_object("net", Settings::new()));
    let (one, two) = (old.program("ipv4").unwrap(), new.program("ipv4").unwrap());
    for place in [Xdp::new(WIRE).generic(), Xdp::new(WIRE).native(), Xdp::new(WIRE)] {
        let before = (packets(&old, 0), packets(&new, 0));
        let counts = || (packets(&old, 0) - before.0, packets(&new, 0) - before.1);
        let place = near.hook(place.without_link());
        let mut link = one.attach_to(&place).unwrap();
        assert_eq!(link.info().unwrap(), None);
        wire.send(10);
        let taken = two.attach_to(&place).unwrap_err().to_string();
        assert!(taken.contains("without a link: `ipv4`"), "{taken}");
        let taken = two.attach_to(&near.hook(Xdp::new(WIRE).generic())).unwrap_err().to_string();
        assert!(taken.contains("it has a program already"), "{taken}");
        link.update(two).unwrap();
        wire.send(20);
        assert_eq!(counts(), (10, 20));
        let wrong = link.replace(one, one).unwrap_err().to_string();
        assert!(wrong.contains("another program than `ipv4` is there"), "{wrong}");
        link.replace(two, one).unwrap();
        wire.send(3);
        assert_eq!(counts(), (13, 20));
        link.detach().unwrap();
        wire.send(5);
        assert_eq!(counts(), (13, 20));
        assert_eq!(wire.near.inside(|| Netlink::open().unwrap().xdp(index(WIRE)).unwrap().any()), None);
    }
}

/// A program that reads no fragments is refused where packets come in several, with what to do.
#[test]
fn xdp_with_fragments() {
    if Kernel::running().version_code() < 5 << 16 | 18 << 8 {
        println!("skipped: programs for packets in fragments came with Linux 5.18");
        return;
    }
    let wire = Wire::veth("frags");
    let near = wire.near.namespace();
    for space in [&wire.near, &wire.far] {
        space.inside(|| set_mtu(WIRE, 9000));
    }
    let (plain, loaded) = (load_object("net", Settings::new()), load_object("frags", Settings::new()));
    let native = near.hook(Xdp::new(WIRE).native());
    let error = plain.program("ipv4").unwrap().attach_to(&native).unwrap_err();
    assert!(error.to_string().contains("xdp.frags"), "{error}");
    let link = loaded.program("fragments").unwrap().attach_to(&native).unwrap();
    wire.far.inside(|| {
        let socket = std::net::UdpSocket::bind((common::net::FAR, 0)).unwrap();
        (0..4).for_each(|_| assert_eq!(socket.send_to(&[7; 8000], (common::net::NEAR, 9)).unwrap(), 8000));
    });
    assert_eq!(packets(&loaded, 6), 4);
    drop(link);
}

/// Kernels before 6.6 have no links here: the same hook takes filters then.
fn has_tcx() -> bool {
    Kernel::running().version_code() >= 6 << 16 | 6 << 8
}

/// All that traffic control holds at the near end: kind of the qdisc, number of filters on both sides.
fn filters(space: &Space) -> (Option<String>, usize) {
    space.inside(|| {
        let (netlink, index) = (Netlink::open().unwrap(), index(WIRE));
        let count = |side| netlink.filters(index, side).unwrap().len();
        (netlink.qdisc(index).unwrap(), count(Side::Ingress) + count(Side::Egress))
    })
}

#[test]
fn tc_on_both_sides() {
    let wire = Wire::veth("tc");
    let (near, far) = (wire.near.namespace(), wire.far.namespace());
    let (loaded, other) = (load_object("net", Settings::new()), load_object("net", Settings::new()));
    let both = loaded.program("either_side").unwrap();
    let error = both.attach_to(&near.hook(Tc::new(WIRE))).unwrap_err();
    assert!(error.to_string().contains("say `ingress` or `egress`"), "{error}");
    let ingress = both.attach_to(&near.hook(Tc::new(WIRE).ingress())).unwrap();
    let before = near.hook(Tc::new(WIRE).ingress().first());
    let first = other.program("either_side").unwrap().attach_to(&before).unwrap();
    let egress = loaded.program("egress").unwrap().attach_to(&far.hook(Tc::new(WIRE))).unwrap();
    assert_eq!((ingress.hook(), egress.hook()), ("tc ingress of device", "tc egress of device"));
    assert_eq!(ingress.info().unwrap().is_some(), has_tcx());
    wire.send(40);
    // The first says "go on with the next" (TCX_NEXT, TC_ACT_UNSPEC): both see the packet.
    assert_eq!((packets(&loaded, 1), packets(&other, 1), packets(&loaded, 2)), (40, 40, 40));
    if has_tcx() {
        let again = both.attach_to(&near.hook(Tc::new(WIRE).ingress())).unwrap_err();
        assert!(again.to_string().contains("attached there already"), "{again}");
    } else {
        assert_eq!(filters(&wire.near), (Some("clsact".to_owned()), 2));
        let exact = both.attach_to(&near.hook(Tc::new(WIRE).ingress().before(both))).unwrap_err();
        assert_eq!(exact.kind(), Kind::Unsupported);
    }
    drop((ingress, first, egress));
    wire.send(5);
    assert_eq!((packets(&loaded, 1), packets(&loaded, 2)), (40, 40));
    assert_eq!((filters(&wire.near), filters(&wire.far)), ((None, 0), (None, 0)));
    assert_eq!(both.attach().unwrap_err().kind(), Kind::Invalid);
    let error = loaded.program("ipv4").unwrap().attach_to(&near.hook(Tc::new(WIRE).ingress())).unwrap_err();
    assert!(error.to_string().contains("not for traffic control"), "{error}");
}

fn id(program: &ringfence::Program) -> u32 {
    program.info().unwrap().id
}

/// Before and after others, by descriptor and by id; at a revision; replaced where the old one is named.
#[test]
fn tc_links_in_order() {
    if !has_tcx() {
        println!("skipped: the order of tc programs needs links (Linux 6.6)");
        return;
    }
    let wire = Wire::veth("order");
    let near = wire.near.namespace();
    let objects: Vec<Loaded> = (0..6).map(|_| load_object("net", Settings::new().only(["either_side"]))).collect();
    let programs: Vec<_> = objects.iter().map(|loaded| loaded.program("either_side").unwrap()).collect();
    let tc = || Tc::new(WIRE).ingress();
    let attach = |number: usize, place: Tc| programs[number].attach_to(&near.hook(place));
    let listed = || wire.near.inside(|| tc().list().unwrap());
    let order = || -> Vec<usize> {
        let place = |of: u32| programs.iter().position(|program| id(program) == of).unwrap();
        listed().programs.iter().map(|(program, _)| place(*program)).collect()
    };

    let zero = attach(0, tc()).unwrap();
    let one = attach(1, tc().last()).unwrap();
    let two = attach(2, tc().before(&one)).unwrap();
    let three = attach(3, tc().after(Neighbour::program_id(id(programs[0])))).unwrap();
    let zero_id = zero.info().unwrap().unwrap().id;
    let four = attach(4, tc().before(Neighbour::link_id(zero_id))).unwrap();
    assert_eq!(order(), [4, 0, 3, 2, 1]);
    let revision = listed().revision;
    assert_eq!(listed().programs[1].1, zero_id);

    let stale = attach(5, tc().revision(revision - 1)).unwrap_err();
    assert!(stale.to_string().contains("no longer at revision"), "{stale}");
    let absent = attach(5, tc().after(programs[5])).unwrap_err();
    assert!(absent.to_string().contains("not among the programs"), "{absent}");
    let mut five = attach(5, tc().revision(revision).before(programs[3])).unwrap();
    assert_eq!(order(), [4, 0, 5, 3, 2, 1]);

    drop(four);
    assert_eq!(order(), [0, 5, 3, 2, 1]);
    let error = five.replace(programs[0], programs[4]).unwrap_err();
    assert!(error.to_string().contains("another program than `either_side`"), "{error}");
    five.replace(programs[5], programs[4]).unwrap();
    assert_eq!(order(), [0, 4, 3, 2, 1]);
    wire.send(7);
    let counts: Vec<u64> = objects.iter().map(|loaded| packets(loaded, 1)).collect();
    assert_eq!(counts, [7, 7, 7, 7, 7, 0]);
    drop((zero, one, two, three, five));
    assert_eq!(order(), []);
}

/// Filters of clsact: side by side, replaced in place, and gone with their qdisc, which stays when others use it.
#[test]
fn tc_by_filters() {
    let wire = Wire::veth("cls");
    let near = wire.near.namespace();
    let (loaded, other) = (load_object("net", Settings::new()), load_object("net", Settings::new()));
    let [one, two] = [&loaded, &other].map(|loaded| loaded.program("classify").unwrap());
    let counts = || (packets(&loaded, 1), packets(&other, 1));
    let place = |priority, handle| near.hook(Tc::new(WIRE).ingress().filter(priority, handle));

    let mut first = one.attach_to(&place(0, 0)).unwrap();
    assert_eq!(filters(&wire.near), (Some("clsact".to_owned()), 1));
    let second = two.attach_to(&place(7, 3)).unwrap();
    wire.send(10);
    assert_eq!(counts(), (10, 10));
    let seen = wire.near.inside(|| Netlink::open().unwrap().filters(index(WIRE), Side::Ingress).unwrap());
    let seen: Vec<_> =
        seen.iter().map(|one| (one.priority, one.handle, one.kind.as_str(), one.name.as_str())).collect();
    let name = format!("classify ringfence {}", std::process::id());
    assert_eq!(seen, [(7, 3, "bpf", name.as_str()), (0xc000, 1, "bpf", name.as_str())]);
    let taken = two.attach_to(&place(7, 3)).unwrap_err();
    assert!(taken.to_string().contains("of that priority and handle"), "{taken}");

    first.replace(one, two).unwrap();
    assert!(first.replace(one, two).unwrap_err().to_string().contains("another program than"));
    wire.send(1);
    assert_eq!((counts(), filters(&wire.near).1), ((10, 12), 2));
    first.update(one).unwrap();

    // The one that made the qdisc goes first.
    first.detach().unwrap();
    assert_eq!(filters(&wire.near), (Some("clsact".to_owned()), 1));
    wire.send(1);
    assert_eq!(counts(), (10, 13));
    drop(second);
    assert_eq!(filters(&wire.near), (None, 0));

    // Somebody else's qdisc stays.
    let netlink = wire.near.inside(|| Netlink::open().unwrap());
    let device = wire.near.inside(|| index(WIRE));
    netlink.clsact_add(device).unwrap();
    drop(one.attach_to(&place(0, 0)).unwrap());
    assert_eq!(filters(&wire.near), (Some("clsact".to_owned()), 0));
    netlink.clsact_remove(device).unwrap();
    // A refusal leaves no qdisc.
    let error = one.attach_to(&near.hook(Tc::index(0x7fff_0000).ingress().filter(0, 0))).unwrap_err();
    assert!(error.to_string().contains("the device is gone"), "{error}");
    let alien = near.hook(Tc::new(WIRE).egress().filter(0, 0));
    drop(one.attach_to(&alien).unwrap());
    assert_eq!(filters(&wire.near), (None, 0));
}

#[test]
fn an_action_of_a_filter() {
    let wire = Wire::veth("act");
    let loaded = load_object("action", Settings::new());
    let place = wire.near.namespace().hook(Tc::new(WIRE).ingress());
    let mut link = match loaded.program("act").unwrap().attach_to(&place) {
        Ok(link) => link,
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("skipped: {error}");
            assert!(error.to_string().contains("act_bpf"), "{error}");
            assert_eq!(filters(&wire.near), (None, 0), "the qdisc that was made for it is gone");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let count = |loaded: &Loaded| loaded.variable("packets").unwrap().get::<u64>().unwrap();
    wire.send(12);
    assert_eq!(count(&loaded), 12);
    let other = load_object("action", Settings::new());
    link.update(other.program("act").unwrap()).unwrap();
    wire.send(3);
    assert_eq!((count(&loaded), count(&other)), (12, 3));
    drop(link);
    wire.send(3);
    assert_eq!((count(&other), filters(&wire.near)), (3, (None, 0)));
}

#[test]
fn netkit_on_both_sides() {
    let Some(wire) = Wire::netkit("nk") else { return };
    let (near, far) = (wire.near.namespace(), wire.far.namespace());
    let (loaded, other) = (load_object("netkit", Settings::new()), load_object("netkit", Settings::new()));
    let mut primary = loaded.program("primary").unwrap().attach_to(&near.hook(Netkit::new(WIRE))).unwrap();
    let peer = loaded.program("peer").unwrap().attach_to(&near.hook(Netkit::new(WIRE))).unwrap();
    let first = other.program("peer").unwrap().attach_to(&near.hook(Netkit::new(WIRE).before(&peer))).unwrap();
    let listed = wire.near.inside(|| Netkit::new(WIRE).peer().list().unwrap());
    let ids: Vec<u32> = listed.programs.iter().map(|(program, _)| *program).collect();
    assert_eq!(ids, [id(other.program("peer").unwrap()), id(loaded.program("peer").unwrap())]);
    assert!(matches!(
        peer.info().unwrap().unwrap().details,
        LinkDetails::Netkit { attach_type: AttachType::NETKIT_PEER, .. }
    ));
    // What the far end sends leaves the peer; what the near end sends leaves the primary device.
    let counts = || (packets(&loaded, 2), packets(&loaded, 3), packets(&other, 3));
    let before = counts();
    wire.send(30);
    assert_eq!((counts().1 - before.1, counts().2 - before.2), (30, 30));
    let before = counts();
    wire.send_back(20);
    assert_eq!(counts().0 - before.0, 20);
    primary.replace(loaded.program("primary").unwrap(), other.program("primary").unwrap()).unwrap();
    let (before, before_other) = (counts(), packets(&other, 2));
    wire.send_back(6);
    assert_eq!((counts().0 - before.0, packets(&other, 2) - before_other), (0, 6));
    let error = loaded.program("peer").unwrap().attach_to(&far.hook(Netkit::new(WIRE))).unwrap_err();
    assert!(error.to_string().contains("by the primary device"), "{error}");
    drop((primary, peer, first));
    let error = loaded.program("peer").unwrap().attach_to(&near.hook(Netkit::new("lo"))).unwrap_err();
    assert!(error.to_string().contains("no netkit device"), "{error}");
    let before = counts();
    wire.send(3);
    assert_eq!(counts().1, before.1);
}

#[test]
fn netfilter_at_two_steps() {
    let Some(loaded) = common::load_since((6, 4), "netfilter", Settings::new()) else { return };
    let wire = Wire::veth("nf");
    let (near, far) = (wire.near.namespace(), wire.far.namespace());
    let program = loaded.program("hooked").unwrap();
    let count = || loaded.variable("packets").unwrap().get::<u64>().unwrap();
    let input = Netfilter::new(Family::V4, Step::Input).priority(-5);
    let link = program.attach_to(&near.hook(input)).unwrap();
    let expected = LinkDetails::Netfilter { family: 2, hook: 1, priority: -5, flags: 0 };
    assert_eq!(link.info().unwrap().unwrap().details, expected);
    wire.send(11);
    assert_eq!(count(), 11);
    let output = program.attach_to(&far.hook(Netfilter::new(Family::V4, Step::Output))).unwrap();
    let other_family = program.attach_to(&far.hook(Netfilter::new(Family::V6, Step::Output))).unwrap();
    wire.send(4);
    assert_eq!(count(), 11 + 8);
    let taken = program.attach_to(&near.hook(input)).unwrap_err();
    assert!(taken.to_string().contains("take another priority"), "{taken}");
    let error = program.attach_to(&near.hook(input.priority(i32::MIN))).unwrap_err();
    assert!(error.to_string().contains("the kernel's own"), "{error}");
    drop((link, output, other_family));
    wire.send(4);
    assert_eq!(count(), 19);
    if Kernel::running().version_code() >= 6 << 16 | 6 << 8 {
        match program.attach_to(&near.hook(Netfilter::new(Family::V4, Step::PreRouting).defragmented())) {
            Ok(link) => drop(link),
            Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error}"),
        }
        let early = Netfilter::new(Family::V4, Step::PreRouting).defragmented().priority(-400);
        assert!(program.attach_to(&near.hook(early)).is_err());
    }
    let mut link: Link = program.attach_to(&near.hook(input)).unwrap();
    assert_eq!(link.update(program).unwrap_err().kind(), Kind::Unsupported);
}

fn own_inode() -> u64 {
    rustix::fs::stat("/proc/thread-self/ns/net").unwrap().st_ino
}

/// However it ends, the caller stays where it is; and a namespace can be named in every way.
#[test]
fn inside_of_a_namespace_and_back() {
    let wire = Wire::veth("inside");
    let loaded = load_object("net", Settings::new());
    let program = loaded.program("ipv4").unwrap();
    let home = own_inode();
    let named = wire.near.namespace();
    let there = named.enter(own_inode).unwrap();
    assert_ne!(there, home);

    let fd = std::fs::File::open(format!("/run/netns/{}", wire.near.name)).unwrap();
    assert_eq!(rustix::fs::fstat(&fd).unwrap().st_ino, there);
    for namespace in [
        named.clone(),
        NetNamespace::new(format!("/run/netns/{}", wire.near.name)),
        NetNamespace::from_fd(fd.as_fd().try_clone_to_owned().unwrap()),
    ] {
        let link = program.attach_to(&namespace.hook(Xdp::new(WIRE).generic())).unwrap();
        assert_eq!(own_inode(), home);
        drop(link);
    }
    assert_eq!(NetNamespace::of_process(std::process::id()).enter(own_inode).unwrap(), home);
    assert_eq!(NetNamespace::own().enter(own_inode).unwrap(), home);

    assert!(program.attach_to(&named.hook(Xdp::new("nowhere"))).is_err());
    let absent = program.attach_to(&NetNamespace::named("rf-absent").hook(Xdp::new(WIRE))).unwrap_err();
    assert!(absent.to_string().contains("there is no such network namespace (ENOENT)"), "{absent}");
    let no_namespace = NetNamespace::new("/dev/null").enter(own_inode).unwrap_err();
    assert!(no_namespace.to_string().contains("no network namespace"), "{no_namespace}");
    let panic = std::panic::catch_unwind(|| named.enter(|| panic!("on purpose")));
    assert!(panic.is_err());
    assert_eq!(own_inode(), home);
    // A link by messages keeps what it needs to take itself off, from outside too.
    let link = program.attach_to(&named.hook(Xdp::new(WIRE).generic().without_link())).unwrap();
    drop(link);
    assert_eq!(wire.near.inside(|| Netlink::open().unwrap().xdp(index(WIRE)).unwrap().any()), None);
}
