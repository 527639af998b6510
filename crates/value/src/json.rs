//! JSON, written straight into the caller's buffer.

use crate::layout::{Scalar, Sink, Step};
use crate::text::{self, Put};

pub(crate) struct Writer<'a> {
    pub(crate) out: &'a mut Vec<u8>,
}

impl Sink for Writer<'_> {
    #[inline]
    fn leaf(&mut self, step: &Step, value: Scalar<'_>) {
        self.out.put(&step.key);
        scalar(self.out, value);
    }

    fn open_record(&mut self, step: &Step) {
        self.out.put(&step.key);
        self.out.put("{");
    }

    fn close_record(&mut self) {
        self.out.put("}");
    }

    fn open_list(&mut self, step: &Step, _: usize) {
        self.out.put(&step.key);
        self.out.put("[");
    }

    fn element(&mut self, index: usize) {
        if index > 0 {
            self.out.put(",");
        }
    }

    fn close_list(&mut self) {
        self.out.put("]");
    }
}

#[inline]
fn scalar(out: &mut Vec<u8>, value: Scalar<'_>) {
    match value {
        Scalar::Null => out.put("null"),
        Scalar::Bool(value) => out.put(if value { "true" } else { "false" }),
        Scalar::Unsigned(value) | Scalar::Time { value, .. } => text::push_integer(out, value),
        Scalar::Signed(value) | Scalar::Return(value) | Scalar::Coded(_, value) => text::push_integer(out, value),
        Scalar::Unsigned128(value) => text::push_integer(out, value),
        Scalar::Signed128(value) => text::push_integer(out, value),
        // JSON has no infinity and no NaN.
        Scalar::Float(value) if !value.is_finite() => out.put("null"),
        Scalar::Float32(value) if !value.is_finite() => out.put("null"),
        Scalar::Float(value) => text::push_fmt(out, format_args!("{value:?}")),
        Scalar::Float32(value) => text::push_fmt(out, format_args!("{value:?}")),
        Scalar::Enum(names, value) => match names.of(value) {
            Some(name) => quoted(out, |out| escape(name.as_bytes(), out)),
            None => quoted(out, |out| {
                for (n, name) in names.flags_of(value).into_iter().flatten().enumerate() {
                    out.put(if n > 0 { "|" } else { "" });
                    escape(name.as_bytes(), out);
                }
            }),
        },
        Scalar::Text(bytes) => quoted(out, |out| escape(text::until_nul(bytes), out)),
        Scalar::Joined(bytes) => quoted(out, |out| {
            for (n, part) in text::strings(bytes).enumerate() {
                out.put(if n > 0 { " " } else { "" });
                escape(part, out);
            }
        }),
        Scalar::Pointer(value) => quoted(out, |out| text::push_pointer(out, value)),
        Scalar::Bytes(bytes) => quoted(out, |out| text::push_bytes(out, bytes)),
        Scalar::Ipv4(address) => quoted(out, |out| text::push_ipv4(out, address)),
        Scalar::Ipv6(address) => quoted(out, |out| text::push_ipv6(out, address)),
        Scalar::Mac(address) => quoted(out, |out| text::push_mac(out, address)),
    }
}

fn quoted(out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    out.put("\"");
    inside(out);
    out.put("\"");
}

/// The inside of a JSON string. What is no UTF-8 becomes the visible text `\xNN`.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|b| matches!(b, 0x20..=0x7e) && *b != b'"' && *b != b'\\') {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.put("\\\""),
                '\\' => out.put("\\\\"),
                '\n' => out.put("\\n"),
                '\r' => out.put("\\r"),
                '\t' => out.put("\\t"),
                // DEL and the C1 controls are legal in JSON, but a terminal that shows the line would obey them.
                c if c.is_control() => text::push_fmt(out, format_args!("\\u{:04x}", u32::from(c))),
                c => out.put(c.encode_utf8(&mut [0; 4])),
            }
        }
        for byte in chunk.invalid() {
            text::push_fmt(out, format_args!("\\\\x{byte:02x}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_read_back() {
        for text in ["plain", "q\"b\\s/n\nr\rt\t", "\u{1}\u{7f}\u{9b}", "gr\u{fc}n \u{1f980}", ""] {
            let mut out = b"\"".to_vec();
            escape(text.as_bytes(), &mut out);
            out.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn other_bytes_stay_visible() {
        let mut out = Vec::new();
        escape(b"a\xff\xc3", &mut out);
        assert_eq!(out, b"a\\\\xff\\\\xc3");
    }
}
