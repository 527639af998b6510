//! Where programs go whose sections do not say it.

use std::path::{Path, PathBuf};

use ringfence::hook::{Cgroup, Hook, NetNamespace, Netkit, Tc, Xdp};
use ringfence::{AttachType, Link, Program, ProgramType};

/// Places that the user gives.
#[derive(clap::Args)]
pub struct Places {
    /// Attach XDP, tc and netkit programs to this network device. Where the section does not say which side of it (`tc`,
    /// `classifier`, `action`): to what comes in.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Look for the device in this network namespace, and attach programs of namespaces (sk_lookup, flow_dissector) to it: a
    /// name of `ip netns`, or the number of a process.
    #[arg(long, value_name = "NAME|PID")]
    netns: Option<String>,
    /// Attach programs of control groups to this one, a directory of cgroup2.
    #[arg(long, value_name = "DIRECTORY")]
    cgroup: Option<PathBuf>,
}

/// Which of the user's words a program needs.
enum Wants {
    Device,
    Namespace,
    Cgroup,
    Other,
}

fn wants(program: &Program) -> Wants {
    match program.kind() {
        ProgramType::XDP if program.attach_type() == AttachType::XDP || program.attach_type() == AttachType(0) => {
            Wants::Device
        }
        ProgramType::SCHED_CLS | ProgramType::SCHED_ACT => Wants::Device,
        ProgramType::SK_LOOKUP | ProgramType::FLOW_DISSECTOR => Wants::Namespace,
        ProgramType::CGROUP_SKB
        | ProgramType::CGROUP_SOCK
        | ProgramType::CGROUP_SOCK_ADDR
        | ProgramType::CGROUP_SOCKOPT
        | ProgramType::CGROUP_SYSCTL
        | ProgramType::CGROUP_DEVICE
        | ProgramType::SOCK_OPS => Wants::Cgroup,
        ProgramType::LSM if program.attach_type() == AttachType::LSM_CGROUP => Wants::Cgroup,
        _ => Wants::Other,
    }
}

impl Places {
    /// Attaches a program to the place that was given for such; `None`: none was.
    pub fn attach(&self, program: &Program) -> Option<ringfence::Result<Link>> {
        let namespace = self.netns.as_deref().map(namespace);
        match wants(program) {
            Wants::Device => self.device.as_deref().map(|device| to_device(program, device, namespace)),
            Wants::Namespace => namespace.map(|namespace| program.attach_to(&namespace)),
            Wants::Cgroup => self.cgroup.as_ref().map(|path| program.attach_to(&Cgroup::new(path))),
            Wants::Other => None,
        }
    }
}

/// The argument that gives such a program a place; empty: there is none.
pub fn argument(program: &Program) -> &'static str {
    match wants(program) {
        Wants::Device => "; --device gives it",
        Wants::Namespace => "; --netns gives it",
        Wants::Cgroup => "; --cgroup gives it",
        Wants::Other => "",
    }
}

/// A name, or the number of a process where no namespace has it for a name.
pub fn namespace(text: &str) -> NetNamespace {
    match text.parse() {
        Ok(pid) if !Path::new("/run/netns").join(text).exists() => NetNamespace::of_process(pid),
        _ => NetNamespace::named(text),
    }
}

fn to_device(program: &Program, device: &str, namespace: Option<NetNamespace>) -> ringfence::Result<Link> {
    let side = program.attach_type();
    let tc = Tc::new(device);
    match program.kind() {
        ProgramType::XDP => inside(program, Xdp::new(device), namespace),
        _ if matches!(side, AttachType::NETKIT_PRIMARY | AttachType::NETKIT_PEER) => {
            inside(program, Netkit::new(device), namespace)
        }
        _ if matches!(side, AttachType::TCX_INGRESS | AttachType::TCX_EGRESS) => inside(program, tc, namespace),
        _ => inside(program, tc.ingress(), namespace),
    }
}

fn inside(program: &Program, hook: impl Hook + Sync, namespace: Option<NetNamespace>) -> ringfence::Result<Link> {
    match namespace {
        Some(namespace) => program.attach_to(&namespace.hook(hook)),
        None => program.attach_to(&hook),
    }
}
