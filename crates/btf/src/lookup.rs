//! Types by name. A whole kernel has some 70,000 named types, and four in five of them are functions: those are kept
//! apart, and looked at only when a question is for one. What is kept of a name is a hash of its first bytes, in the
//! order of the types: building that is a tenth of the pass over the types that every load needs anyway.

use crate::Btf;
use crate::types::{Kind, TypeId};

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
    fn with(&self, key: u32) -> impl Iterator<Item = (u32, TypeId)> {
        let entry = |number: u32| self.entries.get(number.checked_sub(1)? as usize);
        let first = self.buckets.get(self.bucket(key)).and_then(|last| entry(*last));
        let chain = std::iter::successors(first, move |before| entry(before.next));
        chain.filter(move |entry| entry.key == key).map(|entry| (entry.name, entry.id))
    }
}

/// C's names for the integer that is as wide as a pointer.
const LONGS: [&str; 4] = ["long unsigned int", "unsigned long", "long int", "long"];

/// Longest name whose flavour is looked at, in bytes.
const MAX_NAME: usize = 1024;

/// The name without its flavour: `task_struct___old` is another version of `task_struct`.
///
/// The last three underscores between two other characters count (libbpf, bpf_core_essential_name_len).
pub fn essential_name(name: &str) -> &str {
    name.get(..essential(name.as_bytes()).len()).unwrap_or(name)
}

fn essential(name: &[u8]) -> &[u8] {
    let flavour = name.windows(5).rposition(|w| matches!(w, [a, b'_', b'_', b'_', z] if *a != b'_' && *z != b'_'));
    flavour.and_then(|at| name.get(..=at)).unwrap_or(name)
}

impl Btf {
    /// The first type of this name and kind, in the base or here.
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        self.base().and_then(|base| base.find(name, kind)).or_else(|| self.find_own(name, kind))
    }

    /// The first type of this name and kind that is not the base's.
    pub fn find_own(&self, name: &str, kind: Kind) -> Option<TypeId> {
        let same = self.essentially(essential_name(name), kind);
        same.iter().copied().find(|id| self.get(*id).is_ok_and(|ty| ty.def.kind() == kind && ty.name == name))
    }

    /// Every type with exactly this name, of any kind, the base's first. None for the empty name.
    pub fn named(&self, name: &str) -> Vec<TypeId> {
        let mut found = self.base().map_or_else(Vec::new, |base| base.named(name));
        let (start, essential) = (found.len(), essential_name(name));
        for kind in [Kind::Void, Kind::Func] {
            let same = self.essentially(essential, kind);
            found.extend(same.iter().filter(|id| self.get(**id).is_ok_and(|ty| ty.name == name)));
        }
        found.get_mut(start..).unwrap_or_default().sort_unstable();
        found
    }

    /// Every type of any kind but functions, not the base's, whose name without its flavour is this.
    pub fn candidates(&self, essential: &str) -> Vec<TypeId> {
        self.essentially(essential, Kind::Void)
    }

    /// Bytes of a pointer, as the types of this BTF tell it: those of C's `long`, 8 where there is none.
    pub fn pointer_size(&self) -> u32 {
        *self.pointer_size_cell().get_or_init(|| {
            if let Some(base) = self.base() {
                return base.pointer_size();
            }
            let long = LONGS.iter().find_map(|name| self.get(self.find_own(name, Kind::Int)?).ok());
            match long.map(|ty| ty.def) {
                Some(crate::Def::Int(int)) if int.size == 4 => 4,
                _ => 8,
            }
        })
    }

    /// Functions for [`Kind::Func`], everything else for every other kind, in the order of their numbers.
    fn essentially(&self, name: &str, kind: Kind) -> Vec<TypeId> {
        let Some(names) = self.names(kind).filter(|_| !name.is_empty()) else { return Vec::new() };
        let same = names.with(key(name.as_bytes())).filter(|(at, _)| self.is_essentially(*at, name));
        let mut found: Vec<TypeId> = same.map(|(_, id)| id).collect();
        found.sort_unstable();
        found
    }

    /// Whether the name that starts here in the string section is this one or a flavour of it.
    fn is_essentially(&self, at: u32, name: &str) -> bool {
        let rest = self.strings().get(at as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        match rest {
            Some([0, ..]) => essential(name.as_bytes()).len() == name.len(),
            Some([b'_', b'_', b'_', ..]) => {
                let whole = self.strings().get(at as usize..).map(|rest| rest.get(..MAX_NAME).unwrap_or(rest));
                let whole = whole.and_then(|rest| rest.get(..memchr::memchr(0, rest)?));
                whole.is_some_and(|whole| essential(whole) == name.as_bytes())
            }
            _ => false,
        }
    }
}

/// Words of a name that its key is made of. Hundreds of names of a kernel have their first two in common.
const KEY_WORDS: usize = 3;

/// A hash of the beginning of a name, which ends with it or with its first three underscores: a name and its flavours
/// have the same. No branch depends on the name, none could be foretold.
#[inline]
fn key(name: &[u8]) -> u32 {
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
