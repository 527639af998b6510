//! One layout from all that is known: what writes say of the same bytes, and what calls that send say of one record.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{Evidence, texty};
use crate::layout::{Certainty, Field, Meaning};
use crate::outputs::Size;
use crate::writes::MAX_BYTES;

/// One record's fields, from all that was written to it.
pub(crate) fn resolved(mut all: Vec<Evidence>, size: Size) -> Vec<Field> {
    bytes(&mut all);
    let structs = arrays_of_structs(&all, size);
    // What is in one of them says no more than that.
    let inside = |e: &Evidence, f: &Field| f.offset <= e.field.offset && e.field.end() <= f.end();
    all.retain(|e| !structs.iter().any(|array| inside(e, array)));
    all = joined(all, size);
    all.extend(structs.into_iter().map(Evidence::taken_over));
    // A copy of all of it at once says nothing of its fields.
    all.retain(|e| !(e.copy && size == Size::Exact(e.field.width) && !matches!(e.field.width, 1 | 2 | 4 | 8)));
    bounded(&mut all, size);
    // The same bytes: the most certain name, unless others disagree.
    let mut by_range: BTreeMap<(u32, u32), Vec<Evidence>> = BTreeMap::new();
    for evidence in all {
        by_range.entry((evidence.field.offset, evidence.field.width)).or_default().push(evidence);
    }
    let mut fields: Vec<Evidence> = by_range.into_values().filter_map(agreed).collect();
    // Overlaps: members of a union start together and have names; else the stronger stays.
    let strength =
        |e: &Evidence| (e.field.certainty, e.read, !e.helper, e.constant, u32::MAX.saturating_sub(e.field.width));
    fields.sort_by_key(|e| (strength(e), e.field.offset));
    let mut kept: Vec<Evidence> = Vec::new();
    for evidence in fields {
        let field = &evidence.field;
        let union = |other: &Field| {
            other.offset == field.offset
                && other.width != field.width
                && other.name != field.name
                && field.certainty < Certainty::Guessed
        };
        let clash = |other: &Evidence| {
            other.field.offset < field.end() && field.offset < other.field.end() && !union(&other.field)
        };
        match kept.iter_mut().find(|other| clash(other)) {
            None => kept.push(evidence),
            // An element of an array, or a NUL in text, says nothing new; anything else says that the width is not sure.
            Some(other) => {
                let inside = field.offset >= other.field.offset && field.end() <= other.field.end();
                if !(other.helper
                    || evidence.constant
                    || evidence.read
                    || field.certainty == Certainty::Guessed
                    || (inside && evidence.copy))
                {
                    other.field.certainty = Certainty::Guessed;
                }
            }
        }
    }
    distinguished(&mut kept);
    // One name at two places: neither is sure, unless it is computed with one width for structs that lie apart.
    let repeated = repeated(&kept);
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for name in kept.iter().filter(|e| e.field.certainty < Certainty::Guessed).filter_map(|e| e.field.name.clone()) {
        let count = places.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    let mut fields: Vec<Field> = kept.into_iter().map(|e| e.field).collect();
    for field in &mut fields {
        if let Some(name) = field.name.as_ref()
            && places.get(name).is_some_and(|times| *times > 1)
            && !repeated.contains(name)
        {
            field.certainty = Certainty::Guessed;
        }
    }
    // A constant that fills up an array or padding has the name of the line before.
    fields.retain(|f| {
        f.certainty < Certainty::Guessed
            || f.name.as_ref().is_none_or(|name| !places.contains_key(name))
            || (places.get(f.name.as_deref().unwrap_or_default()).is_some_and(|n| *n > 1)
                && f.name.as_ref().is_none_or(|name| !repeated.contains(name)))
    });
    fields.sort_by_key(|field| (field.offset, field.width));
    // What has no fixed length is at the end: text that starts where the shortest record ends.
    if let (Size::Between(least, most), Some(last)) = (size, fields.last_mut())
        && last.offset >= least
        && most <= MAX_BYTES
        && matches!(last.meaning, Meaning::Text | Meaning::Bytes)
    {
        last.width = most.saturating_sub(last.offset);
        last.certainty = last.certainty.max(Certainty::Likely);
    }
    fields
}

/// Names of members that several structs of one record have.
fn repeated(all: &[Evidence]) -> BTreeSet<String> {
    let mut by_name: BTreeMap<&String, Vec<&Evidence>> = BTreeMap::new();
    for evidence in all.iter().filter(|e| e.field.certainty < Certainty::Guessed) {
        if let Some(name) = &evidence.field.name {
            by_name.entry(name).or_default().push(evidence);
        }
    }
    let apart = |all: &[&Evidence]| {
        all.windows(2).all(|pair| match pair {
            [a, b] => {
                let gap = a.field.end().abs_diff(b.field.offset).min(b.field.end().abs_diff(a.field.offset));
                a.field.width == b.field.width && gap > 0
            }
            _ => true,
        })
    };
    let computed = |all: &[&Evidence]| all.iter().all(|e| !e.copy && !e.constant && !e.read && !e.element);
    let several = by_name.into_iter().filter(|(_, all)| all.len() > 1 && computed(all) && apart(all));
    several.map(|(name, _)| name.clone()).collect()
}

/// Bytes of one line and name that touch are one member of a packed struct, if they are as many as a number has. A member
/// is known by its first byte then.
fn bytes(all: &mut Vec<Evidence>) {
    let (mut pieces, rest): (Vec<_>, Vec<_>) =
        all.drain(..).partition(|e| e.byte && !e.element && e.field.name.is_some());
    let line = |e: &Evidence| e.field.line.map(|line| (line.file, line.line));
    pieces.sort_by_key(|e| (line(e), e.field.name.clone(), e.field.offset));
    pieces.dedup_by_key(|e| (line(e), e.field.name.clone(), e.field.offset));
    *all = rest;
    let touch = |a: &Evidence, b: &Evidence| {
        line(a) == line(b) && a.field.name == b.field.name && a.field.end() == b.field.offset
    };
    for run in pieces.chunk_by(touch) {
        let Some(first) = run.first() else { continue };
        let mut whole = first.clone();
        match run.len() {
            1 => {}
            count @ (2 | 4 | 8) => {
                whole.field.width = u32::try_from(count).unwrap_or(0);
                whole.field.certainty = Certainty::Likely;
                whole.copy = false;
            }
            _ => {
                all.extend(run.iter().cloned().map(|mut piece| {
                    piece.field.certainty = Certainty::Guessed;
                    piece
                }));
                continue;
            }
        }
        all.push(whole);
    }
}

/// Members of the same name in different structs (`src.port` and `dst.port`) are called by the whole path.
fn distinguished(all: &mut [Evidence]) {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for evidence in all.iter().filter(|e| e.field.certainty < Certainty::Guessed) {
        if let Some(name) = &evidence.field.name {
            paths.entry(name.clone()).or_default().insert(evidence.path.clone());
        }
    }
    for evidence in all {
        let Some(name) = &evidence.field.name else { continue };
        if evidence.path.contains('.') && paths.get(name).is_some_and(|paths| paths.len() > 1) {
            evidence.field.name = Some(evidence.path.replace('.', "_"));
        }
    }
}

/// Text of so many bytes as a constant says is as long as its member if the next one starts there.
fn bounded(all: &mut [Evidence], size: Size) {
    let starts: BTreeSet<u32> = all.iter().map(|e| e.field.offset).collect();
    let ends = match size {
        Size::Exact(end) | Size::Between(_, end) => Some(end),
        Size::Unknown => None,
    };
    // What has no fixed length is at the end, and is as long as the record.
    let tail = |offset: u32| matches!(size, Size::Between(least, _) if offset >= least);
    for evidence in all.iter_mut().filter(|e| e.bounded && !tail(e.field.offset)) {
        let end = evidence.field.end();
        let padded = end.saturating_add(7);
        let next =
            starts.range(end..=padded).next().is_some() || ends.is_some_and(|ends| (end..=padded).contains(&ends));
        if !next {
            evidence.field.certainty = Certainty::Guessed;
        }
    }
}

/// Copies of one line that touch are copies of one thing.
fn joined(all: Vec<Evidence>, size: Size) -> Vec<Evidence> {
    let (elements, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.element);
    let (mut copies, mut rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| e.copy);
    let line = |e: &Evidence| e.field.line.map(|line| (line.file, line.line));
    copies.sort_by_key(|e| (line(e), e.field.name.clone(), e.field.offset, e.field.width));
    copies.dedup_by_key(|e| (line(e), e.field.name.clone(), e.field.offset, e.field.width));
    let mut joined: Vec<Evidence> = Vec::new();
    for evidence in copies {
        match joined.last_mut() {
            Some(last)
                if line(last) == line(&evidence)
                    && last.field.name == evidence.field.name
                    && last.field.end() == evidence.field.offset =>
            {
                last.field.width = last.field.width.saturating_add(evidence.field.width);
                last.field.meaning = if texty(last.field.name.as_deref()) { Meaning::Text } else { Meaning::Bytes };
                // An assignment copies a struct, whose members are not known; an address is a struct that is one thing.
                let address = last.field.width == 16
                    && last.field.name.as_ref().is_some_and(|name| name.contains("addr") || name.contains("ip"));
                let whole = !evidence.assigned || address;
                last.field.certainty = if whole { Certainty::Likely } else { Certainty::Guessed };
            }
            _ => joined.push(evidence),
        }
    }
    rest.extend(joined);
    let arrays = arrays(elements, &rest, size);
    rest.extend(arrays);
    rest
}

/// Structs of which each member is stored at the same distances are an array, if it ends where something else starts.
fn arrays_of_structs(all: &[Evidence], size: Size) -> Vec<Field> {
    let names: BTreeSet<&String> = all.iter().filter_map(|e| e.within.as_ref()).collect();
    let mut found = Vec::new();
    for name in names {
        let mut members: BTreeMap<&String, BTreeSet<u32>> = BTreeMap::new();
        for evidence in all.iter().filter(|e| e.within.as_ref() == Some(name)) {
            members.entry(&evidence.path).or_default().insert(evidence.field.offset);
        }
        // The distance from each to the next, the same for all members.
        let mut distances = BTreeSet::new();
        let mut counts = BTreeSet::new();
        let mut start = u32::MAX;
        for places in members.values() {
            let offsets: Vec<u32> = places.iter().copied().collect();
            distances.extend(offsets.windows(2).filter_map(|two| match two {
                [a, b] => b.checked_sub(*a),
                _ => None,
            }));
            counts.insert(offsets.len());
            start = start.min(offsets.first().copied().unwrap_or(u32::MAX));
        }
        let (Some(distance), Some(count)) = (only(&distances), only(&counts)) else { continue };
        let Ok(count) = u32::try_from(*count) else { continue };
        let width = distance.saturating_mul(count);
        let end = start.saturating_add(width);
        let inside = |e: &Evidence| start <= e.field.offset && e.field.end() <= end;
        let whole = all.iter().filter(|e| e.within.as_ref() == Some(name)).all(inside);
        let ends =
            size == Size::Exact(end) || all.iter().any(|e| e.field.offset == end && e.within.as_ref() != Some(name));
        let line = all.iter().find(|e| e.within.as_ref() == Some(name)).and_then(|e| e.field.line);
        if count > 1 && whole && ends {
            let (name, meaning, certainty) = (Some(name.clone()), Meaning::Bytes, Certainty::Likely);
            found.push(Field { offset: start, width, name, by_origin: false, meaning, certainty, line });
        }
    }
    found
}

fn only<T: Ord>(all: &BTreeSet<T>) -> Option<&T> {
    all.first().filter(|_| all.len() == 1)
}

/// Elements that touch are an array, if it ends where something else starts.
fn arrays(mut elements: Vec<Evidence>, others: &[Evidence], size: Size) -> Vec<Evidence> {
    elements.sort_by_key(|e| (e.field.name.clone(), e.field.offset, e.field.width));
    elements.dedup_by_key(|e| (e.field.name.clone(), e.field.offset, e.field.width));
    let mut arrays: Vec<(u32, Evidence)> = Vec::new();
    for mut evidence in elements {
        evidence.field.certainty = Certainty::Guessed;
        match arrays.last_mut() {
            Some((width, last))
                if last.field.name == evidence.field.name
                    && last.field.end() == evidence.field.offset
                    && *width == evidence.field.width =>
            {
                last.field.width = last.field.width.saturating_add(*width);
                last.field.meaning = if *width == 8 { Meaning::Words } else { Meaning::Bytes };
            }
            _ => arrays.push((evidence.field.width, evidence)),
        }
    }
    let starts: BTreeSet<u32> =
        others.iter().chain(arrays.iter().map(|(_, array)| array)).map(|other| other.field.offset).collect();
    for (width, array) in &mut arrays {
        let end = array.field.end();
        let ends = starts.contains(&end) || size == Size::Exact(end);
        if ends && array.field.width > *width && !array.helper {
            array.field.certainty = Certainty::Likely;
        }
    }
    arrays.into_iter().map(|(_, array)| array).collect()
}

/// What writes of the same bytes say together.
fn agreed(same: Vec<Evidence>) -> Option<Evidence> {
    let names = names(same.iter().map(|e| &e.field));
    let disagree = names.len() > 1 && {
        let certain: BTreeSet<_> = same
            .iter()
            .filter(|e| e.field.certainty == Certainty::Certain)
            .filter_map(|e| e.field.name.as_ref())
            .collect();
        certain.len() != 1
    };
    let mut best = same
        .iter()
        .min_by_key(|e| (e.field.certainty, e.field.by_origin, e.field.meaning == Meaning::Unsigned))?
        .clone();
    if disagree {
        best.field.certainty = Certainty::Guessed;
    }
    Some(best)
}

/// The names that are said of one place: what the source names counts before what a value is.
fn names<'a>(fields: impl Iterator<Item = &'a Field> + Clone) -> BTreeSet<&'a String> {
    let sure = fields.filter(|field| field.certainty < Certainty::Guessed);
    let said = sure.clone().any(|field| !field.by_origin && field.name.is_some());
    sure.filter(|field| !said || !field.by_origin).filter_map(|field| field.name.as_ref()).collect()
}

/// Whether both can be records of one struct: nothing overlaps, and what is at one place has one name. `unions`: what
/// starts together may overlap.
pub(crate) fn compatible(one: &[Field], other: &[Field], unions: bool) -> bool {
    let sure = |field: &&Field| field.certainty < Certainty::Guessed;
    one.iter().filter(sure).all(|a| {
        other.iter().filter(sure).all(|b| match (a.offset == b.offset, a.width == b.width) {
            (true, true) => a.name == b.name || a.by_origin != b.by_origin,
            (true, false) => unions || a.name == b.name || (has(one, b) && has(other, a)),
            (false, _) => a.end() <= b.offset || b.end() <= a.offset,
        })
    })
}

fn has(fields: &[Field], field: &Field) -> bool {
    fields.iter().any(|other| (other.offset, other.width) == (field.offset, field.width))
}

/// What the calls that send records of one size to one map say together.
pub(crate) fn merged(all: Vec<Vec<Field>>) -> Vec<Field> {
    let mut by_range: BTreeMap<(u32, u32), Vec<Field>> = BTreeMap::new();
    for field in all.into_iter().flatten() {
        by_range.entry((field.offset, field.width)).or_default().push(field);
    }
    let mut fields: Vec<Field> = Vec::new();
    for same in by_range.into_values() {
        let several = names(same.iter()).len() > 1;
        let Some(mut field) = same.iter().min_by_key(|field| (field.certainty, field.by_origin)).cloned() else {
            continue;
        };
        if several {
            // Several events in one buffer: the bytes are there, the name depends.
            field.certainty = Certainty::Guessed;
        }
        fields.push(field);
    }
    let sure: Vec<Field> = fields.iter().filter(|field| field.certainty < Certainty::Guessed).cloned().collect();
    let overlaps = |a: &Field, b: &Field| a.offset < b.end() && b.offset < a.end();
    fields.retain(|field| field.certainty < Certainty::Guessed || !sure.iter().any(|other| overlaps(field, other)));
    // Members of a union start together. What overlaps otherwise belongs to different events, and which one a record is
    // the bytes do not say.
    let mut kept: Vec<Field> = Vec::new();
    let mut cluster: Vec<Field> = Vec::new();
    let mut end = 0;
    for field in fields {
        if field.offset >= end {
            kept.extend(union(std::mem::take(&mut cluster)));
        }
        end = end.max(field.end());
        cluster.push(field);
    }
    kept.extend(union(cluster));
    kept
}

fn union(cluster: Vec<Field>) -> Vec<Field> {
    let first = cluster.first().map(|field| field.offset);
    if cluster.iter().all(|field| Some(field.offset) == first) { cluster } else { Vec::new() }
}
