//! Values of kernel configuration options, as `.kconfig` variables hold them.
//!
//! The rules are libbpf's (`bpf_object__process_kconfig_line` and the `set_kcfg_value_*` functions): what the first
//! character of the text is decides how the rest is read.

use std::collections::BTreeMap;

use ringfence_object::KconfigType;

use crate::Error;

/// Reads configuration text (`CONFIG_HZ=250`, one a line). The first of two lines for the same option counts.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<&str, &str>, Error> {
    let mut values = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        if !text.starts_with("CONFIG_") {
            continue;
        }
        let problem = |problem| Error::KconfigText { line, problem };
        let (key, value) = text.split_once('=').ok_or(problem("there is no = behind the option's name"))?;
        if value.is_empty() {
            return Err(problem("there is no value behind the ="));
        }
        values.entry(key).or_insert(value);
    }
    Ok(values)
}

/// The bytes for an option's text.
pub(crate) fn encode(text: &str, kind: KconfigType, size: u32) -> Result<Vec<u8>, String> {
    match text.bytes().next() {
        Some(letter @ (b'y' | b'n' | b'm')) => encode_letter(letter, kind, size),
        Some(b'"') => encode_text(text, kind, size),
        _ => {
            let number = parse_u64(text).ok_or_else(|| format!("its value {text} is no integer"))?;
            match kind {
                KconfigType::Int { .. } | KconfigType::Char => encode_number(number, kind, size),
                _ => Err(format!("its value {text} is an integer, and it is not declared as one")),
            }
        }
    }
}

/// The bytes for a number of the loader's own (`LINUX_KERNEL_VERSION`).
pub(crate) fn encode_number(number: u64, kind: KconfigType, size: u32) -> Result<Vec<u8>, String> {
    let signed = match kind {
        KconfigType::Int { signed } => signed,
        KconfigType::Char => false,
        KconfigType::Bool if number > 1 => return Err(format!("{number} is no value of a bool")),
        KconfigType::Bool => false,
        KconfigType::Tristate | KconfigType::CharArray => {
            return Err(format!("its value {number} asks for an integer, a char or a bool"));
        }
    };
    let bits = size.saturating_mul(8);
    let high = number.checked_shr(bits).unwrap_or(0);
    // A negative number arrives as its 64-bit complement.
    let sign_bits = number.cast_signed().checked_shr(bits.saturating_sub(1)).unwrap_or(0);
    let fits = if signed && size < 8 { sign_bits == 0 || sign_bits == -1 } else { high == 0 };
    if !fits || !matches!(size, 1 | 2 | 4 | 8) {
        return Err(format!("its value {number} does not fit in {size} bytes"));
    }
    Ok(low_bytes(number, size))
}

fn encode_letter(letter: u8, kind: KconfigType, size: u32) -> Result<Vec<u8>, String> {
    let number = match kind {
        KconfigType::Bool if letter == b'm' => {
            return Err("its value m (module) does not go into a bool; declare it as enum libbpf_tristate".into());
        }
        KconfigType::Bool => u64::from(letter == b'y'),
        // TRI_NO, TRI_YES, TRI_MODULE of bpf_helpers.h.
        KconfigType::Tristate => match letter {
            b'y' => 1,
            b'm' => 2,
            _ => 0,
        },
        KconfigType::Char => u64::from(letter),
        KconfigType::Int { .. } | KconfigType::CharArray => {
            let letter = char::from(letter);
            return Err(format!("its value {letter} asks for a bool, an enum libbpf_tristate or a char"));
        }
    };
    Ok(low_bytes(number, size))
}

fn encode_text(text: &str, kind: KconfigType, size: u32) -> Result<Vec<u8>, String> {
    if kind != KconfigType::CharArray {
        return Err(format!("its value {text} asks for an array of char"));
    }
    let bare = text.get(1..).and_then(|text| text.strip_suffix('"'));
    let bare = bare.ok_or_else(|| format!("its value {text} has no \" at the end"))?;
    // What is too long is cut, as libbpf does; the zero at the end stays.
    let mut bytes: Vec<u8> = bare.bytes().take((size as usize).saturating_sub(1)).collect();
    bytes.resize(size as usize, 0);
    Ok(bytes)
}

fn low_bytes(number: u64, size: u32) -> Vec<u8> {
    let bytes = number.to_le_bytes().into_iter().chain(std::iter::repeat(0)).take(size as usize);
    if cfg!(target_endian = "big") { bytes.collect::<Vec<_>>().into_iter().rev().collect() } else { bytes.collect() }
}

/// As strtoull(3) with base 0.
fn parse_u64(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (digits.get(2..)?, 16),
        [b'0', _, ..] => (digits, 8),
        _ => (digits, 10),
    };
    let number =
        digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())??;
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const I32: KconfigType = KconfigType::Int { signed: true };
    const U32: KconfigType = KconfigType::Int { signed: false };

    #[test]
    fn letters() {
        assert_eq!(encode("y", KconfigType::Bool, 1), Ok(vec![1]));
        assert_eq!(encode("n", KconfigType::Bool, 1), Ok(vec![0]));
        assert_eq!(encode("m", KconfigType::Tristate, 4), Ok(vec![2, 0, 0, 0]));
        assert_eq!(encode("m", KconfigType::Char, 1), Ok(vec![b'm']));
        assert!(encode("m", KconfigType::Bool, 1).unwrap_err().contains("tristate"));
        assert!(encode("y", U32, 4).is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!(encode("250", U32, 4), Ok(vec![250, 0, 0, 0]));
        assert_eq!(encode("0x10", U32, 2), Ok(vec![16, 0]));
        assert_eq!(encode("010", U32, 2), Ok(vec![8, 0]));
        assert_eq!(encode("-1", I32, 4), Ok(vec![255; 4]));
        assert_eq!(encode("-0x80", KconfigType::Int { signed: true }, 1), Ok(vec![0x80]));
        assert!(encode("128", KconfigType::Int { signed: true }, 1).is_err());
        assert!(encode("65536", U32, 2).is_err());
        assert!(encode("12x", U32, 4).is_err());
        assert!(encode("12", KconfigType::Tristate, 4).is_err());
        assert_eq!(encode("18446744073709551615", U32, 8), Ok(vec![255; 8]));
        assert!(encode("18446744073709551616", U32, 8).is_err());
    }

    #[test]
    fn text() {
        assert_eq!(encode("\"abc\"", KconfigType::CharArray, 6), Ok(b"abc\0\0\0".to_vec()));
        assert_eq!(encode("\"abcdef\"", KconfigType::CharArray, 4), Ok(b"abc\0".to_vec()));
        assert!(encode("\"abc", KconfigType::CharArray, 6).is_err());
        assert!(encode("\"", KconfigType::CharArray, 6).is_err());
        assert!(encode("\"abc\"", U32, 4).is_err());
    }

    #[test]
    fn lines() {
        let text = "# comment\nCONFIG_HZ=250\nCONFIG_HZ=100\nother\nCONFIG_NAME=\"a=b\"\n";
        let values = parse(text).unwrap();
        assert_eq!(values.get("CONFIG_HZ"), Some(&"250"));
        assert_eq!(values.get("CONFIG_NAME"), Some(&"\"a=b\""));
        assert!(matches!(parse("\nCONFIG_HZ"), Err(Error::KconfigText { line: 2, .. })));
        assert!(matches!(parse("CONFIG_HZ="), Err(Error::KconfigText { line: 1, .. })));
    }
}
