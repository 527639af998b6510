//! `ringfence run --device --netns`: a program counts what a device of another network namespace receives.

mod common;

use std::process::{Child, Command, Stdio};

use common::{alone, assert_nothing_left, compile, held, ringfence_with, stderr, stdout, wait_for};

/// A process in a network namespace of its own that sends to itself without end.
struct Talker(Child);

impl Talker {
    fn new() -> Talker {
        let script = "ip link set lo up; while sleep 0.02; do echo talk > /dev/udp/127.0.0.1/9; done";
        let mut command = Command::new("unshare");
        command.args(["--net", "bash", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
        let talker = Talker(command.spawn().expect("unshare"));
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
        let pid = talker.0.id().to_string();
        let received = || {
            let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("devices");
            let bytes = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"));
            bytes.is_some_and(|bytes| !bytes.trim().starts_with("0 "))
        };
        wait_for("the namespace to hear itself", || of(&pid) != of("self") && received());
        talker
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// UDP frames that the object's map has counted, as the table shows it.
fn counted(object: &str, places: &[&str]) -> (u64, String) {
    let mut args = vec!["run", object, "--for", "1s", "-o", "json"];
    args.extend(places);
    let output = ringfence_with(args);
    let notes = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{notes}");
    let rows = stdout(&output);
    let mut rows = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")).rev();
    let of_udp = rows.find(|row| row["key"] == 17);
    let sum = |row: serde_json::Value| {
        row["per_cpu"].as_array().expect("a value a CPU").iter().filter_map(|n| n.as_u64()).sum()
    };
    (of_udp.map_or(0, sum), notes)
}

#[test]
fn a_device_of_another_namespace() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("xdp_count", dir.path());
    let object = object.to_str().expect("UTF-8");
    let before = held();
    let talker = Talker::new();
    let pid = talker.0.id().to_string();
    let name = format!("rf-cli-{pid}");
    let named = Command::new("ip").args(["netns", "attach", &name, &pid]).status().expect("ip");
    assert!(named.success());
    let results = [&pid, &name].map(|namespace| counted(object, &["--device", "lo", "--netns", namespace]));
    let unnamed = Command::new("ip").args(["netns", "del", &name]).status().expect("ip");
    assert!(unnamed.success());
    for (frames, notes) in results {
        assert!(frames >= 5, "{frames} frames; {notes}");
        assert!(notes.contains("1 program attached"), "{notes}");
    }
    drop(talker);

    let (frames, notes) = counted(object, &[]);
    assert_eq!(frames, 0);
    assert!(notes.contains("does not name a network device; --device gives it"), "{notes}");
    for (netns, says) in
        [("rf-absent", "there is no such network namespace"), ("999999999", "no such network namespace")]
    {
        let output = ringfence_with(["run", object, "--device", "lo", "--netns", netns]);
        assert_ne!(output.status.code(), Some(0));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    assert_nothing_left(&before);
}
