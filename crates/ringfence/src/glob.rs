//! Patterns of names: `*` stands for any text, `?` for one character.

/// `pattern` names one thing only.
pub(crate) fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?'])
}

/// In time of the two lengths multiplied, whatever the pattern: after a mismatch only the last `*` takes one more character.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The longest piece of a pattern without wildcards: what near names are looked for by.
pub(crate) fn core(pattern: &str) -> &str {
    pattern.split(['*', '?']).max_by_key(|part| part.len()).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, yes) in [
            ("tcp_*", "tcp_connect", true),
            ("tcp_*", "tcp_", true),
            ("tcp_*", "udp_x", false),
            ("*_connect", "tcp_v4_connect", true),
            ("*_connect", "tcp_v4_connect2", false),
            ("t?p", "tcp", true),
            ("t?p", "tp", false),
            ("*a*b*c", "xxaxxbxxbc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("", "", true),
            ("*", "", true),
            ("**", "x", true),
            ("abc", "ab", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
        let (stars, long) = ("*a".repeat(50) + "b", "a".repeat(5000));
        assert!(!matches(&stars, &long));
        assert!(is_plain("tcp_connect") && !is_plain("tcp_*"));
        assert_eq!(core("*_conn*x"), "_conn");
    }
}
