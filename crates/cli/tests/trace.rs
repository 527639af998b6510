//! `ringfence trace` as it is used: what it prints of known events, what it refuses, and that nothing stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{alone, held, ringfence, ringfence_with, root, signal, stderr, stdout};
use serde_json::Value;

/// Called in a child process: a function of Rust with known arguments.
#[inline(never)]
fn rust_greet(name: &str, times: u32) -> u64 {
    let name = std::hint::black_box(name);
    name.len() as u64 + u64::from(std::hint::black_box(times))
}

#[test]
#[ignore = "a child of another test"]
fn calls_rust_greet() {
    for times in 0..3 {
        assert_eq!(rust_greet("ringfence", times), 9 + u64::from(times));
    }
}

/// Runs the command while something is done; what it wrote.
fn traced(args: &[&str], act: impl FnOnce()) -> (String, String) {
    let before = held();
    let mut child =
        ringfence().arg("trace").args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    let mut notes = BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    // It says so when all is attached.
    while !said.lines().any(|line| line.starts_with("trace: ")) {
        assert!(notes.read_line(&mut said).expect("a line") > 0, "it ended: {said}");
    }
    let mut out = child.stdout.take().expect("stdout");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    act();
    signal(&child, "INT");
    notes.read_to_string(&mut said).expect("its notes");
    let text = reader.join().expect("a thread").expect("its output");
    assert!(child.wait().expect("its end").success(), "{said}");
    assert!(said.contains("nothing is left in the kernel"), "{said}");
    common::assert_nothing_left(&before);
    (text, said)
}

fn events(args: &[&str], act: impl FnOnce()) -> (Vec<Value>, String) {
    let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
    let (text, said) = traced(&args, act);
    (text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), said)
}

fn run(program: &Path, args: &[&str]) {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect("the program");
    assert!(output.status.success(), "{}", stderr(&output));
}

fn program(dir: &Path) -> PathBuf {
    let to = dir.join("traced");
    let source = root().join("crates/cli/tests/c/traced.c");
    let done = Command::new("clang-19").args(["-O1", "-g", "-o"]).arg(&to).arg(source).status();
    assert!(done.expect("clang-19 is installed (cargo xtask setup)").success());
    to
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {field} in {event}"))
}

fn number(event: &Value, field: &str) -> i64 {
    event.get(field).and_then(Value::as_i64).unwrap_or_else(|| panic!("no number {field} in {event}"))
}

#[test]
fn opened_files_as_strace_would_show_them() {
    let _alone = alone();
    let cat = || {
        let output = Command::new("cat").args(["/proc/version", "/no/such/file"]).output().expect("cat");
        assert!(!output.status.success());
    };
    let (all, said) = events(&["syscalls:openat", "--comm", "cat", "--where", "filename ~ '/*s*'"], cat);
    let of = |name: &str| all.iter().find(|event| text(event, "filename") == name).unwrap_or_else(|| panic!("{all:?}"));
    assert!(number(of("/proc/version"), "ret") >= 3 && number(of("/proc/version"), "duration_ns") > 0);
    let missing = of("/no/such/file");
    assert_eq!((number(missing, "ret"), text(missing, "dfd"), text(missing, "comm")), (-2, "AT_FDCWD", "cat"));
    assert_eq!(text(missing, "flags"), "O_RDONLY");
    assert!(said.contains("lost: nothing") && said.contains("own cost: "), "{said}");

    let (table, _) = traced(&["syscalls:openat", "--comm", "cat"], cat);
    assert!(table.starts_with("TS_NS") && table.contains("-2 ENOENT"), "{table}");
    let (table, _) = traced(&["syscalls:openat", "--comm", "cat", "--count-by", "comm,ret", "--top", "3"], cat);
    assert!(
        table.starts_with("COUNT") && table.lines().any(|line| line.contains("cat") && line.contains("-2 ENOENT")),
        "{table}"
    );
    let counts = ["syscalls:openat", "--comm", "cat", "--count-by", "comm", "--stack", "kernel"];
    let (table, _) = traced(&counts, cat);
    assert!(table.lines().any(|line| line.starts_with("    kernel   ") && line.contains("syscall")), "{table}");
    let (all, _) = events(&counts, cat);
    assert!(all[0]["_count"].as_u64() > Some(1) && all[0]["_stacks"]["kernel"].is_array(), "{all:?}");
    let (table, _) = traced(&["syscalls:openat", "syscalls:close", "--comm", "cat", "--latency"], cat);
    assert!(table.contains("syscalls:openat: ") && table.contains(" us ") && table.contains("|**"), "{table}");
}

#[test]
fn switches_between_tasks() {
    let _alone = alone();
    let mut child = 0;
    let (all, _) = events(&["sched:sched_switch", "sched:sched_process_ex*", "--stack", "kernel"], || {
        let mut process = Command::new("sleep").arg("0.05").spawn().expect("sleep");
        child = i64::from(process.id());
        process.wait().expect("its end");
    });
    let switches: Vec<&Value> = all.iter().filter(|event| event["_probe"] == "sched:sched_switch").collect();
    assert!(switches.iter().any(|event| event["next_pid"] == child), "{} events", all.len());
    let sleeps = switches.iter().find(|event| event["prev_pid"] == child && event["prev_state"] == "S");
    let frames = sleeps.expect("it slept")["_stacks"]["kernel"].as_array().expect("a stack").clone();
    assert!(frames.iter().any(|frame| frame.as_str().is_some_and(|frame| frame.contains("nanosleep"))), "{frames:?}");
    let exec = all.iter().find(|event| event["_probe"] == "sched:sched_process_exec" && event["pid"] == child);
    assert!(text(exec.expect("an exec"), "filename").ends_with("sleep"));
}

#[test]
fn functions_and_static_probes_of_programs() {
    let (_alone, dir) = (alone(), tempfile::tempdir().expect("a directory"));
    let file = program(dir.path());
    let name = file.display().to_string();
    let greet = format!("uprobe:{name}:greet(name:str,times:int)");
    let factorial = format!("uretprobe:{name}:factorial(n:int)=int");
    let probe = format!("usdt:{name}:ringfence:traced(text:str,number:i32,small:u8)");
    let (all, said) = events(&[&greet, &factorial, &probe], || run(&file, &["4"]));
    assert!(said.contains("lost: nothing"), "{said}");
    let of =
        |kind: &str| -> Vec<&Value> { all.iter().filter(|event| text(event, "_probe").starts_with(kind)).collect() };
    let greeted: Vec<_> = of("uprobe:").iter().map(|event| (text(event, "name"), number(event, "times"))).collect();
    assert_eq!(greeted, [("even", 0), ("odd", 1), ("even", 2), ("odd", 3)]);
    let returned: Vec<_> = of("uretprobe:").iter().map(|event| (number(event, "n"), number(event, "ret"))).collect();
    assert_eq!(returned, [(1, 1), (2, 2), (3, 6)]);
    let lasted: Vec<i64> = of("uretprobe:").iter().map(|event| number(event, "duration_ns")).collect();
    assert!(lasted[0] >= 1_000_000 && lasted[2] > lasted[1] && lasted[1] > lasted[0], "{lasted:?}");
    let probed: Vec<_> = of("usdt:")
        .iter()
        .map(|event| (text(event, "text"), number(event, "number"), number(event, "small")))
        .collect();
    assert_eq!(probed, [("static", 0, 200), ("static", -1, 201), ("static", -2, 202), ("static", -3, 203)]);

    // Nobody says what it takes: the program's debug information does.
    let plain = format!("uretprobe:{name}:factorial");
    let (all, said) = events(&[&plain, &format!("uprobe:{name}:greet")], || run(&file, &["2"]));
    assert!(said.contains("greet(name:str,times:i32)") && said.contains("factorial(n:i32)=i32"), "{said}");
    let greeted = all.iter().filter(|event| event.get("times").is_some()).map(|event| text(event, "name"));
    assert_eq!(greeted.collect::<Vec<_>>(), ["even", "odd"]);
    assert!(all.iter().any(|event| event.get("n").is_some() && number(event, "ret") == 1), "{all:?}");

    let (counts, _) = traced(&[&format!("uprobe:{name}:factorial"), "--latency"], || run(&file, &["1"]));
    assert!(counts.contains("factorial: 3 calls"), "{counts}");

    let (all, _) = events(&[&greet, "--stack", "user"], || run(&file, &["1"]));
    let frame = all[0]["_stacks"]["user"][0].as_str().expect("a frame");
    assert!(frame.starts_with("greet traced.c:"), "{frame}");
}

#[test]
fn functions_of_rust_and_of_go() {
    let _alone = alone();
    let own = std::env::current_exe().expect("a path");
    let spec = format!("uretprobe:{}:trace::rust_greet(name:strn,times:u32)=u64", own.display());
    let (all, _) = events(&[&spec], || run(&own, &["--exact", "calls_rust_greet", "--ignored"]));
    let greeted: Vec<_> =
        all.iter().map(|event| (text(event, "name"), number(event, "times"), number(event, "ret"))).collect();
    assert_eq!(greeted, [("ringfence", 0, 9), ("ringfence", 1, 10), ("ringfence", 2, 11)]);

    let Ok(go) = std::env::var("RINGFENCE_GO_BINARY") else {
        println!("skipped: RINGFENCE_GO_BINARY is not set");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("known.json");
    std::fs::write(&file, "{}").expect("a file");
    let (all, _) = events(&[&format!("uprobe:{go}:os.OpenFile(name:strn,flag:int)")], || {
        run(Path::new(&go), &[&file.display().to_string()]);
    });
    let opened = all.iter().find(|event| text(event, "name") == file.display().to_string());
    assert_eq!(number(opened.unwrap_or_else(|| panic!("{all:?}")), "flag"), 0);
}

#[test]
fn what_is_typed_into_bash() {
    let _alone = alone();
    let bash = Path::new("/bin/bash");
    if !bash.exists() || Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no bash, or no script");
        return;
    }
    let (all, _) = events(&["uretprobe:/bin/bash:readline(prompt:str)=str"], || {
        let mut shell = Command::new("script")
            .args(["-qec", "bash --norc --noprofile", "/dev/null"])
            .env("PS1", "say> ")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("script");
        let mut input = shell.stdin.take().expect("stdin");
        for line in ["echo known-input\n", "exit\n"] {
            std::thread::sleep(Duration::from_millis(300));
            input.write_all(line.as_bytes()).expect("a line");
        }
        shell.wait().expect("its end");
    });
    let typed: Vec<&str> = all.iter().map(|event| text(event, "returned")).collect();
    assert_eq!(typed, ["echo known-input", "exit"], "{all:?}");
}

#[test]
fn metrics_are_what_was_counted_so_far() {
    let _alone = alone();
    let args = ["trace", "syscalls:openat", "--comm", "cat", "--latency"];
    let serving = common::scrape::serve(args);
    let counted = |metrics: &common::scrape::Metrics| {
        metrics.get("ringfence_trace_duration_ns_count{probe=\"syscalls:openat\"}").unwrap_or(0.0)
    };
    let before = counted(&serving.scrape());
    run(Path::new("cat"), &["/proc/version"]);
    common::wait_for("the calls of cat", || counted(&serving.scrape()) > before);
    let metrics = serving.scrape();
    assert!(metrics.get("ringfence_trace_events_total{probe=\"syscalls:openat\"}").is_some_and(|all| all > before));
    let lost = "ringfence_trace_lost_total{probe=\"syscalls:openat\",reason=\"buffer full\"}";
    assert_eq!(metrics.get(lost), Some(0.0));
    common::scrape::parse(&serving.get("application/openmetrics-text").1);
    serving.end();
}

#[test]
fn nothing_is_left_after_a_kill() {
    let (_alone, before) = (alone(), held());
    let mut child = ringfence()
        .args(["trace", "syscalls:openat", "sched:sched_switch"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command");
    common::wait_for("the links", || held().difference(&before).any(|(kind, _)| *kind == "link"));
    child.kill().expect("a kill");
    child.wait().expect("its end");
    common::assert_nothing_left(&before);
}

#[test]
fn who_reads_no_more_ends_it() {
    let _alone = alone();
    let before = held();
    let line = format!("{} trace sched:sched_switch -o json | head -1", env!("CARGO_BIN_EXE_ringfence"));
    let start = Instant::now();
    let output = Command::new("sh").args(["-c", &line]).output().expect("sh");
    assert_eq!(stdout(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(start.elapsed() < Duration::from_secs(20));
    common::assert_nothing_left(&before);
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let (_alone, before) = (alone(), held());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["syscalls:opnat"], 2, "syscalls:openat"),
        (&["shed:sched_switch"], 2, "there is sched"),
        (&["sched:sched_swich"], 2, "sched:sched_switch"),
        (&["kprobe:tcp_conect"], 2, "tcp_connect"),
        (&["openat"], 2, "syscalls:openat, sched:sched_switch"),
        (&["uprobe:/bin/sh"], 2, "uprobe:FILE:FUNCTION"),
        (&["uprobe:/no/such/file:main"], 1, "/no/such/file"),
        (&["uprobe:/bin/sh:f(a:strng)"], 2, "strn"),
        (&["kprobe:tcp_connect=str"], 2, "is at its start"),
        (&["syscalls:openat", "--where", "filname == 'a'"], 2, "filename"),
        (&["syscalls:openat", "--latency", "--count-by", "comm"], 2, "--latency"),
        (&["sched:sched_switch", "--latency"], 2, "takes no time"),
        (&["syscalls:openat", "--arg", "sk->x"], 2, "ARGUMENT->MEMBER"),
        (&["syscalls:openat", "--pid", "4194305"], 1, "there is no process 4194305"),
        (&[], 2, "<SPEC>"),
    ];
    for (args, exit, text) in cases {
        let output = ringfence_with(["trace", "--for", "30s"].iter().chain(*args));
        assert_eq!(output.status.code(), Some(*exit), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?}");
    }
    common::assert_nothing_left(&before);
}
