//! What the processes of a control group do.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use ringfence::AttachType;
use ringfence::hook::Cgroup;

use crate::row::{Row, Run, Stop};
use crate::trace::open_a_file;

const fn row(section: &'static str, fire: crate::row::Fire) -> Row {
    Row::new("sections_cgroup", section, fire)
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("sockops", |run| inside(run, connect4)),
    row("cgroup_skb/ingress", |run| inside(run, connect4)),
    row("cgroup_skb/egress", |run| inside(run, connect4)),
    row("cgroup/skb", |run| inside_at(run, Some(AttachType::CGROUP_INET_EGRESS), connect4)),
    row("cgroup/sock", |run| inside(run, bind4)),
    row("cgroup/sock_create", |run| inside(run, bind4)),
    row("cgroup/sock_release", |run| inside(run, bind4)),
    row("cgroup/post_bind4", |run| inside(run, bind4)),
    row("cgroup/post_bind6", |run| inside(run, bind6)),
    row("cgroup/bind4", |run| inside(run, bind4)),
    row("cgroup/bind6", |run| inside(run, bind6)),
    row("cgroup/connect4", |run| inside(run, connect4)),
    row("cgroup/connect6", |run| inside(run, connect6)),
    row("cgroup/connect_unix", |run| inside(run, connect_unix)),
    row("cgroup/sendmsg4", |run| inside(run, datagram4)),
    row("cgroup/sendmsg6", |run| inside(run, datagram6)),
    row("cgroup/sendmsg_unix", |run| inside(run, datagram_unix)),
    row("cgroup/recvmsg4", |run| inside(run, datagram4)),
    row("cgroup/recvmsg6", |run| inside(run, datagram6)),
    row("cgroup/recvmsg_unix", |run| inside(run, datagram_unix)),
    row("cgroup/getpeername4", |run| inside(run, connect4)),
    row("cgroup/getpeername6", |run| inside(run, connect6)),
    row("cgroup/getpeername_unix", |run| inside(run, connect_unix)),
    row("cgroup/getsockname4", |run| inside(run, connect4)),
    row("cgroup/getsockname6", |run| inside(run, connect6)),
    row("cgroup/getsockname_unix", |run| inside(run, connect_unix)),
    row("cgroup/sysctl", |run| inside(run, || drop(std::fs::read("/proc/sys/kernel/ostype").unwrap()))),
    row("cgroup/getsockopt", |run| inside(run, options)),
    row("cgroup/setsockopt", |run| inside(run, options)),
    row("cgroup/dev", |run| inside(run, open_a_file)),
];

/// A control group that this process has entered; it is left and removed when dropped.
struct Group {
    path: PathBuf,
    before: PathBuf,
}

impl Group {
    fn enter() -> Group {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|words| words[2] == "cgroup2").expect("cgroup2 is mounted")[1].to_owned();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        let before = Path::new(&mount).join(own);
        let path = Path::new(&mount).join(format!("ringfence-sections-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let group = Group { path, before };
        group.move_to(&group.path);
        group
    }

    fn move_to(&self, path: &Path) {
        std::fs::write(path.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.move_to(&self.before);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Attaches it to a control group, and does something in there.
pub(crate) fn inside(run: &Run, act: fn()) -> Result<(), Stop> {
    inside_at(run, None, act)
}

fn inside_at(run: &Run, hook: Option<AttachType>, act: fn()) -> Result<(), Stop> {
    let group = Group::enter();
    let place = Cgroup::new(&group.path);
    let link = run.program().attach_to(&match hook {
        Some(hook) => place.at(hook),
        None => place,
    })?;
    act();
    drop(link);
    Ok(())
}

pub(crate) fn bind4() {
    drop(UdpSocket::bind("127.0.0.1:0").unwrap());
}

fn bind6() {
    drop(UdpSocket::bind("[::1]:0").unwrap());
}

fn connect(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.peer_addr().unwrap();
}

fn connect4() {
    connect("127.0.0.1:0");
}

fn connect6() {
    connect("[::1]:0");
}

fn datagram(address: &str) {
    let (from, to) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
    from.send_to(b"x", to.local_addr().unwrap()).unwrap();
    to.recv_from(&mut [0; 8]).unwrap();
}

fn datagram4() {
    datagram("127.0.0.1:0");
}

fn datagram6() {
    datagram("[::1]:0");
}

/// A name without a file.
fn unix_name(role: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("ringfence-sections-{}-{role}", std::process::id())).unwrap()
}

fn connect_unix() {
    let listener = UnixListener::bind_addr(&unix_name("listener")).unwrap();
    let stream = UnixStream::connect_addr(&listener.local_addr().unwrap()).unwrap();
    stream.peer_addr().unwrap();
}

fn datagram_unix() {
    let to = UnixDatagram::bind_addr(&unix_name("to")).unwrap();
    let from = UnixDatagram::bind_addr(&unix_name("from")).unwrap();
    from.send_to_addr(b"x", &to.local_addr().unwrap()).unwrap();
    to.recv_from(&mut [0; 8]).unwrap();
}

fn options() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    assert!(socket.broadcast().unwrap());
}
