//! What the tests share. They need root and a kernel with BPF.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod net;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use ringfence::{Kernel, Loaded, Object, Plan, ProgramType, Settings};
use ringfence_plan::{MapPlan, ProgramPlan};
use ringfence_uapi::Insn;

/// Compiles `tests/c/NAME.bpf.c`, once a process.
pub(crate) fn object(name: &'static str) -> Object {
    static DONE: Mutex<BTreeMap<&str, Object>> = Mutex::new(BTreeMap::new());
    DONE.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert_with(|| compile(name)).clone()
}

/// `cargo xtask test`, and `vm` for machines without a compiler, put the objects under `RINGFENCE_TEST_OBJECTS`.
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

/// A program or library of `tests/c`, compiled once a process: `probed`, `libprobed.so`, `libprobed_stripped.so`.
pub(crate) fn built(name: &str) -> PathBuf {
    static DIR: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Ok(dir) = std::env::var("RINGFENCE_TEST_OBJECTS") {
        return PathBuf::from(dir).join(name).canonicalize().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut dir = DIR.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = dir.get_or_insert_with(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("programs.{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let programs = PROGRAMS.lines().filter_map(|line| line.split_once(": "));
        programs.for_each(|(name, arguments)| link(&dir, name, arguments));
        dir
    });
    dir.join(name)
}

/// What is compiled to what, and how; a library before the program that needs it. `cargo xtask vm` reads it too.
const PROGRAMS: &str = include_str!("../c/programs.txt");

fn link(dir: &std::path::Path, name: &str, arguments: &str) {
    let cc = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let status = Command::new(&cc)
        .current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/c"))
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .arg(dir.join(name))
        .args(arguments.split(' '))
        .arg(format!("-L{}", dir.display()))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{cc} cannot compile {name}");
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

/// A GPL program of a section that is called as it is.
pub(crate) fn program(name: &str, kind: ProgramType, insns: &[Insn]) -> ProgramPlan {
    ProgramPlan { section: name.to_owned(), ..ProgramPlan::new(name, kind, "GPL", insns.to_vec()) }
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
