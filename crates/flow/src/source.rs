//! What the lines of C around a call, which BTF.ext keeps as text, say about the type of a record.

use std::collections::BTreeMap;

use ringfence_btf::Btf;
use ringfence_object::{Function, Line};

/// Lines before and behind a call's own that can be parts of its statement.
const STATEMENT: u32 = 3;
/// Longest line, and most lines of a function, that are looked at.
const MAX_LINE: usize = 1024;
pub(crate) const MAX_LINES: usize = 20_000;

/// A type by the name that the source uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Named {
    /// `struct NAME`.
    Struct(String),
    /// `union NAME`.
    Union(String),
    /// A typedef.
    Typedef(String),
}

impl Named {
    pub(crate) fn name(&self) -> &str {
        match self {
            Named::Struct(name) | Named::Union(name) | Named::Typedef(name) => name,
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Struct(name) => write!(f, "struct {name}"),
            Named::Union(name) => write!(f, "union {name}"),
            Named::Typedef(name) => f.write_str(name),
        }
    }
}

/// The types that the statement at `line` sends, as far as the text says so. `helper` is the name of the function
/// that it calls.
pub(crate) fn types_of_call(btf: &Btf, function: &Function, line: &Line, helper: &str) -> Vec<Named> {
    let statement = statement(btf, function, line);
    let variables = match statement.find(helper) {
        Some(at) => {
            let (before, call) = statement.split_at(at);
            let call = call.split(';').next().unwrap_or(call);
            let before = before.rsplit([';', '{', '}']).next().unwrap_or(before);
            let tokens = tokens(call);
            let mut said = sizeof_types(&tokens);
            said.extend(declared_here(&self::tokens(before)));
            if !said.is_empty() {
                return said;
            }
            let mut variables = sizeof_variables(&tokens);
            variables.extend(assigned(&self::tokens(before)));
            variables.extend(data_argument(&tokens, helper));
            variables
        }
        // The call is a wrapper's, or its line was not kept: `sizeof` in the statement is what is left.
        None => {
            let tokens = tokens(&statement);
            let said = sizeof_types(&tokens);
            if !said.is_empty() {
                return said;
            }
            sizeof_variables(&tokens)
        }
    };
    let mut found: Vec<Named> = Vec::new();
    for text in texts(btf, function) {
        let tokens = tokens(text);
        for variable in &variables {
            found.extend(declared(&tokens, variable));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The variable whose bytes a call sends: `pid` of `&pid`, `comm`, `v` of `u64 *v = bpf_ringbuf_reserve(..)`.
pub(crate) fn sent_variable(btf: &Btf, function: &Function, line: &Line, helper: &str) -> Option<String> {
    let statement = statement(btf, function, line);
    let (before, call) = statement.split_at(statement.find(helper)?);
    let before = before.rsplit([';', '{', '}']).next().unwrap_or(before);
    let call = call.split(';').next().unwrap_or(call);
    data_argument(&tokens(call), helper).or_else(|| assigned(&tokens(before)))
}

/// Bytes of the number that the function declares a variable as, or a pointer to it, and whether it has a sign.
pub(crate) fn declared_number(btf: &Btf, function: &Function, variable: &str) -> Option<(u32, bool)> {
    let mut found: Option<(u32, bool)> = None;
    for text in texts(btf, function) {
        let tokens = tokens(text);
        let places = tokens.iter().enumerate().filter(|(_, token)| **token == variable);
        for (at, _) in places {
            if !matches!(tokens.get(at.saturating_add(1)), Some(&("=" | ";" | ",")) | None) {
                continue;
            }
            let mut before = tokens.get(..at)?;
            while let [rest @ .., "*"] = before {
                before = rest;
            }
            let words = before.iter().rev().take_while(|token| is_name(token)).copied();
            match number(&words.collect::<Vec<_>>()) {
                Some(number) if found.is_some_and(|found| found != number) => return None,
                Some(number) => found = Some(number),
                None => {}
            }
        }
    }
    found
}

/// The number that the words of a type, in any order, are: bytes, and whether it has a sign.
pub(crate) fn number(words: &[&str]) -> Option<(u32, bool)> {
    #[rustfmt::skip]
    const TYPEDEFS: &[(&[&str], u32, bool)] = &[
        (&["u8", "__u8", "uint8_t", "bool", "_Bool"], 1, false), (&["s8", "__s8", "int8_t"], 1, true),
        (&["u16", "__u16", "uint16_t", "__be16"], 2, false), (&["s16", "__s16", "int16_t"], 2, true),
        (&["u32", "__u32", "uint32_t", "__be32", "uid_t", "gid_t"], 4, false), (&["s32", "__s32", "int32_t", "pid_t"], 4, true),
        (&["u64", "__u64", "uint64_t", "__be64", "size_t"], 8, false), (&["s64", "__s64", "int64_t", "ssize_t"], 8, true),
    ];
    const SILENT: &[&str] = &["const", "volatile", "static", "register"];
    let words: Vec<&str> = words.iter().copied().filter(|word| !SILENT.contains(word)).collect();
    if let [word] = words.as_slice()
        && let Some((_, bytes, signed)) = TYPEDEFS.iter().find(|(names, ..)| names.contains(word))
    {
        return Some((*bytes, *signed));
    }
    let count = |wanted: &str| words.iter().filter(|word| **word == wanted).count();
    let known = ["unsigned", "signed", "long", "short", "int", "char"].map(count);
    let [unsigned, _, long, short, _, char] = known;
    (!words.is_empty() && known.iter().sum::<usize>() == words.len()).then_some(())?;
    let bytes = match (char, short, long) {
        (1, _, _) => 1,
        (_, 1, _) => 2,
        (_, _, 0) => 4,
        _ => 8,
    };
    Some((bytes, unsigned == 0))
}

/// The structs of which the function declares variables.
pub(crate) fn declared_structs(btf: &Btf, function: &Function) -> Vec<Named> {
    let mut found = Vec::new();
    for text in texts(btf, function) {
        let tokens = tokens(text);
        found.extend(tails(&tokens).filter_map(|tail| {
            let (named, rest) = type_name(tail)?;
            match (named, without_stars(rest)) {
                (named @ (Named::Struct(_) | Named::Union(_)), [name, "=" | ";" | "," | "{" | "[", ..]) => {
                    is_name(name).then_some(named)
                }
                _ => None,
            }
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// The lines of the call's statement that were kept, in the order of the source.
pub(crate) fn statement(btf: &Btf, function: &Function, line: &Line) -> String {
    let near = line.line.saturating_sub(STATEMENT)..=line.line.saturating_add(STATEMENT);
    let mut lines = BTreeMap::new();
    for other in function.lines.iter().take(MAX_LINES).filter(|l| l.file == line.file && near.contains(&l.line)) {
        if let Ok(text) = btf.string(other.text) {
            lines.insert(other.line, text.get(..MAX_LINE).unwrap_or(text));
        }
    }
    // From the line itself to where its statement ends, and back to where it starts.
    let ends = |text: &str| text.trim_end().ends_with([';', '{', '}', ':']);
    let mut parts: Vec<&str> = Vec::new();
    for (_, text) in lines.range(..line.line).rev() {
        if ends(text) {
            break;
        }
        parts.insert(0, text);
    }
    for (_, text) in lines.range(line.line..) {
        parts.push(text);
        if ends(text) {
            break;
        }
    }
    parts.join(" ")
}

/// The distinct lines of a function, those of functions that were inlined included.
fn texts<'a>(btf: &'a Btf, function: &Function) -> Vec<&'a str> {
    let mut offsets: Vec<u32> = function.lines.iter().take(MAX_LINES).map(|line| line.text).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets.into_iter().filter_map(|text| btf.string(text).ok()).filter(|text| text.len() <= MAX_LINE).collect()
}

/// Any line of the function has this text in it.
pub(crate) fn mentions(btf: &Btf, function: &Function, text: &str) -> bool {
    texts(btf, function).into_iter().any(|line| line.contains(text))
}

/// Words and single signs.
pub(crate) fn tokens(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, behind) = rest.split_at(len);
        tokens.push(token);
        rest = behind.trim_start();
    }
    tokens
}

/// `struct NAME` at the front, or a word that can be a typedef; with what is behind it.
fn type_name<'a, 'b>(tokens: &'b [&'a str]) -> Option<(Named, &'b [&'a str])> {
    #[rustfmt::skip]
    const KEYWORDS: &[&str] = &[
        "return", "else", "goto", "sizeof", "case", "if", "while", "for", "do", "switch", "enum", "struct", "union",
        "static", "const", "volatile", "extern", "inline", "__always_inline", "__noinline",
        "void", "char", "short", "int", "long", "float", "double", "unsigned", "signed", "bool", "_Bool",
    ];
    match tokens {
        ["struct", name, rest @ ..] if is_name(name) => Some((Named::Struct((*name).to_owned()), rest)),
        ["union", name, rest @ ..] if is_name(name) => Some((Named::Union((*name).to_owned()), rest)),
        [name, rest @ ..] if is_name(name) && !KEYWORDS.contains(name) => {
            Some((Named::Typedef((*name).to_owned()), rest))
        }
        _ => None,
    }
}

pub(crate) fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn without_stars<'a, 'b>(mut tokens: &'b [&'a str]) -> &'b [&'a str] {
    while let ["*" | "const" | "volatile" | "__restrict" | "__kptr", rest @ ..] = tokens {
        tokens = rest;
    }
    tokens
}

/// Every place in `tokens` behind which the rest is looked at.
fn tails<'a, 'b>(tokens: &'b [&'a str]) -> impl Iterator<Item = &'b [&'a str]> {
    (0..tokens.len()).filter_map(|at| tokens.get(at..))
}

/// `sizeof(struct NAME)`.
fn sizeof_types(tokens: &[&str]) -> Vec<Named> {
    let found = tails(tokens).filter_map(|tail| match tail {
        ["sizeof", "(", inner @ ..] => match type_name(inner)? {
            (named @ (Named::Struct(_) | Named::Union(_)), [")", ..]) => Some(named),
            _ => None,
        },
        _ => None,
    });
    found.collect()
}

/// `sizeof(VAR)`, `sizeof(*VAR)`. A typedef looks the same; it is found where nothing declares it.
fn sizeof_variables(tokens: &[&str]) -> Vec<String> {
    let found = tails(tokens).filter_map(|tail| match tail {
        ["sizeof", "(", "*", name, ")", ..] | ["sizeof", "(", name, ")", ..] | ["sizeof", "*", name, ..] => {
            is_name(name).then(|| (*name).to_owned())
        }
        _ => None,
    });
    found.collect()
}

/// `struct NAME *VAR =` at the end.
fn declared_here(tokens: &[&str]) -> Vec<Named> {
    let found = tails(tokens).filter_map(|tail| {
        let (named, rest) = type_name(tail)?;
        match (named, without_stars(rest)) {
            (named @ (Named::Struct(_) | Named::Union(_)), [variable, "="]) if is_name(variable) => Some(named),
            _ => None,
        }
    });
    found.collect()
}

/// `VAR =` at the end.
fn assigned(tokens: &[&str]) -> Option<String> {
    match tokens {
        [.., variable, "="] if is_name(variable) => Some((*variable).to_owned()),
        _ => None,
    }
}

/// The variable that is sent: `&VAR` or `VAR`, by its place among the arguments of the helper.
fn data_argument(tokens: &[&str], helper: &str) -> Option<String> {
    let place = match helper {
        "bpf_ringbuf_output" => 1,
        "bpf_perf_event_output" | "bpf_skb_output" | "bpf_xdp_output" => 3,
        _ => return None,
    };
    let [_, "(", arguments @ ..] = tokens else { return None };
    let mut depth = 0usize;
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    for token in arguments {
        match *token {
            "(" => depth = depth.saturating_add(1),
            ")" if depth == 0 => break,
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                all.push(Vec::new());
                continue;
            }
            _ => {}
        }
        if let Some(argument) = all.last_mut() {
            argument.push(token);
        }
    }
    match all.get(place)?.as_slice() {
        [name] | ["&", name] if is_name(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// The type with which the line declares a variable of this name: `struct NAME *VAR`, `NAME VAR =`.
fn declared(tokens: &[&str], variable: &str) -> Vec<Named> {
    let found = tails(tokens).filter_map(|tail| {
        let (named, rest) = type_name(tail)?;
        match without_stars(rest) {
            [name, "=" | ";" | "," | ")" | "[" | "{", ..] | [name] if *name == variable => {
                // `a * b` and `x b` of prose declare nothing: a typedef counts where a declaration can start.
                let starts = std::ptr::eq(tail, tokens) || !matches!(named, Named::Typedef(_));
                starts.then_some(named)
            }
            _ => None,
        }
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declares(line: &str, variable: &str) -> Vec<String> {
        declared(&tokens(line), variable).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn declarations() {
        assert_eq!(declares("\tstruct event event = {};", "event"), ["struct event"]);
        assert_eq!(declares("\tstruct event *e;", "e"), ["struct event"]);
        assert_eq!(declares("\tconst struct event *e = x, *f;", "e"), ["struct event"]);
        assert_eq!(declares("static int send(void *ctx, struct data_t *d)", "d"), ["struct data_t"]);
        assert_eq!(declares("\tdata_t d = {};", "d"), ["data_t"]);
        assert_eq!(declares("\treturn d;", "d"), Vec::<String>::new());
        assert_eq!(declares("\ta = event * e;", "e"), Vec::<String>::new());
        assert_eq!(declares("\tstruct event_t events[2];", "events"), ["struct event_t"]);
        assert_eq!(declares("\tstruct event event = {};", "even"), Vec::<String>::new());
    }

    #[test]
    fn calls() {
        let call = tokens("bpf_perf_event_output(ctx, &events, f(1, 2), &event, sizeof(event))");
        assert_eq!(data_argument(&call, "bpf_perf_event_output").as_deref(), Some("event"));
        assert_eq!(sizeof_variables(&call), ["event"]);
        assert_eq!(data_argument(&call, "bpf_ringbuf_reserve"), None);
        assert_eq!(sizeof_types(&tokens("reserve(&rb, sizeof(struct ev), 0)")), [Named::Struct("ev".into())]);
        assert_eq!(sizeof_variables(&tokens("reserve(&rb, sizeof(*e), 0)")), ["e"]);
        assert_eq!(declared_here(&tokens("struct ev *e =")), [Named::Struct("ev".into())]);
        assert_eq!(assigned(&tokens("\te =")).as_deref(), Some("e"));
    }
}
