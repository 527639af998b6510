//! What a plan asks of the kernel and of the caller, each with its reason.
//!
//! The capabilities are those that the kernel checks (`bpf_prog_load` and `map_create` of `kernel/bpf/syscall.c`);
//! CAP_SYS_ADMIN stands in for each of them. What only the verifier can find out (pointer leaks) is not here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ringfence_object::{Object, Role};
use ringfence_uapi::{Helper, Insn, MapType, ProgramType};

use crate::model::{FixupWith, LoadTarget, Need, Needed, Plan, ProgramPlan};
use crate::since;

const BPF: &str = "CAP_BPF";
const PERFMON: &str = "CAP_PERFMON";
const NET_ADMIN: &str = "CAP_NET_ADMIN";
const SYS_ADMIN: &str = "CAP_SYS_ADMIN";
const SYSLOG: &str = "CAP_SYSLOG";

const KERNEL_TYPES: (&str, Option<&str>) = ("types of the kernel (BTF)", Some("5.4"));

/// What a finished program does not show any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origin {
    /// It holds addresses of kernel symbols.
    pub(crate) reads_symbols: bool,
    /// It was relocated against the kernel's own types.
    pub(crate) relocated: bool,
}

/// Names that a reason lists before it only counts them.
const NAMED: usize = 4;

/// What a program type needs beside CAP_BPF (`is_net_admin_prog_type`, `is_perfmon_prog_type`).
fn capabilities(kind: ProgramType) -> &'static [&'static str] {
    match kind {
        ProgramType::KPROBE
        | ProgramType::TRACEPOINT
        | ProgramType::PERF_EVENT
        | ProgramType::RAW_TRACEPOINT
        | ProgramType::RAW_TRACEPOINT_WRITABLE
        | ProgramType::TRACING
        | ProgramType::LSM
        | ProgramType::STRUCT_OPS => &[PERFMON],
        ProgramType::SCHED_CLS
        | ProgramType::SCHED_ACT
        | ProgramType::XDP
        | ProgramType::LWT_IN
        | ProgramType::LWT_OUT
        | ProgramType::LWT_XMIT
        | ProgramType::LWT_SEG6LOCAL
        | ProgramType::SK_SKB
        | ProgramType::SK_MSG
        | ProgramType::FLOW_DISSECTOR
        | ProgramType::CGROUP_DEVICE
        | ProgramType::CGROUP_SOCK
        | ProgramType::CGROUP_SOCK_ADDR
        | ProgramType::CGROUP_SOCKOPT
        | ProgramType::CGROUP_SYSCTL
        | ProgramType::SOCK_OPS
        | ProgramType::NETFILTER => &[NET_ADMIN],
        ProgramType::EXT => &[PERFMON, NET_ADMIN],
        _ => &[],
    }
}

/// What a map type needs beside CAP_BPF.
fn map_capability(kind: MapType) -> Option<&'static str> {
    let net = [MapType::SOCKMAP, MapType::SOCKHASH, MapType::DEVMAP, MapType::DEVMAP_HASH, MapType::XSKMAP];
    net.contains(&kind).then_some(NET_ADMIN)
}

/// Needs as they are collected: reasons, and whom each is about.
#[derive(Default)]
struct Needs<'a>(BTreeMap<Needed, BTreeMap<String, Vec<&'a str>>>);

impl<'a> Needs<'a> {
    fn add(&mut self, what: Needed, reason: impl Into<String>, name: &'a str) {
        let names = self.0.entry(what).or_default().entry(reason.into()).or_default();
        // What is about one map or program comes in a row.
        if names.last() != Some(&name) {
            names.push(name);
        }
    }

    fn capability(&mut self, name: &'static str, reason: impl Into<String>, who: &'a str) {
        self.add(Needed::Capability(name), reason, who);
    }

    fn kernel(&mut self, feature: impl Into<String>, since: Option<&'static str>, reason: &str, who: &'a str) {
        self.add(Needed::Kernel { feature: feature.into(), since }, reason, who);
    }
}

/// What this plan needs, capabilities first, then kernel features, the newest first.
///
/// `origins` is where their code comes from, program by program.
pub(crate) fn of(plan: &Plan, object: &Object, origins: &[Origin]) -> Vec<Need> {
    let mut needs = Needs::default();
    for map in &plan.maps {
        let name = map.name.as_str();
        let kind = map.kind;
        needs.capability(BPF, "maps", name);
        if let Some(capability) = map_capability(kind) {
            needs.capability(capability, format!("maps of type {kind}"), name);
        }
        needs.kernel(format!("maps of type {kind}"), since::map_type(kind), "maps", name);
        let declared = map.id.and_then(|id| object.maps.get(id.0));
        if declared.is_some_and(|map| matches!(map.role, Role::Data(_) | Role::Kconfig) && map.kind == MapType::ARRAY) {
            needs.kernel("data sections", Some("5.2"), "maps", name);
        }
        if map.struct_ops.as_ref().is_some_and(|ops| ops.module.is_some()) {
            needs.capability(SYS_ADMIN, "types of a kernel module", name);
        }
    }
    for (program, origin) in plan.programs.iter().zip(origins) {
        program_needs(&mut needs, program);
        if origin.reads_symbols {
            needs.capability(SYSLOG, "addresses of kernel symbols", &program.name);
        }
        if origin.relocated {
            needs.kernel(KERNEL_TYPES.0, KERNEL_TYPES.1, "programs relocated against them (CO-RE)", &program.name);
        }
    }
    let mut needs: Vec<Need> =
        needs.0.into_iter().map(|(what, reasons)| Need { what, because: because(reasons) }).collect();
    needs.sort_by_cached_key(|need| match &need.what {
        Needed::Capability(name) => (0, Reverse((0, 0)), (*name).to_owned()),
        Needed::Kernel { feature, since } => (1, Reverse(since::release(*since)), feature.clone()),
    });
    needs
}

fn program_needs<'a>(needs: &mut Needs<'a>, program: &'a ProgramPlan) {
    let name = program.name.as_str();
    let kind = program.kind;
    needs.capability(BPF, "programs", name);
    for capability in capabilities(kind) {
        needs.capability(capability, format!("programs of type {kind}"), name);
    }
    if kind != ProgramType::UNSPEC {
        needs.kernel(format!("programs of type {kind}"), since::program_type(kind), "programs", name);
    }
    if kind == ProgramType::CGROUP_SKB {
        needs.capability(NET_ADMIN, "attaching programs of type cgroup_skb", name);
    }
    let hook = program.attach_type;
    if crate::attach::is_needed(kind, hook) {
        needs.kernel(format!("attach type {hook}"), since::attach_type(hook), "programs", name);
    }
    if program.flags & 1 << 4 != 0 {
        needs.kernel("programs that may sleep", sleepable(kind), "programs", name);
    }
    if program.flags & 1 << 5 != 0 {
        needs.kernel("XDP on packets of several parts", Some("5.18"), "programs", name);
    }
    let of_module = match &program.target {
        LoadTarget::Btf { module, .. } => {
            needs.kernel(KERNEL_TYPES.0, KERNEL_TYPES.1, "programs that name a place in it", name);
            module.is_some()
        }
        LoadTarget::None | LoadTarget::Program { .. } | LoadTarget::Unknown(_) => false,
    };
    let in_code = program.fixups.iter().any(|fixup| matches!(fixup.with, FixupWith::ModuleBtf(_)));
    if of_module || in_code || !program.kfunc_modules.is_empty() {
        needs.capability(SYS_ADMIN, "types of a kernel module", name);
        needs.kernel("types of kernel modules", Some("5.11"), "programs", name);
    }
    instruction_needs(needs, program);
}

fn instruction_needs<'a>(needs: &mut Needs<'a>, program: &'a ProgramPlan) {
    let name = program.name.as_str();
    let mut second_slot = false;
    let mut seen: Vec<Helper> = Vec::new();
    for insn in &program.insns {
        if std::mem::take(&mut second_slot) {
            continue;
        }
        second_slot = insn.is_ld_imm64();
        if insn.is_helper_call() {
            let helper = Helper(insn.imm.cast_unsigned());
            // Instructions that CO-RE replaced call helpers that no kernel has.
            if !seen.contains(&helper) && helper.enumerator().is_some() {
                seen.push(helper);
                needs.kernel(format!("bpf_{helper}"), since::helper(helper), "called by", name);
            }
        } else if insn.is_subprogram_call() {
            needs.kernel("calls between functions", Some("4.16"), "programs", name);
        } else if insn.is_kfunc_call() {
            needs.kernel("calls of kernel functions (kfuncs)", Some("5.13"), "programs", name);
        } else if second_slot && insn.src == Insn::PSEUDO_FUNC {
            needs.kernel("callbacks", Some("5.13"), "programs", name);
        } else if second_slot && insn.src == Insn::PSEUDO_BTF_ID {
            needs.kernel("kernel variables by type", Some("5.10"), "programs", name);
        } else if let Some((feature, since)) = since::instruction(*insn) {
            needs.kernel(feature, Some(since), "programs", name);
        }
    }
    if seen.contains(&Helper::PROBE_WRITE_USER) {
        needs.capability(SYS_ADMIN, "calls of bpf_probe_write_user", name);
    }
}

/// Since when programs of a type may sleep.
fn sleepable(kind: ProgramType) -> Option<&'static str> {
    match kind {
        ProgramType::TRACING | ProgramType::LSM => Some("5.10"),
        ProgramType::SYSCALL => Some("5.14"),
        ProgramType::KPROBE => Some("6.0"),
        _ => None,
    }
}

fn because(reasons: BTreeMap<String, Vec<&str>>) -> String {
    let reasons = reasons.into_iter().map(|(reason, names)| {
        let more = names.len().saturating_sub(NAMED);
        let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if more == 0 { format!("{reason}: {shown}") } else { format!("{reason}: {shown} and {more} more") }
    });
    reasons.collect::<Vec<_>>().join("; ")
}
