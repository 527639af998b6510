//! `trace` on real kernels: what is read at each kind of place is what was there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use common::alone;
use ringfence_tools::Filter;
use ringfence_tools::trace::{Options, Prepared, Seen, Spec};
use ringfence_value::{Layout, Options as Shown, Value};

/// This process alone.
fn options(specs: &[&str]) -> Options {
    let specs = specs.iter().map(|text| Spec::parse(text).expect("a place")).collect();
    let filter = Filter { pid: Some(std::process::id()), ..Filter::default() };
    Options { specs, filter, myself: true, ..Options::default() }
}

struct Run {
    /// Place and fields of each event.
    events: Vec<(usize, Value)>,
    seen: Vec<Seen>,
    how: Vec<&'static str>,
}

/// Watches while something is done. An error says what the kernel lacks.
fn watch(options: &Options, mut act: impl FnMut()) -> Result<Run, ringfence_tools::Error> {
    let mut tracer = Prepared::of(options)?.start()?;
    let layouts: Vec<Layout> = tracer
        .targets()
        .iter()
        .map(|target| Layout::compile_with(&target.types, target.ty, Shown::default()).expect("a layout"))
        .collect();
    act();
    tracer.stop();
    let mut events = Vec::new();
    while tracer
        .poll(Duration::ZERO, |event| {
            events.push((event.target, layouts[event.target].value(event.bytes).expect("a whole event")));
        })
        .expect("events")
        > 0
    {}
    let seen = tracer.seen().expect("counts");
    Ok(Run { events, seen, how: tracer.targets().iter().map(|target| target.how).collect() })
}

fn number(value: &Value, field: &str) -> i64 {
    let value = value.get(field).unwrap_or_else(|| panic!("no {field} in {value}"));
    value.as_i64().unwrap_or_else(|| panic!("{field} is {value}"))
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).unwrap_or_else(|| panic!("no {field} in {value}")).to_string()
}

fn has_kprobes() -> bool {
    let has = std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists();
    if !has {
        println!("skipped: this kernel has no kprobes");
    }
    has
}

fn mount_tracefs() {
    if !std::path::Path::new("/sys/kernel/tracing/events").exists() {
        let _ = Command::new("mount").args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]).status();
    }
}

#[test]
fn system_calls_with_their_returns() {
    let _alone = alone();
    mount_tracefs();
    let long = format!("/{}", "x".repeat(200));
    let run = watch(&options(&["syscalls:openat"]), || {
        let _ = File::open("/proc/self/comm");
        let _ = File::open("/no/such/file");
        let _ = File::open(&long);
        let _ = File::open(&long[..124]);
    })
    .unwrap();
    let of = |name: &str| run.events.iter().find(|(_, value)| text(value, "filename") == name).map(|(_, value)| value);
    assert!(number(of("/proc/self/comm").expect("the first"), "ret") > 0);
    let missing = of("/no/such/file").expect("the second");
    assert_eq!((number(missing, "ret"), text(missing, "dfd")), (-2, "AT_FDCWD".to_owned()));
    assert!(number(missing, "duration_ns") > 0 && number(missing, "pid") == i64::from(std::process::id()));
    // Cut off, and marked; one that just fits is not.
    assert!(of(&format!("{}…", &long[..124])).is_some(), "{:?}", run.events);
    assert!(of(&long[..124]).is_some(), "{:?}", run.events);
    let seen = run.seen[0];
    assert_eq!(seen.reached, seen.sent + seen.lost + seen.filtered + seen.unpaired, "{seen:?}");
}

#[test]
fn programs_with_their_arguments() {
    let _alone = alone();
    mount_tracefs();
    let run = |count: usize| {
        let options = Options { filter: Filter::default(), ..options(&["syscalls:execve"]) };
        let arguments: Vec<String> = (0..count).map(|n| format!("argument-{n}")).collect();
        let run = watch(&options, || _ = Command::new("true").args(&arguments).output().expect("a process")).unwrap();
        let mut all = run.events.iter().map(|(_, event)| text(event, "argv"));
        all.find(|argv| argv.starts_with("true") && (count == 0 || argv.contains("argument-0"))).expect("its start")
    };
    assert_eq!(run(0), "true");
    assert_eq!(run(2), "true argument-0 argument-1");
    let long = run(9);
    assert!(long.starts_with("true argument-0") && long.ends_with("argument-6 …"), "{long}");
}

#[test]
fn tracepoints_by_pattern() {
    let _alone = alone();
    mount_tracefs();
    let options = Options { filter: Filter::default(), ..options(&["sched:sched_process_*", "sched:sched_switch"]) };
    let mut child = 0;
    let run = watch(&options, || {
        let mut process = Command::new("true").spawn().expect("a process");
        child = process.id();
        process.wait().expect("its end");
    })
    .unwrap();
    let child = i64::from(child);
    assert!(
        run.events.iter().any(|(_, value)| value.get("child_pid").is_some() && number(value, "child_pid") == child)
    );
    let exec = run.events.iter().find(|(_, value)| value.get("old_pid").is_some() && number(value, "pid") == child);
    let (_, exec) = exec.expect("an exec");
    assert!(text(exec, "filename").ends_with("true"), "{exec}");
    let switch =
        run.events.iter().find(|(_, value)| value.get("next_comm").is_some() && number(value, "next_pid") == child);
    let (_, switch) = switch.expect("a switch to it");
    // The task that gives up the CPU is the one that runs.
    assert_eq!(number(switch, "prev_pid"), number(switch, "tid"));
    assert_eq!(text(switch, "prev_comm"), text(switch, "comm"));
    let state = text(switch, "prev_state");
    assert!(["R", "S", "D", "I", "R+"].iter().any(|known| *known == state), "{state}");
}

#[test]
fn kernel_functions_by_their_types() {
    let _alone = alone();
    if !has_kprobes() {
        return;
    }
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = i64::from(listener.local_addr().expect("an address").port());
    let connect = || drop(TcpStream::connect(listener.local_addr().unwrap()).expect("a connection"));
    // The cheaper kind where there is one, a kprobe by its other name, and the pair.
    for (specs, durations) in [
        (["kprobe:tcp_connect", "kretprobe:tcp_connect"], false),
        (["kprobe:vmlinux:tcp_connect", "kretprobe:vmlinux:tcp_connect"], false),
        (["kprobe:tcp_connect", "kretprobe:tcp_connect"], true),
    ] {
        let run = watch(&Options { durations, ..options(&specs) }, connect).unwrap();
        println!("{specs:?}: {:?}", run.how);
        assert_eq!(run.events.len(), 2, "{:?}", run.events);
        for (place, event) in &run.events {
            assert_eq!(text(event, "sk.daddr"), "127.0.0.1", "{event}");
            assert_eq!((number(event, "sk.dport"), number(event, "sk.family")), (port, 2), "{event}");
            if *place == 1 {
                assert_eq!(number(event, "ret"), 0);
                assert!(!durations || number(event, "duration_ns") > 1000, "{event}");
            }
        }
    }
    let paths =
        ["sk->__sk_common.skc_dport", "sk->sk_type", "sk->__sk_common.skc_prot->name"].map(str::to_owned).to_vec();
    let run = watch(&Options { paths, ..options(&["kprobe:tcp_connect"]) }, connect).unwrap();
    let (_, event) = &run.events[0];
    assert_eq!((number(event, "skc_dport"), number(event, "sk_type")), (port, 1), "{event}");
    assert!(text(event, "name").starts_with("TCP"), "{event}");
    let histogram = Options { histogram: true, durations: true, ..options(&["kprobe:tcp_connect"]) };
    let run = watch(&histogram, connect).unwrap();
    assert_eq!((run.seen[0].sent, run.events.len()), (1, 0), "{:?}", run.seen);
    for (path, said) in [("sk->sk_typ", "sk_type"), ("socket->x", "argument of that name"), ("sk", "ARGUMENT->MEMBER")]
    {
        let options = Options { paths: vec![path.to_owned()], ..options(&["kprobe:tcp_connect"]) };
        let error = Prepared::of(&options).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let run = watch(&options(&["kprobe:do_sys_openat2"]), || drop(File::open("/proc/self/comm"))).unwrap();
    assert!(run.events.iter().any(|(_, event)| text(event, "filename") == "/proc/self/comm"), "{:?}", run.events);
}

#[test]
fn kernel_functions_by_pattern() {
    let _alone = alone();
    mount_tracefs();
    if !has_kprobes() {
        return;
    }
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connect = || drop(TcpStream::connect(listener.local_addr().unwrap()).expect("a connection"));
    // A few, each with its own arguments.
    let run = watch(&options(&["kprobe:tcp_conn*"]), connect).unwrap();
    println!("tcp_conn*: {} places, {:?}", run.how.len(), run.how);
    assert!(run.how.len() < 16 && run.events.iter().any(|(_, event)| event.get("sk.daddr").is_some()));
    assert!(Prepared::of(&options(&["kprobe:no_such_function_*"])).unwrap_err().to_string().contains("no such"));
    assert!(Prepared::of(&options(&["kprobe:*"])).unwrap_err().to_string().contains("functions fit"));
    // Many, by one program.
    let run = match watch(&options(&["kprobe:tcp_*", "kretprobe:tcp_*"]), connect) {
        Ok(run) => run,
        Err(error) if error.to_string().contains("5.18") => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    for (place, how) in run.how.iter().enumerate() {
        assert!(how.contains("kprobe.multi"), "{how}");
        let of = |name: &str| {
            let mut mine = run.events.iter().filter(|(at, _)| *at == place).map(|(_, event)| event);
            mine.find(|event| text(event, "function") == name)
        };
        let connect = of("tcp_connect").expect("tcp_connect");
        assert!(text(connect, "arg0").starts_with("0xffff"), "{connect}");
        assert!(of("tcp_close").is_some() && run.events.len() > 10);
        if place == 1 {
            let (took, ret) = (number(connect, "duration_ns"), number(connect, "ret"));
            assert!(took > 1000 && took < 10_000_000_000 && ret == 0, "{connect}");
        }
        let seen = run.seen[place];
        assert_eq!(seen.reached, seen.sent + seen.lost + seen.filtered + seen.unpaired, "{seen:?}");
    }
}

#[test]
fn a_million_events_are_accounted_for() {
    const EVENTS: u64 = 1_000_000;
    let _alone = alone();
    mount_tracefs();
    // A small buffer, so that some are lost on any machine.
    let options = Options { buffer: 64 << 10, ..options(&["syscalls:getppid"]) };
    let mut tracer = Prepared::of(&options).unwrap().start().unwrap();
    let start = Instant::now();
    let worker = std::thread::spawn(|| (0..EVENTS).for_each(|_| _ = rustix::process::getppid()));
    let mut shown = 0;
    while !worker.is_finished() {
        shown += tracer.poll(Duration::from_millis(10), |_| ()).unwrap() as u64;
    }
    worker.join().unwrap();
    tracer.stop();
    loop {
        match tracer.poll(Duration::ZERO, |_| ()).unwrap() as u64 {
            0 => break,
            more => shown += more,
        }
    }
    let seen = tracer.seen().unwrap()[0];
    println!("{shown} shown, {} lost in {:.1} s", seen.lost, start.elapsed().as_secs_f64());
    // Other processes make such calls, too.
    assert_eq!(seen.reached - seen.filtered, EVENTS, "{seen:?}");
    assert_eq!((seen.sent, seen.sent + seen.lost), (shown, EVENTS), "{seen:?}");
    assert_eq!((seen.unpaired, seen.under_way), (0, 0), "{seen:?}");
}
