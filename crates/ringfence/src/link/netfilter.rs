//! Packets at the hooks of netfilter (6.4), among the rules of nftables and connection tracking.

use std::os::fd::AsFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Link, create};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

const HOOK: &str = "netfilter";

/// Which packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// At which step of a packet's way: `NF_INET_*` of `include/uapi/linux/netfilter.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It has come in and is not routed yet.
    PreRouting,
    /// It is for this machine.
    Input,
    /// It is for another one.
    Forward,
    /// It was made here.
    Output,
    /// It is about to leave.
    PostRouting,
}

impl Step {
    fn number(self) -> (u32, &'static str) {
        match self {
            Step::PreRouting => (0, "prerouting"),
            Step::Input => (1, "input"),
            Step::Forward => (2, "forward"),
            Step::Output => (3, "output"),
            Step::PostRouting => (4, "postrouting"),
        }
    }
}

/// A hook of the calling thread's network namespace.
///
/// ```no_run
/// use ringfence::hook::{Family, Netfilter, Step};
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let link = program.attach_to(&Netfilter::new(Family::V4, Step::Input).priority(-150))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Netfilter {
    family: Family,
    step: Step,
    priority: i32,
    defragment: bool,
}

impl Netfilter {
    /// At priority 0, where filters are as a rule.
    pub fn new(family: Family, step: Step) -> Self {
        Netfilter { family, step, priority: 0, defragment: false }
    }

    /// Order among all hooks of the step: lower runs first. No two programs may have the same, and the least and the
    /// greatest number are the kernel's.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The program sees whole packets, no fragments (6.6). Its priority must be above -400, where that is done.
    pub fn defragmented(mut self) -> Self {
        self.defragment = true;
        self
    }
}

impl sealed::Sealed for Netfilter {}

impl Hook for Netfilter {
    fn attach(&self, program: &Program) -> Result<Link> {
        const BPF_F_NETFILTER_IP_DEFRAG: u32 = 1;
        let (family, of) = match self.family {
            Family::V4 => (2, "ip"),
            Family::V6 => (10, "ip6"),
        };
        let (hook, at) = self.step.number();
        let target = format!("{of} {at} priority {}", self.priority);
        let flags = if self.defragment { BPF_F_NETFILTER_IP_DEFRAG } else { 0 };
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: AttachType::NETFILTER,
            to: AttachTo::Nothing,
            flags: 0,
            tail: LinkTail::Netfilter { family, hook, priority: self.priority, flags },
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::INVAL if !program.kernel().has(Feature::NetfilterLink) => {
                Some(Cause::new(Kind::Unsupported, "this kernel has no netfilter links (6.4)"))
            }
            Errno::INVAL => Some(Cause::invalid("the program is not for netfilter")),
            Errno::BUSY => Some(
                Cause::new(Kind::Io, "a program of that priority is there already").action("take another priority"),
            ),
            // bpf_nf_check_pf_and_hooks.
            Errno::RANGE => Some(Cause::invalid(
                "the priority is one of the kernel's own (the least, the greatest), or not above -400 with defragmentation",
            )),
            Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::NOENT => Some(Cause::new(
                Kind::Unsupported,
                "this kernel cannot defragment, or its module (nf_defrag_ipv4, nf_defrag_ipv6) is not loaded",
            )),
            _ => None,
        })
    }
}
