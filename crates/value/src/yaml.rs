//! YAML 1.2 of a tree: block style, strings quoted wherever a reader could take them for something else.

use std::fmt::Write as _;

use crate::{Value, text};

/// Writes the value as a document, ended by a newline.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::Record(members) if !members.is_empty() => block(value, 0, out),
        Value::List(elements) if !elements.is_empty() => block(value, 0, out),
        scalar => inline(scalar, out),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// As deep as the value, whose depth compiling its layout has bounded.
fn block(value: &Value, indent: usize, out: &mut String) {
    let lead = |out: &mut String| out.extend(std::iter::repeat_n(' ', indent));
    let inner = indent.saturating_add(2);
    match value {
        Value::Record(members) => {
            for (name, value) in members {
                lead(out);
                string(name, out);
                out.push(':');
                entry(value, inner, out);
            }
        }
        Value::List(elements) => {
            for value in elements {
                lead(out);
                out.push('-');
                entry(value, inner, out);
            }
        }
        scalar => inline(scalar, out),
    }
}

fn entry(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Record(members) if !members.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::List(elements) if !elements.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        scalar => {
            out.push(' ');
            inline(scalar, out);
            out.push('\n');
        }
    }
}

fn inline(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Float(value) if value.is_nan() => out.push_str(".nan"),
        Value::Float(value) if value.is_infinite() => out.push_str(if *value > 0.0 { ".inf" } else { "-.inf" }),
        Value::Float(value) => _ = write!(out, "{value:?}"),
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Unsigned128(_) | Value::Signed128(_) => {
            _ = write!(out, "{value}");
        }
        Value::Text(text) | Value::Enum { name: text, .. } => string(text, out),
        // Hex, colons and dots: a number or a time of day to some readers.
        Value::Pointer(_) | Value::Bytes(_) | Value::Address(_) | Value::Mac(_) => _ = write!(out, "\"{value}\""),
        Value::List(_) => out.push_str("[]"),
        Value::Record(_) => out.push_str("{}"),
    }
}

/// Plain where nobody can mistake it: a word that is no keyword of YAML 1.1 or 1.2 and no number.
fn string(text: &str, out: &mut String) {
    const KEYWORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-'));
    if word && !KEYWORDS.iter().any(|keyword| text.eq_ignore_ascii_case(keyword)) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Also the line separators that YAML would fold, and what it does not print.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                text::push_fmt(out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mistaken() {
        let shown = |text: &str| {
            let mut out = String::new();
            string(text, &mut out);
            out
        };
        assert_eq!(shown("bash"), "bash");
        assert_eq!(shown("/usr/bin/ls"), "/usr/bin/ls");
        for quoted in ["", "no", "Off", "NULL", "12", "0x10", "1e3", ".5", "-1", "a: b", "a #b", " a", "[x]", "y", "~"]
        {
            assert_eq!(shown(quoted), format!("\"{quoted}\""));
        }
        assert_eq!(shown("a\"\\\n\u{1}\u{2028}"), "\"a\\\"\\\\\\n\\u0001\\u2028\"");
    }

    #[test]
    fn nested() {
        let value = Value::Record(vec![
            ("pid".into(), Value::Unsigned(1)),
            ("list".into(), Value::List(vec![Value::Signed(-1), Value::Record(vec![("a".into(), Value::Null)])])),
            ("none".into(), Value::List(vec![])),
            ("y".into(), Value::Mac([0, 1, 2, 3, 4, 0xff])),
        ]);
        let mut out = String::new();
        write(&value, &mut out);
        assert_eq!(out, "pid: 1\nlist:\n  - -1\n  -\n    a: null\nnone: []\n\"y\": \"00:01:02:03:04:ff\"\n");
    }
}
