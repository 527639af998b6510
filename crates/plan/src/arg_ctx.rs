//! Parameters with `__arg_ctx`: global functions that take their program's context.
//!
//! Kernels before 6.8 do not know the tag and go by the parameter's type, which has to be a pointer to the one struct that they
//! know for that type of program. So such a function gets a second prototype for each type of program, which its func_info
//! then names (libbpf, `bpf_program_fixup_func_info`).

use std::collections::{BTreeMap, BTreeSet};

use ringfence_btf::{self as btf, Btf, Builder, Def, Linkage, New, Param, TypeId};
use ringfence_object::{Object, Visibility};
use ringfence_uapi::ProgramType;

/// The section of subprograms; a program elsewhere is entered by the kernel and never static.
pub(crate) const SUBPROGRAMS: &str = ".text";
/// What `__arg_ctx` leaves on a parameter.
const TAG: &str = "arg:ctx";
/// Most parameters of a function (`MAX_BPF_FUNC_REG_ARGS`): a hostile file can declare any number.
const MAX_PARAMS: usize = 5;
/// Most descriptions of an object's functions.
const MAX_DESCRIBED: usize = 10_000;
const PT_REGS: &str = "bpf_user_pt_regs_t";

/// The struct by which a kernel without the tag knows the context (libbpf, `global_ctx_map`).
pub(crate) const CONTEXTS: &[(ProgramType, &str)] = &[
    (ProgramType::CGROUP_DEVICE, "bpf_cgroup_dev_ctx"),
    (ProgramType::CGROUP_SKB, "__sk_buff"),
    (ProgramType::CGROUP_SOCK, "bpf_sock"),
    (ProgramType::CGROUP_SOCK_ADDR, "bpf_sock_addr"),
    (ProgramType::CGROUP_SOCKOPT, "bpf_sockopt"),
    (ProgramType::CGROUP_SYSCTL, "bpf_sysctl"),
    (ProgramType::FLOW_DISSECTOR, "__sk_buff"),
    (ProgramType::KPROBE, PT_REGS),
    (ProgramType::LWT_IN, "__sk_buff"),
    (ProgramType::LWT_OUT, "__sk_buff"),
    (ProgramType::LWT_SEG6LOCAL, "__sk_buff"),
    (ProgramType::LWT_XMIT, "__sk_buff"),
    (ProgramType::NETFILTER, "bpf_nf_ctx"),
    (ProgramType::PERF_EVENT, "bpf_perf_event_data"),
    (ProgramType::RAW_TRACEPOINT, "bpf_raw_tracepoint_args"),
    (ProgramType::RAW_TRACEPOINT_WRITABLE, "bpf_raw_tracepoint_args"),
    (ProgramType::SCHED_ACT, "__sk_buff"),
    (ProgramType::SCHED_CLS, "__sk_buff"),
    (ProgramType::SK_LOOKUP, "bpf_sk_lookup"),
    (ProgramType::SK_MSG, "sk_msg_md"),
    (ProgramType::SK_REUSEPORT, "sk_reuseport_md"),
    (ProgramType::SK_SKB, "__sk_buff"),
    (ProgramType::SOCK_OPS, "bpf_sock_ops"),
    (ProgramType::SOCKET_FILTER, "__sk_buff"),
    (ProgramType::XDP, "xdp_md"),
];

/// This machine's registers, of which `bpf_user_pt_regs_t` is another name.
const REGISTERS: &str = if cfg!(target_arch = "aarch64") {
    "user_pt_regs"
} else if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
    "user_regs_struct"
} else {
    "pt_regs"
};

/// Functions as kernels without the tag want them described.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    /// By the function's type, and the type of the program that it is a part of.
    described: BTreeMap<(TypeId, ProgramType), TypeId>,
}

impl Contexts {
    /// Whether anything is tagged: only then the kernel is asked.
    pub(crate) fn are_used(object: &Object) -> bool {
        tags(object).next().is_some()
    }

    /// Adds what the programs of these types need.
    ///
    /// # Errors
    /// The object's types are damaged.
    pub(crate) fn add(
        object: &Object,
        kinds: &BTreeSet<ProgramType>,
        out: &mut Builder,
    ) -> Result<Contexts, btf::Error> {
        let mut contexts = Contexts::default();
        let Some(btf) = &object.btf else { return Ok(contexts) };
        // Those are verified with what their callers know.
        let hidden = object.functions.iter().filter(|f| f.visibility == Visibility::Hidden && f.section == SUBPROGRAMS);
        let hidden: BTreeSet<TypeId> = hidden.filter_map(|function| function.btf).collect();
        let mut tagged: BTreeMap<TypeId, BTreeSet<u32>> = BTreeMap::new();
        for (function, parameter) in tags(object).filter(|(function, _)| !hidden.contains(function)) {
            tagged.entry(function).or_default().insert(parameter);
        }
        let mut pointers: BTreeMap<&str, TypeId> = BTreeMap::new();
        let wanted = CONTEXTS.iter().filter(|(kind, _)| kinds.contains(kind));
        for ((kind, context), (function, parameters)) in wanted.flat_map(|kind| tagged.iter().map(move |f| (kind, f))) {
            let Ok(ty) = btf.get(*function) else { continue };
            let Def::Func { proto, linkage: linkage @ Linkage::Global } = ty.def else { continue };
            let Def::FuncProto(proto) = btf.get(proto)?.def else { continue };
            let mut params: Vec<Param<'_>> =
                proto.params().take(MAX_PARAMS.saturating_add(1)).collect::<Result<_, _>>()?;
            if params.len() > MAX_PARAMS || contexts.described.len() >= MAX_DESCRIBED {
                continue;
            }
            let mut changed = false;
            for (_, param) in (0u32..).zip(&mut params).filter(|(index, _)| parameters.contains(index)) {
                if is_to_change(btf, param.ty, *kind, context)? {
                    param.ty = *pointers.entry(context).or_insert_with(|| {
                        let context = out.add(context, New::Struct { size: 0, members: &[] });
                        out.add("", New::Ptr(context))
                    });
                    changed = true;
                }
            }
            if changed {
                let proto = out.add("", New::FuncProto { ret: proto.ret, params: &params });
                let described = out.add(ty.name, New::Func { proto, linkage });
                contexts.described.insert((*function, *kind), described);
            }
        }
        Ok(contexts)
    }

    /// The type to name in a program's func_info.
    pub(crate) fn describe(&self, function: TypeId, kind: ProgramType) -> TypeId {
        self.described.get(&(function, kind)).copied().unwrap_or(function)
    }
}

/// `(function, parameter)` of each tag.
fn tags(object: &Object) -> impl Iterator<Item = (TypeId, u32)> {
    object.tags.iter().filter(|tag| tag.text == TAG).filter_map(|tag| Some((tag.ty, tag.component?)))
}

/// Whether the kernel would take this type for something else, and may be told otherwise
/// (libbpf, `need_func_arg_type_fixup`). Any further type is the program's mistake, which the verifier reports.
fn is_to_change(btf: &Btf, param: TypeId, kind: ProgramType, context: &str) -> Result<bool, btf::Error> {
    let Def::Ptr(to) = btf.resolve(param)?.def else { return Ok(false) };
    // Also of `bpf_user_pt_regs_t`, by which not every such kernel knows the context of a perf event (6.1).
    let to = btf.resolve(to)?;
    Ok(match (to.def, kind) {
        (Def::Void, _) => true,
        (Def::Struct(_), ProgramType::KPROBE) => to.name == "pt_regs",
        (Def::Struct(_), ProgramType::PERF_EVENT) => to.name == REGISTERS && to.name != context,
        (Def::Int(int), ProgramType::RAW_TRACEPOINT | ProgramType::RAW_TRACEPOINT_WRITABLE) => int.size == 8,
        _ => false,
    })
}
