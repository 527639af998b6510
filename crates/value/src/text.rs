//! Text of values: escapes, addresses, hex.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

/// Bytes up to the first NUL.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    memchr::memchr(0, bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

/// Without the NULs at the end.
pub(crate) fn used(bytes: &[u8]) -> &[u8] {
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last.saturating_add(1));
    bytes.get(..used).unwrap_or_default()
}

/// The strings of `bytes`, each ended by NUL, without empty ones at the end.
pub(crate) fn strings(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    used(bytes).split(|b| *b == 0)
}

/// The same, joined by blanks.
pub(crate) fn joined(bytes: &[u8]) -> impl Iterator<Item = u8> {
    used(bytes).iter().map(|b| if *b == 0 { b' ' } else { *b })
}

/// Text as a person may see it: no byte of it moves the cursor or hides what follows. What is no UTF-8, and
/// control characters, appear as `\xNN`, `\n`, `\t`, `\u{NN}`.
pub(crate) fn push_visible(bytes: &[u8], out: &mut String) {
    if bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
        out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Bidirectional controls reorder what a terminal shows (CVE-2021-42574).
            let hides = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || hides {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Something that takes text piece by piece, so that JSON and tables share the writers below.
pub(crate) trait Put {
    fn put(&mut self, text: &str);
}

impl Put for String {
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

pub(crate) fn push_integer(out: &mut impl Put, value: impl itoa::Integer) {
    out.put(itoa::Buffer::new().format(value));
}

pub(crate) fn push_ipv4(out: &mut impl Put, address: [u8; 4]) {
    for (n, byte) in address.into_iter().enumerate() {
        if n > 0 {
            out.put(".");
        }
        push_integer(out, byte);
    }
}

pub(crate) fn push_ipv6(out: &mut impl Put, address: [u8; 16]) {
    push_fmt(out, format_args!("{}", Ipv6Addr::from(address)));
}

const HEX: &str = "0123456789abcdef";

pub(crate) fn push_byte(out: &mut impl Put, byte: u8) {
    let digit = |value: u8| {
        let at = usize::from(value);
        HEX.get(at..at.saturating_add(1)).unwrap_or_default()
    };
    out.put(digit(byte >> 4));
    out.put(digit(byte & 0xf));
}

pub(crate) fn push_mac(out: &mut impl Put, address: [u8; 6]) {
    for (n, byte) in address.into_iter().enumerate() {
        if n > 0 {
            out.put(":");
        }
        push_byte(out, byte);
    }
}

/// `0x` and two digits a byte, in the order of memory.
pub(crate) fn push_bytes(out: &mut impl Put, bytes: &[u8]) {
    out.put("0x");
    for byte in bytes {
        push_byte(out, *byte);
    }
}

pub(crate) fn push_pointer(out: &mut impl Put, value: u64) {
    push_fmt(out, format_args!("{value:#x}"));
}

/// Formats without an allocation of its own.
pub(crate) fn push_fmt(out: &mut impl Put, text: std::fmt::Arguments<'_>) {
    struct Through<'a, P>(&'a mut P);
    impl<P: Put> std::fmt::Write for Through<'_, P> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.put(text);
            Ok(())
        }
    }
    _ = Through(out).write_fmt(text);
}

/// All bytes on one line: `68 65 6c 6c 6f`.
pub fn hex_line(bytes: &[u8], out: &mut String) {
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        push_byte(out, *byte);
    }
}

/// 16 bytes a line, with the offset before and the printable characters behind them, as `hexdump -C` shows them.
pub fn hex_dump(bytes: &[u8], out: &mut String) {
    for (row, line) in bytes.chunks(16).enumerate() {
        _ = write!(out, "{:08x} ", row.saturating_mul(16));
        for n in 0..16 {
            out.push_str(if n == 8 { "  " } else { " " });
            match line.get(n) {
                Some(byte) => push_byte(out, *byte),
                None => out.push_str("  "),
            }
        }
        out.push_str("  |");
        out.extend(line.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }));
        out.push_str("|\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(bytes: &[u8]) -> String {
        let mut out = String::new();
        push_visible(bytes, &mut out);
        out
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(visible(b"plain"), "plain");
        assert_eq!(visible("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(visible(b"a\x1b[31m\xff\n"), "a\\u{1b}[31m\\xff\\n");
        assert_eq!(visible("a\u{202e}b\u{9b}c".as_bytes()), "a\\u{202e}b\\u{9b}c");
    }

    #[test]
    fn dump_of_a_line_and_a_bit() {
        let mut out = String::new();
        hex_dump(b"0123456789abcdef\x00z", &mut out);
        assert_eq!(
            out,
            "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n\
             00000010  00 7a                                             |.z|\n"
        );
    }

    #[test]
    fn strings_behind_each_other() {
        assert_eq!(strings(b"ls\0-l\0\0\0").collect::<Vec<_>>(), [&b"ls"[..], b"-l"]);
        assert_eq!(strings(b"").collect::<Vec<_>>(), [b""]);
        assert_eq!(strings(b"a\0\0b").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
    }
}
