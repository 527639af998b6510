//! Global variables of the programs, after they are loaded.

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_uapi::MapType;

use super::{Map, Plain, Update};
use crate::error::{Cause, Error, Result};

const READING: &str = "reading a variable";
const WRITING: &str = "writing a variable";

/// A global variable: a place in a data section's map, or in an arena.
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let seen = loaded.variable("packets_seen")?;
/// println!("{}", seen.get::<u64>()?);
/// seen.set(&0u64)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Variable {
    map: Map,
    name: String,
    ty: TypeId,
    offset: usize,
    size: usize,
}

impl Variable {
    /// Looks through the data sections' types.
    pub(crate) fn find(object: &str, maps: &[Map], name: &str) -> Result<Variable> {
        let mut names: Vec<&str> = Vec::new();
        for map in maps.iter().filter(|map| matches!(map.kind(), MapType::ARRAY | MapType::ARENA)) {
            let Some((btf, _, section)) = map.btf_types() else { continue };
            for (found, ty, offset, size) in variables(btf, section) {
                if found == name {
                    return Ok(Variable { map: map.clone(), name: name.to_owned(), ty, offset, size });
                }
                names.push(found);
            }
        }
        Err(Error::no_such(object, "global variable", name, names))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data section's map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Its type in the map's BTF.
    pub fn ty(&self) -> TypeId {
        self.ty
    }

    /// Bytes from the start of its section.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.size
    }

    fn check<T>(&self, step: &'static str) -> Result<()> {
        if size_of::<T>() == self.size {
            return Ok(());
        }
        let (ty, own) = (std::any::type_name::<T>(), size_of::<T>());
        Err(self.map.invalid(step, format!("`{}` has {} bytes, but {ty} has {own}", self.name, self.size)))
    }

    /// Its value now.
    ///
    /// # Errors
    /// `T` has another size than the variable; the kernel refuses.
    pub fn get<T: Plain>(&self) -> Result<T> {
        self.check::<T>(READING)?;
        let bytes = self.bytes()?;
        T::read_from_bytes(&bytes).map_err(|_| self.map.invalid(READING, "its size has changed"))
    }

    /// Its bytes now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        if let Some(memory) = self.map.memory() {
            memory.read(self.offset, &mut bytes).map_err(|errno| self.map.error(READING, errno))?;
            return Ok(bytes);
        }
        let all = self.map.lookup(&0u32.to_ne_bytes())?.unwrap_or_default();
        let part = all.get(self.offset..).and_then(|rest| rest.get(..self.size));
        part.map(<[u8]>::to_vec).ok_or_else(|| self.map.invalid(READING, "it is outside of its section"))
    }

    /// Writes it.
    ///
    /// Where the section cannot be mapped into memory, all of it is read and written back: what programs write into other
    /// variables of the section in that moment is lost.
    ///
    /// # Errors
    /// `T` has another size than the variable; the section is read-only (`const` variables are set in the plan's settings, before
    /// they are loaded); the kernel refuses.
    pub fn set<T: Plain>(&self, value: &T) -> Result<()> {
        self.check::<T>(WRITING)?;
        if let Some(done) = self.map.write_memory(self.offset, value.as_bytes()) {
            return done.map_err(|errno| self.map.error(WRITING, errno));
        }
        let mut all = self.map.lookup(&0u32.to_ne_bytes())?.unwrap_or_default();
        let part = all.get_mut(self.offset..).and_then(|rest| rest.get_mut(..self.size));
        part.ok_or_else(|| self.map.invalid(WRITING, "it is outside of its section"))?
            .copy_from_slice(value.as_bytes());
        self.map.update(&0u32.to_ne_bytes(), &all, Update::Any).map_err(|error| match error {
            Error::Map { cause, .. } => {
                let action = format!("`{}` is constant: set it in the settings, before it is loaded", self.name);
                self.map.failed(WRITING, Cause { action, ..*cause })
            }
            other => other,
        })
    }
}

/// Name, type, offset and size of each variable of a section; also where the section became a structure for an
/// old kernel.
fn variables(btf: &Btf, section: TypeId) -> Vec<(&str, TypeId, usize, usize)> {
    let Ok(ty) = btf.get(section) else { return Vec::new() };
    match ty.def {
        Def::Datasec(section) => {
            let named = section.vars().filter_map(|var| {
                let ty = btf.get(var.ty).ok()?;
                let Def::Var { ty: of, .. } = ty.def else { return None };
                Some((ty.name, of, var.offset as usize, var.size as usize))
            });
            named.collect()
        }
        Def::Struct(section) => {
            let named = section.members().flatten().filter_map(|member| {
                let size = btf.size_of(member.ty).ok()?;
                Some((member.name, member.ty, member.bit_offset as usize / 8, size as usize))
            });
            named.collect()
        }
        _ => Vec::new(),
    }
}
