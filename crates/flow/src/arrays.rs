//! Arrays: elements that are stored one by one, at constant places, at places that a loop or an index leads to.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::Evidence;
use crate::layout::{Certainty, Field, Meaning};
use crate::outputs::Size;

/// Most members of the elements of one array of structs that are listed.
const MAX_MEMBERS: u32 = 128;
/// What an array of structs is aligned by, at most.
const ALIGNED: u32 = 8;

/// Members of structs in an array, each stored at constant places: `pairs_0_key`, `pairs_1_key`. What is sure of a member
/// in one element holds in all.
pub(crate) fn structs(all: &mut Vec<Evidence>) {
    let within = |e: &Evidence| e.within.clone().filter(|_| e.every.is_none());
    let names: BTreeSet<String> = all.iter().filter_map(within).collect();
    for name in names {
        let (mut here, rest): (Vec<_>, Vec<_>) = all.drain(..).partition(|e| within(e).as_ref() == Some(&name));
        *all = rest;
        let mut places: BTreeMap<&String, BTreeSet<u32>> = BTreeMap::new();
        for evidence in &here {
            places.entry(&evidence.path).or_default().insert(evidence.field.offset);
        }
        let apart = |all: &BTreeSet<u32>| -> Vec<u32> {
            let all: Vec<u32> = all.iter().copied().collect();
            all.windows(2).filter_map(|two| two.last()?.checked_sub(*two.first()?)).collect()
        };
        let step = places.values().flat_map(apart).min().unwrap_or(0);
        let start = here.iter().map(|e| e.field.offset).min().unwrap_or(0);
        let index = |offset: u32| offset.checked_sub(start)?.checked_div(step);
        // All members of one element are within a step, each at its place.
        let fits = |e: &Evidence| {
            let first = places.get(&e.path).and_then(BTreeSet::first).copied().unwrap_or(0);
            let (into, of) = (e.field.offset.checked_sub(start), first.checked_sub(start));
            let end = into.and_then(|into| into.checked_rem(step)?.checked_add(e.field.width));
            into.and_then(|into| into.checked_rem(step)) == of.and_then(|of| of.checked_rem(step))
                && end.is_some_and(|end| end <= step)
        };
        if step == 0 || !here.iter().all(fits) {
            if step > 0 {
                here.iter_mut().for_each(|e| e.field.certainty = Certainty::Guessed);
            }
            all.extend(here);
            continue;
        }
        let count = here.iter().filter_map(|e| index(e.field.offset)).max().unwrap_or(0).saturating_add(1);
        let mut more = Vec::new();
        for (path, places) in &places {
            let mut of_path = here.iter().filter(|e| e.path == **path);
            // Several constants of one width are not parts of wider ones.
            let likely = |e: &&Evidence| e.path == **path && e.field.certainty < Certainty::Guessed;
            let agreed: BTreeSet<(u32, u32)> =
                here.iter().filter(likely).map(|e| (e.field.offset, e.field.width)).collect();
            let one_width = agreed.iter().map(|(_, width)| width).collect::<BTreeSet<_>>().len() == 1;
            let constants = agreed.len() > 1 && one_width;
            let computed = |e: &Evidence| !e.constant && !e.copy && !e.read;
            let sure = of_path.find(|e| likely(e) && (computed(e) || (e.constant && constants)));
            let Some(sure) = sure.filter(|_| count <= MAX_MEMBERS) else { continue };
            let first = places.first().copied().unwrap_or(0);
            let into = first.saturating_sub(start).checked_rem(step).unwrap_or(0);
            for n in 0..count {
                let offset = start.saturating_add(into).saturating_add(n.saturating_mul(step));
                let field = Field { offset, certainty: Certainty::Likely, ..sure.field.clone() };
                let mut one = Evidence::taken_over(field);
                one.path.clone_from(path);
                more.push(one);
            }
        }
        here.extend(more);
        for mut evidence in here {
            let n = index(evidence.field.offset).unwrap_or(0);
            let member = evidence.field.name.take().unwrap_or_default();
            evidence.field.name = Some(format!("{name}_{n}_{member}"));
            evidence.path = format!("{name}_{n}_{member}");
            evidence.within = None;
            evidence.element = false;
            all.push(evidence);
        }
    }
}

/// Arrays that a loop fills, or an index leads into. What is found of single elements is taken out of `all`.
///
/// How many elements there are is believed where the next thing starts behind as many as the index can say, or as the
/// function compares something with.
pub(crate) fn of_loops(all: &mut Vec<Evidence>, size: Size) -> Vec<Field> {
    let (mut loops, rest): (Vec<_>, Vec<_>) = all.drain(..).partition(|e| e.every.is_some());
    *all = rest;
    // Where something starts that another array cannot reach into, named or not.
    let starts: Vec<(u32, Option<String>)> =
        loops.iter().map(|e| (e.field.offset, e.within.clone().or_else(|| e.field.name.clone()))).collect();
    loops.retain(|e| !e.constant && !e.read && e.field.name.is_some() && (e.element || e.within.is_some()));
    let step = |e: &Evidence| e.every.as_ref().map_or(0, |(step, ..)| *step);
    let group = |e: &Evidence| (e.within.clone().or_else(|| e.field.name.clone()), step(e));
    loops.sort_by_key(|e| (group(e), e.field.offset, e.field.width, e.field.certainty));
    let mut found = Vec::new();
    for of_one in loops.chunk_by(|a, b| group(a) == group(b)) {
        found.extend(of_loop(of_one, &starts, all, size).unwrap_or_default());
    }
    let inside = |e: &Evidence, f: &Field| f.offset <= e.field.offset && e.field.end() <= f.end();
    all.retain(|e| !found.iter().any(|field| inside(e, field) && (e.element || e.within.is_some() || e.constant)));
    found
}

fn of_loop(group: &[Evidence], loops: &[(u32, Option<String>)], others: &[Evidence], size: Size) -> Option<Vec<Field>> {
    let first = group.first()?;
    let (step, count, compared) = first.every.clone()?;
    let name = first.within.clone().or_else(|| first.field.name.clone())?;
    let mut start = group.iter().map(|e| e.field.offset).min()?;
    let of_array =
        |e: &&Evidence| e.within.as_ref() == Some(&name) || (e.element && e.field.name.as_ref() == Some(&name));
    // The first ones can have been stored before the loop.
    while let Some(before) = start.checked_sub(step).filter(|_| step > 0)
        && first.within.is_none()
        && others.iter().filter(of_array).any(|e| e.field.offset == before)
    {
        start = before;
    }
    let last = group.iter().map(|e| e.field.end()).max()?;
    if last.checked_sub(start)? > step && start == group.iter().map(|e| e.field.offset).min()? {
        return None;
    }
    let ends = match size {
        Size::Exact(end) | Size::Between(_, end) => Some(end),
        Size::Unknown => None,
    };
    let starts = others.iter().filter(|e| !of_array(e) && !e.constant);
    if starts.clone().any(|e| e.field.offset < start && e.field.end() > start) {
        return None;
    }
    let loops = loops.iter().filter(|(_, of)| of.as_ref() != Some(&name)).map(|(at, _)| *at);
    let next = starts.map(|e| e.field.offset).chain(loops).filter(|at| *at > start).chain(ends).min()?;
    // From the first element to the end of what is known of the last.
    let known = group.iter().map(|e| e.field.end().saturating_sub(start)).max()?.min(step);
    let fits = |n: u32| {
        let end = n.checked_sub(1)?.checked_mul(step)?.checked_add(start)?.checked_add(known)?;
        next.checked_sub(end).filter(|gap| *gap < ALIGNED)
    };
    let mut numbers: Vec<u32> = vec![count];
    // Where another one would fit, a number that something is compared with says too little.
    let room = if count > 0 { ALIGNED } else { step.min(ALIGNED) };
    if count == 0 {
        // A loop can count bytes of this array, or of what it reads, or go from the record's start to the array's end.
        let scaled = |n: &u32| {
            let whole = |n: u32, unit: u32| n.checked_div(unit).filter(|_| n.is_multiple_of(unit));
            let behind = n.checked_sub(start).and_then(|bytes| whole(bytes, step));
            [1, 4, 8, step].into_iter().filter_map(|unit| whole(*n, unit)).chain(behind).collect::<Vec<_>>()
        };
        numbers = compared.iter().flat_map(scaled).collect();
    }
    let fitting: BTreeSet<u32> = numbers.into_iter().filter(|n| *n > 1 && fits(*n).is_some()).collect();
    // Two that fit: one of them is a number of something else.
    let count = fitting.first().copied().filter(|_| fitting.len() == 1)?;
    fits(count).filter(|gap| *gap < room)?;
    if first.within.is_none() {
        let (only, width) = (&first.field, first.field.width);
        // Text may be read one byte shorter than there is room.
        let meaning = match only.meaning {
            Meaning::Text if step > 1 && (width == step || width.saturating_add(1) == step) => Meaning::Texts(step),
            Meaning::Unsigned | Meaning::Signed | Meaning::Typed(_) if width == step => match step {
                1 => Meaning::Bytes,
                2 | 4 | 8 => Meaning::Numbers(step),
                _ => return None,
            },
            _ => return None,
        };
        let agree = group.iter().all(|e| (e.field.offset, e.field.width) == (only.offset, width));
        let (width, certainty) = (count.checked_mul(step)?, Certainty::Likely);
        return agree.then(|| vec![Field { offset: start, width, meaning, certainty, ..only.clone() }]);
    }
    let members: Vec<&Field> =
        group.iter().map(|e| &e.field).filter(|field| field.certainty < Certainty::Guessed).collect();
    let places: BTreeSet<(u32, u32)> = members.iter().map(|field| (field.offset, field.width)).collect();
    if places.len() != members.len() || count.checked_mul(u32::try_from(members.len()).ok()?)? > MAX_MEMBERS {
        return None;
    }
    let mut fields = Vec::new();
    for n in 0..count {
        for member in &members {
            let offset = member.offset.checked_add(n.checked_mul(step)?)?;
            let inner = member.name.as_deref().unwrap_or_default();
            let name = Some(format!("{name}_{n}_{inner}"));
            fields.push(Field { offset, name, certainty: Certainty::Likely, ..(*member).clone() });
        }
    }
    Some(fields)
}

/// Elements that touch are an array, if it ends where something else starts.
pub(crate) fn of_elements(mut elements: Vec<Evidence>, others: &[Evidence], size: Size) -> Vec<Evidence> {
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
                last.field.meaning = match *width {
                    each if last.helper && matches!(evidence.field.meaning, Meaning::Text) => Meaning::Texts(each),
                    _ if last.helper => Meaning::Bytes,
                    each @ (2 | 4 | 8) => Meaning::Numbers(each),
                    _ => Meaning::Bytes,
                };
            }
            _ => arrays.push((evidence.field.width, evidence)),
        }
    }
    let starts: BTreeSet<u32> =
        others.iter().chain(arrays.iter().map(|(_, array)| array)).map(|other| other.field.offset).collect();
    for (width, array) in &mut arrays {
        let end = array.field.end();
        let ends = starts.contains(&end) || size == Size::Exact(end);
        let rows = matches!(array.field.meaning, Meaning::Texts(_));
        if ends && array.field.width > *width && (rows || !array.helper) {
            array.field.certainty = Certainty::Likely;
        }
    }
    arrays.into_iter().map(|(_, array)| array).collect()
}
