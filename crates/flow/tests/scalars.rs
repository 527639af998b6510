//! What bare numbers in maps mean, in real objects.
#![allow(missing_docs)]

use std::path::Path;

use ringfence_flow::scalars;
use ringfence_object::Object;

/// `MAP SIDE PATH: QUANTITY` of an object of libbpf-tools.
fn of(dir: &Path, name: &str) -> Vec<String> {
    let bytes = std::fs::read(dir.join("libbpf-tools").join(format!("{name}.o"))).expect("an object");
    let object = Object::parse(name, &bytes).expect("an object");
    let shown = |scalar: ringfence_flow::Scalar| {
        let map = &object.maps[scalar.map.0].name;
        format!("{map} {:?} {}: {:?}", scalar.side, scalar.path, scalar.quantity)
    };
    scalars(&object).into_iter().map(shown).collect()
}

#[test]
fn libbpf_tools() {
    let Some(dir) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return;
    };
    let dir = Path::new(&dir);
    let has = |name: &str, wanted: &[&str]| {
        let all = of(dir, name);
        for line in wanted {
            assert!(all.iter().any(|known| known == line), "{name}: {line} is missing in {all:#?}");
        }
    };
    has(
        "offcputime",
        &[
            "info Key tgid: Process",
            "info Key kern_stack_id: KernelStack",
            "info Key user_stack_id: UserStack",
            "info Value delta: Elapsed(1000)",
        ],
    );
    has("wakeuptime", &["counts Key w_k_stack_id: KernelStack", "counts Value : Elapsed(1)"]);
    has("capable", &["info Key user_stack_id: UserStack", "start Key : ProcessAndThread"]);
    has("syscount", &["start Key : Thread"]);
    has("biotop", &["counts Key pid: Process", "counts Value us: Elapsed(1000)"]);
    // What is a process here and a system call there is neither.
    assert!(of(dir, "syscount").iter().all(|line| !line.starts_with("data ")), "{:?}", of(dir, "syscount"));
}

#[test]
fn every_object() {
    let Some(dir) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return;
    };
    let files = ["libbpf-tools", "xdp-tools", "selftests"].map(|name| Path::new(&dir).join(name));
    let files = files.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flat_map(|entries| entries.flatten());
    let mut known = 0;
    for entry in files {
        let bytes = std::fs::read(entry.path()).expect("a file");
        if let Ok(object) = Object::parse("object", &bytes) {
            known += scalars(&object).len();
        }
    }
    assert!(known > 100, "{known}");
}
