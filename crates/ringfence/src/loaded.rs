//! What is loaded: programs and maps, held open.

use ringfence_btf::Btf;
use ringfence_plan::Plan;

use crate::error::{Error, Result};
use crate::events::Events;
use crate::link::struct_ops::StructOps;
use crate::link::{Link, Links};
use crate::map::{Map, Variable};
use crate::program::Program;

/// The programs and maps of one object, loaded. They stay as long as this value, a clone of them, a link or a pin does.
#[derive(Debug)]
pub struct Loaded {
    object: String,
    types: Option<Btf>,
    maps: Vec<Map>,
    programs: Vec<Program>,
    struct_ops: Vec<StructOps>,
    notices: Vec<String>,
}

impl Loaded {
    pub(crate) fn new(
        plan: &Plan,
        types: Option<Btf>,
        maps: Vec<Map>,
        programs: Vec<Program>,
        struct_ops: Vec<StructOps>,
        notices: Vec<String>,
    ) -> Loaded {
        Loaded { object: plan.object.clone(), types, maps, programs, struct_ops, notices }
    }

    /// Name of the object.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The BTF to which the types of the maps refer.
    pub fn btf(&self) -> Option<&Btf> {
        self.types.as_ref()
    }

    /// What stopped nothing but should be known.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Every map, in the order of the plan.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The map of this name. Data sections are also found without the object's name before them: `.rodata`.
    ///
    /// # Errors
    /// There is none; the error holds names that are close.
    pub fn map(&self, name: &str) -> Result<&Map> {
        let named = |name: &str| self.maps.iter().find(|map| map.name() == name);
        let data = || named(&ringfence_object::data_map_name(&self.object, name));
        let found = named(name).or_else(|| data().filter(|_| name.starts_with('.')));
        found.ok_or_else(|| Error::no_such(&self.object, "map", name, self.maps.iter().map(Map::name)))
    }

    /// Every program, in the order of the plan.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The program of this name.
    ///
    /// # Errors
    /// There is none; the error holds names that are close.
    pub fn program(&self, name: &str) -> Result<&Program> {
        let found = self.programs.iter().find(|program| program.name() == name);
        found.ok_or_else(|| Error::no_such(&self.object, "program", name, self.programs.iter().map(Program::name)))
    }

    /// Takes a program out: it is the caller's, and gone when the caller drops it.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn take_program(&mut self, name: &str) -> Result<Program> {
        match self.programs.iter().position(|program| program.name() == name) {
            Some(at) => Ok(self.programs.remove(at)),
            None => self.program(name).cloned(),
        }
    }

    /// A global variable of the programs.
    ///
    /// # Errors
    /// There is none of that name, or the object has no BTF that says where it is.
    pub fn variable(&self, name: &str) -> Result<Variable> {
        Variable::find(&self.object, &self.maps, name)
    }

    /// Attaches every program whose section says where, then registers the struct_ops maps. Leaves the others (those for
    /// a device, a cgroup, a socket).
    ///
    /// # Errors
    /// The first that cannot be attached; those before it are taken off again.
    pub fn attach_all(&self) -> Result<Links> {
        let named = self.programs.iter().filter(|program| crate::link::is_named(program.attach_place()));
        named.map(Program::attach).chain(self.struct_ops.iter().map(StructOps::register)).collect()
    }

    /// Attaches one program where its section says.
    ///
    /// # Errors
    /// There is no such program, its section does not say where, or the kernel refuses.
    pub fn attach(&self, name: &str) -> Result<Link> {
        self.program(name)?.attach()
    }

    /// Registers a struct_ops map: from now on the kernel calls its programs.
    ///
    /// # Errors
    /// There is no such struct_ops map, one of that name is registered already, or the kernel refuses.
    pub fn register(&self, map: &str) -> Result<Link> {
        self.table(map)?.register()
    }

    /// Puts a struct_ops map of this object in the place of the one that a link has registered, without a gap.
    ///
    /// # Errors
    /// There is no such struct_ops map, the link is no such one's, or the kernel cannot replace tables of this kind (6.4).
    pub fn replace(&self, link: &mut Link, map: &str) -> Result<()> {
        self.table(map)?.replace(link)
    }

    fn table(&self, map: &str) -> Result<&StructOps> {
        let found = self.struct_ops.iter().find(|table| table.map.name() == map);
        let names = || self.struct_ops.iter().map(|table| table.map.name());
        found.ok_or_else(|| Error::no_such(&self.object, "struct_ops map", map, names()))
    }

    /// A reader of a ring buffer or a perf event array.
    ///
    /// # Errors
    /// There is no such map, or it is of another kind.
    pub fn events(&self, map: &str) -> Result<Events> {
        Events::new([self.map(map)?])
    }
}
