//! Types by name. A whole kernel has some 80,000 named types and a load asks for a few of them, so there
//! is no index of names: one pass over the types answers any number of questions, and answers are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Btf;
use crate::read::word_at;
use crate::types::{Kind, TypeId};

/// Own types by essential name.
pub(crate) type Names = Mutex<HashMap<Box<[u8]>, Arc<[TypeId]>>>;

/// C's names for the integer that is as wide as a pointer.
const LONGS: [&str; 4] = ["long unsigned int", "unsigned long", "long int", "long"];

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
        let same = self.essentially(essential_name(name));
        same.iter().copied().find(|id| self.get(*id).is_ok_and(|ty| ty.def.kind() == kind && ty.name == name))
    }

    /// Every type with exactly this name, of any kind, the base's first. None for the empty name.
    pub fn named(&self, name: &str) -> Vec<TypeId> {
        let mut found = self.base().map_or_else(Vec::new, |base| base.named(name));
        let same = self.essentially(essential_name(name));
        found.extend(same.iter().filter(|id| self.get(**id).is_ok_and(|ty| ty.name == name)));
        found
    }

    /// Every type of any kind, not the base's, whose name without its flavour is this.
    pub fn candidates(&self, essential: &str) -> Vec<TypeId> {
        self.essentially(essential).to_vec()
    }

    /// Looks for many names in one pass, here and in the base, so that later questions for them cost nothing.
    pub fn prefetch(&self, names: &[&str]) {
        if let Some(base) = self.base() {
            base.prefetch(names);
        }
        let known = self.names().lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = names.iter().chain(&LONGS).map(|name| essential(name.as_bytes()));
        let wanted: Vec<&[u8]> = wanted.filter(|name| !known.contains_key(*name)).collect();
        drop(known);
        self.search(&wanted);
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

    fn essentially(&self, name: &str) -> Arc<[TypeId]> {
        let known = self.names().lock().unwrap_or_else(PoisonError::into_inner).get(name.as_bytes()).cloned();
        known.unwrap_or_else(|| {
            self.search(&[name.as_bytes()]);
            let known = self.names().lock().unwrap_or_else(PoisonError::into_inner);
            known.get(name.as_bytes()).cloned().unwrap_or_default()
        })
    }

    /// One pass over the types for all of these essential names.
    fn search(&self, wanted: &[&[u8]]) {
        let mut found: HashMap<&[u8], Vec<TypeId>> =
            wanted.iter().filter(|name| !name.is_empty()).map(|name| (*name, Vec::new())).collect();
        if found.is_empty() {
            return;
        }
        let filter = Filter::new(found.keys().copied());
        let (types, strings) = (self.type_section(), self.strings());
        let (first_id, first_string) = (self.first_own().0, self.first_string());
        for (id, at) in (first_id..).zip(self.offsets().unwrap_or_default()) {
            let name = word_at(types, *at as usize, self.is_big_endian()).unwrap_or(0);
            let rest = name.checked_sub(first_string).and_then(|own| strings.get(own as usize..));
            let Some(rest) = rest.filter(|rest| filter.may_be(rest)) else { continue };
            let Some(name) = memchr::memchr(0, rest).and_then(|end| rest.get(..end)) else { continue };
            if let Some(ids) = found.get_mut(essential(name)) {
                ids.push(TypeId(id));
            }
        }
        let mut known = self.names().lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(found.into_iter().map(|(name, ids)| (name.into(), ids.into())));
    }
}

/// Tells most names apart from the wanted ones by their first four bytes.
struct Filter([u64; Filter::WORDS]);

impl Filter {
    const WORDS: usize = 64;

    fn new<'a>(wanted: impl Iterator<Item = &'a [u8]>) -> Filter {
        let mut filter = Filter([0; Self::WORDS]);
        for name in wanted {
            // What follows the name is its end or a flavour.
            for end in [b"\0\0\0\0".as_slice(), b"___"] {
                let padded: Vec<u8> = name.iter().chain(end).copied().collect();
                let (word, bit) = Self::place(&padded);
                if let Some(word) = filter.0.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        filter
    }

    #[inline]
    fn may_be(&self, name: &[u8]) -> bool {
        let (word, bit) = Self::place(name);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    #[inline]
    fn place(name: &[u8]) -> (usize, u64) {
        let start = match name.first_chunk::<4>() {
            Some(start) => u32::from_le_bytes(*start),
            None => name.iter().rev().fold(0, |start, byte| start << 8 | u32::from(*byte)),
        };
        // Bytes behind the end of the name belong to the next one.
        let zeros = start.wrapping_sub(0x0101_0101) & !start & 0x8080_8080;
        let start = if zeros == 0 { start } else { start & (zeros & zeros.wrapping_neg()).wrapping_sub(1) >> 7 };
        let hash = start.wrapping_mul(0x9e37_79b1) >> 20;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }
}
