//! `ringfence list` and `ringfence audit` on the real kernel: what was made is listed with its owner, and what nobody owns is
//! found and removed.

mod common;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{alone, assert_nothing_left, held, ringfence, ringfence_with, signal, stderr, stdout, wait_for};
use ringfence::{AttachType, MapType, ProgramType};
use ringfence_sys::netlink::Netlink;
use ringfence_sys::rtnetlink::{FilterKind, FilterPlace, FilterSet, Side};
use ringfence_sys::{self as sys, AttachTo, MapCreate, MapFd, ProgLoad, ProgramFd};
use ringfence_uapi::Insn;
use serde_json::Value;

/// `r0 = value; exit`
fn program(kind: ProgramType, hook: AttachType, name: &str, value: i32) -> ProgramFd {
    let insns =
        [Insn { code: 0xb7, dst: 0, src: 0, off: 0, imm: value }, Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 }];
    let load = ProgLoad { name, attach_type: hook, ..ProgLoad::new(kind, &insns, "GPL") };
    sys::prog_load(&load, None).expect("a program")
}

fn map(name: &str) -> MapFd {
    sys::map_create(&MapCreate { name, ..MapCreate::new(MapType::HASH, 4, 8, 16) }).expect("a map")
}

fn id_of(program: &ProgramFd) -> u32 {
    program.info().expect("its information").id
}

/// A bpffs of the test's own; gone when dropped.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        sys::mount("bpf", dir.path()).expect("a bpffs");
        Bpffs(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// A network namespace with a device; gone when dropped.
struct Space(String);

impl Space {
    fn new(name: &str) -> Self {
        let space = Space(format!("rf-{name}-{}", std::process::id()));
        space.ip(&format!("netns add {}", space.0));
        space.ip(&format!("-n {} link add wire type veth peer name wire2", space.0));
        space
    }

    fn ip(&self, arguments: &str) {
        let done = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
        assert!(done.success(), "ip {arguments}");
    }

    /// Runs it inside, with a routing socket and the number of the device.
    fn inside<T: Send>(&self, run: impl FnOnce(&Netlink, u32) -> T + Send) -> T {
        let space = ringfence::hook::NetNamespace::named(&self.0);
        let inside = || {
            let netlink = Netlink::open().expect("a socket");
            let devices = netlink.devices().expect("devices");
            let device = devices.iter().find(|device| device.name == "wire").expect("the device");
            run(&netlink, device.index)
        };
        space.enter(inside).expect("the namespace")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A cgroup; gone when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        let mount =
            mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?.split(' ').nth(1)?.to_owned();
        let dir = Path::new(&mount).join(format!("rf-list-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a cgroup");
        Some(Cgroup(dir))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn rows(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let row = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    stdout(output).lines().map(row).collect()
}

fn list(what: &str) -> Vec<Value> {
    rows(&ringfence_with(["list", what, "-o", "json"]))
}

fn row(rows: Vec<Value>, id: u32) -> Value {
    let found = rows.iter().find(|row| row["id"] == id).cloned();
    found.unwrap_or_else(|| panic!("{id} is missing: {rows:?}"))
}

/// What the audit says of one object.
fn audit(object: &str, id: u32) -> Vec<Value> {
    rows(&ringfence_with(["audit", "-o", "json"]))
        .into_iter()
        .filter(|row| row["object"] == object && row["id"] == id)
        .collect()
}

/// Removes an object's holders; what was said of each.
fn remove(object: &str, id: u32) -> Vec<Value> {
    rows(&ringfence_with(["audit", &format!("{object}:{id}"), "--remove", "--yes", "-o", "json"]))
}

fn is_there(object: &str, id: u32) -> bool {
    held().contains(&(if object == "program" { "program" } else { "map" }, id))
}

#[test]
fn a_pinned_program_and_map_are_owned_until_nobody_holds_them() {
    let _alone = alone();
    let before = held();
    let bpffs = Bpffs::new();
    let (xdp, counts) = (program(ProgramType::XDP, AttachType::XDP, "rf_pinned", 2), map("rf_counts"));
    let (program_id, map_id) = (id_of(&xdp), counts.shape().id);
    // Names that a shell would break up.
    sys::object_pin(xdp.as_fd(), &bpffs.path("pro gram")).expect("a pin");
    std::fs::create_dir(bpffs.path("deep")).expect("a directory");
    sys::object_pin(counts.as_fd(), &bpffs.path("deep/counts")).expect("a pin");

    let own = serde_json::json!([{ "pid": std::process::id(), "command": command() }]);
    let listed = row(list("programs"), program_id);
    assert_eq!((&listed["name"], &listed["type"]), (&Value::from("rf_pinned"), &Value::from("xdp")));
    assert_eq!(listed["owners"], own);
    assert_eq!(listed["pins"][0], bpffs.path("pro gram").to_str().expect("UTF-8"));
    assert_eq!(listed["xlated_insns"], 2);
    assert!(listed["memory_bytes"].as_u64() > Some(0), "{listed}");
    let loaded: jiff::Timestamp = listed["loaded_at"].as_str().expect("a time").parse().expect("a time");
    assert!(loaded.duration_until(jiff::Timestamp::now()).as_secs().abs() < 5, "{listed}");
    let listed = row(list("maps"), map_id);
    assert_eq!(
        (&listed["key_size"], &listed["value_size"], &listed["max_entries"]),
        (&4.into(), &8.into(), &16.into())
    );
    assert_eq!(listed["owners"], own);
    assert!(audit("program", program_id).is_empty(), "it has an owner");

    drop((xdp, counts));
    assert_eq!(row(list("programs"), program_id)["owners"], serde_json::json!([]));
    let table = stdout(&ringfence_with(["list", "maps"]));
    assert!(table.lines().any(|line| line.contains("rf_counts") && line.contains("deep/counts")), "{table}");
    for (object, id, path) in [("program", program_id, "pro gram"), ("map", map_id, "deep/counts")] {
        let orphan = audit(object, id);
        let path = bpffs.path(path);
        let path = path.to_str().expect("UTF-8");
        assert_eq!(orphan.len(), 1, "{orphan:?}");
        assert_eq!((&orphan[0]["holder"]["kind"], &orphan[0]["holder"]["path"]), (&"pin".into(), &path.into()));
        let quoted = if path.contains(' ') { format!("rm '{path}'") } else { format!("rm {path}") };
        assert_eq!(orphan[0]["remove"], quoted);
        let removed = remove(object, id);
        assert_eq!((removed.len(), &removed[0]["removed"]), (1, &true.into()), "{removed:?}");
        assert!(removed[0]["outcome"].as_str().expect("words").contains("is gone"), "{removed:?}");
        assert!(!is_there(object, id) && !Path::new(path).exists());
    }
    drop(bpffs);
    assert_nothing_left(&before);
}

fn command() -> String {
    std::fs::read_to_string("/proc/self/comm").expect("a name").trim().to_owned()
}

#[test]
fn a_link_belongs_to_the_process_that_holds_it() {
    let _alone = alone();
    let before = held();
    let mut child =
        ringfence().args(["run", "opens"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run");
    let mine = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter().filter(|row| row["owners"][0]["pid"] == child.id()).collect()
    };
    wait_for("links", || mine(list("links")).len() == 4);
    let links = mine(list("links"));
    assert!(links.iter().all(|link| link["owners"][0]["command"] == "ringfence"), "{links:?}");
    let exit = links.iter().find(|link| link["program"] == "exit_openat").expect("the link");
    let programs = list("programs");
    let program = programs.iter().find(|program| program["id"] == exit["program_id"]).expect("its program");
    // Before 6.6 the kernel does not tell where a perf event is.
    if exit["details"] != serde_json::json!({}) {
        assert_eq!((&exit["hook"], &exit["target"]), (&"tracepoint".into(), &"sys_exit_openat".into()));
        assert_eq!(program["attached"], serde_json::json!([{ "hook": "tracepoint", "target": "sys_exit_openat" }]));
    }
    let maps = mine(list("maps"));
    let ring = maps.iter().find(|map| map["name"] == "events").expect("its ring");
    assert!(program["map_ids"].as_array().expect("maps").contains(&ring["id"]));
    assert!(ring["program_ids"].as_array().expect("programs").contains(&program["id"]));
    assert!(
        ring["memory_bytes"].as_u64() >= ring["max_entries"].as_u64().filter(|_| ring["memory_bytes"] != 0),
        "{ring}"
    );
    let btf = row(list("btf"), program["btf_id"].as_u64().expect("BTF") as u32);
    assert_eq!((&btf["owners"][0]["pid"], &btf["kernel"]), (&child.id().into(), &false.into()));
    let record = stdout(&ringfence_with(["list", "programs", "--id", &program["id"].to_string()]));
    for word in ["exit_openat", "xlated_insns", "loaded_at", &format!("ringfence[{}]", child.id())] {
        assert!(record.contains(word), "{word}: {record}");
    }
    signal(&child, "INT");
    child.wait().expect("an end");
    assert_nothing_left(&before);
}

#[test]
fn orphans_on_devices_and_cgroups_are_found_and_removed() {
    let _alone = alone();
    let before = held();
    let space = Space::new("orphan");
    let xdp = program(ProgramType::XDP, AttachType::XDP, "rf_xdp", 2);
    let tc = program(ProgramType::SCHED_CLS, AttachType(0), "rf_tc", 0);
    let action = program(ProgramType::SCHED_ACT, AttachType(0), "rf_action", 0);
    let with_action = space.inside(|netlink, index| {
        netlink.xdp_set(index, Some(xdp.as_fd()), 0, None).expect("XDP");
        netlink.clsact_add(index).expect("clsact");
        let place = FilterPlace { index, side: Side::Ingress, priority: 0, handle: 0, kind: FilterKind::Classifier };
        netlink.filter_set(place, tc.as_fd(), "rf", FilterSet::New).expect("a filter");
        let place = FilterPlace { side: Side::Egress, kind: FilterKind::Action, ..place };
        match netlink.filter_set(place, action.as_fd(), "rf", FilterSet::New) {
            Err(error) if error.errno == sys::Errno::NOENT => false,
            made => made.map(|_| true).expect("a filter"),
        }
    });
    let mut made = vec![
        (id_of(&xdp), "xdp", format!("ip netns exec {} ip link set dev wire xdpdrv off", space.0)),
        (
            id_of(&tc),
            "tc ingress",
            format!("ip netns exec {} tc filter del dev wire ingress pref 49152 handle 0x1 bpf", space.0),
        ),
    ];
    if with_action {
        let command = format!("ip netns exec {} tc filter del dev wire egress pref 49152 handle 0x1 basic", space.0);
        made.push((id_of(&action), "tc egress", command));
    } else {
        println!("skipped: this kernel has no such filters");
    }
    let cgroup = Cgroup::new();
    if let Some(cgroup) = &cgroup {
        let hook = AttachType::CGROUP_INET_EGRESS;
        let program = program(ProgramType::CGROUP_SKB, hook, "rf_cgroup", 1);
        let directory = std::fs::File::open(&cgroup.0).expect("the cgroup");
        sys::program_attach(AttachTo::Fd(directory.as_fd()), program.as_fd(), hook, 2, None).expect("attached");
        let command = format!("bpftool cgroup detach {} cgroup_inet_egress id {}", cgroup.0.display(), id_of(&program));
        made.push((id_of(&program), "cgroup_inet_egress", command));
    } else {
        println!("skipped: no cgroup2 is mounted");
    }
    // As long as we hold them, they have an owner.
    assert_eq!(audit("program", id_of(&xdp)), Vec::<Value>::new());
    assert_eq!(row(list("programs"), id_of(&xdp))["attached"][0]["target"], format!("wire (netns {})", space.0));
    drop((xdp, tc, action));
    for (id, hook, command) in made {
        let orphan = audit("program", id);
        assert_eq!(orphan.len(), 1, "{orphan:?}");
        let (holder, remedy) = (&orphan[0]["holder"], orphan[0]["remove"].as_str().expect("a command"));
        assert_eq!((&holder["kind"], &holder["hook"]), (&"attachment".into(), &hook.into()), "{orphan:?}");
        assert_eq!(remedy, command);
        let removed = remove("program", id);
        assert_eq!(removed[0]["removed"], true, "{removed:?}");
        assert!(!is_there("program", id), "{removed:?}");
    }
    drop((space, cgroup));
    assert_nothing_left(&before);
}

#[test]
fn the_commands_that_it_prints_do_what_they_say() {
    let _alone = alone();
    let before = held();
    let space = Space::new("words");
    let bpffs = Bpffs::new();
    let (xdp, counts) = (program(ProgramType::XDP, AttachType::XDP, "rf_xdp", 2), map("rf_counts"));
    let (xdp_id, map_id) = (id_of(&xdp), counts.shape().id);
    // In the kernel's stack, and not in the driver.
    space.inside(|netlink, index| netlink.xdp_set(index, Some(xdp.as_fd()), 2, None).expect("XDP"));
    sys::object_pin(counts.as_fd(), &bpffs.path("it's")).expect("a pin");
    drop((xdp, counts));
    for (object, id) in [("program", xdp_id), ("map", map_id)] {
        let command = audit(object, id)[0]["remove"].as_str().expect("a command").to_owned();
        assert!(Command::new("sh").args(["-c", &command]).status().expect("sh").success(), "{command}");
        wait_for(&command, || !is_there(object, id));
    }
    drop((space, bpffs));
    assert_nothing_left(&before);
}

#[test]
fn removal_asks_on_a_terminal() {
    let _alone = alone();
    let before = held();
    let bpffs = Bpffs::new();
    let counts = map("rf_asked");
    let id = counts.shape().id;
    sys::object_pin(counts.as_fd(), &bpffs.path("asked")).expect("a pin");
    drop(counts);
    let output = ringfence_with(["audit", "--remove"]);
    assert_eq!(output.status.code(), Some(2), "nobody can answer");
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
    let line = format!("{} audit map:{id} --remove", env!("CARGO_BIN_EXE_ringfence"));
    for (answer, stays) in [("n\n", true), ("q\n", true), ("y\n", false)] {
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = terminal.spawn().expect("script");
        std::io::Write::write_all(&mut terminal.stdin.take().expect("stdin"), answer.as_bytes()).expect("an answer");
        let mut said = String::new();
        terminal.stdout.take().expect("stdout").read_to_string(&mut said).expect("what it said");
        assert!(terminal.wait().expect("an end").success(), "{said}");
        assert!(said.contains("remove it?") && said.contains(&format!("map {id}")), "{said}");
        assert_eq!(is_there("map", id), stays, "{answer:?}: {said}");
        assert_eq!(said.contains("is gone"), !stays, "{said}");
    }
    drop(bpffs);
    assert_nothing_left(&before);
}

#[test]
fn what_was_replaced_is_not_removed() {
    let _alone = alone();
    let before = held();
    let bpffs = Bpffs::new();
    let (first, second) = (map("rf_first"), map("rf_second"));
    let id = first.shape().id;
    sys::object_pin(first.as_fd(), &bpffs.path("here")).expect("a pin");
    drop(first);
    let found = ringfence::machine::audit().expect("an audit").orphans;
    let orphan = found.into_iter().find(|orphan| orphan.id == ringfence::machine::Id::Map(id)).expect("the map");
    std::fs::remove_file(bpffs.path("here")).expect("removed");
    sys::object_pin(second.as_fd(), &bpffs.path("here")).expect("a pin");
    let error = orphan.remove().expect_err("it is another one");
    assert!(error.to_string().contains("another one is there"), "{error}");
    assert!(bpffs.path("here").exists());
    drop((bpffs, second));
    assert_nothing_left(&before);
}

#[test]
fn a_thousand_programs_are_listed_at_once() {
    let _alone = alone();
    let before = held();
    let programs: Vec<_> =
        (0..1000).map(|number| program(ProgramType::SOCKET_FILTER, AttachType(0), "rf_many", number)).collect();
    let start = Instant::now();
    let listed = list("programs");
    let time = start.elapsed();
    let many = listed.iter().filter(|row| row["name"] == "rf_many" && row["owners"][0]["pid"] == std::process::id());
    assert_eq!(many.count(), 1000);
    println!("1,000 programs in {time:?}");
    // Far above what it takes (a tenth of it, unoptimised): other work on the machine is no failure.
    assert!(time < Duration::from_secs(3), "{time:?}");
    drop(programs);
    assert_nothing_left(&before);
}

#[test]
fn a_closed_pipe_is_quiet() {
    let _alone = alone();
    for args in [["list", "btf"], ["audit", "-ojson"]] {
        let mut child =
            ringfence().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            !stderr(&output).contains("panicked") && !stderr(&output).contains("roken pipe"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn without_the_right_it_says_which_and_exits_6() {
    for verb in [&["list", "programs"][..], &["list", "links"], &["audit"]] {
        let mut limited = Command::new("setpriv");
        limited.args(["--bounding-set=-sys_admin", env!("CARGO_BIN_EXE_ringfence")]).args(verb);
        let output = limited.output().expect("setpriv");
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert!(stderr(&output).contains("lacks CAP_SYS_ADMIN"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn processes_that_it_may_not_look_into_are_counted() {
    let _alone = alone();
    let mut limited = Command::new("setpriv");
    limited.args(["--bounding-set=-sys_ptrace", env!("CARGO_BIN_EXE_ringfence"), "list", "btf"]);
    let output = limited.output().expect("setpriv");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("processes could not be looked into"), "{}", stderr(&output));
    let mut limited = Command::new("setpriv");
    limited.args([
        "--bounding-set=-sys_ptrace",
        env!("CARGO_BIN_EXE_ringfence"),
        "audit",
        "map:1",
        "--remove",
        "--yes",
    ]);
    let output = limited.output().expect("setpriv");
    assert_eq!(output.status.code(), Some(6), "what is not seen may own it: {}", stderr(&output));
}

#[test]
fn a_machine_without_bpffs_and_cgroups_works() {
    let _alone = alone();
    let kept = map("rf_alone");
    let script = "umount -a -t bpf; umount -a -t cgroup2; exec \"$0\" list maps -o json";
    let output = Command::new("unshare").args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_ringfence")]).output();
    let listed = row(rows(&output.expect("unshare")), kept.shape().id);
    assert_eq!(listed["owners"][0]["pid"], std::process::id());
}

#[test]
fn mistakes_are_told() {
    let output = ringfence_with(["list", "programs", "--id", "4000000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no 4000000000 among the programs"), "{}", stderr(&output));
    for args in [&["list"][..], &["list", "things"], &["audit", "program"], &["audit", "--yes"]] {
        assert_eq!(ringfence_with(args).status.code(), Some(2), "{args:?}");
    }
}
