//! `ringfence profile` as it is used: what it writes, what it says, what it refuses, and that nothing stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{alone, held, ringfence, ringfence_with, stderr, stdout};

/// A shell that never waits.
struct Busy(Child);

impl Busy {
    fn start() -> Busy {
        let shell = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Busy(shell.expect("a shell"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_output_is_written() {
    let (_alone, busy, dir) = (alone(), Busy::start(), tempfile::tempdir().expect("a directory"));
    let before = held();
    let path = |name: &str| dir.path().join(name);
    let mut args = vec!["profile".to_owned(), "--for".into(), "0.5s".into(), "-F".into(), "999".into()];
    args.extend(["--pid".into(), busy.pid(), "-n".into(), "5".into(), "-o".into(), "table".into()]);
    for name in ["a.folded", "a.svg", "a.pb.gz", "a.json", "a.txt"] {
        args.extend(["-o".into(), path(name).display().to_string()]);
    }
    let output = ringfence_with(&args);
    let (table, notes) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{notes}");
    assert!(table.starts_with("SELF") && table.contains("FUNCTION"), "{table}");
    assert!((2..=6).contains(&table.lines().count()), "{table}");
    for said in [
        "samples a second on each CPU",
        "lost: nothing",
        "own cost: ",
        "in the kernel (",
        "user stacks cut short: ",
        "nothing is left",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    let folded = fs::read_to_string(path("a.folded")).expect("folded");
    assert!(folded.lines().all(|line| line.starts_with("sh;")) && !folded.is_empty(), "{folded}");
    let total: u64 = folded.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    let svg = fs::read_to_string(path("a.svg")).expect("svg");
    assert!(svg.contains("<svg") && svg.contains("ringfence profile") && svg.contains("samples"), "{}", svg.len());
    assert!(fs::read(path("a.pb.gz")).expect("pprof").starts_with(&[0x1f, 0x8b]));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(path("a.json")).expect("json")).expect("json");
    let number = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_u64);
    assert_eq!((number("/summary/total"), number("/summary/lost")), (Some(total), Some(0)));
    assert_eq!(number("/stacks/0/pid").map(|pid| pid.to_string()), Some(busy.pid()));
    common::wait_for("the kernel to free everything", || held().difference(&before).count() == 0);

    // What was written is read again, and compared.
    let read = ringfence_with(["profile", "--read", &path("a.folded").display().to_string()]);
    assert!(read.status.success() && stdout(&read).starts_with("SELF"), "{}", stderr(&read));
    let other = path("b.folded");
    fs::write(&other, "sh;other_function 10\n").expect("a file");
    let files = [path("a.folded").display().to_string(), other.display().to_string()];
    let diff = ringfence_with(["profile", "--read", &files[0], "--diff", &files[1]]);
    let first =
        stdout(&diff).lines().nth(1).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first, ["100.0%", "0.0%", "-100.0", "other_function"]);
    let diff = ringfence_with(["profile", "--read", &files[0], "--diff", &files[1], "-o", "svg"]);
    assert!(stdout(&diff).contains("red has grown"), "{}", stderr(&diff));
}

#[test]
fn control_c_ends_it_and_shows_what_was_seen() {
    let (_alone, busy) = (alone(), Busy::start());
    let before = held();
    let mut command = ringfence();
    command.args(["profile", "-F", "999", "-o", "folded", "--pid", &busy.pid()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    common::wait_for("the programs to be loaded", || held().difference(&before).any(|(kind, _)| *kind == "link"));
    std::thread::sleep(Duration::from_millis(300));
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let start = Instant::now();
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success() && start.elapsed() < Duration::from_secs(20), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("sh;"), "{}", stderr(&output));
    common::wait_for("the kernel to free everything", || held().difference(&before).count() == 0);
}

#[test]
fn metrics_are_what_was_counted_so_far() {
    let (_alone, busy) = (alone(), Busy::start());
    let before = held();
    let serving = common::scrape::serve(["profile", "-F", "999", "--pid", &busy.pid()]);
    let counted = "ringfence_profile_samples_total{state=\"counted\"}";
    let mut last = serving.scrape();
    common::wait_for("samples", || {
        let next = serving.scrape();

        assert!(next.get(counted) >= last.get(counted));
        last = next;
        last.get("ringfence_profile_user_stack_samples_total{which=\"all\"}").is_some_and(|number| number > 100.0)
    });
    let shell =
        |name: &&String| name.starts_with("ringfence_profile_self_samples_total{") && name.contains("side=\"user\"");
    let of_shell: f64 = last.series.iter().filter(|(name, _)| shell(name)).map(|(_, value)| value).sum();
    assert!(of_shell > 0.0 && last.get(counted).is_some_and(|counted| counted >= of_shell), "{last:#?}");
    for name in [
        "ringfence_profile_lost_total{reason=\"table full\"}",
        "ringfence_profile_functions_left_out",
        "ringfence_own_cpu_seconds_total{tool=\"profile\"}",
    ] {
        assert!(last.get(name).is_some(), "{name}: {last:#?}");
    }
    common::scrape::parse(&serving.get("application/openmetrics-text").1);
    serving.end();
    common::wait_for("the kernel to free everything", || held().difference(&before).count() == 0);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--pid", "4194305"], 1, "there is no process 4194305"),
        (&["-o", "json", "-o", "svg"], 2, "only one -o can go to stdout"),
        (&["-o", "/no/such/directory/a.svg"], 2, "there is no directory"),
        (&["-o", "a.png"], 2, ".pb.gz"),
        (&["-F", "0"], 2, "1..=20000"),
        (&["--comm", "a-name-that-is-too-long"], 2, "15 bytes"),
        (&["--container", "feedbeef"], 1, "no control group belongs to a container"),
        (&["--cgroup", "no/such"], 1, "no control group of cgroup2"),
        (&["--diff", "no-such.folded"], 1, "no-such.folded"),
        (&["--min-wait", "1ms"], 2, "--off-cpu"),
    ];
    let start = Instant::now();
    for (args, exit, text) in cases {
        let output = ringfence_with(["profile", "--for", "30s"].iter().chain(*args));
        assert_eq!(output.status.code(), Some(*exit), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}
