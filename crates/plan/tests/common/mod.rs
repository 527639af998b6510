//! Objects and kernels for tests: compiled from `tests/c`, or given by environment.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringfence_btf::Btf;
use ringfence_kernel::Kernel;
use ringfence_object::{FunctionId, Object};
use ringfence_plan::{Error, MapPlan, Plan, ProgramPlan, Settings, plan};

/// Compiles and reads a file of `tests/c`; `None` when there is no clang, which is said.
pub fn object(source: &str, flags: &[&str]) -> Option<Object> {
    let name = source.replace(".c", ".bpf.o");
    Some(Object::parse(&name, &bytes(source, flags)?).unwrap_or_else(|error| panic!("{error}")))
}

/// Compiles a file of `tests/c`.
pub fn bytes(source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let clang = ["clang-19", "clang-20", "clang"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()));
    let Some(clang) = clang else {
        println!("skipped: clang-19 is not installed ({source})");
        return None;
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let out = out.join(format!("{source}.{}.{}.o", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-O2", "-g", "-Wno-visibility", "-c"]);
    command.arg("-I").arg(here.join("../object/tests/c"));
    command.args(flags).arg(here.join("tests/c").join(source)).arg("-o").arg(&out);
    let result = command.output().expect("clang runs");
    assert!(result.status.success(), "{source}: {}", String::from_utf8_lossy(&result.stderr));
    let bytes = std::fs::read(&out).expect("clang wrote an object");
    std::fs::remove_file(&out).expect("the object can be removed");
    Some(bytes)
}

/// A kernel that is known by the types of `tests/c/kernel.c`.
pub fn small_kernel(flags: &[&str]) -> Option<Kernel> {
    object("kernel.c", flags).map(|object| Kernel::from_btf(object.btf.expect("it has types")))
}

/// Kernels of `RINGFENCE_KERNELS`, a directory with one directory per release: `(release, its types)`.
pub fn real_kernels(test: &str) -> Vec<(String, Btf)> {
    let Some(root) = std::env::var_os("RINGFENCE_KERNELS") else {
        println!("skipped: RINGFENCE_KERNELS is not set ({test})");
        return Vec::new();
    };
    let mut kernels = Vec::new();
    for entry in std::fs::read_dir(&root).expect("RINGFENCE_KERNELS can be read") {
        let dir = entry.expect("the directory can be read").path();
        let Ok(bytes) = std::fs::read(dir.join("btf")) else { continue };
        let btf = Btf::parse(Arc::new(bytes)).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        kernels.push((dir.file_name().unwrap().to_string_lossy().into_owned(), btf));
    }
    assert!(!kernels.is_empty(), "RINGFENCE_KERNELS holds no kernel");
    kernels
}

/// Objects of `RINGFENCE_OBJECTS`, a directory with one directory per package.
pub fn real_objects(test: &str) -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set ({test})");
        return Vec::new();
    };
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        entries.map(|entry| entry.expect("the directory can be read").path()).collect()
    };
    let packages = list(Path::new(&root)).into_iter().filter(|path| path.is_dir());
    let mut files: Vec<_> = packages.flat_map(|package| list(&package)).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    files.sort();
    assert!(!files.is_empty(), "RINGFENCE_OBJECTS holds no objects");
    files
}

/// A plan that can be made.
pub fn planned(object: &Object, kernel: &Kernel, settings: &Settings) -> Plan {
    plan(object, kernel, settings).unwrap_or_else(|error| panic!("{error}"))
}

pub fn program<'a>(plan: &'a Plan, name: &str) -> &'a ProgramPlan {
    let found = plan.programs.iter().find(|program| program.name == name);
    found.unwrap_or_else(|| panic!("no program {name}; problems: {:?}", plan.problems))
}

pub fn map<'a>(plan: &'a Plan, name: &str) -> &'a MapPlan {
    let found = plan.maps.iter().find(|map| map.name == name);
    found.unwrap_or_else(|| panic!("no map {name}; left out: {:?}", plan.left_out))
}

/// What is wrong with a program.
pub fn problem<'a>(plan: &'a Plan, name: &str) -> &'a Error {
    let found = plan.problems.iter().find(|problem| problem.program == name);
    &found.unwrap_or_else(|| panic!("{name} has no problem")).error
}

pub fn left_out<'a>(plan: &'a Plan, name: &str) -> &'a str {
    let found = plan.left_out.iter().find(|left| left.name == name);
    &found.unwrap_or_else(|| panic!("{name} is not left out")).reason
}

pub fn function(object: &Object, name: &str) -> FunctionId {
    FunctionId(object.functions.iter().position(|function| function.name == name).expect("the function is there"))
}
