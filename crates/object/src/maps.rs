//! The maps of `.maps`: a variable each, whose type says everything.

use ringfence_btf::{Btf, Composite, Def, Linkage, Member, Type, TypeId};
use ringfence_uapi::MapType;

use crate::elf::Elf;
use crate::types::bad;
use crate::{DatasecLayout, Error, Map, Role, VarLayout};

/// The known attributes are a dozen; each may be given once.
const MAX_ATTRIBUTES: usize = 16;

/// A map of `.maps` and its place there.
pub(crate) struct Declared {
    pub(crate) map: Map,
    /// Bytes from the start of the section.
    pub(crate) offset: u32,
    /// Bytes of the variable.
    pub(crate) size: u32,
    /// Where in the variable the slots begin.
    pub(crate) values: Option<u32>,
}

/// Reads every map of `.maps`, in the order of its offset (libbpf, `bpf_object__init_user_btf_maps`).
pub(crate) fn read(
    elf: &Elf<'_>,
    btf: &Btf,
    layout: &DatasecLayout,
    section_size: u64,
) -> Result<Vec<Declared>, Error> {
    layout.vars.iter().map(|var| read_one(elf, btf, var, section_size)).collect()
}

fn read_one(elf: &Elf<'_>, btf: &Btf, place: &VarLayout, section_size: u64) -> Result<Declared, Error> {
    let var = btf.get(place.ty).map_err(|e| bad(elf, e))?;
    let fail = |what: &str| Error::Map { object: elf.file.into(), map: var.name.into(), what: what.into() };
    let Def::Var { ty, linkage } = var.def else { return Err(fail("the type information has no variable for it")) };
    if var.name.is_empty() {
        return Err(fail("it has no name"));
    }
    if u64::from(place.offset).saturating_add(u64::from(place.size)) > section_size {
        return Err(fail("it ends outside section .maps: the file is damaged"));
    }
    match linkage {
        Linkage::Global => {}
        Linkage::Static => return Err(fail("a map is a global variable; take `static` off it")),
        Linkage::Extern => {
            return Err(fail("another file declares it; link the objects first with `bpftool gen object OUT A B`"));
        }
    }
    let Def::Struct(def) = btf.resolve(ty).map_err(|e| bad(elf, e))?.def else {
        return Err(fail("a map is declared as `struct { __uint(type, ...); ... } NAME SEC(\".maps\")`"));
    };
    if def.size > place.size {
        return Err(fail("its type is larger than the variable: the file is damaged"));
    }
    let (map, values) = Definition::read(elf, btf, var.name, def, false)?;
    Ok(Declared { map, offset: place.offset, size: place.size, values })
}

/// What is being read of one map.
struct Definition<'a> {
    elf: &'a Elf<'a>,
    btf: &'a Btf,
    map: Map,
    /// The shape of a map that is inside of another.
    inner: bool,
    values: Option<u32>,
}

impl Definition<'_> {
    /// Reads a map's attributes (libbpf, `parse_btf_map_def`).
    fn read(
        elf: &Elf<'_>,
        btf: &Btf,
        name: &str,
        def: Composite<'_>,
        inner: bool,
    ) -> Result<(Map, Option<u32>), Error> {
        elf.spend(name.len().saturating_add(size_of::<Map>()))?;
        let map = Map::new(name, ".maps", MapType::UNSPEC, Role::Declared);
        let mut reading = Definition { elf, btf, map, inner, values: None };
        if def.len() > MAX_ATTRIBUTES {
            return Err(reading.fail("it has more attributes than there are"));
        }
        for (at, member) in def.members().enumerate() {
            let member = member.map_err(|e| bad(elf, e))?;
            if reading.values.is_some() {
                return Err(
                    reading.attribute("values", format!("it must be the last one, but {} follows", member.name))
                );
            }
            reading.member(at, member)?;
        }
        if reading.map.kind == MapType::UNSPEC {
            return Err(reading.fail("it has no type; add `__uint(type, BPF_MAP_TYPE_...)`"));
        }
        Ok((reading.map, reading.values))
    }

    fn member(&mut self, at: usize, member: Member<'_>) -> Result<(), Error> {
        match member.name {
            "type" => self.map.kind = MapType(self.number(member)?),
            "max_entries" => self.map.max_entries = self.number(member)?,
            "map_flags" => self.map.flags = self.number(member)?,
            "numa_node" => self.map.numa_node = Some(self.number(member)?),
            "map_extra" => self.map.map_extra = self.long(member)?,
            "key_size" => {
                let size = self.number(member)?;
                self.map.key_size = self.agree(member, self.map.key_size, size)?;
            }
            "value_size" => {
                let size = self.number(member)?;
                self.map.value_size = self.agree(member, self.map.value_size, size)?;
            }
            "key" => {
                let (ty, size) = self.pointed_to(member)?;
                self.map.key_size = self.agree(member, self.map.key_size, size)?;
                self.map.key_type = Some(ty);
            }
            "value" => {
                let (ty, size) = self.pointed_to(member)?;
                self.map.value_size = self.agree(member, self.map.value_size, size)?;
                self.map.value_type = Some(ty);
            }
            "pinning" if self.inner => {
                return Err(self.attribute(member.name, "a map inside of a map cannot be pinned by its name"));
            }
            "pinning" => {
                self.map.pin_by_name = match self.number(member)? {
                    0 => false,
                    1 => true,
                    other => {
                        let what = format!("{other} is neither LIBBPF_PIN_NONE (0) nor LIBBPF_PIN_BY_NAME (1)");
                        return Err(self.attribute(member.name, what));
                    }
                }
            }
            "values" => self.values(member)?,
            "" => return Err(self.fail(format!("attribute {at} has no name"))),
            other => {
                let what = "no such attribute is known; known are type, max_entries, map_flags, numa_node, key_size, \
                            key, value_size, value, values, pinning and map_extra";
                return Err(self.attribute(other, what));
            }
        }
        Ok(())
    }

    /// `values`: the shape of inner maps, or programs; and where the slots are.
    fn values(&mut self, member: Member<'_>) -> Result<(), Error> {
        if self.inner {
            return Err(self.attribute(member.name, "a map inside of a map cannot hold maps itself"));
        }
        let holds_maps = matches!(self.map.kind, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
        if !holds_maps && self.map.kind != MapType::PROG_ARRAY {
            let what = "only a map of maps and a program array have it; the type must come before it";
            return Err(self.attribute(member.name, what));
        }
        self.map.value_size = self.agree(member, self.map.value_size, 4)?;
        let shape = "it is declared as `__array(values, ...)`";
        let Def::Array(array) = self.get(member.ty)?.def else { return Err(self.attribute(member.name, shape)) };
        let pointer = self.resolve(array.element)?.def;
        let (0, Def::Ptr(target)) = (array.len, pointer) else { return Err(self.attribute(member.name, shape)) };
        match self.resolve(target)?.def {
            Def::Struct(def) if holds_maps => {
                let name = format!("{}.inner", self.map.name);
                let (inner, _) = Definition::read(self.elf, self.btf, &name, def, true)?;
                self.map.inner = Some(Box::new(inner));
            }
            Def::FuncProto(_) if !holds_maps => {}
            _ if holds_maps => return Err(self.attribute(member.name, "it does not name the struct of a map")),
            _ => {
                return Err(
                    self.attribute(member.name, "it does not name a function; write `__array(values, void (void))`")
                );
            }
        }
        self.values = Some(member.bit_offset / 8);
        Ok(())
    }

    /// `__uint(NAME, VALUE)` is `int (*NAME)[VALUE]`: the value is the array's length.
    fn number(&self, member: Member<'_>) -> Result<u32, Error> {
        let shape = || self.attribute(member.name, format!("it is declared as `__uint({}, NUMBER)`", member.name));
        let Def::Ptr(target) = self.resolve(member.ty)?.def else { return Err(shape()) };
        let Def::Array(array) = self.get(target)?.def else { return Err(shape()) };
        Ok(array.len)
    }

    /// `__ulong(NAME, VALUE)` is an enum with this one value; `__uint` is taken as well.
    fn long(&self, member: Member<'_>) -> Result<u64, Error> {
        let Def::Enum(e) = self.resolve(member.ty)?.def else { return Ok(u64::from(self.number(member)?)) };
        match (e.values().next(), e.values().len()) {
            (Some(only), 1) => {
                let value = only.map_err(|e| bad(self.elf, e))?.value.cast_unsigned();
                Ok(if e.is_64 { value } else { value & u64::from(u32::MAX) })
            }
            _ => Err(self.attribute(member.name, format!("it is declared as `__ulong({}, NUMBER)`", member.name))),
        }
    }

    /// `__type(NAME, TYPE)` is `typeof(TYPE) *NAME`.
    fn pointed_to(&self, member: Member<'_>) -> Result<(TypeId, u32), Error> {
        let Def::Ptr(target) = self.get(member.ty)?.def else {
            return Err(self.attribute(member.name, format!("it is declared as `__type({}, TYPE)`", member.name)));
        };
        let size = self.btf.size_of(target).map_err(|e| self.attribute(member.name, e.to_string()))?;
        let size = u32::try_from(size).map_err(|_| self.attribute(member.name, "its type is larger than 4 GiB"))?;
        Ok((target, size))
    }

    fn agree(&self, member: Member<'_>, known: u32, size: u32) -> Result<u32, Error> {
        if known != 0 && known != size {
            let what = format!("it says {size} bytes, but another attribute says {known}");
            return Err(self.attribute(member.name, what));
        }
        Ok(size)
    }

    fn get(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.btf.get(id).map_err(|e| bad(self.elf, e))
    }

    fn resolve(&self, id: TypeId) -> Result<Type<'_>, Error> {
        self.btf.resolve(id).map_err(|e| bad(self.elf, e))
    }

    fn fail(&self, what: impl Into<String>) -> Error {
        Error::Map { object: self.elf.file.into(), map: self.map.name.clone(), what: what.into() }
    }

    fn attribute(&self, attribute: &str, what: impl Into<String>) -> Error {
        let (object, map) = (self.elf.file.into(), self.map.name.clone());
        Error::Attribute { object, map, attribute: attribute.into(), what: what.into() }
    }
}
