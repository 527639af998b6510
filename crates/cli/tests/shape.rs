//! `ringfence run` with filters and shapes: what is asked for is what is printed, and what is not printed is counted.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{alone, assert_nothing_left, compile, held, ringfence, signal, stderr, stdout};
use serde_json::Value;

/// A running command whose "attached" line was seen; its output is not read before its end.
struct Running {
    child: Child,
    notes: std::thread::JoinHandle<String>,
}

fn start(object: &Path, args: &[&str]) -> Running {
    let mut command = ringfence();
    command.arg("run").arg(object).args(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
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
    /// Ends it; stdout and stderr.
    fn end(mut self) -> (String, String) {
        std::thread::sleep(Duration::from_millis(300));
        signal(&self.child, "INT");
        let mut out = String::new();
        self.child.stdout.take().expect("stdout").read_to_string(&mut out).expect("stdout");
        let code = self.child.wait().expect("an end").code();
        let notes = self.notes.join().expect("stderr");
        assert_eq!(code, Some(0), "{notes}");
        (out, notes)
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// The number before ` WORD` in a text.
fn number(text: &str, word: &str) -> Option<u64> {
    let before = text.split(word).next().filter(|before| before.len() < text.len())?;
    before.split_whitespace().last()?.parse().ok()
}

/// Opens three files, one of them twice, one that is not there.
fn open_some() {
    for file in ["/proc/version", "/proc/uptime", "/proc/version", "/proc/no-such-file"] {
        let _ = std::fs::read(file);
    }
}

fn run_opens(args: &[&str]) -> (String, String) {
    let running = start(Path::new("opens"), args);
    open_some();
    running.end()
}

#[test]
fn only_what_is_asked_for() {
    let _alone = alone();
    let before = held();
    let me = std::process::id();
    let wanted =
        format!("pid == {me} && filename ~ '/proc/*' && (ret >= 0 || ret == -ENOENT) && filename != '/proc/uptime'");
    let (out, notes) = run_opens(&["-o", "json", "--where", &wanted, "--fields", "filename,pid"]);
    let line = |name: &str| format!("{{\"filename\":\"/proc/{name}\",\"pid\":{me}}}\n");
    assert_eq!(out, [line("version"), line("version"), line("no-such-file")].concat(), "{notes}");
    let filtered = number(&notes, " events did not meet --where").expect("a count");
    assert_eq!(number(&notes, " events, 0 lost"), Some(filtered + 3), "{notes}");
    let (out, _) = run_opens(&["--where", &wanted, "--fields", "ret,filename"]);
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["RET", "FILENAME"]);
    assert_eq!(rows.last().expect("a row")[..], ["-2", "ENOENT", "/proc/no-such-file"]);
    assert_nothing_left(&before);
}

#[test]
fn counted_and_sorted_at_the_end() {
    let _alone = alone();
    let mine = format!("pid == {} && filename ~ '/proc/*'", std::process::id());
    let (out, notes) = run_opens(&["-o", "json", "--where", &mine, "--count-by", "filename"]);
    let counts: Vec<(u64, String)> = json_lines(&out)
        .iter()
        .map(|row| (row["_count"].as_u64().expect("a count"), row["filename"].as_str().expect("a name").to_owned()))
        .collect();
    let of = |number: u64, name: &str| (number, format!("/proc/{name}"));
    assert_eq!(counts, [of(2, "version"), of(1, "no-such-file"), of(1, "uptime")], "{notes}");

    let (out, _) = run_opens(&["--where", &mine, "--count-by", "filename,pid", "--top", "1"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["COUNT", "FILENAME", "PID"]);
    assert!(lines[1].starts_with("2 ") && lines[1].contains("/proc/version"), "{out}");
    assert_eq!(lines[2..], ["  and 2 more"], "{out}");

    let sorted = |args: &[&str]| -> Vec<String> {
        let (out, _) = run_opens(&[&["-o", "json", "--where", &mine], args].concat());
        json_lines(&out).iter().map(|row| row["filename"].as_str().expect("a name").to_owned()).collect()
    };
    let names = ["/proc/no-such-file", "/proc/uptime", "/proc/version", "/proc/version"];
    assert_eq!(sorted(&["--sort", "filename"]), names);
    assert_eq!(sorted(&["--sort", "filename:desc", "--top", "2"]), names[2..]);
    assert_eq!(sorted(&["--sort", "ret", "--top", "1"]), names[..1]);
    assert_eq!(sorted(&["--count-by", "filename", "--sort", "count"]), [names[0], names[1], names[2]]);
    assert_eq!(sorted(&["--count-by", "filename", "--sort", "filename:desc"]), [names[2], names[1], names[0]]);
}

#[test]
fn mistakes_are_found_before_anything_is_loaded() {
    let _alone = alone();
    let run = |object: &Path, args: &[&str]| -> Output {
        ringfence().arg("run").arg(object).args(args).args(["--for", "1s"]).output().expect("output")
    };
    let dir = tempfile::tempdir().expect("a directory");
    for (args, says) in [
        (&["--where", "filenam ~ '/proc/*'"][..], "near names: filename"),
        (&["--where", "zzz == 1"], "the events' fields: ts_ns, pid"),
        (&["--where", "pid == 'me'"], "a number such as 42"),
        (&["--where", "pid = 1"], "comparing is written =="),
        (&["--where", "(pid == 1"], "not closed"),
        (&["--fields", "pid,filenam"], "--fields: there is no field `filenam`"),
        (&["--fields", "pid,,ret"], "is no field"),
        (&["--sort", "size"], "--sort: there is no field `size`"),
        (&["--sort", "pid:up"], "`desc` or `asc`"),
        (&["--count-by", "comm", "--sort", "pid"], "sorted by `count`"),
        (&["--count-by", "com"], "near names: comm"),
        (&["--top", "3"], "--sort FIELD or --count-by FIELD"),
        (&["--top", "0", "--sort", "pid"], "0"),
        (&["--rate", "3", "--sort", "pid"], "cannot be used with"),
    ] {
        let output = run(Path::new("opens"), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("attached"), "{args:?}: {}", stderr(&output));
    }
    let error = stderr(&run(Path::new("opens"), &["--where", "pid == 1 && rett < 0"]));
    assert!(error.contains("\n    pid == 1 && rett < 0\n                ^^^^\n"), "{error}");
    let output = run(&compile("switches", dir.path()), &["--where", "pid == 1"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("sends no events"), "{}", stderr(&output));
}

#[test]
fn a_rate_says_what_it_left_out() {
    let _alone = alone();
    let me = format!("pid == {}", std::process::id());
    let running = start(Path::new("opens"), &["-o", "json", "--rate", "5", "--where", &me]);
    for _ in 0..50 {
        let _ = std::fs::read("/proc/version");
    }
    let (out, notes) = running.end();
    let printed = out.lines().count() as u64;
    // The fifty may fall into two seconds.
    assert!((5..=10).contains(&printed), "{out}");
    let dropped = number(&notes, " events were not printed (--rate)").expect("a count");
    let filtered = number(&notes, " events did not meet --where").unwrap_or(0);
    assert_eq!(number(&notes, " events, 0 lost"), Some(printed + dropped + filtered), "{notes}");
}

const BATCH: u64 = 100;
const CALLS: u64 = 600;

/// Runs a flood while nobody reads the output, then reads it: lines, and the footer.
fn flood(name: &str) -> (u64, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(name, dir.path());
    let me = format!("target_pid={}", std::process::id());
    let running = start(&object, &["-o", "json", "--set", &me]);
    // One process and one CPU: interrupted by nobody, so that no call is missed.
    for _ in 0..CALLS {
        rustix::process::getpriority_process(None).expect("a priority");
    }
    let (out, notes) = running.end();
    let rows = json_lines(&out);
    assert!(rows.iter().all(|row| row["pid"] == std::process::id()), "{notes}");
    assert!(notes.contains("flood "), "{notes}");
    (rows.len() as u64, notes)
}

/// Runs of the program, by the footer: its run time statistics see also what other processes call.
fn assert_all_accounted(delivered: u64, notes: &str) {
    assert_eq!(number(notes, " events,"), Some(delivered), "{notes}");
    let lost = number(notes, " lost").expect("a number of lost events");
    assert!(lost > 0, "the flood was too slow to lose anything: {notes}");
    assert_eq!(delivered + lost, CALLS * BATCH, "{notes}");
}

#[test]
fn delivered_and_lost_are_what_was_produced_perf_buffer() {
    let _alone = alone();
    let (delivered, notes) = flood("flood_perf");
    assert_all_accounted(delivered, &notes);
}

#[test]
fn delivered_and_lost_are_what_was_produced_ring_buffer() {
    let _alone = alone();
    let (delivered, notes) = flood("flood_counted");
    assert_all_accounted(delivered, &notes);
    assert!(notes.contains("lost (`lost_events`)"), "{notes}");
}

#[test]
fn losses_that_nobody_counts_are_unknown() {
    let _alone = alone();
    let (delivered, notes) = flood("flood_silent");
    assert!(delivered < CALLS * BATCH, "nothing was lost");
    assert!(notes.contains("lost: unknown") && !notes.contains("0 lost"), "{notes}");
}

#[test]
fn help_names_every_option() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence")).args(["run", "-h"]).output().expect("output");
    let text = stdout(&output);
    for option in ["--where", "--fields", "--sort", "--count-by", "--top", "--rate"] {
        assert!(text.contains(option), "{text}");
    }
}
