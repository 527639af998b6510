//! Tables of programs that the kernel calls.

mod common;

use std::net::{TcpListener, TcpStream};

use common::load_since;
use ringfence::{LinkDetails, Settings};

fn registered(name: &str) -> bool {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    all.split_whitespace().any(|known| known == name)
}

#[test]
fn congestion_control() {
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
