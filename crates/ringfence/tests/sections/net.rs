//! Packets and sockets.

use std::net::{TcpListener, TcpStream, UdpSocket};

use ringfence::hook::{NetNamespace, SocketFilter, Tc, Xdp};

use crate::row::{Row, Run, Stop};

const fn row(section: &'static str, fire: crate::row::Fire) -> Row {
    Row::new("sections_net", section, fire)
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("socket", filtering),
    row("sk_reuseport", not_yet),
    row("sk_reuseport/migrate", not_yet),
    row("tc/ingress", |run| sending(run, &Tc::new("lo").ingress())),
    row("tc/egress", |run| sending(run, &Tc::new("lo").egress())),
    row("tcx/ingress", |run| sending(run, &Tc::new("lo"))),
    row("tcx/egress", |run| sending(run, &Tc::new("lo"))),
    row("tc", |run| sending(run, &Tc::new("lo").ingress())),
    row("classifier", |run| sending(run, &Tc::new("lo").egress())),
    row("action", Run::test_run),
    row("netkit/primary", not_yet),
    row("netkit/peer", not_yet),
    row("xdp", |run| sending(run, &Xdp::new("lo").generic())),
    row("xdp.frags", |run| sending(run, &Xdp::new("lo").generic())),
    row("xdp/devmap", not_yet),
    row("xdp.frags/devmap", not_yet),
    row("xdp/cpumap", not_yet),
    row("xdp.frags/cpumap", not_yet),
    row("lwt_in", Run::test_run),
    row("lwt_out", Run::test_run),
    row("lwt_xmit", Run::test_run),
    row("lwt_seg6local", Run::test_run),
    row("sk_skb", not_yet),
    row("sk_skb/stream_parser", not_yet),
    row("sk_skb/stream_verdict", not_yet),
    row("sk_skb/verdict", not_yet),
    row("sk_msg", not_yet),
    row("lirc_mode2", not_yet),
    row("flow_dissector", Run::test_run),
    row("sk_lookup", looking_up),
    row("netfilter", not_yet),
];

fn not_yet(_: &Run) -> Result<(), Stop> {
    Err(Stop::NotYet("Ringfence does not attach there yet"))
}

/// A packet over the loopback device.
fn send() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"counted", receiver.local_addr().unwrap()).unwrap();
}

fn sending(run: &Run, hook: &impl ringfence::hook::Hook) -> Result<(), Stop> {
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

fn looking_up(run: &Run) -> Result<(), Stop> {
    run.attach_to(&NetNamespace::own())?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Ok(())
}
