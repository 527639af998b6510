//! What an object file says, as plain data. Indexes refer to the vectors of [`Object`].

use ringfence_btf::{Btf, Linkage, TypeId};
use ringfence_uapi::{Insn, MapType};

use crate::Error;

/// Everything that an ELF file says, and nothing about any machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// The file's name up to its first dot; its start is the prefix of the names of data maps.
    pub name: String,
    /// Compiled for big-endian machines.
    pub big_endian: bool,
    /// Text of the `license` section; `None`: there is none, and the kernel takes that for not GPL.
    pub license: Option<String>,
    /// The `version` section, which kernels before 5.0 compared with their own for kprobes.
    pub version: Option<u32>,
    /// The `.BTF` section.
    pub btf: Option<Btf>,
    /// Every function, by section in the order of the file and then by offset.
    pub functions: Vec<Function>,
    /// The functions that the kernel may run, in the order of the file.
    pub programs: Vec<Program>,
    /// Maps: of `.maps` and `maps`, data sections, `.kconfig`, struct_ops.
    pub maps: Vec<Map>,
    /// What the object leaves for the loader to find.
    pub externs: Vec<Extern>,
    /// Sizes and offsets of the `DATASEC`s, which compilers leave to the loader.
    pub datasecs: Vec<DatasecLayout>,
    /// The `DECL_TAG`s of the object's BTF.
    pub tags: Vec<Tag>,
    /// Variables of data sections, by map and then by offset.
    pub globals: Vec<Global>,
    /// The `.jumptables` section: 8-byte offsets into the section of the function that jumps.
    pub jump_tables: Vec<u8>,
    /// What a reader of the file should know although it stops nothing: a missing section and how to get it.
    pub notices: Vec<String>,
}

/// Index into [`Object::functions`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FunctionId(pub usize);

/// Index into [`Object::maps`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MapId(pub usize);

/// Index into [`Object::externs`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExternId(pub usize);

/// How far a function's name reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visibility {
    /// `static`: verified as a part of each caller.
    Static,
    /// Global: verified alone, by its prototype.
    Global,
    /// Global for the linker, hidden from the loader (`__hidden`): verified like a static one.
    Hidden,
}

/// A function: an entry program or a subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// The section that it is in, as written.
    pub section: String,
    /// Where it starts in the section, in bytes.
    pub offset: u64,
    /// How far its name reaches.
    pub visibility: Visibility,
    /// `STB_WEAK`.
    pub weak: bool,
    /// Its instructions, as in the file.
    pub insns: Vec<Insn>,
    /// What has to be filled in, by instruction.
    pub relocs: Vec<Reloc>,
    /// CO-RE relocations, by instruction.
    pub core: Vec<CoreReloc>,
    /// The `FUNC` in the object's BTF.
    pub btf: Option<TypeId>,
    /// Source lines, by instruction.
    pub lines: Vec<Line>,
    /// Why it cannot be used; the rest of the object can.
    pub problem: Option<Error>,
}

/// What an instruction refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reloc {
    /// Index into [`Function::insns`].
    pub insn: usize,
    /// What it refers to.
    pub target: Target,
}

/// What a relocation refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `ld_imm64`: a map.
    Map(MapId),
    /// `ld_imm64`: an address inside a data map. `offset` counts from the section's start, addend included.
    Data {
        /// The data section's map.
        map: MapId,
        /// Bytes from its start.
        offset: u32,
    },
    /// `call`: another function of this object. Also for calls that need no relocation in the file.
    Call(FunctionId),
    /// `ld_imm64`: a function's address (a callback).
    Address(FunctionId),
    /// `ld_imm64` or `call`: something outside the object.
    Extern(ExternId),
    /// `ld_imm64`: a table of jump targets (`.jumptables`).
    JumpTable {
        /// Offset of the table in its section, in bytes.
        offset: u64,
        /// Bytes.
        size: u64,
    },
}

/// `enum bpf_core_relo_kind` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub enum CoreKind {
    FieldByteOffset = 0,
    FieldByteSize = 1,
    FieldExists = 2,
    FieldSigned = 3,
    FieldLshiftU64 = 4,
    FieldRshiftU64 = 5,
    TypeIdLocal = 6,
    TypeIdTarget = 7,
    TypeExists = 8,
    TypeSize = 9,
    EnumvalExists = 10,
    EnumvalValue = 11,
    TypeMatches = 12,
}

impl CoreKind {
    /// Every kind, in the order of its number.
    pub const ALL: [CoreKind; 13] = [
        CoreKind::FieldByteOffset,
        CoreKind::FieldByteSize,
        CoreKind::FieldExists,
        CoreKind::FieldSigned,
        CoreKind::FieldLshiftU64,
        CoreKind::FieldRshiftU64,
        CoreKind::TypeIdLocal,
        CoreKind::TypeIdTarget,
        CoreKind::TypeExists,
        CoreKind::TypeSize,
        CoreKind::EnumvalExists,
        CoreKind::EnumvalValue,
        CoreKind::TypeMatches,
    ];

    /// The kind of this number.
    pub fn from_number(number: u32) -> Option<CoreKind> {
        CoreKind::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A CO-RE relocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreReloc {
    /// Index into [`Function::insns`].
    pub insn: usize,
    /// Root type in the object's BTF.
    pub ty: TypeId,
    /// Path from the root: `0:1:2`, or the enumerator's index.
    pub access: String,
    /// What is asked.
    pub kind: CoreKind,
}

/// Source of an instruction. The strings are in the object's BTF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Index into [`Function::insns`].
    pub insn: usize,
    /// String offset of the file's name.
    pub file: u32,
    /// String offset of the line's text.
    pub text: u32,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u16,
}

/// A function that the kernel may run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its symbol.
    pub name: String,
    /// Its section's name, without a leading `?`.
    pub section: String,
    /// Loaded unless the user says otherwise (no leading `?`).
    pub autoload: bool,
    /// The function.
    pub function: FunctionId,
    /// Called when the program throws (`__exception_cb`). libbpf appends it to the program.
    pub exception_callback: Option<FunctionId>,
}

/// What a `DATASEC` in the object's BTF has to say before a kernel takes it.
///
/// Compilers leave the size, and the offsets of global variables, to the loader (libbpf,
/// `btf_fixup_datasec`); externs become variables of the loader's own (`bpf_object__collect_externs`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatasecLayout {
    /// The `DATASEC`.
    pub ty: TypeId,
    /// Its name, that of the section.
    pub name: String,
    /// Bytes.
    pub size: u32,
    /// The variables in the order of their offsets.
    pub vars: Vec<VarLayout>,
}

/// A variable's place in a `DATASEC`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VarLayout {
    /// The `VAR`, or in `.ksyms` also the `FUNC`.
    pub ty: TypeId,
    /// Offset in the section, in bytes.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// What its linkage has to be: hidden variables become static, externs global.
    pub linkage: Linkage,
}

/// `__attribute__((btf_decl_tag("...")))`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Its text.
    pub text: String,
    /// What it is on.
    pub ty: TypeId,
    /// On this member or parameter of it; `None`: on the whole.
    pub component: Option<u32>,
}

/// A variable in a data section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Its type; `None` where the object has no BTF.
    pub ty: Option<TypeId>,
    /// The data section's map.
    pub map: MapId,
    /// Bytes from the start of the section.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// `static`, or hidden.
    pub is_static: bool,
}

/// A map as the object declares it. Sizes of 0 are for the user, or the loader, to fill in.
#[derive(Clone, Debug)]
pub struct Map {
    /// Name by which users and libbpf know it; for data sections `PREFIX.rodata`, for custom ones the section.
    pub name: String,
    /// The section that declares it.
    pub section: String,
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
    /// Memory node, when `BPF_F_NUMA_NODE` was asked for.
    pub numa_node: Option<u32>,
    /// Type of the key in the object's BTF.
    pub key_type: Option<TypeId>,
    /// Type of the value in the object's BTF.
    pub value_type: Option<TypeId>,
    /// Pinned under its name (`LIBBPF_PIN_BY_NAME`).
    pub pin_by_name: bool,
    /// Shape of the inner maps of a map-in-map.
    pub inner: Option<Box<Map>>,
    /// `.values`: what the slots hold at first.
    pub slots: Vec<Slot>,
    /// What else it is.
    pub role: Role,
}

impl Map {
    /// A map of which no more is known.
    pub(crate) fn new(name: &str, section: &str, kind: MapType, role: Role) -> Map {
        Map {
            name: name.into(),
            section: section.into(),
            kind,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            map_extra: 0,
            numa_node: None,
            key_type: None,
            value_type: None,
            pin_by_name: false,
            inner: None,
            slots: Vec::new(),
            role,
        }
    }
}

/// A slot of a map-in-map or program array that the object fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Key.
    pub index: u32,
    /// What is put there.
    pub target: SlotTarget,
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotTarget {
    /// A map (map-in-map).
    Map(MapId),
    /// A program (program array).
    Function(FunctionId),
}

/// Where a map comes from and what it holds at first.
#[derive(Clone, Debug)]
pub enum Role {
    /// Declared in `.maps` with BTF.
    Declared,
    /// Declared in the legacy `maps` section, as an array of integers.
    Legacy,
    /// A data section.
    Data(Data),
    /// The `.kconfig` section: a value for each [`ExternKind::Kconfig`].
    Kconfig,
    /// A `struct_ops` variable.
    StructOps(StructOps),
}

/// A data section.
#[derive(Clone, Debug)]
pub struct Data {
    /// What it holds at first; all zero for `.bss`.
    pub bytes: Vec<u8>,
    /// `.rodata`: frozen before the programs load.
    pub read_only: bool,
    /// In the section headers as `SHT_NOBITS`.
    pub bss: bool,
    /// Holds a variable that is not `static`, so that user space may want to map it.
    pub exported: bool,
    /// The `DATASEC` in the object's BTF.
    pub datasec: Option<TypeId>,
    /// Addresses that the section holds: `(offset, function)`. Kept for a clear error: only struct_ops may.
    pub functions: Vec<(u32, FunctionId)>,
    /// The contents of an arena (`.addr_space.1`): [`Map`] is then the arena that `.maps` declares.
    pub arena: bool,
}

/// A variable in a `struct_ops` section.
#[derive(Clone, Debug)]
pub struct StructOps {
    /// Name of the kernel's structure (`tcp_congestion_ops`).
    pub type_name: String,
    /// The structure in the object's BTF.
    pub ty: TypeId,
    /// The variable's bytes.
    pub bytes: Vec<u8>,
    /// Members that hold programs: `(offset in bytes, function)`.
    pub functions: Vec<(u32, FunctionId)>,
    /// In `.struct_ops.link`: attached by a link.
    pub link: bool,
    /// In a section with a leading `?`: not created by default.
    pub autocreate: bool,
}

/// Something that the object leaves for the loader to find.
#[derive(Clone, Debug)]
pub struct Extern {
    /// Its symbol.
    pub name: String,
    /// May be missing; it is 0 then.
    pub weak: bool,
    /// The `VAR` or `FUNC` in the object's BTF.
    pub btf: TypeId,
    /// What it is.
    pub kind: ExternKind,
}

/// What an extern is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExternKind {
    /// A kernel configuration value, or one of the loader's own (`LINUX_KERNEL_VERSION`).
    Kconfig {
        /// How to read the value's text.
        value: KconfigType,
        /// Bytes.
        size: u32,
        /// Where it is in `.kconfig`, as this reader lays it out.
        offset: u32,
    },
    /// A kernel variable with a type: found by BTF.
    TypedKsym {
        /// Its type in the object's BTF.
        ty: TypeId,
    },
    /// A kernel symbol of type `void`: its address, from kallsyms.
    Ksym,
    /// A kernel function.
    Kfunc {
        /// Its `FUNC_PROTO` in the object's BTF.
        proto: TypeId,
    },
}

/// How the text of a configuration value is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KconfigType {
    /// `bool`: `y` or `n`.
    Bool,
    /// `char`: `y`, `m`, `n` as characters.
    Char,
    /// `enum libbpf_tristate`.
    Tristate,
    /// An integer.
    Int {
        /// Signed.
        signed: bool,
    },
    /// `char[]`.
    CharArray,
}
