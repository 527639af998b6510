//! The format strings that programs hand to `bpf_printk`, and which of them a text can come from.

use ringfence_plan::{FixupWith, Plan, ProgramPlan};
use ringfence_uapi::{Helper, Insn};

use super::Writer;

/// The format strings of an object's programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Formats {
    /// Program, its strings.
    programs: Vec<(String, Vec<String>)>,
    /// Programs whose strings could not be found (built on the stack, or handed in).
    unknown: Vec<String>,
}

impl Formats {
    /// Finds the format strings that the plan's programs hand to `bpf_trace_printk` and `bpf_trace_vprintk`.
    pub(super) fn of(plan: &Plan) -> Formats {
        let mut formats = Formats::default();
        for program in &plan.programs {
            let (strings, complete) = strings_of(plan, program);
            if !complete {
                formats.unknown.push(program.name.clone());
            }
            if !strings.is_empty() {
                formats.programs.push((program.name.clone(), strings));
            }
        }
        formats
    }

    /// No program of the plan writes to the trace pipe.
    pub(super) fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.unknown.is_empty()
    }

    /// All strings of this program are known, and the text comes from none of them.
    pub(super) fn excludes(&self, program: &str, text: &str) -> bool {
        let strings = self.programs.iter().find(|(name, _)| name == program).map(|(_, strings)| strings);
        let known = !self.unknown.iter().any(|name| name == program);
        known && strings.is_some_and(|strings| !strings.iter().any(|format| fits(format, text).is_some()))
    }

    /// Whose line it is that holds this text.
    pub(super) fn writer(&self, text: &str) -> Writer<'_> {
        // The string that says most about the text wins: `%s` alone fits everything.
        let mut best = 0;
        let mut writers: Vec<&str> = Vec::new();
        for (program, strings) in &self.programs {
            let fit = strings.iter().filter_map(|format| fits(format, text)).max();
            let Some(literal) = fit.map(|literal| literal + 1) else { continue };
            if literal > best {
                best = literal;
                writers.clear();
            }
            if literal == best {
                writers.push(program);
            }
        }
        match writers[..] {
            [one] => Writer::Program(one),
            [] if self.unknown.is_empty() => Writer::Other,
            [] => Writer::OneOf(self.unknown.iter().map(String::as_str).collect()),
            _ => Writer::OneOf(writers),
        }
    }
}

/// Strings that a program loads into the first argument before a call of a printk helper, and whether all were found.
fn strings_of(plan: &Plan, program: &ProgramPlan) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let mut complete = true;
    for (at, insn) in program.insns.iter().enumerate() {
        let helper = u32::try_from(insn.imm).map(Helper);
        if !insn.is_helper_call() || !matches!(helper, Ok(Helper::TRACE_PRINTK | Helper::TRACE_VPRINTK)) {
            continue;
        }
        match string_before(plan, program, at) {
            Some(string) if found.contains(&string) => {}
            Some(string) => found.push(string),
            None => complete = false,
        }
    }
    (found, complete)
}

/// The string whose address is in r1 at a call: looked for backwards through the straight line before it.
fn string_before(plan: &Plan, program: &ProgramPlan, call: usize) -> Option<String> {
    let mut register = 1;
    for at in (0..call).rev() {
        let insn = program.insns.get(at)?;
        let writes = match insn.class() {
            Insn::ALU | Insn::ALU64 | Insn::LDX => insn.dst == register,
            Insn::LD => insn.is_ld_imm64() && insn.dst == register,
            Insn::JMP | Insn::JMP32 => {
                if insn.code == Insn::EXIT || insn.code == Insn::JA || insn.code == Insn::CALL && register < 6 {
                    return None;
                }
                false
            }
            _ => false,
        };
        if !writes {
            continue;
        }
        const MOV64_X: u8 = 0xbf;
        if insn.code == MOV64_X && insn.off == 0 {
            register = insn.src;
        } else if insn.is_ld_imm64() && insn.src == Insn::PSEUDO_MAP_VALUE {
            let map = program.fixups.iter().find_map(|fixup| match fixup.with {
                FixupWith::Map(map) if fixup.insn == at => plan.maps.get(map.0),
                _ => None,
            })?;
            let offset = usize::try_from(program.insns.get(at + 1)?.imm).ok()?;
            let rest = map.contents.as_ref()?.get(offset..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            return String::from_utf8(rest[..end].to_vec()).ok();
        } else {
            return None;
        }
    }
    None
}

/// Whether a text can come from a format; if so, how many of its bytes the format spells out.
fn fits(format: &str, text: &str) -> Option<usize> {
    // bpf_printk adds the line's end where the format has none; the pipe's line has none.
    let parts = literals(format.trim_end_matches('\n'));
    let (first, rest) = parts.split_first()?;
    let mut left = text.strip_prefix(first.as_str())?;
    let Some((last, middle)) = rest.split_last() else { return left.is_empty().then_some(first.len()) };
    for part in middle {
        let at = left.find(part.as_str())?;
        left = left.get(at + part.len()..)?;
    }
    // A helper's text is cut at its buffer's end (BPF_TRACE_PRINTK_SIZE, 1024): such a line keeps its start only.
    left.ends_with(last.as_str()).then(|| parts.iter().map(String::len).sum())
}

/// What stands between the conversions of a format (`bpf_bprintf_prepare` of `kernel/bpf/helpers.c`).
fn literals(format: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '%' && chars.peek() == Some(&'%') {
            chars.next();
        } else if c == '%' {
            while chars.next_if(|c| matches!(c, '0'..='9' | '-' | '+' | ' ' | '#' | '.' | 'l' | 'h' | 'z')).is_some() {}
            // %p has suffixes of its own: %px, %pK, %pks, %pus, %pB, %pi4, %pI6.
            if chars.next() == Some('p') {
                let suffix = match chars.peek() {
                    Some('i' | 'I' | 'k' | 'u') => 2,
                    Some('x' | 'K' | 'B' | 's' | 'S') => 1,
                    _ => 0,
                };
                for _ in 0..suffix {
                    chars.next();
                }
            }
            parts.push(String::new());
            continue;
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_fit_their_own_text_only() {
        assert_eq!(fits("hello %d\n", "hello 12"), Some(6));
        assert_eq!(fits("%s opened %s", "cat opened /etc/passwd"), Some(8));
        assert_eq!(fits("100%% of %llu", "100% of 7"), Some(8));
        assert_eq!(fits("%pI4:%d", "10.0.0.1:80"), Some(1));
        assert_eq!(fits("at %pks", "at text"), Some(3));
        assert_eq!(fits("hello %d", "hullo 12"), None);
        assert_eq!(fits("%d done", "12 do"), None);
        assert_eq!(fits("done", "done"), Some(4));
        assert_eq!(fits("done", "done 1"), None);
    }

    #[test]
    fn the_string_that_says_most_wins() {
        let of = |strings: &[(&str, &str)]| Formats {
            programs: strings.iter().map(|(p, s)| ((*p).to_owned(), vec![(*s).to_owned()])).collect(),
            unknown: Vec::new(),
        };
        let formats = of(&[("any", "%s"), ("open", "open %s"), ("close", "close %d")]);
        assert_eq!(formats.writer("open x"), Writer::Program("open"));
        assert_eq!(formats.writer("close 3"), Writer::Program("close"));
        assert_eq!(formats.writer("what"), Writer::Program("any"));
        assert_eq!(of(&[("open", "open %s")]).writer("x"), Writer::Other);
        assert_eq!(of(&[("a", "x %d"), ("b", "x %d")]).writer("x 1"), Writer::OneOf(vec!["a", "b"]));
    }
}
