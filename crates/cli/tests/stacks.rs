//! Stacks that programs leave in maps and send in events, as functions of the kernel and of programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Child, Command};

use common::{alone, assert_nothing_left, compile, held, ringfence_with, root, stderr, stdout};
use serde_json::Value;

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn user_stacks_have_the_names_of_functions() {
    let (_alone, dir) = (alone(), tempfile::tempdir().expect("a directory"));
    let program = dir.path().join("caller");
    let done = Command::new("clang-19")
        .args(["-O1", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-Wall", "-o"])
        .arg(&program)
        .arg(root().join("crates/cli/tests/c/caller.c"))
        .status();
    assert!(done.expect("clang-19 is installed (cargo xtask setup)").success());
    let running = Running(Command::new(&program).spawn().expect("the program"));
    let before = held();
    let pid = format!("target_pid={}", running.0.id());
    let run = |object: &str, args: &[&str]| {
        let object = compile(object, dir.path()).display().to_string();
        let start = ["run", object.as_str(), "--for", "0.5s", "--set", pid.as_str()];
        let output = ringfence_with(start.iter().chain(args));
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let json =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect() };
    let frames = |value: &Value| -> Vec<String> {
        let all = value.as_array().unwrap_or_else(|| panic!("no stack: {value}"));
        all.iter().map(|frame| frame.as_str().expect("text").to_owned()).collect()
    };
    // What is before `asks` and behind `main` is not ours.
    let is_it = |user: &[String]| {
        let at = |name: &str| user.iter().position(|frame| frame.starts_with(&format!("{name} caller.c:")));
        let order = [at("wants_to_know"), at("main")];
        assert!(matches!(order, [Some(inner), Some(outer)] if inner + 1 == outer), "{user:#?}");
        assert!(!cfg!(target_arch = "x86_64") || at("asks") == Some(0), "{user:#?}");
    };

    let lines = json(&run("stacks", &["-o", "json"]));
    let event = lines.first().expect("an event");
    is_it(&frames(&event["_stacks"]["ustack"]));
    // Where the program says how long the stack is, what is behind is not looked at.
    assert!(!event["_stacks"].to_string().contains("0x101010101"), "{event}");
    assert!(frames(&event["_stacks"]["kstack"]).iter().any(|frame| frame.contains("syscall")), "{event}");
    assert!(event["ustack"].is_array() && event["pid"] == running.0.id(), "{event}");
    let table = run("stacks", &["--fields", "pid,ustack"]);
    let line = table.lines().find(|line| line.trim_start().starts_with("ustack")).expect("a stack");
    assert!(line.contains(".c:") && !table.contains("kstack "), "{table}");
    assert!(run("stacks", &["-o", "yaml"]).contains("main caller.c:"));
    assert!(!run("stacks", &["--raw"]).contains("caller.c"));

    let lines = json(&run("numbers", &["-o", "json"]));
    let calls = lines.iter().find(|line| line["map"] == "calls").unwrap_or_else(|| panic!("{lines:#?}"));
    is_it(&frames(&calls["_stacks"]["user"]));
    assert_nothing_left(&before);
}
