//! Records of several kinds in one buffer, told apart by a constant that each kind has at the same place.

use std::collections::{BTreeMap, BTreeSet};

/// Tags are in the first bytes of a record.
const MAX_OFFSET: u32 = 256;

/// The constant by which records of one kind are known among those of one map and size.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag {
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub width: u32,
    /// What this kind of record has there: one of these numbers.
    pub values: Vec<u64>,
}

impl Tag {
    /// Whether a record, in the byte order of this machine, is of this kind.
    pub fn matches(&self, record: &[u8]) -> bool {
        let (offset, width) = (self.offset as usize, self.width as usize);
        let Some(bytes) = record.get(offset..offset.saturating_add(width)) else { return false };
        let number = if cfg!(target_endian = "big") {
            bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        } else {
            bytes.iter().rfold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        self.values.contains(&number)
    }
}

/// The bytes of a record that are the same every time that one call sends it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Constants {
    bytes: BTreeMap<u32, Option<u8>>,
    /// Where constants are stored in one piece.
    pieces: BTreeSet<(u32, u32)>,
}

impl Constants {
    /// A constant is stored.
    pub(crate) fn store(&mut self, offset: u32, width: u32, value: u64, big_endian: bool) {
        if offset >= MAX_OFFSET || width > 8 {
            return;
        }
        self.pieces.insert((offset, width));
        for n in 0..width {
            let place = if big_endian { width.saturating_sub(n).saturating_sub(1) } else { n };
            let byte = value.checked_shr(place.saturating_mul(8)).unwrap_or(0).to_le_bytes().first().copied();
            let here = self.bytes.entry(offset.saturating_add(n)).or_insert(byte);
            *here = match (*here, byte) {
                (before, now) if before == now => now,
                // What was cleared is filled later.
                (Some(0), now) => now,
                (before, Some(0)) => before,
                _ => None,
            };
        }
    }

    /// Something else is stored.
    pub(crate) fn unknown(&mut self, offset: u32, width: u32) {
        for at in offset..offset.saturating_add(width).min(MAX_OFFSET.saturating_add(8)) {
            self.bytes.insert(at, None);
        }
    }

    fn number(&self, offset: u32, width: u32, big_endian: bool) -> Option<u64> {
        let byte = |at: u32| self.bytes.get(&at).copied().flatten().map(u64::from);
        let mut places: Vec<u32> = (0..width.min(8)).map(|n| offset.saturating_add(n)).collect();
        if !big_endian {
            places.reverse();
        }
        places.into_iter().try_fold(0u64, |number, at| Some(number << 8 | byte(at)?))
    }
}

/// Tags for kinds of records, each with the calls that send it; `None`: nothing tells them apart.
pub(crate) fn told_apart(kinds: &[Vec<&Constants>], big_endian: bool) -> Option<Vec<Tag>> {
    let pieces: BTreeSet<(u32, u32)> = kinds.iter().flatten().flat_map(|call| call.pieces.iter().copied()).collect();
    pieces.into_iter().find_map(|(offset, width)| {
        let mut taken = BTreeSet::new();
        let mut tags = Vec::new();
        for calls in kinds {
            let values: Option<BTreeSet<u64>> =
                calls.iter().map(|call| call.number(offset, width, big_endian)).collect();
            let values = values?;
            if values.iter().any(|value| !taken.insert(*value)) {
                return None;
            }
            tags.push(Tag { offset, width, values: values.into_iter().collect() });
        }
        Some(tags)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn constants(all: &[(u32, u32, u64)]) -> Constants {
        let mut constants = Constants::default();
        for (offset, width, value) in all {
            constants.store(*offset, *width, *value, cfg!(target_endian = "big"));
        }
        constants
    }

    #[test]
    fn the_first_number_that_differs() {
        let big = cfg!(target_endian = "big");
        let open = constants(&[(0, 8, 0), (0, 2, 7), (4, 4, 1)]);
        let mut exit = constants(&[(0, 2, 7), (4, 4, 2)]);
        let again = constants(&[(0, 2, 7), (4, 4, 3)]);
        let tags = told_apart(&[vec![&open], vec![&exit, &again]], big).unwrap();
        assert_eq!(tags[1], Tag { offset: 4, width: 4, values: vec![2, 3] });
        let mut record = [7, 0, 0, 0, 0, 0, 0, 0];
        record[4..].copy_from_slice(&2u32.to_ne_bytes());
        assert!(tags[1].matches(&record) && !tags[0].matches(&record) && !tags[1].matches(&record[..6]));
        exit.unknown(6, 1);
        assert_eq!(told_apart(&[vec![&open], vec![&exit]], big), None);
        assert_eq!(told_apart(&[vec![&open], vec![&open]], big), None);
    }
}
