//! Every shape of type, in both byte orders, from BTF that a compiler wrote.
#![allow(missing_docs)]

mod common;

use ringfence_value::{Clock, Histogram, Layout, Options, Row, Short};
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
        b.put(i128::MAX, 16).put(i128::MIN, 16).put(1, 1).put(7, 1).put(0, 2);
        b.put(1.5f32.to_bits(), 4).put((-0.25f64).to_bits(), 8).put(0xffff_8880_1234_5678u64, 8);
        b.put(7, 4).put(99, 4).put(5, 4).put(0, 4).put(0x1_0000_0000u64, 8);
        let padded = layout.size();
        // After s64: the 128-bit integers are aligned to 16, as the compiler says.
        assert_eq!(b.out.len(), padded - pad(&btf));
        let bytes = b.out;
        assert_eq!(
            text(&layout, &insert(&bytes, &btf)),
            concat!(
                r#"{"u8":200,"s8":-100,"u16":60000,"s16":-30000,"u32":4000000000,"s32":-2000000000,"#,
                r#""u64":18000000000000000000,"s64":-9000000000000000000,"#,
                r#""u128":170141183460469231731687303715884105727,"s128":-170141183460469231731687303715884105728,"#,
                r#""yes":true,"odd":7,"f":1.5,"d":-0.25,"p":"0xffff888012345678","#,
                r#""state":"OPEN","unknown":99,"bits":"READ|EXEC","wide":"HUGE"}"#
            )
        );
    }
}
