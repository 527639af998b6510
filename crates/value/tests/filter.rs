//! Conditions and chosen fields, on types that a compiler wrote.
#![allow(missing_docs)]

mod common;

use proptest::prelude::*;
use ringfence_value::{Filter, Layout, Miss, Path, Row, SortKey};

fn layout(name: &str) -> Layout {
    let btf = common::btf("bpfel");
    Layout::compile(&btf, common::named(&btf, name)).unwrap()
}

fn asked() -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(5_000_000_000u64.to_le_bytes());
    out.extend(1234u32.to_le_bytes());
    out.extend((-2i32).to_le_bytes());
    out.extend(b"sshd: root\0\0\0\0\0\0");
    out.extend(7i32.to_le_bytes());
    out.extend(5u32.to_le_bytes());
    out.extend([1, 2, 0, 0, 0, 0, 9, 0]);
    out.extend([10, 1, 2, 3]);
    out.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    // The double stands on 8 bytes.
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(0.25f64.to_le_bytes());
    for n in [1, 2, 3, 4, 5, -6i32] {
        out.extend(n.to_le_bytes());
    }
    for n in [80u16, 443, 65535] {
        out.extend(n.to_le_bytes());
    }
    out
}

/// A record as long as its type.
fn record(layout: &Layout) -> Vec<u8> {
    let mut out = asked();
    out.resize(layout.size(), 0);
    out
}

#[test]
fn what_holds_and_what_does_not() {
    let layout = layout("asked");
    let record = record(&layout);
    let holds = |text: &str| {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
        filter.bind([&layout]).unwrap_or_else(|error| panic!("{error}"))[0].holds(&record)
    };
    for yes in [
        "pid == 1234",
        "pid==0x4d2&&ret<0",
        "pid >= 1_234 && pid <= 1234 && pid > 0 && pid < 2000",
        "ret == -2",
        "ret == -ENOENT",
        "ret != -EPERM",
        "bytes > 4_999_999_999",
        r#"comm ~ "ssh*""#,
        "comm ~ '*root'",
        "comm !~ 'bash*'",
        r#"comm == "sshd: root""#,
        "comm != 'sshd'",
        "state == OPEN",
        "state != LISTEN",
        "state == 7 && state > LISTEN",
        "mode == 'READ|EXEC'",
        "failed",
        "!failed || pid == 1234",
        "failed == true && failed != 0",
        "mac == 02:00:00:00:00:09",
        "daddr == 10.1.2.3",
        "daddr == 10.0.0.0/8 && daddr != 10.2.0.0/16 && daddr == 0.0.0.0/0",
        "addr6 == fe80::1 && addr6 == fe80::/10 && addr6 == 'fe80::1'",
        "addr6 != ::1",
        "addr6 != 10.0.0.1",
        "share < 0.5 && share == 0.25",
        "p.x == 1 && p.y == 2",
        "path[1].y == -6 && path[0].x == 3",
        "ports[2] == 65535",
        "(pid == 1 || pid == 1234) && !(ret == 0)",
        "pid == 1 && pid == 2 || ret",
        "!(pid == 1) && !!(pid == 1234)",
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        "pid == 1233",
        "comm == 'sshd: roo'",
        "comm == 'sshd: root '",
        "comm ~ 'ssh'",
        "!failed",
        "daddr == 10.1.2.0/32",
        "addr6 == 0.0.0.0/0",
        "pid == 1234 && (ret == 0 || ret == 1)",
        "state == BAD",
        "ret == -ENOENT && pid == 1",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let layout = layout("asked");
    let error = |text: &str| match Filter::parse(text) {
        Ok(filter) => filter.bind([&layout]).expect_err(text).to_string(),
        Err(error) => error.to_string(),
    };
    for (text, says, place) in [
        ("pidd == 1", "no field `pidd`", "pidd"),
        ("pid == 'x'", "number", "'x'"),
        ("pid == -1", "between 0 and 4294967295", "-1"),
        ("pid == 4294967296", "between", "4294967296"),
        ("comm == ssh", "quotes: \"ssh\"", "ssh"),
        ("comm < 'a'", "not for it", "<"),
        ("pid ~ '1*'", "not for it", "~"),
        ("state == OPENED", "enum without `OPENED`; it has", "OPENED"),
        ("daddr == fe80::1", "IPv4", "fe80::1"),
        ("daddr == 10.0.0.0/33", "IPv4", "10.0.0.0/33"),
        ("p == 1", "p.x, p.y", "p"),
        ("path == 1", "path[0]", "path"),
        ("path.x == 1", "path[0]", "path.x"),
        ("path[2].x == 1", "2 elements", "path[2].x"),
        ("comm", "comparison", "comm"),
        ("ret == -ENOWHERE", "wanted", "-ENOWHERE"),
        ("bytes == -ENOENT", "wanted", "-ENOENT"),
        ("pid = 1", "==", "="),
        ("pid == 1 & ret", "&&", "&"),
        ("pid == 1 ret", "&& or ||", "ret"),
        ("pid == 1 and ret", "&& or ||", "and"),
        ("pid == ", "a value is wanted", ""),
        ("(pid == 1", "not closed", "("),
        ("pid == 1)", "no parenthesis", ")"),
        ("comm == 'x", "quote", "'"),
        ("1234 == pid", "field", "1234"),
        ("", "a condition is wanted", ""),
        ("pid == 1 &&", "condition is wanted", ""),
        ("pid == 1 ; ls", "no condition", ";"),
        ("share == nan", "wanted", "nan"),
        ("failed == maybe", "true or false", "maybe"),
    ] {
        let shown = error(text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(lines[0].contains(says), "{text}: {shown}");
        let start = lines[2].chars().take_while(|c| *c == ' ').count();
        let marked: String = lines[1].chars().skip(start).take(lines[2].trim().len()).collect();
        assert_eq!(marked.trim_end(), place, "{shown}");
    }
    let deep = format!("{}pid == 1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(error(&deep).contains("too deeply"));
    assert!(error(&"!".repeat(5000)).contains("too deeply"));
    assert!(error(&"x".repeat(100_000)).contains("longer"));
    assert!(Filter::parse(&vec!["pid == 1"; 5000].join(" || ")).is_ok());
}

#[test]
fn several_types_in_one_buffer() {
    let (asked, other) = (layout("asked"), layout("other"));
    let bind = |text: &str| Filter::parse(text).unwrap().bind([&asked, &other]);
    let (long, mut short) = (record(&asked), 1234u32.to_le_bytes().to_vec());
    short.extend(b"/etc\0\0\0\0\x07\0\0\0");
    let both = |text: &str| {
        let conditions = bind(text).unwrap_or_else(|error| panic!("{error}"));
        (conditions[0].holds(&long), conditions[1].holds(&short))
    };
    assert_eq!(both("pid == 1234"), (true, true));
    assert_eq!(both("fname ~ '/*'"), (false, true));
    assert_eq!(both("!(fname ~ '/*')"), (false, false), "a negation of what is not there is not true either");
    assert_eq!(both("pid == 1234 || fname == 'x'"), (true, true));
    assert_eq!(both("pid == 1 || ret"), (true, false));
    assert_eq!(both("comm ~ 'ssh*'"), (true, false), "a number has no pattern");
    assert_eq!(both("comm == 7"), (false, true));
    let error = bind("nowhere == 1").unwrap_err();
    assert_eq!(error.unknown(), Some("nowhere"));
}

#[test]
fn an_address_of_the_other_family_is_unknown() {
    let layout = layout("both");
    let conditions = |text: &str| Filter::parse(text).unwrap().bind([&layout]).unwrap().remove(0);
    let mut v4 = [10, 0, 0, 1].to_vec();
    v4.resize(16, 0);
    v4.extend(2u32.to_le_bytes());
    assert!(conditions("saddr_v4 == 10.0.0.1").holds(&v4));
    assert!(!conditions("saddr_v6 == ::1").holds(&v4));
    assert!(!conditions("saddr_v6 != ::1").holds(&v4));
}

fn select(layout: &Layout, paths: &[&str]) -> Result<Layout, Miss> {
    let paths: Vec<Path> = paths.iter().map(|path| Path::parse(path).unwrap()).collect();
    layout.select(&paths)
}

#[test]
fn chosen_fields() {
    let layout = layout("asked");
    let record = record(&layout);
    let chosen = select(&layout, &["comm", "path[1]", "p.y", "path", "ports[1]", "state"]).unwrap();
    let mut out = Vec::new();
    chosen.json(&record, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"comm":"sshd: root","path[1]":{"x":5,"y":-6},"p.y":2,"path":[{"x":3,"y":4},{"x":5,"y":-6}],"#,
            r#""ports[1]":443,"state":"OPEN"}"#
        )
    );
    let mut row = Row::new();
    chosen.row(&record, None, &mut row).unwrap();
    assert_eq!(chosen.columns(), ["comm", "path[1].x", "path[1].y", "p.y", "path", "ports[1]", "state"]);
    assert_eq!(
        row.cells().collect::<Vec<_>>(),
        ["sshd: root", "5", "-6", "2", "[{x=3 y=4} {x=5 y=-6}]", "443", "OPEN"]
    );
    assert_eq!(chosen.need(), layout.need());
    assert!(matches!(select(&layout, &["pid", "nope"]), Err(Miss::Unknown(name)) if name == "nope"));
    assert!(matches!(select(&layout, &["ports[3]"]), Err(Miss::Beyond(_, 3))));
    assert!(matches!(select(&layout, &["comm[0]"]), Err(Miss::Unknown(_))));
}

#[test]
fn elements_keep_the_family_beside_them() {
    let both = layout("both");
    let mut v6 = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    v6.extend(10u32.to_le_bytes());
    let mut out = Vec::new();
    select(&both, &["saddr_v6", "saddr_v4"]).unwrap().json(&v6, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"saddr_v6":"2001:db8::1","saddr_v4":null}"#);
}

#[test]
fn order_of_values() {
    let layout = layout("asked");
    let record = record(&layout);
    let key = |path: &str| layout.field(&Path::parse(path).unwrap()).unwrap().sort_key(&record);
    assert_eq!(key("ret"), SortKey::Integer(-2));
    assert_eq!(key("state"), SortKey::Integer(7));
    assert_eq!(key("comm"), SortKey::Bytes((*b"sshd: root").into()));
    assert!(SortKey::Nothing < key("ret"));
    assert!(layout.field(&Path::parse("p").unwrap()).is_err());
    for bad in ["", ".", "a.", "a[", "a[x]", "a[1", "1a", "a b", "[0]", "a[99999999999999999999]", "a[+1]"] {
        assert!(Path::parse(bad).is_none(), "{bad}");
    }
}

proptest! {
    /// Any text is a condition or an error that can be shown; what is parsed can be asked of any record.
    #[test]
    fn any_text(text in r#"([a-z.\[\]0-9]{0,6}|pid|comm|daddr|state|path\[1\].x|&&|\|\||==|!~|~|<|!|\(|\)|"|'|-|\\|é| |[0-9]{1,40}){0,20}"#,
                record in proptest::collection::vec(any::<u8>(), 0..160)) {
        thread_local!(static LAYOUT: Layout = layout("asked"));
        LAYOUT.with(|layout| match Filter::parse(&text) {
            Ok(filter) => match filter.bind([layout]) {
                Ok(conditions) => { conditions[0].holds(&record); }
                Err(error) => assert_eq!(error.to_string().lines().count(), 3),
            },
            Err(error) => assert_eq!(error.to_string().lines().count(), 3),
        });
    }
}
