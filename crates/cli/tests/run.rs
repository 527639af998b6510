//! `ringfence run` on the real kernel: what was fired is what is printed, and nothing is left.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{alone, assert_nothing_left, compile, held, ringfence, signal, stderr, stdout, wait_for};
use serde_json::Value;

/// A running command whose "attached" line was seen: from then on nothing may be missed.
struct Running {
    child: Child,
    notes: std::thread::JoinHandle<String>,
}

fn start(args: &[&str]) -> Running {
    let mut child =
        ringfence().arg("run").args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let mut notes = BufReader::new(child.stderr.take().expect("stderr"));
    let mut first = String::new();
    while !first.contains("attached") {
        let had = first.len();
        notes.read_line(&mut first).expect("stderr");
        assert!(first.len() > had, "ended before it attached: {first}");
    }
    let notes = std::thread::spawn(move || {
        notes.read_to_string(&mut first).expect("stderr");
        first
    });
    Running { child, notes }
}

impl Running {
    /// Ends it with a signal; stdout, stderr and the exit code.
    fn end(mut self, name: &str) -> (String, String, Option<i32>) {
        std::thread::sleep(Duration::from_millis(300));
        signal(&self.child, name);
        let mut out = String::new();
        self.child.stdout.take().expect("stdout").read_to_string(&mut out).expect("stdout");
        let code = self.child.wait().expect("an end").code();
        (out, self.notes.join().expect("stderr"), code)
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

#[test]
fn opens_prints_what_was_opened() {
    let _alone = alone();
    let before = held();
    let running = start(&["opens", "-o", "json"]);
    let dir = tempfile::tempdir().expect("a directory");
    let (here, missing) = (dir.path().join("here"), dir.path().join("missing"));
    std::fs::write(&here, "x").expect("a file");
    assert!(std::fs::File::open(&missing).is_err());
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let rows = json_lines(&out);
    let of = |path: &std::path::Path| rows.iter().find(|row| row["filename"] == path.to_str().expect("UTF-8")).cloned();
    let (here, missing) = (of(&here).expect("the file"), of(&missing).expect("the missing file"));
    assert_eq!(here["pid"], std::process::id());
    assert!(here["ret"].as_i64() >= Some(0));
    assert_eq!(missing["ret"], -2);
    let keys: Vec<_> = here.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ts_ns", "pid", "uid", "ret", "flags", "comm", "filename"]);
    for word in ["events", "lost", "exit_openat", "taken off"] {
        assert!(notes.contains(word), "{word} is missing in the footer:\n{notes}");
    }
    assert_nothing_left(&before);
}

#[test]
fn table_has_a_head_and_rows() {
    let _alone = alone();
    let running = start(&["opens"]);
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("seen-in-the-table"), "x").expect("a file");
    let (out, _, code) = running.end("TERM");
    assert_eq!(code, Some(0));
    let head = out.lines().next().expect("a head");
    assert!(head.contains("FILENAME") && head.contains("PID"), "{head}");
    assert!(out.contains("seen-in-the-table"), "{out}");
}

#[test]
fn globals_are_set_before_the_load() {
    let _alone = alone();
    let running = start(&["opens", "-o", "json", "--set", "target_pid=1", "--set", "failed_only=true"]);
    std::fs::read("/proc/version").expect("a file");
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    assert!(json_lines(&out).iter().all(|row| row["pid"] == 1), "{out}");
}

#[test]
fn wrong_settings_are_told_apart() {
    let _alone = alone();
    for (args, says) in [
        (["--set", "target_pid=many"], "target_pid"),
        (["--set", "no_such_global=1"], "no_such_global"),
        (["--only", "no_such_program"], "no_such_program"),
        (["--event", "events=no_such_struct"], "no_such_struct"),
        (["--event", "no_such_map=open_event"], "no_such_map"),
    ] {
        let output = ringfence().args(["run", "opens"]).args(args).output().expect("output");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn printk_lines_name_their_program() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("hello_openat", dir.path());
    let running = start(&[object.to_str().expect("UTF-8")]);
    std::fs::read("/proc/version").expect("a file");
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let line = format!("hello from openat, pid {}", std::process::id());
    assert!(out.lines().any(|row| row.contains(&line) && row.contains("hello_openat")), "{out}\n{notes}");
}

#[test]
fn perf_event_array_without_a_size_covers_every_cpu() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("execs", dir.path());
    let running = start(&[object.to_str().expect("UTF-8"), "-o", "json"]);
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    for cpu in 0..cpus {
        let done = Command::new("taskset").args(["-c", &cpu.to_string(), "true"]).status().expect("taskset");
        assert!(done.success());
    }
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let rows = json_lines(&out);
    for cpu in 0..cpus {
        assert!(rows.iter().any(|row| row["cpu"] == cpu && row["comm"] == "true"), "nothing from CPU {cpu}:\n{out}");
    }
}

#[test]
fn maps_are_shown_where_there_are_no_events() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("switches", dir.path());
    let running = start(&[object.to_str().expect("UTF-8"), "-o", "json"]);
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let rows = json_lines(&out);
    let mine = rows
        .iter()
        .filter(|row| row["map"] == "switches")
        .any(|row| row["key"]["comm"].as_str().is_some_and(|comm| !comm.is_empty()) && row["value"].as_u64() > Some(0));
    assert!(mine, "{out}");
}

#[test]
fn it_ends_by_itself() {
    let _alone = alone();
    let before = held();
    let start = std::time::Instant::now();
    let output = ringfence().args(["run", "opens", "--for", "1s"]).output().expect("output");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(start.elapsed() > Duration::from_millis(900) && start.elapsed() < Duration::from_secs(4));
    assert_nothing_left(&before);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let _alone = alone();
    let before = held();
    let mut running = start(&["opens", "-o", "json"]);
    drop(running.child.stdout.take());
    let mut code = None;
    wait_for("the end", || {
        let _ = std::fs::read("/proc/version");
        code = running.child.try_wait().expect("a status");
        code.is_some()
    });
    assert_eq!(code.and_then(|code| code.code()), Some(0));
    let notes = running.notes.join().expect("stderr");
    assert!(!notes.contains("panicked") && !notes.contains("roken pipe"), "{notes}");
    assert_nothing_left(&before);
}

#[test]
fn refusal_shows_the_line_and_exits_4() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("mixed", dir.path());
    let output = ringfence().arg("run").arg(&object).args(["--only", "null_check_forgotten"]).output().expect("output");
    assert_eq!(output.status.code(), Some(1), "a map has no size");
    assert!(stderr(&output).contains("--entries unsized_map="), "{}", stderr(&output));
    let sized = ["--only", "null_check_forgotten", "--entries", "unsized_map=8"];
    let output = ringfence().arg("run").arg(&object).args(sized).output().expect("output");
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("null_check_forgotten") && error.contains("*value"), "{error}");
    assert!(stdout(&output).is_empty());
    assert_nothing_left(&before);
}

#[test]
fn what_is_refused_can_be_left_out() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("mixed", dir.path());
    let options = ["--keep-going", "--entries", "unsized_map=8", "--for", "200ms"];
    let output = ringfence().arg("run").arg(&object).args(options).output().expect("output");
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert_eq!(error.matches("null_check_forgotten").count(), 1, "{error}");
    assert!(error.contains("left out: ") && error.contains(" attached; Ctrl-C ends"), "{error}");
    // Nothing but what is refused: the reason, as without the option.
    let options = ["--keep-going", "--entries", "unsized_map=8", "--only", "null_check_forgotten"];
    let output = ringfence().arg("run").arg(&object).args(options).output().expect("output");
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_nothing_left(&before);
}

#[test]
fn nothing_is_left_after_sigkill_at_any_moment() {
    let _alone = alone();
    let before = held();
    // Moments spread over start, load, attach and run, not round numbers of milliseconds.
    for round in 0..20u64 {
        let mut child =
            ringfence().args(["run", "opens"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run");
        std::thread::sleep(Duration::from_micros(round * round * 331));
        child.kill().expect("SIGKILL");
        child.wait().expect("an end");
    }
    assert_nothing_left(&before);
}

/// A program with functions and static probes, and an object whose sections name them.
fn probed(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let sources = common::root().join("crates/ringfence/tests/c");
    for (name, arguments) in [
        ("libprobed.so", "-shared -fPIC libprobed.c -Wl,--version-script=libprobed.map"),
        ("probed", "probed.c -l:libprobed.so"),
    ] {
        let mut clang = Command::new("clang-19");
        clang.current_dir(&sources).args(["-O1", "-o"]).arg(dir.join(name)).args(arguments.split(' '));
        assert!(clang.arg(format!("-L{}", dir.display())).status().expect("clang-19").success());
    }
    let program = dir.join("probed");
    let text = std::fs::read_to_string(common::root().join("crates/cli/tests/c/user.bpf.c")).expect("the source");
    let source = dir.join("user.bpf.c");
    std::fs::write(&source, text.replace("BINARY", &program.display().to_string())).expect("a file");
    (program, common::compile_source(&source, dir))
}

#[test]
fn places_in_user_space_by_their_sections() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (program, object) = probed(dir.path());
    let before = held();
    let running = start(&[&object.display().to_string(), "-o", "json"]);
    let mut child =
        Command::new(&program).env("LD_LIBRARY_PATH", dir.path()).stdin(Stdio::piped()).spawn().expect("the program");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), b"\n").expect("its input");
    assert!(child.wait().expect("its end").success());
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let mut rows: Vec<(String, i64, i64)> = json_lines(&out)
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_i64().expect("a number");
            (row["what"].as_str().expect("a text").to_owned(), number("first"), number("second"))
        })
        .collect();
    rows.sort_unstable();
    let want = [("many", 1, 0), ("many", 1, 0), ("many", 1, 0), ("one", 1, 0), ("pair", 11, -12), ("twelve", 1, -7)];
    assert_eq!(rows, want.map(|(what, first, second)| (what.to_owned(), first, second)));
    // The functions begin with an instruction that is stepped through.
    assert!(!cfg!(target_arch = "x86_64") || notes.contains("many: 3 of 3 places"), "{notes}");
    assert_nothing_left(&before);
}

#[test]
fn struct_ops_maps_are_registered_while_it_runs() {
    let _alone = alone();
    let known = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").expect("a setting");
    let dir = tempfile::tempdir().expect("a directory");
    let source = common::root().join("crates/ringfence/tests/c/congestion.bpf.c");
    let object = common::compile_source(&source, dir.path());
    let running = start(&[object.to_str().expect("UTF-8")]);
    assert!(known().contains("rf_linked") && known().contains("rf_by_value"), "{}", known());
    let (_, notes, code) = running.end("INT");
    assert!(notes.contains("2 struct_ops maps attached") && code == Some(0), "{notes}");
    assert!(!known().contains("rf_"), "{}", known());
}

/// Different records of one size, whose structs the object does not have: a constant tells which one each is.
#[test]
fn records_told_apart() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("kinds", dir.path());
    let inspected = stdout(&ringfence().args(["inspect"]).arg(&object).output().expect("inspect"));
    for said in ["24 bytes with 1 in the 4 bytes at 0", "24 bytes with 2 in the 4 bytes at 0"] {
        assert!(inspected.contains(said), "{said}:\n{inspected}");
    }
    let pid = std::process::id();
    let running = start(&[object.to_str().expect("UTF-8"), "--set", &format!("target_pid={pid}"), "-o", "json"]);
    let nice = rustix::process::getpriority_process(None).expect("a priority");
    let (out, notes, code) = running.end("INT");
    assert_eq!(code, Some(0), "{notes}");
    let rows = json_lines(&out);
    let keys = |row: &Value| row.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let [asked, answered] = &rows[..] else { panic!("{out}") };
    assert_eq!(keys(asked), ["kind", "pid", "when_ns", "which"]);
    assert_eq!((&asked["kind"], &asked["pid"], &asked["which"]), (&1.into(), &pid.into(), &7.into()));
    assert_eq!(keys(answered), ["kind", "cpu", "tid", "answer", "at_ns"]);
    assert_eq!((&answered["kind"], &answered["answer"]), (&2.into(), &((20 - nice) * 2).into()));
    assert_nothing_left(&before);
}
