//! Types by name. A whole kernel has some 80,000 named types and a load asks for a few of them, so there
//! is no index of names: one pass over the types answers any number of questions, and answers are kept.
//! Two in three of those names are functions'. They are kept apart, so that the pass can go by them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Btf;
use crate::types::{Kind, TypeId};

/// What is known of names so far.
#[derive(Default)]
pub(crate) struct Names {
    types: Mutex<Known>,
    functions: Mutex<Known>,
}

/// Own types by essential name.
type Known = HashMap<Box<[u8]>, Arc<[TypeId]>>;

impl Names {
    fn of(&self, kind: Kind) -> MutexGuard<'_, Known> {
        let names = if kind == Kind::Func { &self.functions } else { &self.types };
        names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// C's names for the integer that is as wide as a pointer.
const LONGS: [&str; 4] = ["long unsigned int", "unsigned long", "long int", "long"];

/// Longest flavour that is looked at, in bytes.
const MAX_FLAVOUR: usize = 512;

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
        self.essentially(essential, Kind::Void).to_vec()
    }

    /// Looks for many names in one pass, here and in the base, so that later questions for them cost nothing.
    ///
    /// Of the kinds it matters only which are [`Kind::Func`]: the pass is shorter when none is.
    pub fn prefetch(&self, names: &[(&str, Kind)]) {
        if let Some(base) = self.base() {
            base.prefetch(names);
        }
        let of = |functions: bool| names.iter().filter(move |(_, kind)| (*kind == Kind::Func) == functions);
        let types = self.unknown(of(false).map(|(name, _)| *name).chain(LONGS), Kind::Void);
        let functions = self.unknown(of(true).map(|(name, _)| *name), Kind::Func);
        self.search(types, functions);
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

    fn unknown<'n>(&self, names: impl Iterator<Item = &'n str>, kind: Kind) -> Wanted<'n> {
        let known = self.names().of(kind);
        Wanted::new(names.map(|name| essential(name.as_bytes())).filter(|name| !known.contains_key(*name)))
    }

    /// Functions for [`Kind::Func`], everything else for every other kind.
    fn essentially(&self, name: &str, kind: Kind) -> Arc<[TypeId]> {
        let known = self.names().of(kind).get(name.as_bytes()).cloned();
        known.unwrap_or_else(|| {
            let (wanted, none) = (Wanted::new([name.as_bytes()].into_iter()), Wanted::default());
            let (types, functions) = if kind == Kind::Func { (none, wanted) } else { (wanted, none) };
            self.search(types, functions);
            self.names().of(kind).get(name.as_bytes()).cloned().unwrap_or_default()
        })
    }

    /// One pass over the types for all of these names.
    fn search<'n>(&self, mut types: Wanted<'n>, mut functions: Wanted<'n>) {
        if types.found.is_empty() && functions.found.is_empty() {
            return;
        }
        let (strings, first_string) = (self.strings(), self.first_string());
        let (any_type, any_function) = (!types.found.is_empty(), !functions.found.is_empty());
        self.scan_names(|id, head| {
            let is_function = head.is_function();
            if !(if is_function { any_function } else { any_type }) {
                return;
            }
            if let Some(name) = head.name.checked_sub(first_string).and_then(|own| strings.get(own as usize..)) {
                if is_function { &mut functions } else { &mut types }.offer(name, id);
            }
        });
        for (wanted, kind) in [(types, Kind::Void), (functions, Kind::Func)] {
            self.names().of(kind).extend(wanted.found.into_iter().map(|(name, ids)| (name.into(), ids.into())));
        }
    }
}

/// Names that are looked for. Nearly all others are turned away by one bit, found from their first eight bytes.
struct Wanted<'a> {
    /// Essential names, and the types that have them.
    found: Vec<(&'a [u8], Vec<TypeId>)>,
    /// First bytes of names, sorted, with indexes into `found`.
    keys: Vec<(u64, usize)>,
    /// A bit for each hash of a key.
    bits: [u64; 64],
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Wanted { found: Vec::new(), keys: Vec::new(), bits: [0; 64] }
    }
}

impl<'a> Wanted<'a> {
    fn new(names: impl Iterator<Item = &'a [u8]>) -> Wanted<'a> {
        let mut names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let mut wanted = Wanted::default();
        for name in names {
            // What follows the name is its end or a flavour.
            for end in [b"\0", b"___".as_slice()] {
                let key = key([name, end, &[0; 8]].concat().as_slice());
                wanted.keys.push((key, wanted.found.len()));
                let (word, bit) = bit_of(key);
                if let Some(word) = wanted.bits.get_mut(word) {
                    *word |= bit;
                }
            }
            wanted.found.push((name, Vec::new()));
        }
        wanted.keys.sort_unstable();
        wanted.keys.dedup();
        wanted
    }

    /// `rest` begins with the name of this type and goes on behind it.
    #[inline]
    fn offer(&mut self, rest: &[u8], id: TypeId) {
        let key = key(rest);
        let (word, bit) = bit_of(key);
        if self.bits.get(word).is_some_and(|word| word & bit != 0) {
            self.offer_likely(key, rest, id);
        }
    }

    fn offer_likely(&mut self, key: u64, rest: &[u8], id: TypeId) {
        let first = self.keys.partition_point(|(other, _)| *other < key);
        for (_, index) in self.keys.iter().skip(first).take_while(|(other, _)| *other == key) {
            let Some((name, ids)) = self.found.get_mut(*index) else { continue };
            let Some(behind) = rest.strip_prefix(*name) else { continue };
            let flavour = match behind {
                [0, ..] => Some(0),
                [b'_', b'_', b'_', ..] => memchr::memchr(0, behind.get(..MAX_FLAVOUR).unwrap_or(behind)),
                _ => None,
            };
            let whole = flavour.and_then(|end| rest.get(..name.len().saturating_add(end)));
            if whole.is_some_and(|whole| essential(whole) == *name) {
                ids.push(id);
            }
        }
    }
}

/// The first eight bytes of a name up to its end or its first three underscores, whichever comes first.
/// So a name and its flavours have the same key but for those of six and seven letters.
#[inline]
fn key(name: &[u8]) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    const UNDERSCORES: u64 = 0x5f5f_5f5f_5f5f_5f5f;
    let start = match name.first_chunk::<8>() {
        Some(start) => u64::from_le_bytes(*start),
        None => name.iter().rev().fold(0, |start, byte| start << 8 | u64::from(*byte)),
    };
    // The highest bit of each byte that is 0 (exact up to the first of them), of each that is an underscore.
    let zeros = start.wrapping_sub(LOW) & !start & HIGH;
    let other = start ^ UNDERSCORES;
    let underscores = !((other & !HIGH).wrapping_add(!HIGH) | other | !HIGH);
    let ends = zeros | underscores & underscores >> 8 & underscores >> 16;
    let end = ends & ends.wrapping_neg();
    start & end.wrapping_sub(1) >> 7
}

#[inline]
fn bit_of(key: u64) -> (usize, u64) {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    ((hash >> 6) as usize, 1 << (hash & 63))
}
