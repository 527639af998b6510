//! Patterns of text: `*` is any text, `?` one byte, `\` takes the meaning away from what follows.

/// A pattern, ready to be tried.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    parts: Box<[Part]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Byte(u8),
    One,
    Any,
}

impl Glob {
    pub(super) fn new(pattern: &[u8]) -> Glob {
        let mut parts = Vec::with_capacity(pattern.len());
        let mut bytes = pattern.iter().copied();
        while let Some(byte) = bytes.next() {
            parts.push(match byte {
                b'*' => Part::Any,
                b'?' => Part::One,
                b'\\' => Part::Byte(bytes.next().unwrap_or(b'\\')),
                byte => Part::Byte(byte),
            });
        }
        Glob { parts: parts.into() }
    }

    /// `joined`: the text is several strings, each NUL between them is a blank. In time of the two lengths multiplied,
    /// whatever the pattern: after a mismatch only the last `*` takes one more byte.
    pub(super) fn matches(&self, text: &[u8], joined: bool) -> bool {
        let (mut part, mut at) = (0usize, 0usize);
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(at) {
            let byte = if joined && *byte == 0 { b' ' } else { *byte };
            match self.parts.get(part) {
                Some(Part::Any) => {
                    star = Some((part, at));
                    part = part.saturating_add(1);
                    continue;
                }
                Some(Part::One) => {}
                Some(Part::Byte(wanted)) if *wanted == byte => {}
                Some(Part::Byte(_)) | None => {
                    let Some((any, taken)) = star else { return false };
                    at = taken.saturating_add(1);
                    star = Some((any, at));
                    part = any.saturating_add(1);
                    continue;
                }
            }
            part = part.saturating_add(1);
            at = at.saturating_add(1);
        }
        self.parts.get(part..).unwrap_or_default().iter().all(|part| *part == Part::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern: &str, text: &str| Glob::new(pattern.as_bytes()).matches(text.as_bytes(), true);
        for (pattern, text) in [
            ("ssh*", "sshd"),
            ("*", ""),
            ("a?c", "abc"),
            ("*b*d", "abcdbd"),
            (r"\*", "*"),
            ("ls *", "ls\0-l"),
            ("\\", "\\"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("ssh", "sshd"), ("a?c", "ac"), ("", "a"), (r"\*", "a"), ("*a", "ab"), ("?", "")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_more_time() {
        assert!(!Glob::new("*a".repeat(200).as_bytes()).matches("a".repeat(199).as_bytes(), false));
    }
}
