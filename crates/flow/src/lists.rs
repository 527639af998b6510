//! Initialisers of several members in one line: `struct event e = { .pid = pid, .at = at };`.
//!
//! The compiler says of all their stores that they belong to the brace; only what computes a value is told to be of that value. So a
//! store is of the member whose value was computed for it, and those between are told by their order, where there are as many
//! stores as members.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use ringfence_object::{Function, FunctionId, Line};

use crate::evidence::Reader;
use crate::outputs::line_of;
use crate::source::is_name;
use crate::writes::{By, Write};

/// The members that stores set, by their instructions.
pub(crate) type Set = BTreeMap<usize, String>;

/// Most members of one line.
const MAX_MEMBERS: usize = 32;

/// The members of a line with two or more, each with the columns of its value, from 1; none where there are braces in braces.
fn members(text: &str) -> Vec<(&str, Range<usize>)> {
    let Some((before, list)) = text.split_once('{') else { return Vec::new() };
    let Some((list, _)) = list.split_once('}').filter(|(list, _)| !list.contains('{')) else { return Vec::new() };
    let mut column = before.len().saturating_add(2);
    let mut members = Vec::new();
    let mut depth = 0usize;
    // A comma within a call is none between members.
    let parts = list.split_inclusive(|c| {
        match c {
            '(' | '[' => depth = depth.saturating_add(1),
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts {
        let columns = column..column.saturating_add(part.len());
        column = columns.end;
        let Some((name, _)) = part.trim_start().strip_prefix('.').and_then(|part| part.split_once('=')) else {
            if part.trim().is_empty() {
                continue;
            }
            return Vec::new();
        };
        if !is_name(name.trim()) || members.len() >= MAX_MEMBERS {
            return Vec::new();
        }
        members.push((name.trim(), columns));
    }
    if members.len() < 2 { Vec::new() } else { members }
}

/// The same number of stores as of members is one each; `anchors` are known, by the indices of both.
fn matched(stores: usize, members: usize, anchors: &BTreeMap<usize, usize>) -> BTreeMap<usize, usize> {
    let mut all = BTreeMap::new();
    let (mut store, mut member) = (0, 0);
    for (next_store, next_member) in anchors.iter().map(|(a, b)| (*a, *b)).chain([(stores, members)]) {
        // The members are not in the order of the struct, or a store is of none of them.
        let (Some(some), Some(named)) = (next_store.checked_sub(store), next_member.checked_sub(member)) else {
            return anchors.clone();
        };
        if some == named {
            all.extend((store..next_store).zip(member..next_member));
        }
        (store, member) = (next_store.saturating_add(1), next_member.saturating_add(1));
    }
    all.extend(anchors);
    all
}

impl Reader<'_> {
    /// The member that a store sets whose line initialises several.
    pub(crate) fn listed(&self, function: &Function, write: &Write, line: Option<Line>, text: &str) -> Option<String> {
        let line = line.filter(|_| text.contains("= {") || text.contains("){") || text.contains(") {"))?;
        let key = (write.function, line.file, line.line);
        let known = self.lists.borrow().get(&key).map(Rc::clone);
        let set = known.unwrap_or_else(|| {
            let set = Rc::new(self.list(function, write.function, line, text));
            self.lists.borrow_mut().insert(key, Rc::clone(&set));
            set
        });
        set.get(&write.insn).cloned()
    }

    fn list(&self, function: &Function, id: FunctionId, line: Line, text: &str) -> Set {
        let members = members(text);
        if members.is_empty() {
            return Set::new();
        }
        let here = |at: usize| line_of(function, at).filter(|of| (of.file, of.line) == (line.file, line.line));
        for writes in self.memory.writes.values() {
            if !self.spend(writes.len()) {
                break;
            }
            let of_list = |write: &&Write| {
                let stores = !matches!(write.by, By::Constant(0) | By::Helper(_) | By::Read);
                stores && write.function == id && here(write.insn).is_some_and(|of| of.column == line.column)
            };
            let stores: BTreeMap<i64, &Write> = writes.iter().filter(of_list).map(|write| (write.at, write)).collect();
            let stores: Vec<&Write> = stores.into_values().collect();
            let apart = stores.windows(2).all(|two| matches!(two, [a, b] if !a.overlaps(b)));
            if stores.is_empty() || !apart || stores.iter().any(|store| store.every.is_some()) {
                continue;
            }
            let member_of = |write: &Write| {
                let columns = write.made.steps().filter_map(here).map(|of| usize::from(of.column));
                let mut columns = columns.filter(|column| *column != usize::from(line.column));
                columns.find_map(|column| members.iter().position(|(_, of)| of.contains(&column)))
            };
            let known = stores.iter().enumerate();
            let anchors = known.filter_map(|(at, store)| Some((at, member_of(store)?))).collect();
            let named = matched(stores.len(), members.len(), &anchors);
            return named
                .into_iter()
                .filter_map(|(store, member)| Some((stores.get(store)?.insn, members.get(member)?.0.to_owned())))
                .collect();
        }
        Set::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_line() {
        let found = members("\tstruct e e = { .op = op, .pid = f(id, 32), .at = at, };");
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["op", "pid", "at"]);
        let of = |column| found.iter().find(|(_, columns)| columns.contains(&column)).map(|(name, _)| *name);
        assert_eq!((of(25), of(37)), (Some("op"), Some("pid")));
        assert!(members("e = { .a = { 1 }, .b = 2 };").is_empty());
        assert!(members("e = { .a = 1 };").is_empty());
        assert!(members("e = { 1, 2 };").is_empty());
    }

    #[test]
    fn stores_between_what_is_known() {
        let known = |pairs: &[(usize, usize)]| pairs.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(matched(3, 3, &known(&[])), known(&[(0, 0), (1, 1), (2, 2)]));
        // The first is a zero, which is not stored by itself.
        assert_eq!(matched(4, 5, &known(&[(0, 1)])), known(&[(0, 1), (1, 2), (2, 3), (3, 4)]));
        assert_eq!(matched(3, 5, &known(&[(0, 1)])), known(&[(0, 1)]));
        // In another order than that of the struct.
        assert_eq!(matched(3, 3, &known(&[(0, 2), (1, 0)])), known(&[(0, 2), (1, 0)]));
    }
}
