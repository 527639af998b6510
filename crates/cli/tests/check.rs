//! `ringfence check`: a verdict for each program, and an exit code for scripts.

mod common;

use common::{alone, assert_nothing_left, compile, held, ringfence, ringfence_with, stderr, stdout};
use serde_json::Value;

fn check(path: &std::path::Path) -> (Option<i32>, Value) {
    let output = ringfence().arg("check").arg(path).args(["-o", "json"]).output().expect("output");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", stderr(&output)));
    (output.status.code(), report)
}

#[test]
fn one_bad_program_hides_no_other() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let (code, report) = check(&compile("mixed", dir.path()));
    let row = |name: &str| {
        let rows = report["programs"].as_array().expect("programs");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} in {report}")).clone()
    };
    assert_eq!(row("good")["verdict"], "ok");
    assert_eq!(row("good")["errno"], Value::Null);
    assert_eq!((&row("calls_on")["verdict"], &row("of_another_type")["verdict"]), (&"ok".into(), &"ok".into()));
    assert_eq!(row("null_check_forgotten")["verdict"], "refused");
    assert_eq!(row("null_check_forgotten")["errno"], 13);
    assert!(row("null_check_forgotten")["reason"].as_str().expect("a reason").contains("map_value_or_null"));
    assert_eq!(row("of_no_type")["verdict"], "invalid");
    assert!(row("of_no_type")["reason"].as_str().expect("a reason").contains("my_own_section"));
    assert_eq!(row("left_out")["verdict"], "disabled");
    assert_eq!(code, Some(4));
    assert_nothing_left(&before);
}

/// A section that tells nothing is given from outside, and the program runs where that says.
#[test]
fn a_program_is_put_in_a_section() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("mixed", dir.path());
    let with = |verb: &str, section: &str, more: &[&str]| {
        ringfence().arg(verb).arg(&object).args(["--section", section]).args(more).output().expect("output")
    };
    let output = with("check", "of_no_type=raw_tp/sched_switch", &["-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["programs"].as_array().expect("programs");
    let row = rows.iter().find(|row| row["name"] == "of_no_type").expect("the program");
    assert_eq!((&row["verdict"], &row["type"]), (&"ok".into(), &"raw_tracepoint".into()));

    let output = with("run", "of_no_type=raw_tp/sys_enter", &["--only", "of_no_type", "--for", "1s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("of no type"), "{}", stdout(&output));

    let output = with("check", "of_no_type=raw_tpp", &[]);
    assert!(
        stderr(&output).contains("no program can be in a section `raw_tpp`; did you mean raw_tp"),
        "{}",
        stderr(&output)
    );
    let output = with("run", "of_no_tpe=raw_tp/sys_enter", &[]);
    assert!(stderr(&output).contains("it has no program `of_no_tpe`; did you mean of_no_type?"), "{}", stderr(&output));
    assert_nothing_left(&before);
}

#[test]
fn what_was_filled_in_is_said() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let output = ringfence().arg("check").arg(compile("mixed", dir.path())).output().expect("output");
    let all = stdout(&output) + &stderr(&output);
    assert!(all.contains("unsized_map") && all.contains("max_entries"), "{all}");
    assert!(all.contains("*value"), "the source line of the refusal is shown:\n{all}");
}

#[test]
fn good_object_exits_0() {
    let _alone = alone();
    let output = ringfence_with(["check", "opens"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn without_rights_it_says_which_are_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    let command = dir.path().join("ringfence");
    std::fs::copy(env!("CARGO_BIN_EXE_ringfence"), &command).expect("a copy that nobody may run");
    for verb in ["check", "run"] {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(&command)
            .args([verb, "opens"])
            .output()
            .expect("setpriv");
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(6), "{verb}: {error}");
        assert!(error.contains("CAP_BPF") && error.contains("CAP_PERFMON"), "{verb}: {error}");
    }
}
