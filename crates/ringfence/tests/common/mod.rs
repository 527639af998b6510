//! What the tests share. They need root and a kernel with BPF.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod net;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ringfence::{AttachType, Kernel, Loaded, MapType, Object, Plan, ProgramType, Settings};
use ringfence_btf::TypeId;
use ringfence_object::{FunctionId, MapId};
use ringfence_plan::{Attach, LoadTarget, MapPlan, ProgramPlan};
use ringfence_uapi::Insn;

/// Compiles `tests/c/NAME.bpf.c`, once a process.
pub(crate) fn object(name: &'static str) -> Object {
    static DONE: Mutex<BTreeMap<&str, Object>> = Mutex::new(BTreeMap::new());
    DONE.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert_with(|| compile(name)).clone()
}

/// A machine without a compiler (a small virtual one) finds the objects under `RINGFENCE_TEST_OBJECTS`.
fn compile(name: &str) -> Object {
    if let Ok(dir) = std::env::var("RINGFENCE_TEST_OBJECTS") {
        let path = PathBuf::from(dir).join(format!("{name}.bpf.o"));
        return ringfence::open(path).unwrap_or_else(|error| panic!("{error}"));
    }
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}.bpf.o", std::process::id()));
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x86",
    };
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Werror", "-Wno-unused-variable", "-c"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg(format!("{}/tests/c/{name}.bpf.c", env!("CARGO_MANIFEST_DIR")))
        .arg("-o")
        .arg(&out)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{clang} cannot compile {name}.bpf.c");
    let object = ringfence::open(&out).unwrap_or_else(|error| panic!("{error}"));
    std::fs::remove_file(&out).unwrap();
    object
}

/// Compiles, plans and loads.
pub(crate) fn load_object(name: &'static str, settings: Settings) -> Loaded {
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object(name), &kernel, &settings).unwrap_or_else(|error| panic!("{error}"));
    load(&plan)
}

/// The same for what came with a kernel release: `None`, and a line that says so, on older ones. A kernel that should
/// have it must load it.
pub(crate) fn load_since(release: (u32, u32), name: &'static str, settings: Settings) -> Option<Loaded> {
    let kernel = Kernel::running();
    if kernel.version_code() < release.0 << 16 | release.1 << 8 {
        println!("skipped: needs Linux {}.{}", release.0, release.1);
        return None;
    }
    Some(load_object(name, settings))
}

/// An empty plan of this name.
pub(crate) fn plan(object: &str) -> Plan {
    let mut plan = Plan::default();
    plan.object = object.to_owned();
    plan
}

/// A map without anything special.
pub(crate) fn map(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapPlan {
    MapPlan {
        id: Some(MapId(0)),
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
        must_exist: false,
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
