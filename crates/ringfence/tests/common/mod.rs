//! What the tests share. They need root and a kernel with BPF.
#![allow(dead_code, reason = "each test file uses a part")]

use ringfence::{AttachType, Kernel, Loaded, MapType, Plan, ProgramType};
use ringfence_btf::TypeId;
use ringfence_object::{FunctionId, MapId};
use ringfence_plan::{Attach, LoadTarget, MapPlan, ProgramPlan};
use ringfence_uapi::Insn;

/// An empty plan of this name.
pub(crate) fn plan(object: &str) -> Plan {
    let mut plan = Plan::default();
    plan.object = object.to_owned();
    plan
}

/// A map without anything special.
pub(crate) fn map(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapPlan {
    MapPlan {
        id: MapId(0),
        name: name.to_owned(),
        kernel_name: name.chars().take(15).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect(),
        kind,
        key_size,
        value_size,
        max_entries,
        flags: 0,
        map_extra: 0,
        numa_node: None,
        btf_key: TypeId::VOID,
        btf_value: TypeId::VOID,
        struct_ops: None,
        inner: None,
        contents: None,
        freeze: false,
        slots: Vec::new(),
        pin: None,
        filled: Vec::new(),
    }
}

/// A program without anything special.
pub(crate) fn program(name: &str, kind: ProgramType, insns: &[Insn]) -> ProgramPlan {
    ProgramPlan {
        function: FunctionId(0),
        name: name.to_owned(),
        kernel_name: name.chars().take(15).collect(),
        section: name.to_owned(),
        kind,
        attach_type: AttachType(0),
        flags: 0,
        license: "GPL".to_owned(),
        kernel_version: 0,
        insns: insns.to_vec(),
        fixups: Vec::new(),
        funcs: Vec::new(),
        lines: Vec::new(),
        target: LoadTarget::None,
        attach: Attach::Nothing,
        bind: Vec::new(),
        kfunc_modules: Vec::new(),
    }
}

/// `code dst src off imm`
pub(crate) fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// `r0 = value; exit`
pub(crate) fn returns(value: i32) -> [Insn; 2] {
    [insn(0xb7, 0, 0, 0, value), insn(Insn::EXIT, 0, 0, 0, 0)]
}

/// Loads a plan that must load.
pub(crate) fn load(plan: &Plan) -> Loaded {
    ringfence::load(plan, &Kernel::running()).unwrap_or_else(|error| panic!("{error}\n{}", error.log().unwrap_or("")))
}

/// Loads maps alone.
pub(crate) fn load_maps(maps: Vec<MapPlan>) -> Loaded {
    let mut plan = plan("maps");
    plan.maps = maps;
    load(&plan)
}
