//! BTF for kernels that know less of the format than the compiler does.
//!
//! Types are rewritten where they are: their numbers stay, and strings are only added, because maps, function records
//! and line records refer to both. Each replacement has as many words as what it replaces.

use crate::read::MAX_RECORDS;
use crate::types::{Int, Kind, TypeId};
use crate::write::info;
use crate::{Builder, Error, New};

/// What the format learned after its first version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Newer {
    /// Functions and their prototypes (Linux 5.0).
    Func,
    /// Variables and data sections (5.2).
    Datasec,
    /// Functions with global linkage (5.6).
    GlobalFunc,
    /// Floating-point types (5.13).
    Float,
    /// Declaration tags (5.16).
    DeclTag,
    /// Type tags (5.17).
    TypeTag,
    /// Enums of 64 bits, and signed enums of 32 (6.0).
    Enum64,
}

impl Newer {
    /// Each, oldest first.
    pub const ALL: [Newer; 7] =
        [Newer::Func, Newer::Datasec, Newer::GlobalFunc, Newer::Float, Newer::DeclTag, Newer::TypeTag, Newer::Enum64];

    fn is_in(self, kind: Kind, info: u32) -> bool {
        match self {
            Newer::Func => matches!(kind, Kind::Func | Kind::FuncProto),
            Newer::Datasec => matches!(kind, Kind::Var | Kind::Datasec),
            Newer::GlobalFunc => kind == Kind::Func && info & MAX_RECORDS != 0,
            Newer::Float => kind == Kind::Float,
            Newer::DeclTag => kind == Kind::DeclTag,
            Newer::TypeTag => kind == Kind::TypeTag,
            Newer::Enum64 => kind == Kind::Enum64 || kind == Kind::Enum && info >> 31 == 1,
        }
    }
}

/// Longest name that every kernel takes (`KSYM_NAME_LEN`, 128 before Linux 6.1).
const MAX_NAME: usize = 127;
/// `info` and the last word of an `INT` of one byte: small enough for the place of any variable.
const BYTE: [u32; 2] = [1, 8];

impl Builder {
    /// Whether any type of this builder's own needs a kernel that knows this.
    pub fn uses(&mut self, what: Newer) -> bool {
        self.ids().any(|id| self.head(id).is_ok_and(|(kind, info)| what.is_in(kind, info)))
    }

    /// Puts what every kernel knows in the place of all types that need this: the same names where they can stay, the
    /// same sizes where others depend on them (libbpf, `bpf_object__sanitize_btf`). [`Builder::simplify_names`] comes
    /// after it: a variable may have dots in its name, and the member that takes its place may not.
    ///
    /// # Errors
    /// A type is cut off.
    pub fn avoid(&mut self, what: Newer) -> Result<(), Error> {
        let mut placeholder = None;
        for id in self.ids() {
            let (kind, info_word) = self.head(id)?;
            if !what.is_in(kind, info_word) {
                continue;
            }
            let records = info_word & MAX_RECORDS;
            match kind {
                Kind::FuncProto => self.set_head(id, None, info(Kind::Enum, false, records), Some(4))?,
                Kind::Func if what == Newer::Func => self.set_head(id, None, info(Kind::Typedef, false, 0), None)?,
                Kind::Func => self.set_head(id, None, info(Kind::Func, false, 0), None)?,
                Kind::Var | Kind::DeclTag => {
                    let [size, bits] = BYTE;
                    self.set_head(id, None, info(Kind::Int, false, 0), Some(size))?;
                    if let Some(last) = self.words(id)?.get_mut(3) {
                        *last = bits;
                    }
                }
                Kind::Datasec => self.datasec_to_struct(id, records)?,
                // C has no `struct float`: without a name.
                Kind::Float => self.set_head(id, Some(0), info(Kind::Struct, false, 0), None)?,
                Kind::TypeTag => self.set_head(id, Some(0), info(Kind::Const, false, 0), None)?,
                Kind::Enum => self.set_head(id, None, info(Kind::Enum, false, records), None)?,
                Kind::Enum64 => {
                    let byte = New::Int(Int { size: 1, bits: 8, offset: 0, signed: false, char: false, bool: false });
                    let member = *placeholder.get_or_insert_with(|| self.add("enum64_placeholder", byte));
                    self.set_head(id, None, info(Kind::Union, false, records), None)?;
                    for record in self.records(id)? {
                        if let [_name, ty, offset] = record {
                            (*ty, *offset) = (member.0, 0);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives every type, member, enumerator and parameter a name that every kernel takes: identifiers of at most 127
    /// bytes, in data sections and variables also with dots (kernel/bpf/btf.c, `btf_name_valid_identifier`,
    /// `btf_name_valid_section`, of which newer kernels take more). Names from compilers of C mostly are so already;
    /// those of Rust and C++ are not.
    ///
    /// # Errors
    /// A type is cut off.
    pub fn simplify_names(&mut self) -> Result<(), Error> {
        for id in self.ids() {
            let (kind, _) = self.head(id)?;
            let (dots, named_records) = match kind {
                Kind::Var | Kind::Datasec => (true, None),
                Kind::Struct | Kind::Union | Kind::Enum64 => (false, Some(3)),
                Kind::Enum | Kind::FuncProto => (false, Some(2)),
                Kind::Fwd | Kind::Typedef | Kind::Func => (false, None),
                // Their names are anybody's text, or must be empty.
                Kind::Void
                | Kind::Int
                | Kind::Ptr
                | Kind::Array
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Float
                | Kind::DeclTag
                | Kind::TypeTag => continue,
            };
            let name_words = [0].into_iter().chain(named_records.into_iter().flat_map(|each| (3..).step_by(each)));
            for at in name_words {
                let Some(offset) = self.words(id)?.get(at).copied() else { break };
                let Some(name) = simpler(self.text(offset), dots) else { continue };
                let name = self.string(&name);
                if let Some(word) = self.words(id)?.get_mut(at) {
                    *word = name;
                }
            }
        }
        Ok(())
    }

    fn head(&mut self, id: TypeId) -> Result<(Kind, u32), Error> {
        let info = self.words(id)?.get(1).copied().ok_or(Error::BadType { id, what: "it is cut off" })?;
        Ok((self.kind(id)?, info))
    }

    fn set_head(&mut self, id: TypeId, name: Option<u32>, info: u32, size: Option<u32>) -> Result<(), Error> {
        let [name_word, info_word, size_word, ..] = self.words(id)? else {
            return Err(Error::BadType { id, what: "it is cut off" });
        };
        *name_word = name.unwrap_or(*name_word);
        *info_word = info;
        *size_word = size.unwrap_or(*size_word);
        Ok(())
    }

    /// The records of a type that has three words in each.
    fn records(&mut self, id: TypeId) -> Result<impl Iterator<Item = &mut [u32]>, Error> {
        Ok(self.words(id)?.get_mut(3..).unwrap_or_default().chunks_exact_mut(3))
    }

    /// Variables become members of the same name.
    fn datasec_to_struct(&mut self, id: TypeId, records: u32) -> Result<(), Error> {
        let vars: Vec<TypeId> = self.records(id)?.filter_map(|record| record.first().copied()).map(TypeId).collect();
        let names: Vec<u32> = vars
            .iter()
            .map(|var| self.words(*var).ok().and_then(|words| words.first().copied()).unwrap_or(0))
            .collect();
        for (record, name) in self.records(id)?.zip(names) {
            if let [first, second, third] = record {
                (*first, *second, *third) = (name, *first, second.saturating_mul(8));
            }
        }
        self.set_head(id, None, info(Kind::Struct, false, records), None)
    }
}

/// The name with `_` for what some kernel refuses; `None`: it is good as it is.
fn simpler(name: &[u8], dots: bool) -> Option<String> {
    let allowed = LETTER | DIGIT | if dots { DOT } else { 0 };
    let is = |byte: u8, classes: u8| CLASS.get(usize::from(byte)).is_some_and(|class| class & classes != 0);
    let starts_well = name.first().is_none_or(|first| is(*first, allowed & !DIGIT));
    if starts_well && name.len() <= MAX_NAME && name.iter().all(|byte| is(*byte, allowed)) {
        return None;
    }
    let good = |at, byte| is(byte, if at > 0 { allowed } else { allowed & !DIGIT });
    let replace = |(at, byte)| if good(at, byte) { char::from(byte) } else { '_' };
    Some(name.iter().copied().take(MAX_NAME).enumerate().map(replace).collect())
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const DOT: u8 = 4;

/// What each byte is in a name.
#[expect(clippy::indexing_slicing, reason = "at compile time, as long as the table is")]
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'.' => DOT,
            _ => 0,
        };
        byte = byte.saturating_add(1u8);
    }
    class
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Def, Enumerator, Linkage, Member, Param, SectionVar};

    fn everything() -> (Builder, u32) {
        let mut builder = Builder::new();
        let int =
            builder.add("int", New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false }));
        let proto = builder.add("", New::FuncProto { ret: int, params: &[Param { name: "a", ty: int }] });
        let func = builder.add("f", New::Func { proto, linkage: Linkage::Global });
        let var = builder.add("handler.count", New::Var { ty: int, linkage: Linkage::Global });
        builder.add(".data.one", New::Datasec { size: 8, vars: &[SectionVar { ty: var, offset: 4, size: 4 }] });
        builder.add("double", New::Float { size: 8 });
        builder.add("note: anything", New::DeclTag { ty: func, component: None });
        let tag = builder.add("user", New::TypeTag(int));
        builder.add("", New::Ptr(tag));
        let values = [Enumerator { name: "A", value: -1 }, Enumerator { name: "B", value: 1 << 40 }];
        builder.add("e32", New::Enum { size: 4, signed: true, values: values.get(..1).unwrap() });
        builder.add("e64", New::Enum64 { size: 8, signed: true, values: &values });
        let len = builder.next_id().0;
        (builder, len)
    }

    #[test]
    fn nothing_newer_is_left_and_numbers_stay() {
        let (mut builder, len) = everything();
        for what in Newer::ALL.into_iter().rev() {
            assert!(builder.uses(what), "{what:?}");
            builder.avoid(what).unwrap();
            assert!(!builder.uses(what), "{what:?}");
        }
        builder.simplify_names().unwrap();
        let btf = builder.build().unwrap();
        assert_eq!(btf.len(), len + 1, "and the placeholder");
        let get = |id| btf.get(TypeId(id)).unwrap();
        assert!(matches!(get(2).def, Def::Enum(e) if e.size == 4 && e.values().len() == 1));
        assert!(matches!(get(3).def, Def::Typedef(TypeId(2))));
        assert!(matches!(get(4).def, Def::Int(int) if int.size == 1 && int.bits == 8));
        let Def::Struct(section) = get(5).def else { unreachable!() };
        assert_eq!((get(5).name, section.size), ("_data_one", 8));
        let member = section.members().next().unwrap().unwrap();
        assert_eq!(member, Member { name: "handler_count", ty: TypeId(4), bit_offset: 32, bit_size: 0 });
        assert!(matches!(get(6).def, Def::Struct(s) if s.size == 8 && s.is_empty()) && get(6).name.is_empty());
        assert!(matches!(get(7).def, Def::Int(int) if int.size == 1));
        assert!(matches!(get(8).def, Def::Const(TypeId(1))) && get(8).name.is_empty());
        assert!(matches!(get(10).def, Def::Enum(e) if !e.signed));
        let Def::Union(wide) = get(11).def else { unreachable!() };
        let names: Vec<_> = wide.members().map(|m| m.unwrap()).map(|m| (m.name, m.ty.0, m.bit_offset)).collect();
        assert_eq!((wide.size, names), (8, vec![("A", len, 0), ("B", len, 0)]));
    }

    #[test]
    fn a_function_becomes_static_where_only_its_linkage_is_new() {
        let (mut builder, _) = everything();
        builder.avoid(Newer::GlobalFunc).unwrap();
        let btf = builder.build().unwrap();
        assert!(matches!(btf.get(TypeId(3)).unwrap().def, Def::Func { linkage: Linkage::Static, .. }));
    }

    #[test]
    fn names_become_identifiers() {
        let mut builder = Builder::new();
        let int = builder
            .add("<int>", New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false }));
        let members = [Member { name: "0", ty: int, bit_offset: 0, bit_size: 0 }];
        builder.add("Option<&str>", New::Struct { size: 4, members: &members });
        builder.add("fn.llvm.1", New::Typedef(int));
        let var = builder.add("f.count", New::Var { ty: int, linkage: Linkage::Global });
        builder.add("?.struct_ops.é", New::Datasec { size: 4, vars: &[SectionVar { ty: var, offset: 0, size: 4 }] });
        builder.add(&"x".repeat(200), New::Fwd { is_union: false });
        builder.simplify_names().unwrap();
        let btf = builder.build().unwrap();
        let names: Vec<_> = btf.own_types().map(|ty| ty.unwrap().name.to_owned()).collect();
        let long = "x".repeat(127);
        assert_eq!(names, ["<int>", "Option__str_", "fn_llvm_1", "f.count", "_.struct_ops.__", &long]);
        let Def::Struct(option) = btf.get(TypeId(2)).unwrap().def else { unreachable!() };
        assert_eq!(option.members().next().unwrap().unwrap().name, "_");
    }
}
