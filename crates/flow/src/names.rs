//! Names of members in lines of C: what a line assigns to, what it hands to a helper.

use crate::source::{is_name, tokens};

/// A member, as a line of C names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    /// `e` of `e->task.pid`; empty in an initialiser.
    pub(crate) base: String,
    /// `pid`.
    pub(crate) name: String,
    /// `task.pid`.
    pub(crate) path: String,
    /// An element of it: `e->args[0]`.
    pub(crate) element: bool,
    /// It is handed to a function of the kernel without `&`: an array.
    pub(crate) array: bool,
    /// `pairs` of `e->pairs[0].key`: an array of structs that it is in.
    pub(crate) within: Option<String>,
    /// Told by its place in a list.
    pub(crate) listed: bool,
}

impl Named {
    /// In an initialiser of several in one line.
    pub(crate) fn listed(name: &str) -> Named {
        Named { listed: true, ..Named::member(name) }
    }

    /// In an initialiser.
    fn member(name: &str) -> Named {
        Named {
            base: String::new(),
            name: name.to_owned(),
            path: name.to_owned(),
            element: false,
            array: false,
            within: None,
            listed: false,
        }
    }
}

/// The member that a line of an initialiser is of: `.pid = x,`.
pub(crate) fn initialised(text: &str) -> Option<Named> {
    match tokens(text).as_slice() {
        // `pid: id as u32,` of Rust.
        [name, ":", next, .., ","] if is_name(name) && *next != ":" && !matches!(*name, "case" | "default") => {
            let inner = tokens(text).windows(2).any(|two| matches!(two, [word, "{"] if *word != "unsafe"));
            (!inner).then(|| Named::member(name))
        }
        [".", name, "=", next, rest @ ..] if is_name(name) && *next != "=" && *next != "{" => {
            // Several members in one line: which one is not known.
            let more = rest.windows(3).any(|three| matches!(three, ["," | "{", ".", _]));
            (!more && rest.last() != Some(&"{")).then(|| Named::member(name))
        }
        _ => None,
    }
}

/// The member that an initialiser in the line sets to this variable: `{ .quota = VARIABLE }`.
pub(crate) fn initialised_with(text: &str, variable: &str) -> Option<Named> {
    let tokens = tokens(text);
    let mut found = tokens.windows(6).filter_map(|six| match six {
        ["{" | ",", ".", name, "=", value, "," | "}"] if *value == variable => Some(Named::member(name)),
        _ => None,
    });
    found.next().filter(|_| found.next().is_none())
}

/// The one member that the line speaks of.
pub(crate) fn only_member(text: &str) -> Option<Named> {
    let tokens = tokens(text);
    let mut found: Option<Named> = None;
    let mut at = 0;
    while let Some(tail) = tokens.get(at..).filter(|tail| !tail.is_empty()) {
        at = at.saturating_add(1);
        if let Some((named, rest)) = path(tail) {
            if found.as_ref().is_some_and(|found| (&found.base, &found.path) != (&named.base, &named.path)) {
                return None;
            }
            found = Some(named);
            at = tokens.len().saturating_sub(rest.len());
        }
    }
    found
}

/// The member that a write to a dynptr is of: `bpf_dynptr_write(&ptr, offsetof(struct e, pid), ..)`.
pub(crate) fn written_at(text: &str) -> Option<Named> {
    let tokens = tokens(text);
    let at = tokens.iter().position(|token| token.ends_with("offsetof"))?;
    match tokens.get(at..)? {
        [_, "(", "struct", _, ",", name, ")", ..] | [_, "(", _, ",", name, ")", ..] if is_name(name) => {
            Some(Named::member(name))
        }
        _ => None,
    }
}

/// The member that a line assigns to. `column`: where the compiler says that it is, from 1; it chooses among several
/// statements in one line.
pub(crate) fn assigned(text: &str, column: usize) -> Option<Named> {
    let starts = text.match_indices(';').map(|(at, _)| at.saturating_add(1));
    let start = starts.take_while(|at| *at < column).last().unwrap_or(0);
    let statement = text.get(start..)?.split(';').next()?;
    // A struct of several members, each with a value of its own.
    if statement.trim_end().ends_with('{') {
        return None;
    }
    let tokens = tokens(statement);
    // `{ .pid = pid` and `.pid = pid,`.
    let mut rest = tokens.as_slice();
    while let ["{" | "if" | "(" | "else" | "*", tail @ ..] = rest {
        rest = tail;
    }
    let (named, rest) = match rest {
        [".", name, tail @ ..] if is_name(name) => (Named::member(name), tail),
        _ => path(rest)?,
    };
    match rest {
        ["=", next, ..] if *next != "=" => Some(named),
        ["="] => Some(named),
        ["+" | "-" | "|" | "&" | "^", "=", ..] | ["<", "<", "=", ..] | [">", ">", "=", ..] => Some(named),
        _ => None,
    }
}

/// The member whose address a line of Rust hands over: `&mut event.path`.
pub(crate) fn borrowed(text: &str) -> Option<Named> {
    let tokens = tokens(text);
    let mut found = (0..tokens.len()).filter_map(|at| match tokens.get(at..)? {
        ["&", "mut", rest @ ..] => path(rest).map(|(named, _)| named),
        _ => None,
    });
    found.next().filter(|_| found.next().is_none())
}

/// The member that a macro sets: `SET(pid, x)`, the one plain name before the last argument that is no pointer, or the
/// one behind a pointer: `SET(e, pid, x)`. A function that is called has lines of its own.
pub(crate) fn set_by_macro(text: &str, is_pointer: &dyn Fn(&str) -> bool) -> Option<Named> {
    let tokens = tokens(text);
    let [callee, "(", arguments @ .., ")", ";"] = tokens.as_slice() else { return None };
    if !is_name(callee) || callee.starts_with("bpf_") || arguments.contains(&"=") {
        return None;
    }
    let all = split(arguments);
    let (_, all) = all.split_last()?;
    if let [[first], [name], ..] = all
        && is_name(name)
        && is_pointer(first)
        && !is_pointer(name)
    {
        return Some(Named::member(name));
    }
    let mut plain = all.iter().filter_map(|argument| match *argument {
        [name] if is_name(name) && !is_pointer(name) => Some(Named::member(name)),
        _ => None,
    });
    plain.next().filter(|_| plain.next().is_none())
}

/// Arguments, at the commas that are in no parentheses.
fn split<'a, 'b>(arguments: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let mut depth = 0usize;
    let mut all: Vec<&[&str]> = Vec::new();
    let mut start = 0;
    for (at, token) in arguments.iter().enumerate() {
        match *token {
            "(" => depth = depth.saturating_add(1),
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                all.extend(arguments.get(start..at));
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    all.extend(arguments.get(start..));
    all
}

/// The member that a line hands to a wrapper of a helper, as nothing else that it hands over can be it:
/// `read_text(e->path, sizeof(e->path), ctx->name)`.
pub(crate) fn handed_alone(text: &str) -> Option<Named> {
    let tokens = tokens(text);
    let open = tokens.iter().position(|token| *token == "(")?;
    let close = tokens.iter().rposition(|token| *token == ")")?;
    let all = split(tokens.get(open.saturating_add(1)..close)?);
    let named = handed(text)?;
    let (first, others) = all.split_first()?;
    let elsewhere = |argument: &&[&str]| {
        let constant = argument.iter().all(|token| !token.starts_with(|c: char| c.is_ascii_lowercase()));
        constant
            || argument.first() == Some(&"sizeof")
            || (argument.len() > 1 && !argument.contains(&named.base.as_str()))
    };
    (first.contains(&named.name.as_str()) && others.iter().all(elsewhere)).then_some(named)
}

/// The local variable that a line sets: `x = ..`, `u64 x = ..`.
pub(crate) fn variable(text: &str) -> Option<&str> {
    let (left, right) = text.split_once('=')?;
    let tokens = tokens(left);
    let plain = tokens.iter().all(|token| is_name(token) || *token == "*") && !right.starts_with('=');
    tokens.last().copied().filter(|_| plain && tokens.len() <= 4)
}

/// Whether this is all that is assigned: `e->x = VARIABLE;`.
pub(crate) fn assigns(text: &str, variable: &str) -> bool {
    right_side(text).trim_end().trim_end_matches([';', ',']) == variable
}

/// The pointer through which a line sets all of a number: `*value = 1;`.
pub(crate) fn through(text: &str) -> Option<&str> {
    match tokens(text).as_slice() {
        ["*", name, "=", value, ";"] if is_name(name) && value.starts_with(|first: char| first.is_ascii_digit()) => {
            Some(name)
        }
        _ => None,
    }
}

/// Which half of a number is assigned: `id >> 32` is the upper one, `(u32)id` and what has no sign of it the lower one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Half {
    Upper,
    /// The source cuts it.
    Cut,
    /// It may be all of the number.
    Plain,
}

/// The half of a number that a line assigns.
pub(crate) fn half(text: &str) -> Half {
    let right = right_side(text).to_ascii_lowercase();
    let cuts = ["(u32)", "(__u32)", "(uint32_t)", "(int)", "(pid_t)", "(uid_t)", "(unsigned int)", "& 0xffffffff"];
    if right.replace(' ', "").contains(">>32") {
        Half::Upper
    } else if cuts.iter().any(|cut| right.contains(cut)) {
        Half::Cut
    } else {
        Half::Plain
    }
}

/// The variable or function whose value, or a part of it, is assigned: the last name that is no cast's.
pub(crate) fn of_what(text: &str) -> Option<&str> {
    let tokens = tokens(right_side(text));
    let cast = |at: usize| tokens.get(at.saturating_add(1)).is_some_and(|next| *next == ")") && at > 0;
    let at = (0..tokens.len()).rfind(|at| tokens.get(*at).is_some_and(|token| is_name(token)) && !cast(*at))?;
    tokens.get(at).copied()
}

/// Whether a member is set to a variable as it is, or to a part of it.
pub(crate) fn plain(text: &str) -> bool {
    let right = right_side(text).trim_end().trim_end_matches([';', ',']);
    let right = right.rsplit_once(')').map_or(right, |(cast, right)| if cast.starts_with('(') { right } else { "-" });
    is_name(right) && right.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What is assigned, behind the first `=`.
pub(crate) fn right_side(text: &str) -> &str {
    text.split_once('=').map_or("", |(_, right)| right.trim_start())
}

/// The member whose address a line hands to a function that writes there.
pub(crate) fn handed(text: &str) -> Option<Named> {
    let tokens = tokens(text);
    for at in 0..tokens.len() {
        let [callee, "(", rest @ ..] = tokens.get(at..)? else { continue };
        // These read, and give back.
        const READERS: &[&str] = &[
            "BPF_CORE_READ",
            "BPF_PROBE_READ",
            "BPF_CORE_READ_USER",
            "BPF_PROBE_READ_USER",
            "BPF_CORE_READ_BITFIELD",
            "BPF_CORE_READ_BITFIELD_PROBED",
            "sizeof",
            "if",
            "while",
            "for",
            "return",
            "bpf_map_lookup_elem",
        ];
        if !is_name(callee) || READERS.contains(callee) {
            continue;
        }
        let first = rest.as_ptr();
        let mut rest = match *callee {
            // The file or task comes first.
            "bpf_d_path" | "bpf_get_stack" | "bpf_get_task_stack" => after_comma(rest),
            "bpf_skb_load_bytes" | "bpf_xdp_load_bytes" => after_comma(after_comma(rest)),
            _ => rest,
        };
        // Casts and addresses. A macro can take the address itself.
        let mut array = callee.starts_with("bpf_");
        loop {
            rest = match rest {
                ["&", tail @ ..] => {
                    array = false;
                    tail
                }
                ["(", tail @ ..] => tail,
                ["void" | "char" | "u8" | "__u8", "*", ")", tail @ ..] => tail,
                _ => break,
            };
        }
        // `BPF_CORE_READ_INTO(e->name, ..)` writes as much as `*e->name` has: of an array, one element.
        let element = callee.ends_with("_INTO") && std::ptr::eq(rest.as_ptr(), first);
        if let Some((mut named, ["," | ")", ..])) = path(rest) {
            named.element |= element;
            named.array = array;
            return Some(named);
        }
    }
    None
}

fn after_comma<'a, 'b>(tokens: &'b [&'a str]) -> &'b [&'a str] {
    let at = tokens.iter().position(|token| *token == ",").map_or(tokens.len(), |at| at.saturating_add(1));
    tokens.get(at..).unwrap_or_default()
}

/// `a->b.c[i]` with at least one member.
fn path<'a, 'b>(tokens: &'b [&'a str]) -> Option<(Named, &'b [&'a str])> {
    let (base, mut rest) = tokens.split_first()?;
    if !is_name(base) {
        return None;
    }
    let mut named: Option<Named> = None;
    loop {
        rest = match rest {
            [".", name, tail @ ..] | ["-", ">", name, tail @ ..] if is_name(name) => {
                let (path, within) = match named.take() {
                    Some(outer) => {
                        let array = outer.element.then_some(outer.name);
                        (format!("{}.{name}", outer.path), outer.within.or(array))
                    }
                    None => ((*name).to_owned(), None),
                };
                let name = (*name).to_owned();
                named = Some(Named {
                    base: (*base).to_owned(),
                    name,
                    path,
                    element: false,
                    array: false,
                    within,
                    listed: false,
                });
                tail
            }
            ["[", tail @ ..] => {
                if let Some(named) = &mut named {
                    named.element = true;
                }
                // An index can have one of its own: `e->marks[at[0] & 3]`.
                let mut depth = 1usize;
                let close = tail.iter().position(|token| {
                    depth = match *token {
                        "[" => depth.saturating_add(1),
                        "]" => depth.saturating_sub(1),
                        _ => depth,
                    };
                    depth == 0
                })?;
                tail.get(close.saturating_add(1)..)?
            }
            _ => break,
        };
    }
    Some((named?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let name = |text| assigned(text, 1).map(|named| named.name);
        assert_eq!(name("\tevent->pid = pid_tgid >> 32;").as_deref(), Some("pid"));
        assert_eq!(name("\te.task.tgid = x;").as_deref(), Some("tgid"));
        assert_eq!(name("\t\t.pid = pid,").as_deref(), Some("pid"));
        assert_eq!(name("\te->flags |= 3;").as_deref(), Some("flags"));
        assert_eq!(name("\tif (e->pid == 3)"), None);
        assert_eq!(name("\tstruct event e = {};"), None);
        assert_eq!(name("\tpid = e->pid;"), None);
        assert_eq!(assigned("e->a = 1; e->b = 2;", 15).map(|n| n.name).as_deref(), Some("b"));
        assert!(assigned("e->args[0] = 1;", 1).is_some_and(|n| n.element));
        assert!(assigned("e->marks[at[0] & 3] = 1;", 1).is_some_and(|n| n.element && n.name == "marks"));
        let name = |text| set_by_macro(text, &|name| name == "e").map(|named| named.name);
        assert_eq!(name("\tSET(pid, bpf_get_current_pid_tgid() >> 32);").as_deref(), Some("pid"));
        assert_eq!(name("\tSET(e, pid, f(1, 2));").as_deref(), Some("pid"));
        assert_eq!(name("\tSET(pid, tid, f(1, 2));"), None);
        assert_eq!(name("\tFILL(e, 3);"), None);
        assert_eq!(borrowed("f(*args as *const u8, &mut event.path)").map(|named| named.name).as_deref(), Some("path"));
        assert_eq!(name("\tbpf_map_delete_elem(map, &key);"), None);
        assert_eq!(through("\t*value = 1;"), Some("value"));
        assert_eq!(through("\t*value = other;"), None, "it may be a struct");
        let name = |text| initialised(text).map(|named| named.name);
        assert_eq!(name("\t\t.pid = id >> 32,").as_deref(), Some("pid"));
        assert_eq!(name("\t\t.pid = id >> 32, .tid = id,"), None);
        assert_eq!(name("\t\tpid: (id() >> 32) as u32,").as_deref(), Some("pid"));
        assert_eq!(name("\t\thead: Head { pid: 3 },"), None);
        let name = |text| initialised_with(text, "quota").map(|named| named.name);
        assert_eq!(name("struct b b = { .id = id, .limit = quota };").as_deref(), Some("limit"));
        assert_eq!(name("struct b b = { .id = id, .limit = quota * 2 };"), None);
        let name = |text| only_member(text).map(|named| named.path);
        assert_eq!(name("if (t->a.ip && t->a.ip != last)").as_deref(), Some("a.ip"));
        assert_eq!(name("if (t->ip != t->last)"), None);
        let name = |text| written_at(text).map(|named| named.name);
        assert_eq!(name("bpf_dynptr_write(&p, offsetof(struct e, pid), &v, 4, 0);").as_deref(), Some("pid"));
        let name = |text| handed(text).map(|named| named.name);
        assert_eq!(name("bpf_get_current_comm(&event->comm, sizeof(event->comm));").as_deref(), Some("comm"));
        assert_eq!(name("bpf_probe_read_kernel_str(e->fname, sizeof(e->fname), p);").as_deref(), Some("fname"));
        assert_eq!(name("BPF_CORE_READ_INTO(&e->addr, sk, __sk_common.skc_daddr);").as_deref(), Some("addr"));
        assert_eq!(name("bpf_d_path(&file->f_path, e->path, sizeof(e->path));").as_deref(), Some("path"));
        assert_eq!(name("x = BPF_CORE_READ(e->task, pid);"), None);
        let name = |text| handed_alone(text).map(|named| named.name);
        assert_eq!(name("read_text(e->path, sizeof(e->path), ctx->name);").as_deref(), Some("path"));
        assert_eq!(name("payload = fill(&e->meta, task, payload);"), None);
        assert_eq!(name("fill(&e->meta, e->payload);"), None);
    }
}
