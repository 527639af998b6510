//! Records of one size in one map: of one kind, or of several.

use std::collections::BTreeMap;

use ringfence_object::{MapId, Object};

use crate::layout::Layout;
use crate::merge::{compatible, merged};
use crate::outputs::Size;
use crate::recover::{self, Sent};
use crate::tags::{Constants, Tag, told_apart};

/// Most calls whose records are compared with each other.
const MAX_COMPARED: usize = 128;

/// The layouts of all records that the object's programs send, by map and size; as far as they can be told.
///
/// Different records of one size in one map have a layout each, with a [`Tag`] that tells them apart.
pub fn layouts(object: &Object) -> Vec<Layout> {
    let (_, sent) = recover::sent(object);
    let mut groups: BTreeMap<(MapId, Size), Vec<&Sent>> = BTreeMap::new();
    for sent in &sent {
        groups.entry((sent.map, sent.size)).or_default().push(sent);
    }
    groups.into_values().flat_map(|all| kinds(&all, object.big_endian)).collect()
}

/// Layouts of records of one size in one map.
pub(crate) fn kinds(all: &[&Sent], big_endian: bool) -> Vec<Layout> {
    if all.len() > MAX_COMPARED {
        return layout(all, None, true).into_iter().collect();
    }
    let kinds = grouped(all, false);
    match tags(&kinds, big_endian) {
        Some(tags) => kinds.iter().zip(tags).filter_map(|(kind, tag)| layout(kind, Some(tag), false)).collect(),
        // What starts together can be members of a union.
        None => layout(all, None, grouped(all, true).len() > 1).into_iter().collect(),
    }
}

/// Calls by what they send: a call is of the first kind that it fits.
fn grouped<'a>(all: &[&'a Sent], unions: bool) -> Vec<Vec<&'a Sent>> {
    let mut kinds: Vec<Vec<&Sent>> = Vec::new();
    for sent in all {
        let fits = |kind: &&mut Vec<&Sent>| kind.iter().all(|other| compatible(&other.fields, &sent.fields, unions));
        match kinds.iter_mut().find(fits) {
            Some(kind) => kind.push(sent),
            None => kinds.push(vec![sent]),
        }
    }
    kinds
}

/// Tags for kinds of records; `None`: there is but one, or nothing tells them apart.
pub(crate) fn tags(kinds: &[Vec<&Sent>], big_endian: bool) -> Option<Vec<Tag>> {
    let constants: Vec<Vec<&Constants>> =
        kinds.iter().map(|kind| kind.iter().map(|sent| &sent.constants).collect()).collect();
    (kinds.len() > 1).then(|| told_apart(&constants, big_endian)).flatten()
}

/// One layout of what several calls send.
pub(crate) fn layout(all: &[&Sent], tag: Option<Tag>, ambiguous: bool) -> Option<Layout> {
    let first = all.first()?;
    let fields = merged(all.iter().map(|sent| sent.fields.clone()).collect());
    let calls = all.iter().map(|sent| sent.call).collect();
    Some(Layout { map: first.map, size: first.size, tag, ambiguous, calls, fields })
}
