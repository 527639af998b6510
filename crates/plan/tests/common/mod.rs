//! Objects and kernels for tests: compiled from `tests/c`, or given by environment.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::path::Path;
use std::sync::Arc;

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
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let headers = here.join("../object/tests/c").display().to_string();
    let flags = [&["-I", &headers], flags].concat();
    ringfence_testing::compile(&here.join("tests/c").join(source), &flags)
}

/// A kernel that is known by the types of `tests/c/kernel.c`.
pub fn small_kernel(flags: &[&str]) -> Option<Kernel> {
    object("kernel.c", flags).map(|object| Kernel::from_btf(object.btf.expect("it has types")))
}

/// Kernels with their types.
pub fn real_kernels() -> Vec<(String, Btf)> {
    let types = |path: &Path| Btf::parse(Arc::new(std::fs::read(path).expect("it can be read")));
    let kernels = ringfence_testing::kernels().into_iter();
    kernels.map(|(release, path)| (release, types(&path).unwrap_or_else(|error| panic!("{error}")))).collect()
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
