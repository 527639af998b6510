//! `ringfence net` as it is used: what it writes, what it says, what it refuses, and that nothing stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../ringfence/tests/common/net.rs"]
#[allow(dead_code, reason = "the tests of the library use all of it")]
mod wire;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use common::{alone, assert_nothing_left, compile, held, ringfence, ringfence_with, signal, stderr, wait_for};
use serde_json::Value;
use wire::{FAR, NEAR, Wire};

/// A watch of the near end.
struct Watching {
    child: Child,
    errors: BufReader<ChildStderr>,
    notes: String,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    /// Starts, and waits until it watches.
    fn start(wire: &Wire, args: &[&str]) -> Watching {
        let mut command = ringfence();
        command.args(["net", "--dev", "wire", "--netns", &wire.near.name]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
        let errors = BufReader::new(child.stderr.take().expect("stderr"));
        let mut watching = Watching { child, errors, notes: String::new() };
        while !watching.notes.contains("net: Ctrl-C ends") {
            let read = watching.errors.read_line(&mut watching.notes).expect("stderr");
            assert!(read > 0, "it ended: {}", watching.notes);
        }
        watching
    }

    /// Ends it as Ctrl-C does: what it wrote, and what it said.
    fn end(mut self) -> (String, String) {
        signal(&self.child, "INT");
        let mut text = String::new();
        self.child.stdout.take().expect("stdout").read_to_string(&mut text).expect("stdout");
        self.errors.read_to_string(&mut self.notes).expect("stderr");
        assert!(self.child.wait().expect("its end").success(), "{}", self.notes);
        (text, std::mem::take(&mut self.notes))
    }
}

#[test]
fn a_table_for_people() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnett"), held());
    let watching = Watching::start(&wire, &["--interval", "200ms"]);
    wire.send(50);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (text, notes) = watching.end();
    assert!(text.starts_with("TIME     DEVICE"), "{text}");
    let flow = text.lines().find(|line| line.contains(&format!("{NEAR}:9"))).expect("the flow");
    let words: Vec<&str> = flow.split_whitespace().collect();
    // 50 packets of 14 + 20 + 8 + 7 bytes.
    assert_eq!((words[0], &words[3..7]), ("udp", &["50", "0", "2.4K", "0"][..]), "{flow}");
    for head in ["WHERE  PROTOCOL", "TALKER", "sizes in bytes: <=64"] {
        assert!(text.contains(head), "{head}: {text}");
    }
    for said in [
        "net: wire: xdp (generic), in, out; in the driver of a veth",
        "lost: nothing",
        "own cost: ",
        "in the kernel (",
        "nothing is left",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    assert_nothing_left(&before);
}

#[test]
fn json_marks_and_packets() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetj"), held());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("some.pcapng");
    let file_name = file.display().to_string();
    let rule = "in udp dport 9 => mark 0x10 dscp af41";
    let args = ["-o", "json", "--interval", "1h", "--mark", rule, "--pcap", &file_name, "--snaplen", "40"];
    let watching = Watching::start(&wire, &args);
    wire.send(20);
    wire.send_back(3);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (text, _) = watching.end();
    let all: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let place = |direction: &str| {
        let places = all["places"].as_array().expect("places");
        places.iter().find(|place| place["where"] == direction).expect("the place").clone()
    };
    let flows = all["flows"].as_array().expect("flows");
    let to =
        |to: std::net::Ipv4Addr| flows.iter().find(|flow| flow["to"] == format!("{to}:9")).expect("the flow").clone();
    assert_eq!((&to(NEAR)["packets"], &to(NEAR)["mark"]), (&serde_json::json!([20, 0]), &Value::from(0x10)));
    assert_eq!((&to(FAR)["packets"], &to(FAR)["mark"]), (&serde_json::json!([3, 0]), &Value::from(0)));
    assert_eq!((&place("in")["marked"], &place("out")["marked"]), (&Value::from(20), &Value::from(0)));
    // The device itself has counted the same.
    for direction in ["in", "out", "xdp"] {
        let place = place(direction);
        assert_eq!(place["packets"], place["device_counts"]["packets"], "{direction}");
    }
    assert_eq!(all["lost"]["flows"], 0);
    let bytes = fs::read(&file).expect("the file");
    assert_eq!(bytes.get(..4), Some(&[0x0a, 0x0d, 0x0d, 0x0a][..]));
    let marked = bytes.windows(4).filter(|four| *four == [8, 0, 0x45, 34 << 2]).count();
    assert_eq!(marked, 20, "samples are of what a rule has made of packets");
    assert_nothing_left(&before);
}

#[test]
fn metrics_are_what_was_counted_so_far() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetm"), held());
    let serving = common::scrape::serve(["net", "--dev", "wire", "--netns", &wire.near.name]);
    wire.send(30);
    let counted =
        "ringfence_net_protocol_packets_total{device=\"wire\",direction=\"in\",family=\"4\",protocol=\"udp\"}";
    let mut last = serving.scrape();
    wait_for("packets", || {
        last = serving.scrape();
        last.get(counted) == Some(30.0)
    });
    let place = "{device=\"wire\",direction=\"xdp\"}";
    assert!(last.get(&format!("ringfence_net_packets_total{place}")) >= Some(30.0), "{last:#?}");
    assert_eq!(last.get(&format!("ringfence_net_truncated_total{place}")), Some(0.0));
    assert_eq!(last.get("ringfence_net_lost_total{what=\"flow\"}"), Some(0.0), "{last:#?}");
    assert!(last.series.keys().any(|name| name.starts_with("ringfence_net_flow_bytes{")), "{last:#?}");
    serving.end();
    assert_nothing_left(&before);
}

#[test]
fn nothing_stays_when_it_is_killed() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetk"), held());
    let mut watching = Watching::start(&wire, &[]);
    watching.child.kill().expect("SIGKILL");
    watching.child.wait().expect("its end");
    assert_nothing_left(&before);
    let devices = wire.near.namespace().devices().expect("devices");
    assert!(devices.iter().all(|device| device.xdp.any().is_none()), "{devices:?}");
}

/// A command that ends with the test.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_device_that_is_taken_is_left_alone() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetx"), held());
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("xdp_count", dir.path()).display().to_string();
    let mut other = ringfence();
    other.args(["run", &object, "--device", "wire", "--netns", &wire.near.name]);
    let other = Other(other.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command"));
    let xdp = || wire.near.namespace().devices().expect("devices").iter().find_map(|device| device.xdp.any());
    wait_for("the other program", || xdp().is_some());
    let there = xdp();
    let refused = ringfence_with(["net", "--dev", "wire", "--netns", &wire.near.name, "--for", "1s"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("wire cannot be watched by XDP") && said.contains("--no-xdp"), "{said}");
    assert_eq!(there, xdp());
    let watched = ringfence_with(["net", "--dev", "wire", "--netns", &wire.near.name, "--no-xdp", "--for", "100ms"]);
    assert!(watched.status.success() && stderr(&watched).contains("net: wire: in, out"), "{}", stderr(&watched));
    let all = ringfence_with(["net", "--all", "--netns", &wire.near.name, "--for", "100ms"]);
    assert!(all.status.success() && stderr(&all).contains("no XDP: it has a program already"), "{}", stderr(&all));
    drop(other);
    assert_nothing_left(&before);
}

#[test]
fn what_is_asked_for_in_vain_is_said() {
    let refused = |args: &[&str], code: i32, says: &[&str]| {
        let output = ringfence_with([&["net"], args].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        says.iter().for_each(|says| assert!(said.contains(says), "{args:?}: {says}: {said}"));
    };
    refused(&[], 2, &["--dev", "--all"]);
    refused(&["--dev", "nosuch0"], 1, &["there is no device nosuch0", "there is lo"]);
    refused(&["--dev", "lo", "--netns", "nosuch"], 1, &["/run/netns/nosuch"]);
    refused(&["--dev", "lo", "--mark", "tcp => drop"], 2, &["`drop` is none of prio, mark, dscp"]);
    refused(&["--dev", "lo", "--filter", "tpc"], 2, &["`tpc` is none of in, out"]);
    refused(&["--dev", "lo", "--sample", "10"], 2, &["--pcap"]);
    refused(&["--dev", "lo", "--cgroup", "/some"], 1, &["/some is no control group"]);
    refused(&["--dev", "lo", "--pid", "4294967294"], 1, &["there is no process 4294967294"]);
    refused(&["--dev", "lo", "--pid", "1", "--native"], 2, &["'--pid <PID>' cannot be used with '--native'"]);
}

#[test]
fn a_process_is_watched_where_its_devices_are() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetp"), held());
    let mut process = wire.near.inside(|| std::process::Command::new("sleep").arg("60").spawn()).expect("sleep");
    let pid = process.id().to_string();
    let output = ringfence_with(["net", "--dev", "wire", "--pid", &pid, "--for", "200ms", "-o", "json"]);
    process.kill().expect("it runs");
    process.wait().expect("its end");
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("net: wire: in, out\n") && said.contains("these processes hold (0)"), "{said}");
    drop(wire);
    assert_nothing_left(&before);
}

#[test]
fn what_goes_away_is_said() {
    let (_alone, wire, before) = (alone(), Wire::veth("cnetg"), held());
    let watching = Watching::start(&wire, &["--interval", "100ms"]);
    wire.send(20);
    std::thread::sleep(std::time::Duration::from_millis(300));
    // The last that holds both namespaces, and thus the devices.
    drop(wire);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (text, notes) = watching.end();
    assert!(notes.contains("wire is gone"), "{notes}");
    let flow = text.lines().find(|line| line.contains(&format!("{NEAR}:9"))).expect("the flow");
    assert_eq!(flow.split_whitespace().nth(3), Some("20"), "{flow}");
    assert_nothing_left(&before);
}
