//! Every shape of type, in both byte orders, from BTF that a compiler wrote.
#![allow(missing_docs)]

mod common;

use ringfence_btf::{Array, Builder, Int, Kind, Member, New};
use ringfence_value::{Clock, Error, Histogram, Layout, Options, Row, Short};
use serde_json::{Value as Json, json};

fn layout(name: &str) -> Layout {
    let btf = common::btf("bpfel");
    Layout::compile(&btf, common::named(&btf, name)).unwrap()
}

fn text(layout: &Layout, bytes: &[u8]) -> String {
    let mut out = Vec::new();
    layout.json(bytes, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json(layout: &Layout, bytes: &[u8]) -> Json {
    serde_json::from_str(&text(layout, bytes)).unwrap()
}

fn row(layout: &Layout, bytes: &[u8], clock: Option<&Clock>) -> Vec<(String, String)> {
    let mut row = Row::new();
    layout.row(bytes, clock, &mut row).unwrap();
    let columns = layout.columns();
    assert_eq!(columns.len(), row.len());
    columns.into_iter().zip(row.cells().map(str::to_owned)).collect()
}

/// Writes numbers one behind the other, in either order.
struct Bytes {
    out: Vec<u8>,
    big: bool,
}

impl Bytes {
    fn put(&mut self, value: impl Into<i128>, len: usize) -> &mut Self {
        let value = value.into();
        if self.big {
            self.out.extend(&value.to_be_bytes()[16 - len..]);
        } else {
            self.out.extend(&value.to_le_bytes()[..len]);
        }
        self
    }
}

#[test]
fn scalars_of_all_widths() {
    for (target, big) in [("bpfel", false), ("bpfeb", true)] {
        let btf = common::btf(target);
        let layout = Layout::compile(&btf, common::named(&btf, "scalars")).unwrap();
        let mut b = Bytes { out: Vec::new(), big };
        b.put(200, 1).put(-100, 1).put(60_000, 2).put(-30_000, 2).put(4_000_000_000i64, 4).put(-2_000_000_000, 4);
        b.put(18_000_000_000_000_000_000u64, 8).put(-9_000_000_000_000_000_000i64, 8);
        b.put(i128::MAX, 16).put(i128::MIN, 16).put(1, 1).put(7, 1);
        b.put(1.5f32.to_bits(), 4).put((-0.25f64).to_bits(), 8).put(0xffff_8880_1234_5678u64, 8);
        b.put(7, 4).put(99, 4).put(5, 4).put(0x1_0000_0000u64, 8);
        assert_eq!(b.out.len(), layout.size());
        assert_eq!(
            text(&layout, &b.out),
            concat!(
                r#"{"u8":200,"s8":-100,"u16":60000,"s16":-30000,"u32":4000000000,"s32":-2000000000,"#,
                r#""u64":18000000000000000000,"s64":-9000000000000000000,"#,
                r#""u128":170141183460469231731687303715884105727,"s128":-170141183460469231731687303715884105728,"#,
                r#""yes":true,"odd":7,"f":1.5,"d":-0.25,"p":"0xffff888012345678","#,
                r#""state":"OPEN","unknown":99,"bits":"READ|EXEC","wide":"HUGE"}"#
            )
        );
        let value = layout.value(&b.out).unwrap();
        assert_eq!(value.get("u64").unwrap().as_u64(), Some(18_000_000_000_000_000_000));
        assert_eq!(value.get("state").unwrap().as_i64(), Some(7));
        assert_eq!(value.get("state").unwrap().as_str(), Some("OPEN"));
        assert_eq!(value.get("s8").unwrap().as_u64(), None);
        assert_eq!(value.get("s8").unwrap().as_i64(), Some(-100));
    }
}

/// Puts a bit-field where the psABI does: from the lowest bit up, or from the highest down.
fn put_bits(bytes: &mut [u8], big: bool, offset: usize, width: usize, value: i64) {
    for k in 0..width {
        let at = if big { offset + width - 1 - k } else { offset + k };
        let bit = if big { 7 - at % 8 } else { at % 8 };
        bytes[at / 8] |= ((value >> k & 1) as u8) << bit;
    }
}

#[test]
fn bit_fields_in_both_orders() {
    for (target, big) in [("bpfel", false), ("bpfeb", true)] {
        let btf = common::btf(target);
        let layout = Layout::compile(&btf, common::named(&btf, "fields")).unwrap();
        let mut bytes = [0; 24];
        // (offset, width) as bpftool prints them, the same in both orders.
        let places = [(0, 3), (3, 5), (8, 24), (64, 40), (104, 24), (128, 1), (129, 4), (136, 7)];
        let values = [5, -16, 0xabcdef, 0x12_3456_789a, 0xfedcba, 1, 7, -64];
        for ((offset, width), value) in places.into_iter().zip(values) {
            put_bits(&mut bytes, big, offset, width, value);
        }
        assert_eq!(
            text(&layout, &bytes),
            r#"{"a":5,"b":-16,"c":11259375,"d":78187493530,"e":16702650,"f":true,"g":"OPEN","h":-64}"#
        );
        let all = layout.value(&[0xff; 24]).unwrap();
        assert_eq!(all.get("d").unwrap().as_u64(), Some((1 << 40) - 1));
        assert_eq!(all.get("g").unwrap().as_str(), Some("BAD"), "-1 in four bits");
    }
}

fn nested_bytes() -> Vec<u8> {
    let mut b = Bytes { out: Vec::new(), big: false };
    b.put(1, 4).put(-2, 4).put(3, 4).put(1.0f32.to_bits(), 4).put(0x04030201, 4);
    b.put(10, 4).put(11, 4).put(12, 4).put(13, 4);
    (0..6).for_each(|n| _ = b.put(n, 4));
    b.out.extend(b"a\"\xff\0junk");
    b.out.extend(b"abcdxy\0z");
    b.put(9, 4);
    b.out
}

#[test]
fn nesting_is_as_c_sees_it() {
    let layout = layout("nested");
    let bytes = nested_bytes();
    assert_eq!(bytes.len(), layout.size());
    assert_eq!(
        json(&layout, &bytes),
        json!({
            "p": {"x": 1, "y": -2}, "a": 3, "b": 0x3f80_0000, "c": 1.0,
            "u": {"whole": 0x0403_0201, "part": [1, 2, 3, 4]},
            "path": [{"x": 10, "y": 11}, {"x": 12, "y": 13}],
            "grid": [[0, 1, 2], [3, 4, 5]],
            "name": "a\"\\xff", "lines": ["abcd", "xy"], "nothing": {}, "none": [], "last": 9
        })
    );
    let cells = row(&layout, &bytes, None);
    let shown: Vec<(&str, &str)> = cells.iter().map(|(name, cell)| (&**name, &**cell)).collect();
    assert_eq!(
        shown,
        [
            ("p.x", "1"),
            ("p.y", "-2"),
            ("a", "3"),
            ("b", "1065353216"),
            ("c", "1"),
            ("u.whole", "67305985"),
            ("u.part", "[1 2 3 4]"),
            ("path", "[{x=10 y=11} {x=12 y=13}]"),
            ("grid", "[[0 1 2] [3 4 5]]"),
            ("name", "a\"\\xff"),
            ("lines", "[abcd xy]"),
            ("none", "[]"),
            ("last", "9"),
        ]
    );
    let value = layout.value(&bytes).unwrap();
    assert_eq!(value.get("p.y").unwrap().as_i64(), Some(-2));
    assert_eq!(value.get("path").unwrap().as_list().unwrap()[1].get("x").unwrap().as_i64(), Some(12));
    let mut yaml = String::new();
    layout.yaml(&bytes, &mut yaml).unwrap();
    assert!(yaml.starts_with("p:\n  x: 1\n  \"y\": -2\na: 3\n"), "{yaml}");
    assert!(yaml.contains("path:\n  -\n    x: 10\n"), "{yaml}");
}

#[test]
fn short_records_are_counted_and_long_ones_too() {
    let layout = layout("nested");
    let bytes = nested_bytes();
    let mut out = b"before".to_vec();
    for have in 0..bytes.len() {
        assert_eq!(layout.json(&bytes[..have], &mut out), Err(Short { have, need: 80 }));
        assert_eq!(layout.row(&bytes[..have], None, &mut Row::new()), Err(Short { have, need: 80 }));
        assert!(layout.value(&bytes[..have]).is_err());
    }
    assert_eq!(out, b"before");
    assert_eq!(Short { have: 3, need: 80 }.to_string(), "the record has 3 bytes and its type needs 80");
    let longer = [&bytes[..], &[1, 2, 3]].concat();
    assert_eq!(text(&layout, &longer), text(&layout, &bytes));
    assert_eq!((layout.extra(longer.len()), layout.extra(bytes.len()), layout.extra(1)), (3, 0, 0));
}

#[test]
fn flexible_arrays_take_what_is_left() {
    let layout_ = layout("flexible");
    assert_eq!((layout_.size(), layout_.need()), (16, 12));
    let head = [&7u64.to_le_bytes()[..], &5u32.to_le_bytes()].concat();
    assert_eq!(text(&layout_, &head), r#"{"n":7,"len":5,"data":""}"#);
    assert_eq!(text(&layout_, &[&head[..], b"hello\0x"].concat()), r#"{"n":7,"len":5,"data":"hello"}"#);
    assert!(layout_.json(&head[..11], &mut Vec::new()).is_err());

    let layout = layout("numbers");
    let bytes: Vec<u8> = [1u32, 2, 3, 4, 5].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(text(&layout, &bytes), r#"{"n":1,"list":[{"x":2,"y":3},{"x":4,"y":5}]}"#);
    let torn = [&bytes[..], &[9, 9, 9]].concat();
    assert_eq!(text(&layout, &torn), text(&layout, &bytes), "half an element is none");
    assert_eq!(layout.extra(torn.len()), 3);
}

#[test]
fn a_record_is_cut_only_where_that_is_said() {
    let btf = common::btf("bpfel");
    let cut = |name: &str, least| {
        let options = Options { least: Some(least), ..Options::default() };
        Layout::compile_with(&btf, common::named(&btf, name), options).unwrap()
    };
    let bytes = [&6u32.to_le_bytes()[..], b"ls\0-l\0"].concat();
    assert_eq!(layout("buffer").json(&bytes, &mut Vec::new()), Err(Short { have: 10, need: 36 }));
    let open = cut("buffer", 4);
    assert_eq!(text(&open, &bytes), r#"{"size":6,"args":"ls -l"}"#);
    assert_eq!(text(&open, &[0; 36]), r#"{"size":0,"args":""}"#);
    assert_eq!(open.json(&bytes[..3], &mut Vec::new()), Err(Short { have: 3, need: 4 }));

    let bytes = nested_bytes();
    let open = cut("nested", 20);
    assert_eq!(text(&open, &bytes), text(&layout("nested"), &bytes));
    let short = json(&open, &bytes[..30]);
    assert_eq!(short["path"], json!([{"x": 10, "y": 11}]));
    assert_eq!((&short["grid"], &short["name"], &short["lines"]), (&json!([]), &json!(""), &json!([])));
    assert_eq!(short["last"], Json::Null);
}

#[test]
fn names_and_types_together_have_a_meaning() {
    let mut b = Bytes { out: Vec::new(), big: true };
    b.put(0x0a00_0001, 4).put(0x7f00_0001, 4).put(0x0102_0304, 4);
    b.out.extend(5u32.to_le_bytes());
    b.put(443, 2);
    b.out.extend([443u16.to_le_bytes(), [0, 0]].concat());
    b.put(0x0808_0808, 4).put(1, 16).put(0x0011_2233_44ff_i64, 6);
    b.out.extend(b"bash\0\0\0\0\0\0");
    b.put(0x2001_0db8_i128 << 96 | 1, 16);
    // Two bytes of padding between the two port pairs and `in`.
    let btf = common::btf("bpfel");
    let ty = common::named(&btf, "net");
    let layout = Layout::compile(&btf, ty).unwrap();
    b.out.splice(22..22, [0, 0]);
    assert_eq!(b.out.len(), layout.size());
    assert_eq!(
        json(&layout, &b.out),
        json!({
            "saddr": "10.0.0.1", "daddr": "127.0.0.1", "seq": 0x0102_0304, "addr": 5,
            "sport": 443, "dport": 443, "pad": 0, "in": "8.8.8.8", "in6": "::1",
            "h_source": "00:11:22:33:44:ff", "comm": "bash", "addr6": "2001:db8::1"
        })
    );
    let raw = Layout::compile_with(&btf, ty, Options { raw: true, ..Options::default() }).unwrap();
    let raw = json(&raw, &b.out);
    assert_eq!(raw["saddr"], json!(0x0a00_0001), "the type still says the byte order");
    assert_eq!(raw["h_source"], json!([0, 0x11, 0x22, 0x33, 0x44, 0xff]));
    assert_eq!(raw["in6"]["in6_u"]["be32"], json!([0, 0, 0, 1]));
}

#[test]
fn the_family_beside_it_decides() {
    let layout_ = layout("both");
    let both = |address: &[u8; 16], family: u32| json(&layout_, &[&address[..], &family.to_le_bytes()].concat());
    let v4 = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(both(&v4, 2), json!({"saddr_v4": "1.2.3.4", "saddr_v6": null, "af": 2}));
    assert_eq!(both(&v6, 10), json!({"saddr_v4": null, "saddr_v6": "2001:db8::1", "af": 10}));
    let neither = both(&v6, 1);
    assert_eq!(neither["saddr_v6"], json!("0x20010db8000000000000000000000001"));

    let wide = layout("wideaddr");
    let with =
        |layout: &Layout, address: &[u8; 16], family: u8| json(layout, &[&address[..], &[family], &[0; 15]].concat());
    assert_eq!(with(&wide, &v4, 2)["saddr"], json!("1.2.3.4"));
    assert_eq!(with(&wide, &v6, 10)["saddr"], json!("2001:db8::1"));
    assert!(with(&wide, &v4, 0)["saddr"].is_number(), "no family, no address");
    let version = layout("version");
    assert_eq!(with(&version, &v4, 4)["addr"], json!("1.2.3.4"));
    assert_eq!(with(&version, &v6, 6)["addr"], json!("2001:db8::1"));

    let unsure = layout("unsure");
    assert_eq!(with(&unsure, &v6, 0)["addr"], json!("2001:db8::1"));
    assert!(with(&unsure, &v4, 0)["addr"].is_number(), "could be either");
}

#[test]
fn times_and_errors_are_for_people() {
    let layout = layout("times");
    let now = 100_000_000_000u64;
    let clock = Clock { now_ns: now, offset_ns: 1_700_000_000_000_000_000 - now as i64, zone_seconds: 0 };
    let mut b = Bytes { out: Vec::new(), big: false };
    b.put(now / 1000, 8).put(3_700_000_000_000u64, 8).put(now / 1000, 8).put(-2, 4).put(0, 4).put(-5000, 8);
    assert_eq!(
        json(&layout, &b.out),
        json!({"ts_us": 100_000_000, "ts": 3_700_000_000_000u64, "delta_us": 100_000_000, "ret": -2, "retval": -5000})
    );
    let cells: Vec<String> = row(&layout, &b.out, Some(&clock)).into_iter().map(|(_, cell)| cell).collect();
    assert_eq!(cells, ["22:13:20.000000", "3700000000000", "100000000", "-2 ENOENT", "-5000"]);
    let cells: Vec<String> = row(&layout, &b.out, None).into_iter().map(|(_, cell)| cell).collect();
    assert_eq!(cells[0], "100000000", "no clock, no time");
}

#[test]
fn histograms_of_all_cpus() {
    let layout = layout("hist");
    assert!(layout.has_histogram() && !self::layout("nested").has_histogram());
    let one: Vec<u8> = (0..8u32).flat_map(u32::to_le_bytes).chain(*b"bash\0\0\0\0\0\0\0\0\0\0\0\0").collect();
    let both = [&one[..], &one[..]].concat();
    let mut sum: Option<Histogram> = None;
    for cpu in ringfence_value::per_cpu(&both, layout.size()) {
        let found = Histogram::find(&layout.value(cpu).unwrap()).remove(0);
        assert_eq!(found.beside, "comm=bash");
        match &mut sum {
            Some(sum) => sum.add(&found),
            None => sum = Some(found),
        }
    }
    assert_eq!(sum.unwrap().slots, [0, 2, 4, 6, 8, 10, 12, 14]);
}

#[test]
fn values_of_maps_need_no_struct() {
    let btf = common::btf("bpfel");
    let layout = |name: &str| {
        let id = btf.own_types().map(Result::unwrap).find(|ty| ty.name == name).unwrap().id;
        Layout::compile(&btf, id)
    };
    let key = layout("__be32").unwrap();
    assert_eq!(text(&key, &[0, 0, 1, 2]), "258");
    assert_eq!(key.columns(), [""]);
    assert_eq!(text(&layout("in6_addr").unwrap(), &[0; 16]), r#""::""#);
    assert!(matches!(layout(".bss"), Err(Error::NotData(..))), "its offsets are for the loader to fill in");
    let section = Layout::of_variables(
        &btf,
        &[("a", btf.find("nested", Kind::Struct).unwrap(), 0), ("b", btf.find("__u32", Kind::Typedef).unwrap(), 84)],
        Options::default(),
    );
    let section = section.unwrap();
    assert_eq!(section.size(), 88);
    assert_eq!(json(&section, &[0; 88])["b"], json!(0));
    assert!(section.columns().contains(&"a.p.x".to_owned()));
}

#[test]
fn many_bytes_are_one_number_in_rows() {
    let mut builder = Builder::new();
    let byte = Int { size: 1, bits: 8, offset: 0, signed: false, char: false, bool: false };
    let (element, index) =
        (builder.add("__u8", New::Int(byte)), builder.add("__u32", New::Int(Int { size: 4, bits: 32, ..byte })));
    let few = builder.add("", New::Array(Array { element, index, len: 7 }));
    let many = builder.add("", New::Array(Array { element, index, len: 8 }));
    let member = |name, ty, bit_offset| Member { name, ty, bit_offset, bit_size: 0 };
    let members = [member("few", few, 0), member("many", many, 56)];
    let ty = builder.add("event", New::Struct { size: 15, members: &members });
    let layout = Layout::compile(&builder.build().unwrap(), ty).unwrap();
    let bytes: Vec<u8> = (250..=255).chain(0..9).collect();
    let cells = row(&layout, &bytes, None);
    let shown: Vec<&str> = cells.iter().map(|(_, cell)| &**cell).collect();
    assert_eq!(shown, ["[250 251 252 253 254 255 0]", "0x0102030405060708"]);
    assert_eq!(json(&layout, &bytes)["many"], json!([1, 2, 3, 4, 5, 6, 7, 8]), "numbers for a script");
}

/// As tcpstates of libbpf-tools has it, recovered from its code.
fn states(address: bool) -> Layout {
    let mut b = Builder::new();
    let mut int = |name: &str, size: u32, signed: bool| {
        b.add(name, New::Int(Int { size, bits: size as u8 * 8, offset: 0, signed, char: false, bool: false }))
    };
    let (byte, short, word, signed) =
        (int("__u8", 1, false), int("__u16", 2, false), int("__u32", 4, false), int("int", 4, true));
    let bytes = b.add("", New::Array(Array { element: byte, index: word, len: 16 }));
    let member = |name, ty, at: u32| Member { name, ty, bit_offset: at * 8, bit_size: 0 };
    let saddr = member(if address { "saddr" } else { "data" }, bytes, 0);
    let members = [saddr, member("oldstate", signed, 16), member("newstate", signed, 20), member("family", short, 24)];
    let ty = b.add("event", New::Struct { size: 28, members: &members });
    Layout::compile(&b.build().unwrap(), ty).unwrap()
}

#[test]
fn families_and_states_have_their_names_behind_them() {
    let mut bytes = vec![127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for state in [7i32, 99] {
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    let cells = |layout: &Layout| row(layout, &bytes, None).into_iter().map(|(_, cell)| cell).collect::<Vec<_>>();
    let layout = states(true);
    assert_eq!(cells(&layout), ["127.0.0.1", "7 TCP_CLOSE", "99", "2 AF_INET"]);
    assert_eq!(json(&layout, &bytes), json!({"saddr": "127.0.0.1", "oldstate": 7, "newstate": 99, "family": 2}));
    let value = layout.value(&bytes).unwrap();
    assert_eq!(value.get("oldstate").and_then(|state| state.as_u64()), Some(7));
    for (condition, holds) in [
        ("oldstate == TCP_CLOSE && family == AF_INET", true),
        ("oldstate == 7 && newstate != TCP_LISTEN", true),
        ("family == AF_INET6", false),
        ("oldstate", true),
    ] {
        let parsed = ringfence_value::Filter::parse(condition).unwrap();
        assert_eq!(parsed.bind([&layout]).unwrap()[0].holds(&bytes), holds, "{condition}");
    }
    let parsed = ringfence_value::Filter::parse("oldstate == CLOSED").unwrap();
    let error = parsed.bind([&layout]).unwrap_err().to_string();
    assert!(error.contains("TCP_LISTEN"), "{error}");
    // Without an address beside it, a family may be one of processors.
    assert_eq!(cells(&states(false))[3], "2");
}
