//! Facts about one kernel: the running one, asked lazily and once each; or one known only by its BTF.
//!
//! This room knows no object file and takes no decision: it answers questions.
#![forbid(unsafe_code)]

use ringfence_btf::Btf;

/// One kernel. Cheap to clone: clones share what was asked.
#[derive(Clone)]
pub struct Kernel {}

/// Why a fact could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {}

/// Something that a kernel may or may not do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Feature {
    /// Programs and maps have names (4.15).
    Names,
    /// BTF can be loaded (4.18).
    Btf,
    /// `BTF_KIND_FUNC` and func_info (5.0).
    BtfFunc,
    /// Global linkage of BTF functions (5.6).
    BtfFuncGlobal,
    /// `BTF_KIND_VAR`, `BTF_KIND_DATASEC` (5.2).
    BtfDatasec,
    /// `BTF_KIND_FLOAT` (5.13).
    BtfFloat,
    /// `BTF_KIND_DECL_TAG` (5.16).
    BtfDeclTag,
    /// `BTF_KIND_TYPE_TAG` (5.17).
    BtfTypeTag,
    /// `BTF_KIND_ENUM64` (6.0).
    BtfEnum64,
    /// Data sections as maps (5.2).
    GlobalData,
    /// `BPF_F_MMAPABLE` arrays (5.5).
    ArrayMmap,
    /// `expected_attach_type` in BPF_PROG_LOAD (4.17).
    ExpectedAttachType,
    /// `bpf_probe_read_kernel` and `_user` (5.5).
    ProbeReadKernel,
    /// BPF memory counts for the memory cgroup, not RLIMIT_MEMLOCK (5.11).
    MemcgAccounting,
    /// `BPF_PROG_BIND_MAP` (5.10).
    ProgBindMap,
    /// Attach cookies for perf events (5.15).
    BpfCookie,
    /// System calls have `__x64_sys_` wrappers (4.17).
    SyscallWrapper,
    /// Links of perf events (5.15).
    PerfLink,
    /// `BPF_TRACE_UPROBE_MULTI` (6.6).
    UprobeMulti,
}

/// A kernel module with BTF.
pub struct Module {
    /// Its name, underscores and not dashes.
    pub name: String,
    /// Its types, split on the kernel's.
    pub btf: Btf,
    /// Id of its BTF object, 0 when the kernel is not the running one.
    pub id: u32,
}

#[allow(unused_variables)]
impl Kernel {
    /// The kernel that runs this process. Asks nothing yet.
    pub fn running() -> Kernel {
        todo!()
    }

    /// A kernel known only by its BTF: enough to relocate against, and to know which types, helpers and
    /// map types its headers name.
    pub fn from_btf(btf: Btf) -> Kernel {
        todo!()
    }

    /// The same kernel, but with these types instead of its own (a BTF file that the user gives).
    pub fn with_btf(&self, btf: Btf) -> Kernel {
        todo!()
    }

    /// This is the kernel that runs this process.
    pub fn is_running(&self) -> bool {
        todo!()
    }

    /// Types of the kernel itself; `None`: it was built without.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn btf(&self) -> Result<Option<&Btf>, Error> {
        todo!()
    }

    /// Modules with BTF, in the order of their BTF ids.
    ///
    /// # Errors
    /// Their list cannot be had (CAP_SYS_ADMIN).
    pub fn modules(&self) -> Result<&[Module], Error> {
        todo!()
    }

    /// Whether the kernel can do this.
    pub fn has(&self, feature: Feature) -> bool {
        todo!()
    }

    /// Text of a configuration value (`CONFIG_HZ` -> `250`).
    ///
    /// # Errors
    /// Neither `/boot/config-RELEASE` nor `/proc/config.gz` can be read.
    pub fn config(&self, key: &str) -> Result<Option<&str>, Error> {
        todo!()
    }

    /// Address of a kernel symbol. `NAME.llvm.HASH` counts as `NAME`.
    ///
    /// # Errors
    /// kallsyms cannot be read or shows no addresses, or two symbols of that name have different addresses.
    pub fn symbol(&self, name: &str) -> Result<Option<u64>, Error> {
        todo!()
    }

    /// `KERNEL_VERSION(a, b, c)`, with the quirks of Ubuntu and Debian undone as libbpf does.
    pub fn version_code(&self) -> u32 {
        todo!()
    }

    /// Number of CPUs that can ever be there: the number of values in a per-CPU map's entry.
    pub fn possible_cpus(&self) -> u32 {
        todo!()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        todo!()
    }
}
