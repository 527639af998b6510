//! The `format` file of a tracepoint: its fields, and what its numbers are called.

use std::fs;
use std::path::Path;

/// A field, as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Without `const` and `volatile`, as `unsigned long`, `char`, `struct in6_addr *`.
    pub(super) ty: String,
    pub(super) is_const: bool,
    /// Elements, if it is an array.
    pub(super) len: Option<u32>,
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) signed: bool,
    pub(super) place: Where,
    /// What its values are called.
    pub(super) names: Vec<(i64, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    Here,
    /// `__data_loc`: the field says where.
    Location,
    /// `__rel_loc`.
    Relative,
}

/// Bytes that all tracepoints begin with; programs see something else there.
const COMMON: u32 = 8;
/// Names that a field's values may have.
const MOST_NAMES: usize = 512;

/// The fields of a tracepoint, without those that all have.
pub(super) fn read(tracefs: &str, category: &str, name: &str) -> std::io::Result<Vec<Field>> {
    Ok(parse(&fs::read_to_string(Path::new(tracefs).join("events").join(category).join(name).join("format"))?))
}

fn parse(text: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = text.lines().filter_map(field).filter(|field| field.offset >= COMMON).collect();
    if let Some((_, print)) = text.split_once("print fmt:") {
        for field in &mut fields {
            field.names = names(print, &field.name);
            // sched_switch: the bit behind the last state says that the task was preempted, which is printed as a `+`.
            if field.name == "prev_state"
                && print.contains("? \"+\" :")
                && let Some(preempted) =
                    field.names.iter().map(|(state, _)| *state).max().and_then(|last| last.checked_mul(2))
            {
                field.names.push((preempted, "R+".to_owned()));
            }
        }
    }
    fields
}

/// `field:char prev_comm[16]; offset:8; size:16; signed:0;`, with tabs between.
fn field(line: &str) -> Option<Field> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let declaration = parts.next()?;
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", text)) => offset = text.parse().ok(),
            Some(("size", text)) => size = text.parse().ok(),
            Some(("signed", text)) => signed = text == "1",
            _ => {}
        }
    }
    let (declaration, place) = match declaration.split_once(' ') {
        Some(("__data_loc", rest)) => (rest, Where::Location),
        Some(("__rel_loc", rest)) => (rest, Where::Relative),
        _ => (declaration, Where::Here),
    };
    let at = declaration.rfind([' ', '*'])?;
    let (ty, name) = declaration.split_at(at + 1);
    let (name, len) = match name.split_once('[') {
        Some((name, len)) => (name, Some(len.trim_end_matches(']'))),
        None => (name, None),
    };
    let is_const = ty.split(' ').any(|word| word == "const");
    let ty: Vec<&str> =
        ty.split_ascii_whitespace().filter(|word| !["const", "volatile", "__user"].contains(word)).collect();
    let ty = ty.join(" ");
    // `char[] name`, of those whose place is said elsewhere.
    let (ty, dynamic) = match ty.strip_suffix("[]") {
        Some(ty) => (ty.trim_end().to_owned(), true),
        None => (ty, false),
    };
    let size = size?;
    // The kernel writes lengths as they are in the source: a name, where it was one.
    let len = len.map(|len| len.parse().unwrap_or(size)).or(dynamic.then_some(0));
    Some(Field { name: name.to_owned(), ty, is_const, len, offset: offset?, size, signed, place, names: Vec::new() })
}

/// `__print_symbolic(REC->action, { 0, "softirq" }, { 1, "timer" })` and `__print_flags(REC->flags, "|", { 0x1, "S" })`.
fn names(print: &str, field: &str) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for call in ["__print_symbolic(", "__print_flags("] {
        for (at, _) in print.match_indices(call) {
            let Some(rest) = print.get(at + call.len()..) else { continue };
            let Some((what, pairs)) = rest.split_once(',') else { continue };
            // `REC->prev_state & MASK`: what the mask leaves out has no name.
            let rest =
                what.trim().trim_start_matches('(').strip_prefix("REC->").and_then(|what| what.strip_prefix(field));
            if !rest.is_some_and(|rest| rest.trim_end_matches(')').trim().is_empty() || rest.trim().starts_with('&')) {
                continue;
            }
            let mut pairs = pairs;
            while let Some((before, rest)) = pairs.split_once('{') {
                if found.len() >= MOST_NAMES || ends(before) {
                    break;
                }
                let Some((pair, rest)) = rest.split_once('}') else { break };
                if let Some((value, name)) = pair.split_once(',')
                    && let (Some(value), Some(name)) = (number(value.trim()), name.trim().strip_prefix('"'))
                {
                    found.push((value, name.trim_end_matches('"').to_owned()));
                }
                pairs = rest;
            }
            // `REC->x ? __print_flags(REC->x, ...) : "R"`
            let zero = pairs.split_once(')').and_then(|(_, rest)| rest.trim_start().strip_prefix(": \""));
            if let Some((name, _)) = zero.and_then(|rest| rest.split_once('"'))
                && !name.is_empty()
                && !found.is_empty()
                && found.iter().all(|(value, _)| *value != 0)
            {
                found.push((0, name.to_owned()));
            }
            if !found.is_empty() {
                return found;
            }
        }
    }
    found
}

/// Whether the call's closing bracket is in here, outside of quotes.
fn ends(text: &str) -> bool {
    let outside = text.split('"').step_by(2);
    outside.into_iter().any(|part| part.contains(')'))
}

/// `0x10`, `-1`, `1UL`, `(1 << 3)`; other expressions are unknown.
fn number(text: &str) -> Option<i64> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')').trim();
    if let Some((left, right)) = text.split_once("<<") {
        return number(left)?.checked_shl(u32::try_from(number(right)?).ok()?);
    }
    let text = text.trim_end_matches(['U', 'L', 'u', 'l']);
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = r#"name: sched_switch
ID: 316
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:char prev_comm[16];	offset:8;	size:16;	signed:0;
	field:pid_t prev_pid;	offset:24;	size:4;	signed:1;
	field:const char * filename;	offset:32;	size:8;	signed:0;
	field:__data_loc char[] name;	offset:40;	size:4;	signed:0;
	field:unsigned long args[6];	offset:48;	size:48;	signed:0;

print fmt: "%s %s", REC->prev_comm, __print_symbolic(REC->prev_pid, { 0x1, "one, and" }, { (1 << 3), "eight" }), REC->x ? { 7, "no" } : 0
"#;

    #[test]
    fn fields() {
        let all = parse(SWITCH);
        let plain: Vec<_> = all.iter().map(|field| (&*field.name, &*field.ty, field.len, field.place)).collect();
        let here = Where::Here;
        let wanted = [
            ("prev_comm", "char", Some(16), here),
            ("prev_pid", "pid_t", None, here),
            ("filename", "char *", None, here),
            ("name", "char", Some(0), Where::Location),
            ("args", "unsigned long", Some(6), here),
        ];
        assert_eq!(plain, wanted);
        assert_eq!(all[1].names, [(1, "one, and".to_owned()), (8, "eight".to_owned())]);
        let state = r#"REC->s & (((0x1 | 0x2) + 1) - 1)) ? __print_flags(REC->s & (((0x1 | 0x2) + 1) - 1), "|", { 0x1, "S" }, { 0x2, "D" }) : "R", 1"#;
        assert_eq!(names(state, "s"), [(1, "S".to_owned()), (2, "D".to_owned()), (0, "R".to_owned())]);
        assert!(all[2].is_const && !all[0].is_const);
    }
}
