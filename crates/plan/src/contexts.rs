//! Parameters marked `__arg_ctx`, for kernels that do not know the mark (before 6.8).
//!
//! Those know a global function's context by the name of its type, which differs from one type of program to another
//! (kernel/bpf/btf.c, `btf_get_prog_ctx_type`). So such a function gets further types, one for each type of program.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_btf::{Btf, Builder, Def, Error, Linkage, New, Param, TypeId};
use ringfence_uapi::ProgramType;

const MARK: &str = "arg:ctx";
/// A global function takes no more (`MAX_BPF_FUNC_REG_ARGS`).
const MOST_PARAMS: usize = 5;

/// By function, which of its parameters are marked.
pub(crate) type Marked = BTreeMap<TypeId, BTreeSet<usize>>;

/// What is marked in an object.
pub(crate) fn marked(btf: &Btf) -> Result<Marked, Error> {
    let mut marked = Marked::new();
    for ty in btf.own_types() {
        let ty = ty?;
        if let (Def::DeclTag { ty: function, component: Some(at) }, MARK) = (ty.def, ty.name) {
            marked.entry(function).or_default().insert(at as usize);
        }
    }
    Ok(marked)
}

/// The types of functions that are others in programs of some type.
#[derive(Default, Debug)]
pub(crate) struct Contexts(BTreeMap<(ProgramType, TypeId), TypeId>);

impl Contexts {
    /// Adds the types for programs of these types (libbpf, `bpf_program_fixup_func_info`).
    pub(crate) fn add(
        btf: &Btf,
        out: &mut Builder,
        marked: &Marked,
        hidden: &BTreeSet<TypeId>,
        kinds: &BTreeSet<ProgramType>,
    ) -> Result<Contexts, Error> {
        let mut contexts = Contexts::default();
        for kind in kinds {
            let Some(name) = type_name(*kind) else { continue };
            let mut context = None;
            for (id, places) in marked {
                let function = btf.get(*id)?;
                // Hidden ones are verified with what their callers know.
                if hidden.contains(id) {
                    continue;
                }
                let Def::Func { proto, linkage: Linkage::Global } = function.def else { continue };
                let Def::FuncProto(proto) = btf.get(proto)?.def else { continue };
                if proto.params().len() > MOST_PARAMS {
                    continue;
                }
                let mut params: Vec<Param<'_>> = proto.params().collect::<Result<_, _>>()?;
                let mut changed = false;
                for (_, param) in params.iter_mut().enumerate().filter(|(at, _)| places.contains(at)) {
                    if is_other(btf, *kind, name, param.ty)? {
                        param.ty = *context.get_or_insert_with(|| {
                            let structure = out.add(name, New::Struct { size: 0, members: &[] });
                            out.add("", New::Ptr(structure))
                        });
                        changed = true;
                    }
                }
                if changed {
                    let proto = out.add("", New::FuncProto { ret: proto.ret, params: &params });
                    let new = out.add(function.name, New::Func { proto, linkage: Linkage::Global });
                    contexts.0.insert((*kind, *id), new);
                }
            }
        }
        Ok(contexts)
    }

    /// The type of a function in a program of this type.
    pub(crate) fn of(&self, kind: ProgramType, function: TypeId) -> TypeId {
        self.0.get(&(kind, function)).copied().unwrap_or(function)
    }
}

/// Whether a kernel without the mark would not know the context by this type, and it may stand for one
/// (libbpf, `need_func_arg_type_fixup`).
fn is_other(btf: &Btf, kind: ProgramType, name: &str, id: TypeId) -> Result<bool, Error> {
    let Def::Ptr(to) = btf.resolve(id)?.def else { return Ok(false) };
    let events = matches!(kind, ProgramType::KPROBE | ProgramType::PERF_EVENT);
    let named = btf.strip_modifiers(to)?;
    if events && matches!(named.def, Def::Typedef(_)) && named.name == "bpf_user_pt_regs_t" {
        return Ok(false);
    }
    let to = btf.resolve(to)?;
    Ok(match to.def {
        Def::Void => true,
        Def::Struct(_) if to.name == name => false,
        // What `bpf_user_pt_regs_t` is on one machine or another.
        Def::Struct(_) => events && matches!(to.name, "pt_regs" | "user_pt_regs" | "user_regs_struct"),
        Def::Int(int) => {
            let raw = matches!(kind, ProgramType::RAW_TRACEPOINT | ProgramType::RAW_TRACEPOINT_WRITABLE);
            raw && int.size == 8
        }
        _ => false,
    })
}

/// Under which name kernels know the context of a type of program; `None`: under no single one.
pub(crate) fn type_name(kind: ProgramType) -> Option<&'static str> {
    Some(match kind {
        ProgramType::CGROUP_SKB
        | ProgramType::FLOW_DISSECTOR
        | ProgramType::LWT_IN
        | ProgramType::LWT_OUT
        | ProgramType::LWT_SEG6LOCAL
        | ProgramType::LWT_XMIT
        | ProgramType::SCHED_ACT
        | ProgramType::SCHED_CLS
        | ProgramType::SK_SKB
        | ProgramType::SOCKET_FILTER => "__sk_buff",
        ProgramType::CGROUP_DEVICE => "bpf_cgroup_dev_ctx",
        ProgramType::CGROUP_SOCK => "bpf_sock",
        ProgramType::CGROUP_SOCK_ADDR => "bpf_sock_addr",
        ProgramType::CGROUP_SOCKOPT => "bpf_sockopt",
        ProgramType::CGROUP_SYSCTL => "bpf_sysctl",
        ProgramType::KPROBE => "bpf_user_pt_regs_t",
        ProgramType::NETFILTER => "bpf_nf_ctx",
        ProgramType::PERF_EVENT => "bpf_perf_event_data",
        ProgramType::RAW_TRACEPOINT | ProgramType::RAW_TRACEPOINT_WRITABLE => "bpf_raw_tracepoint_args",
        ProgramType::SK_LOOKUP => "bpf_sk_lookup",
        ProgramType::SK_MSG => "sk_msg_md",
        ProgramType::SK_REUSEPORT => "sk_reuseport_md",
        ProgramType::SOCK_OPS => "bpf_sock_ops",
        ProgramType::XDP => "xdp_md",
        _ => return None,
    })
}
