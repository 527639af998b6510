//! `ringfence inspect`: everything it says, and that it needs no rights.

mod common;

use std::process::Command;

use common::{compile, ringfence, ringfence_with, stderr, stdout};
use serde_json::Value;

fn inspect(args: &[&str]) -> Value {
    let output = ringfence_with([&["inspect"], args, &["-o", "json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|row| row["name"].as_str()).collect()
}

#[test]
fn built_in_program_in_full() {
    let report = inspect(&["opens"]);
    assert_eq!(report["license"], "Dual MIT/GPL");
    assert_eq!(names(&report["programs"]), ["enter_openat", "exit_openat", "enter_openat2", "exit_openat2"]);
    let first = &report["programs"][0];
    assert_eq!(first["section"], "tracepoint/syscalls/sys_enter_openat");
    assert_eq!(first["type"], "tracepoint");
    assert!(first["attach"].as_str().expect("text").contains("sys_enter_openat"), "{first}");
    assert!(first["instructions"].as_u64() > Some(10));
    assert!(names(&report["maps"]).contains(&"events"));
    assert!(names(&report["globals"]).contains(&"target_pid"));
    let event = &report["events"][0];
    assert_eq!((event["map"].as_str(), event["type"].as_str()), (Some("events"), Some("struct open_event")));
    let capabilities = names(&report["needs"]["capabilities"]);
    assert_eq!(capabilities, ["CAP_BPF", "CAP_PERFMON"]);
    assert!(names(&report["needs"]["kernel"]).iter().any(|name| name.contains("ring")), "{}", report["needs"]);
}

#[test]
fn the_table_names_every_part() {
    let text = stdout(&ringfence_with(["inspect", "opens"]));
    for word in ["Programs", "Maps", "Globals", "Events", "Least capabilities", "Kernel features", "struct open_event"]
    {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn nobody_can_inspect() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    let command = dir.path().join("ringfence");
    std::fs::copy(env!("CARGO_BIN_EXE_ringfence"), &command).expect("a copy that nobody may run");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&command)
        .args(["inspect", "opens", "-o", "json"])
        .output()
        .expect("setpriv");
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["programs"][0]["problem"], Value::Null, "the plan needs no rights either");
}

#[test]
fn instructions_are_written_in_the_comparable_form() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("xdp_count", dir.path());
    let listings = dir.path().join("out");
    let output = ringfence().arg("inspect").arg(&object).arg("--instructions").arg(&listings).output().expect("output");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(listings.join("count_ipv4")).expect("a file named like the program");
    assert!(text.lines().any(|line| line.starts_with("18 ") && line.ends_with(" map:ipv4_frames")), "{text}");
    let last = text.lines().last().expect("a line");
    assert_eq!(last, "95 0 0 0 0");
}

#[test]
fn other_kernels_types_are_used_when_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = dir.path().join("btf");
    std::fs::write(&broken, b"not BTF").expect("a file");
    let output = ringfence().args(["inspect", "opens", "--kernel-btf"]).arg(&broken).output().expect("output");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("BTF"), "{}", stderr(&output));
}

#[test]
fn yaml_is_one_document() {
    let text = stdout(&ringfence_with(["inspect", "opens", "-o", "yaml"]));
    assert!(text.starts_with("object: opens\n"), "{text}");
}
