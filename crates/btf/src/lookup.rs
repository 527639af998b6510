//! Types by name. A whole kernel has some 70,000 named types, and four in five of them are functions: those are kept
//! apart, and looked at only when a question is for one.

use crate::Btf;
use crate::names::key;
use crate::types::{Kind, TypeId};

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
