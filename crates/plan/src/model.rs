//! The plan: pure data, in the order in which it is to be done.

use ringfence_btf::TypeId;
use ringfence_object::{FunctionId, MapId};
use ringfence_uapi::{AttachType, Insn, MapType, ProgramType};

/// Bytes of a kernel name, without the zero at the end (`BPF_OBJ_NAME_LEN`).
const NAME_LEN: usize = 15;

/// What is to be done to load an object into one kernel.
///
/// The same object, kernel facts and settings give the same plan, byte for byte, on any machine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// Name of the object.
    pub object: String,
    /// BTF to load first, made fit for the kernel; `None`: the object has none, or the kernel takes none.
    pub btf: Option<Vec<u8>>,
    /// Maps to create, in order: an inner map comes before the map that holds it.
    pub maps: Vec<MapPlan>,
    /// Programs to load, in order.
    pub programs: Vec<ProgramPlan>,
    /// Programs that cannot be loaded, and why; with them the plan as a whole cannot be executed.
    ///
    /// A program can be here and in [`Plan::programs`]: its instructions are known, but it has no type, or the kernel
    /// refuses its licence.
    pub problems: Vec<Problem>,
    /// Programs and maps left out on purpose, and why.
    pub left_out: Vec<LeftOut>,
    /// Kernel features and capabilities that this needs, each with a reason.
    pub needs: Vec<Need>,
}

/// Index into [`Plan::maps`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlanMap(pub usize);

/// A map to create.
#[derive(Clone, Debug)]
pub struct MapPlan {
    /// The object's map; `None`: a jump table of one program.
    pub id: Option<MapId>,
    /// Its name in the object.
    pub name: String,
    /// Name for the kernel: at most 15 bytes of letters, digits, `_` and `.`; empty where it takes none.
    pub kernel_name: String,
    /// What it is.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Meaning depends on the kind.
    pub map_extra: u64,
    /// Memory node.
    pub numa_node: Option<u32>,
    /// Type of a key in [`Plan::btf`], 0: none.
    pub btf_key: TypeId,
    /// Type of a value in [`Plan::btf`], 0: none.
    pub btf_value: TypeId,
    /// An arena's variables, in [`Plan::btf`]: a type that is not for the kernel.
    pub section: Option<TypeId>,
    /// struct_ops: the kernel's wrapper structure, and the module that has it (none: the kernel itself).
    pub struct_ops: Option<StructOpsPlan>,
    /// Shape of the inner maps.
    pub inner: Option<Box<MapPlan>>,
    /// Written right after creation: the value of key 0 (data sections, `.kconfig`), the values of all keys one after
    /// another (jump tables), or what an arena holds from its first byte (it may be nothing: an arena has to be mapped
    /// all the same). `None`: zeros, as new maps are (`.bss`).
    pub contents: Option<Vec<u8>>,
    /// Frozen after that, before any program loads.
    pub freeze: bool,
    /// Written after the programs are loaded.
    pub slots: Vec<SlotPlan>,
    /// Where it is pinned; reused from there when what is there has the same shape.
    pub pin: Option<std::path::PathBuf>,
    /// It has to be pinned there already: none is created.
    pub must_exist: bool,
    /// What was filled in because the object leaves it to its user: said to the user.
    pub filled: Vec<String>,
}

impl MapPlan {
    /// A map without anything special: no object's, zeros, not pinned.
    pub fn new(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapPlan {
        MapPlan {
            id: None,
            name: name.to_owned(),
            kernel_name: kernel_name(name),
            kind,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            map_extra: 0,
            numa_node: None,
            btf_key: TypeId::VOID,
            btf_value: TypeId::VOID,
            section: None,
            struct_ops: None,
            inner: None,
            contents: None,
            freeze: false,
            slots: Vec::new(),
            pin: None,
            must_exist: false,
            filled: Vec::new(),
        }
    }

    /// The kernel lets only programs of one kind share it, like the first one that is loaded with it
    /// (`bpf_prog_map_compatible` of kernel/bpf/core.c).
    pub fn runs_programs(&self) -> bool {
        matches!(self.kind, MapType::PROG_ARRAY | MapType::CPUMAP | MapType::DEVMAP | MapType::DEVMAP_HASH)
    }
}

/// A struct_ops map.
#[derive(Clone, Debug)]
pub struct StructOpsPlan {
    /// `bpf_struct_ops_NAME` in the kernel's BTF.
    pub btf_vmlinux_value: TypeId,
    /// The module whose BTF that is in.
    pub module: Option<String>,
    /// The value to register; program members hold zero.
    pub value: Vec<u8>,
    /// Where programs' fds go: `(offset in value, program)`.
    pub programs: Vec<(u32, FunctionId)>,
    /// Registered by a link.
    pub link: bool,
}

/// A slot to fill once the programs are loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotPlan {
    /// Key.
    pub index: u32,
    /// What goes there.
    pub target: SlotTo,
}

/// What goes into a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotTo {
    /// A map.
    Map(PlanMap),
    /// A program, by its function in the object.
    Program(FunctionId),
}

/// A program to load.
#[derive(Clone, Debug)]
pub struct ProgramPlan {
    /// Its function in the object.
    pub function: FunctionId,
    /// Its name in the object.
    pub name: String,
    /// Name for the kernel.
    pub kernel_name: String,
    /// Its section, without a leading `?`.
    pub section: String,
    /// What it is.
    pub kind: ProgramType,
    /// Hook for which it is verified.
    pub attach_type: AttachType,
    /// `BPF_F_*` of BPF_PROG_LOAD.
    pub flags: u32,
    /// Text of the licence.
    pub license: String,
    /// `KERNEL_VERSION` for kprobes of old kernels.
    pub kernel_version: u32,
    /// Final instructions but for what [`ProgramPlan::fixups`] names.
    pub insns: Vec<Insn>,
    /// What can only be filled in with file descriptors at hand, by instruction.
    pub fixups: Vec<Fixup>,
    /// `struct bpf_func_info` records: (instruction, type in [`Plan::btf`]).
    pub funcs: Vec<(u32, TypeId)>,
    /// `struct bpf_line_info` records.
    pub lines: Vec<LineInfo>,
    /// The kernel function, tracepoint or program to which it belongs at load time.
    pub target: LoadTarget,
    /// Where it is attached without a word of the user's.
    pub attach: Attach,
    /// Array maps to bind to it, `.rodata` above all.
    pub bind: Vec<PlanMap>,
    /// Modules whose BTF its kfunc calls use: the call's `off` is a place in this list, from 1.
    pub kfunc_modules: Vec<String>,
}

impl ProgramPlan {
    /// A program without anything special: no object's, whose instructions are final, for any hook of its type.
    pub fn new(name: &str, kind: ProgramType, license: &str, insns: Vec<Insn>) -> ProgramPlan {
        ProgramPlan {
            function: FunctionId(0),
            name: name.to_owned(),
            kernel_name: kernel_name(name),
            section: String::new(),
            kind,
            attach_type: AttachType(0),
            flags: 0,
            license: license.to_owned(),
            kernel_version: 0,
            insns,
            fixups: Vec::new(),
            funcs: Vec::new(),
            lines: Vec::new(),
            target: LoadTarget::None,
            attach: Attach::Nothing,
            bind: Vec::new(),
            kfunc_modules: Vec::new(),
        }
    }
}

/// `struct bpf_line_info` of `include/uapi/linux/bpf.h`; string offsets are into [`Plan::btf`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// Instruction.
    pub insn: u32,
    /// String offset of the file's name.
    pub file: u32,
    /// String offset of the line's text.
    pub text: u32,
    /// Line number << 10 | column.
    pub line_column: u32,
}

/// What the executor fills in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixup {
    /// Index into [`ProgramPlan::insns`].
    pub insn: usize,
    /// What goes there.
    pub with: FixupWith,
}

/// What goes into an instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FixupWith {
    /// `imm` = fd of the map (`src` says whether it stands for the map or for its value).
    Map(PlanMap),
    /// `imm` of the second slot = fd of a module's BTF.
    ModuleBtf(String),
}

/// What `attach_btf_id` and its companions name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LoadTarget {
    /// Nothing.
    #[default]
    None,
    /// A type in the kernel's BTF or in a module's.
    Btf {
        /// The function, tracepoint typedef or structure.
        id: TypeId,
        /// The module; `None`: the kernel itself.
        module: Option<String>,
    },
    /// A function of another program (freplace, tracing of programs), for the user to give.
    Program {
        /// The function's name.
        function: String,
    },
    /// The target is missing in this kernel or is not named; loading fails with this reason.
    Unknown(String),
}

/// Where a program goes when all that can be attached is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Attach {
    /// The section does not name a place: the user has to.
    ByUser {
        /// What to give, in a few words: `a network device`.
        what: &'static str,
    },
    /// `tracepoint/CATEGORY/NAME`.
    Tracepoint {
        /// Category.
        category: String,
        /// Name.
        name: String,
    },
    /// `raw_tp/NAME`.
    RawTracepoint {
        /// Name.
        name: String,
    },
    /// tp_btf, fentry, fexit, fmod_ret, fsession, lsm: everything is said at load time.
    Trace,
    /// A set of kernel functions by pattern (fentry.multi, fexit.multi, fsession.multi).
    TraceMulti {
        /// Glob.
        pattern: String,
    },
    /// An iterator.
    Iter,
    /// A kernel function.
    Kprobe {
        /// At its return.
        ret: bool,
        /// Name, or `NAME+0xOFF`, `module:NAME`.
        function: String,
        /// `ksyscall`: the function of this system call, under the name that the kernel gives it.
        syscall: bool,
    },
    /// A set of kernel functions by pattern (kprobe.multi, kprobe.session).
    KprobeMulti {
        /// At their return.
        ret: bool,
        /// Entry and return with one program.
        session: bool,
        /// Glob.
        pattern: String,
    },
    /// A function of a program in user space.
    Uprobe {
        /// At its return.
        ret: bool,
        /// Path, or name to look for.
        binary: String,
        /// Symbol, `SYMBOL+OFF`, `SYMBOL@VERSION` or an offset.
        function: String,
    },
    /// A set of user functions by pattern.
    UprobeMulti {
        /// At their return.
        ret: bool,
        /// Entry and return with one program.
        session: bool,
        /// Path, or name to look for.
        binary: String,
        /// Glob.
        pattern: String,
    },
    /// A static probe in user space.
    Usdt {
        /// Path, or name to look for.
        binary: String,
        /// Provider.
        provider: String,
        /// Name.
        name: String,
    },
    /// A struct_ops member: registered with its map.
    StructOps,
    /// Nothing to attach (syscall programs, callbacks of a program array): run by test_run or by others.
    Nothing,
}

/// A program that cannot be loaded.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The program's name.
    pub program: String,
    /// Why.
    pub error: crate::Error,
}

/// Something left out on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Name of the program or map.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Something that the kernel, or the caller, must have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Need {
    /// What: a capability or a kernel feature.
    pub what: Needed,
    /// Because of what: names of programs and maps, and the reason.
    pub because: String,
}

/// A capability or a kernel feature.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Needed {
    /// A capability: `CAP_BPF`.
    Capability(&'static str),
    /// A kernel feature, with the version that brought it.
    Kernel {
        /// Its name: `ring buffer maps`, `bpf_ktime_get_boot_ns`.
        feature: String,
        /// The first mainline release that has it, where it is known: `5.8`.
        since: Option<&'static str>,
    },
}

/// As a person would write it: `tracepoint syscalls/sys_enter_openat`.
impl std::fmt::Display for Attach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |ret: &bool| if *ret { "return of " } else { "" };
        let both = |session: &bool| if *session { "entry and return of " } else { "" };
        match self {
            Attach::ByUser { what } => write!(f, "by the user: {what}"),
            Attach::Tracepoint { category, name } => write!(f, "tracepoint {category}/{name}"),
            Attach::RawTracepoint { name } => write!(f, "raw tracepoint {name}"),
            Attach::Trace => f.write_str("its target, named at load time"),
            Attach::TraceMulti { pattern } => write!(f, "kernel functions {pattern}"),
            Attach::Iter => f.write_str("an iterator, when it is read"),
            Attach::Kprobe { ret, function, syscall: false } => write!(f, "{}kernel function {function}", at(ret)),
            Attach::Kprobe { ret, function, syscall: true } => write!(f, "{}system call {function}", at(ret)),
            Attach::KprobeMulti { ret, session, pattern } => {
                write!(f, "{}{}kernel functions {pattern}", both(session), at(ret))
            }
            Attach::Uprobe { ret, binary, function } => write!(f, "{}{function} in {binary}", at(ret)),
            Attach::UprobeMulti { ret, session, binary, pattern } => {
                write!(f, "{}{}{pattern} in {binary}", both(session), at(ret))
            }
            Attach::Usdt { binary, provider, name } => write!(f, "static probe {provider}:{name} in {binary}"),
            Attach::StructOps => f.write_str("its struct_ops map"),
            Attach::Nothing => f.write_str("nothing: it is run by others"),
        }
    }
}

/// The kernel takes letters, digits, `_` and `.`; what is too long is cut.
pub(crate) fn kernel_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' };
    name.chars().map(allowed).take(NAME_LEN).collect()
}
