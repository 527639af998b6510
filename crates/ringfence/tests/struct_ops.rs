//! Tables of programs that the kernel calls.

mod common;

use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};

use common::{load_since, object};
use ringfence::{Kernel, Kind, LinkDetails, Settings};

fn registered(name: &str) -> bool {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    all.split_whitespace().any(|known| known == name)
}

/// Names of congestion control are the machine's: one test at a time.
static NAMES: Mutex<()> = Mutex::new(());

#[test]
fn congestion_control() {
    let _names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(loaded) = load_since((6, 4), "congestion", Settings::new()) else { return };
    assert!(!registered("rf_linked") && !registered("rf_by_value"), "loading alone registers nothing");
    let linked = loaded.register("linked").unwrap();
    assert!(matches!(linked.info().unwrap().unwrap().details, LinkDetails::StructOps { .. }));
    let by_value = loaded.register("by_value").unwrap();
    assert!(by_value.info().unwrap().is_none());
    assert!(registered("rf_linked") && registered("rf_by_value"));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_tcp_congestion(&stream, "rf_linked").unwrap();
    assert_eq!(loaded.variable("started").unwrap().get::<u64>().unwrap(), 1);
    drop(stream);

    let error = loaded.register("by_value").unwrap_err();
    assert!(error.to_string().contains("registered already"), "{error}");
    assert!(loaded.register("linkd").unwrap_err().to_string().contains("there is linked"));
    drop((linked, by_value));
    assert!(!registered("rf_linked") && !registered("rf_by_value"));
    drop(loaded.register("linked").unwrap());
    assert!(!registered("rf_linked"), "a table can be registered again");

    let error = loaded.register("by_value").unwrap_err();
    assert!(error.to_string().contains("can be done once"), "{error}");

    let loaded = load_since((6, 4), "congestion", Settings::new()).unwrap();
    let links = loaded.attach_all().unwrap();
    assert!(links.len() == 2 && registered("rf_linked") && registered("rf_by_value"));
    drop(links);
    assert!(!registered("rf_linked") && !registered("rf_by_value"));
}

#[test]
fn a_table_takes_the_place_of_another() {
    let _names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(old) = load_since((6, 4), "congestion", Settings::new()) else { return };
    let new = load_since((6, 4), "congestion", Settings::new()).unwrap();
    let mut link = old.register("linked").unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_tcp_congestion(&socket, "rf_linked").unwrap();
    new.replace(&mut link, "linked").unwrap();
    assert!(registered("rf_linked"));
    let details = link.info().unwrap().unwrap().details;
    assert_eq!(details, LinkDetails::StructOps { map_id: new.map("linked").unwrap().info().unwrap().id });
    let stream = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_tcp_congestion(&stream, "rf_linked").unwrap();
    let started = |loaded: &ringfence::Loaded| loaded.variable("started").unwrap().get::<u64>().unwrap();
    assert!(started(&new) >= 1, "the new one starts sockets now");
    let error = new.replace(&mut link, "by_value").unwrap_err();
    assert!(error.to_string().contains(".struct_ops.link"), "{error}");
    let mut by_value = new.register("by_value").unwrap();
    let error = new.replace(&mut by_value, "linked").unwrap_err();
    assert!(error.to_string().contains("no link of a struct_ops map"), "{error}");
    drop((stream, socket, link, by_value));
    assert!(!registered("rf_linked") && !registered("rf_by_value"));
}

#[test]
fn members_are_chosen() {
    let _names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let unrestricted = 1u32; // TCP_CONG_NON_RESTRICTED
    let settings = Settings::new().map("by_value", false).global("linked.name", "rf_chosen");
    let settings = settings.global("linked.flags", unrestricted).global("linked.init", "");
    let Some(loaded) = load_since((6, 4), "congestion", settings) else { return };
    assert!(loaded.program("begin").is_err(), "nothing calls it");
    let link = loaded.register("linked").unwrap();
    assert!(registered("rf_chosen") && !registered("rf_linked"));
    let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    assert!(allowed.contains("rf_chosen"), "{allowed}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_tcp_congestion(&listener, "rf_chosen").unwrap();
    let _stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(loaded.variable("started").unwrap().get::<u64>().unwrap(), 0);
    drop((listener, link));
}

#[test]
fn a_scheduler_of_tasks() {
    let state = || std::fs::read_to_string("/sys/kernel/sched_ext/state").unwrap_or_default().trim().to_owned();
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object("scheduler"), &kernel, &Settings::new()).unwrap();
    if state().is_empty() {
        let error = ringfence::load(&plan, &kernel).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        println!("skipped: {error}");
        return;
    }
    let loaded = common::load(&plan);
    assert_eq!(state(), "disabled");
    let link = loaded.register("scheduler").unwrap();
    assert_eq!(state(), "enabled");
    assert_eq!(std::fs::read_to_string("/sys/kernel/sched_ext/root/ops").unwrap().trim(), "rf_scheduler");
    assert_eq!(loaded.variable("started").unwrap().get::<u64>().unwrap(), 1);
    // Work for it: a thread that sleeps and wakes.
    std::thread::spawn(|| (0..20).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(1))))
        .join()
        .unwrap();
    assert!(loaded.variable("queued").unwrap().get::<u64>().unwrap() > 0);
    assert_eq!(state(), "enabled");
    drop(link);
    let before = std::time::Instant::now();
    while state() != "disabled" {
        assert!(before.elapsed() < std::time::Duration::from_secs(10), "{}", state());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
