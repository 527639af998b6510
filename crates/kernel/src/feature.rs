//! What a kernel may or may not do: one table.

use ringfence_btf::Btf;

use crate::names::Evidence::{self, AnyEnumerator, Enumerator, Function, Member, NoStruct, Struct, Types, Unseen};

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $title:literal, $since:literal, $evidence:expr;)*) => {
        /// Something that a kernel may or may not do.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Feature {
            $($(#[$doc])* #[doc = concat!(" (", $since, ").")] $name,)*
        }

        impl Feature {
            /// Every feature, in the order of the table.
            pub const ALL: &'static [Feature] = &[$(Feature::$name,)*];

            /// Its name in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Feature::$name => $title,)* }
            }

            /// The first mainline release that has it: to be told to people, never to conclude from.
            pub fn since(self) -> &'static str {
                match self { $(Feature::$name => $since,)* }
            }

            /// What in a kernel's types shows that it has it.
            pub(crate) fn evidence(self) -> Evidence {
                match self { $(Feature::$name => $evidence,)* }
            }
        }
    };
}

features! {
    /// Programs and maps have names
    Names = "names of programs and maps", "4.15", Member("bpf_attr", "prog_name");
    /// BTF can be loaded
    Btf = "BTF", "4.18", Types;
    /// `BTF_KIND_FUNC` and func_info
    BtfFunc = "BTF of functions", "5.0", Member("bpf_prog_aux", "func_info");
    /// Global linkage of BTF functions
    BtfFuncGlobal = "global functions in BTF", "5.6", Enumerator("btf_func_linkage", "BTF_FUNC_GLOBAL");
    /// `BTF_KIND_VAR`, `BTF_KIND_DATASEC`
    BtfDatasec = "variables and data sections in BTF", "5.2", Struct("btf_var_secinfo");
    /// Names of data sections that begin with `?`
    BtfDatasecQuestion = "`?` in names of BTF data sections", "6.9", Unseen;
    /// `BTF_KIND_FLOAT`
    BtfFloat = "floating point numbers in BTF", "5.13", Function(&["btf_float_check_meta"]);
    /// `BTF_KIND_DECL_TAG`
    BtfDeclTag = "declaration tags in BTF", "5.16", Struct("btf_decl_tag");
    /// `BTF_KIND_TYPE_TAG`
    BtfTypeTag = "type tags in BTF", "5.17", AnyEnumerator("BTF_KIND_TYPE_TAG");
    /// `BTF_KIND_ENUM64`
    BtfEnum64 = "64-bit enumerations in BTF", "6.0", Struct("btf_enum64");
    /// `__arg_ctx` on parameters of global functions
    ArgCtx = "tagged context parameters (__arg_ctx)", "6.8", Struct("bpf_subprog_arg_info");
    /// Global functions that take pointers to memory
    GlobalFuncPointers = "pointers as arguments of global functions", "5.12", Function(&["check_mem_reg"]);
    /// Data sections as maps
    GlobalData = "global data", "5.2", Member("bpf_map_ops", "map_direct_value_addr");
    /// `BPF_F_MMAPABLE` arrays
    ArrayMmap = "memory-mapped arrays", "5.5", Member("bpf_map_ops", "map_mmap");
    /// `expected_attach_type` in BPF_PROG_LOAD
    ExpectedAttachType = "attach type at load time", "4.17", Member("bpf_attr", "expected_attach_type");
    /// `bpf_probe_read_kernel` and `_user`
    ProbeReadKernel = "bpf_probe_read_kernel", "5.5", Enumerator("bpf_func_id", "BPF_FUNC_probe_read_kernel");
    /// BPF memory counts for the memory cgroup, not RLIMIT_MEMLOCK
    MemcgAccounting = "BPF memory counted by memory cgroups", "5.11", NoStruct("bpf_map_memory");
    /// `BPF_PROG_BIND_MAP`
    ProgBindMap = "binding maps to programs", "5.10", Enumerator("bpf_cmd", "BPF_PROG_BIND_MAP");
    /// Attach cookies for perf events
    BpfCookie = "attach cookies", "5.15", Enumerator("bpf_func_id", "BPF_FUNC_get_attach_cookie");
    /// System calls have `__x64_sys_` wrappers
    SyscallWrapper = "wrapped system calls", "4.17", Function(&crate::symbols::SYSCALL_WRAPPERS);
    /// Before and after others among a group's programs
    CgroupOrder = "order among the programs of a cgroup", "6.17", Member("cgroup_bpf", "revisions");
    /// `BPF_F_XDP_HAS_FRAGS`
    XdpFrags = "XDP programs for packets in several parts", "5.18", Member("bpf_prog_aux", "xdp_has_frags");
    /// Links of perf events
    PerfLink = "links of perf events", "5.15", Enumerator("bpf_link_type", "BPF_LINK_TYPE_PERF_EVENT");
    /// `BPF_TRACE_KPROBE_MULTI`, on a kernel built with what it needs (`CONFIG_FPROBE`)
    KprobeMulti = "kprobe.multi links", "5.18", Function(&["register_fprobe_ips"]);
    /// `BPF_TRACE_UPROBE_MULTI`, with a filter by process that works: 6.6 to 6.9 filtered by thread, which only
    /// the running kernel can be asked
    UprobeMulti = "uprobe.multi links", "6.6", Enumerator("bpf_attach_type", "BPF_TRACE_UPROBE_MULTI");
    /// Links of XDP programs
    XdpLink = "XDP links", "5.9", Enumerator("bpf_link_type", "BPF_LINK_TYPE_XDP");
    /// Links of tc programs
    Tcx = "tc links (tcx)", "6.6", Enumerator("bpf_link_type", "BPF_LINK_TYPE_TCX");
    /// Links of netfilter programs
    NetfilterLink = "netfilter links", "6.4", Enumerator("bpf_link_type", "BPF_LINK_TYPE_NETFILTER");
    /// netkit devices
    Netkit = "netkit devices", "6.7", Enumerator("bpf_link_type", "BPF_LINK_TYPE_NETKIT");
    /// Links of programs of socket maps
    SockmapLink = "links of socket maps", "6.10", Enumerator("bpf_link_type", "BPF_LINK_TYPE_SOCKMAP");
}

impl Feature {
    /// Whether the running kernel's types alone are proof that it has this: what they show has no configuration of its
    /// own and was right from the start, and is found without a pass over all functions or all strings.
    pub(crate) fn is_proved_by(self, btf: &Btf) -> bool {
        let evidence = self.evidence();
        !matches!(evidence, Function(_) | AnyEnumerator(_) | Unseen)
            && self != Feature::UprobeMulti
            && evidence.in_types(btf) == Some(true)
    }

    /// Whether a kernel's types show that it has it; `None`: they cannot tell.
    pub(crate) fn in_types(self, btf: &Btf) -> Option<bool> {
        self.evidence().in_types(btf)
    }
}

#[cfg(test)]
mod tests {
    use super::Feature;

    #[test]
    fn numbered_as_listed() {
        for (place, feature) in Feature::ALL.iter().enumerate() {
            assert_eq!(*feature as usize, place);
        }
    }
}
