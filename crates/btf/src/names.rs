//! Names as hashes: which types may have one. What is kept of a name is a hash of its first bytes, in the order of the
//! types: building that is a tenth of the pass over the types that every load needs anyway.

use crate::types::TypeId;

/// Types by the first bytes of their names.
pub(crate) struct Names {
    /// The last entry with each hash, as its number plus 1. As many as a power of two.
    buckets: Box<[u32]>,
    entries: Vec<Entry>,
}

struct Entry {
    key: u32,
    /// Where its name is in the string section.
    name: u32,
    id: TypeId,
    /// The entry before it in its bucket, as the bucket has it.
    next: u32,
}

impl Names {
    /// With room for about so many.
    pub(crate) fn new(usual: usize) -> Names {
        let buckets = usual.clamp(16, 1 << 20).next_power_of_two();
        Names { buckets: vec![0; buckets].into_boxed_slice(), entries: Vec::with_capacity(usual) }
    }

    fn bucket(&self, key: u32) -> usize {
        key as usize & self.buckets.len().wrapping_sub(1)
    }

    /// `text` begins with the name and goes on behind it; `name` is where that is in the string section.
    #[inline]
    pub(crate) fn add(&mut self, text: &[u8], name: u32, id: TypeId) {
        let key = key(text);
        let bucket = self.bucket(key);
        let Some(last) = self.buckets.get_mut(bucket) else { return };
        let next = std::mem::replace(last, (self.entries.len() as u32).wrapping_add(1));
        self.entries.push(Entry { key, name, id, next });
    }

    /// Names that may have this key, as offsets in the string section, and their types.
    pub(crate) fn with(&self, key: u32) -> impl Iterator<Item = (u32, TypeId)> {
        let entry = |number: u32| self.entries.get(number.checked_sub(1)? as usize);
        let first = self.buckets.get(self.bucket(key)).and_then(|last| entry(*last));
        let chain = std::iter::successors(first, move |before| entry(before.next));
        chain.filter(move |entry| entry.key == key).map(|entry| (entry.name, entry.id))
    }
}

/// Words of a name that its key is made of. Hundreds of names of a kernel have their first two in common.
const KEY_WORDS: usize = 3;

/// A hash of the beginning of a name, which ends with it or with its first three underscores: a name and its flavours
/// have the same. No branch depends on the name, none could be foretold.
#[inline]
pub(crate) fn key(name: &[u8]) -> u32 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    const UNDERSCORES: u64 = 0x5f5f_5f5f_5f5f_5f5f;
    const LOOKED_AT: usize = (KEY_WORDS + 1) * 8;
    let near_the_end = || {
        let mut padded = [0; LOOKED_AT];
        padded.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        padded
    };
    let start = name.first_chunk::<LOOKED_AT>().copied().unwrap_or_else(near_the_end);
    let words = start.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    // The highest bit of each byte that is an underscore.
    let underscores = words.clone().map(|word| {
        let other = word ^ UNDERSCORES;
        !((other & !HIGH).wrapping_add(!HIGH) | other | !HIGH)
    });
    let (mut hash, mut before_end) = (0u64, u64::MAX);
    for ((word, here), next) in words.zip(underscores.clone()).zip(underscores.skip(1)) {
        // That of each byte that is 0: exact up to the first of them.
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        let ends = zeros | here & (here >> 8 | next << 56) & (here >> 16 | next << 48);
        let end = ends & ends.wrapping_neg();
        hash = (hash.rotate_left(5) ^ word & end.wrapping_sub(1) >> 7 & before_end).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        before_end &= u64::from(end != 0).wrapping_sub(1);
    }
    (hash >> 32) as u32
}
