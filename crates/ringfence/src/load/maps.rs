//! Maps of a plan: made, or found at their pin; filled, frozen and pinned.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfence_btf::TypeId;
use ringfence_plan::{MapPlan, SlotTo};
use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;
use sys::{MapBtf, MapCreate, MapFd};

use super::Run;
use crate::error::{Cause, Error, Result};
use crate::link::struct_ops::StructOps;
use crate::map::{Map, MapTypes, NewMap, pin_cause};
use crate::program::Program;

const CREATING: &str = "creating it";
const REUSING: &str = "using the one that is there already";

/// A map of this load.
pub(super) struct Made {
    pub(super) map: Map,
    /// It was made here: what it holds at first is for us to write.
    pub(super) new: bool,
}

/// Pins that a load has made, removed again unless the load comes to its end.
#[derive(Default)]
pub(super) struct Pins(Vec<PathBuf>);

impl Pins {
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for path in &self.0 {
            // A pin that somebody else has removed meanwhile is as gone as it should be.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Run<'_> {
    fn failed(&self, plan: &MapPlan, step: &'static str, cause: Cause) -> Error {
        Error::map(&self.plan.object, &plan.name, step, cause)
    }

    pub(super) fn map(&self, plan: &MapPlan, pins: &mut Pins) -> Result<Made> {
        if let Some((_, map)) = self.loader.maps.iter().find(|(name, _)| *name == plan.name) {
            same_shape(plan, map.fd()).map_err(|cause| self.failed(plan, REUSING, cause))?;
            return Ok(Made { map: map.clone(), new: false });
        }
        let Some(path) = &plan.pin else { return self.make(plan) };
        // Twice: between the look and the pin another process may have pinned its own.
        for last in [false, true] {
            if let Some(map) = self.pinned(plan, path)? {
                return Ok(Made { map, new: false });
            }
            if plan.must_exist {
                return Err(self.failed(plan, REUSING, pin_cause(Errno::NOENT, path)));
            }
            let made = self.make(plan)?;
            let dir = path.parent().unwrap_or(Path::new("/"));
            let pinned = match std::fs::create_dir_all(dir) {
                Ok(()) => sys::object_pin(made.map.as_fd(), path),
                Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            match pinned {
                Ok(()) => {
                    pins.0.push(path.clone());
                    return Ok(made);
                }
                Err(Errno::EXIST) if !last => {}
                Err(errno) => return Err(self.failed(plan, "pinning it", pin_cause(errno, path))),
            }
        }
        Err(self.failed(plan, "pinning it", pin_cause(Errno::EXIST, path)))
    }

    /// The map that is pinned where this one wants to be.
    fn pinned(&self, plan: &MapPlan, path: &Path) -> Result<Option<Map>> {
        let fd = match sys::object_get(path, 0).and_then(MapFd::try_from) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed(plan, REUSING, pin_cause(errno, path))),
        };
        same_shape(plan, &fd).map_err(|mut cause| {
            cause.why = format!("what is pinned at {} {}", path.display(), cause.why);
            self.failed(plan, REUSING, cause.action("remove the pin, or take the old object"))
        })?;
        Ok(Some(self.held(plan, fd)))
    }

    fn types_of(&self, plan: &MapPlan) -> Option<MapTypes> {
        let btf = self.types.clone()?;
        let value = plan.section.unwrap_or(plan.btf_value);
        let some = plan.btf_key != TypeId::VOID || value != TypeId::VOID;
        some.then_some(MapTypes { btf, key: plan.btf_key, value })
    }

    /// A new map with its first contents.
    fn make(&self, plan: &MapPlan) -> Result<Made> {
        let inner = plan.inner.as_ref().map(|inner| self.create(inner, None)).transpose()?;
        let fd = self.create(plan, inner.as_ref())?;
        let fail = |step, errno| {
            let cause = match errno {
                Errno::MSGSIZE => {
                    Cause::invalid(format!("the plan's contents have not the {} bytes of its value", plan.value_size))
                }
                _ => crate::explain::plain(errno),
            };
            self.failed(plan, step, cause)
        };
        let map = self.held(plan, fd);
        if let Some(contents) = &plan.contents {
            fill(&map, contents).map_err(|errno| fail("filling it", errno))?;
        }
        if plan.freeze {
            map.fd().freeze().map_err(|errno| fail("freezing it", errno))?;
        }
        Ok(Made { map, new: true })
    }

    fn held(&self, plan: &MapPlan, fd: MapFd) -> Map {
        let inner = plan.inner.as_deref().map(|inner| {
            let typed = inner.btf_key != TypeId::VOID || inner.btf_value != TypeId::VOID;
            let types = self.btf_fd().filter(|_| typed).and_then(|btf| btf.try_clone_to_owned().ok());
            NewMap::declared(inner, types.map(Arc::new))
        });
        Map::whole(fd, &self.plan.object, &plan.name, self.types_of(plan), inner)
    }

    fn create(&self, plan: &MapPlan, inner: Option<&MapFd>) -> Result<MapFd> {
        let fail = |cause| self.failed(plan, CREATING, cause);
        let module = match plan.struct_ops.as_ref().and_then(|ops| ops.module.as_deref()) {
            Some(module) => Some(self.module(module).map_err(fail)?),
            None => None,
        };
        // struct_ops: the kernel wants the object's BTF although it only names types of its own (map_create).
        let some_types = plan.btf_key != TypeId::VOID || plan.btf_value != TypeId::VOID || plan.struct_ops.is_some();
        let btf = self.btf_fd().filter(|_| some_types);
        let mut create = MapCreate {
            flags: plan.flags,
            name: &plan.kernel_name,
            inner: inner.map(MapFd::as_fd),
            numa_node: plan.numa_node,
            btf: btf.map(|btf| MapBtf { btf, key: plan.btf_key.0, value: plan.btf_value.0 }),
            btf_vmlinux_value: plan.struct_ops.as_ref().map_or(0, |ops| ops.btf_vmlinux_value.0),
            value_type_btf: module.as_ref().map(|module| module.as_fd()),
            map_extra: plan.map_extra,
            token: self.loader.token,
            ..MapCreate::new(plan.kind, plan.key_size, plan.value_size, plan.max_entries)
        };
        let first = self.with_memory(|| sys::map_create(&create));
        // Not every kind of map takes types, and which do depends on the kernel: libbpf tries without, too.
        let result = match first {
            Err(errno) if create.btf.take().is_some() => sys::map_create(&create).map_err(|_| errno),
            result => result,
        };
        result.map_err(|errno| fail(crate::explain::map_create(errno, plan, &self.plan.needs, self.kernel)))
    }

    /// Puts maps and programs into the slots that the object fills.
    pub(super) fn fill_slots(&self, made: &[Made], programs: &[Program]) -> Result<()> {
        for (plan, outer) in self.plan.maps.iter().zip(made) {
            for slot in &plan.slots {
                let missing =
                    |what| self.failed(plan, "filling a slot", Cause::invalid(format!("the plan has no such {what}")));
                let key = slot.index.to_ne_bytes();
                match slot.target {
                    // Maps that were there already have their slots filled.
                    SlotTo::Map(_) if !outer.new => {}
                    SlotTo::Map(inner) => {
                        let inner = made.get(inner.0).ok_or_else(|| missing("map"))?;
                        outer.map.set_map(&key, &inner.map)?;
                    }
                    SlotTo::Program(function) => {
                        let at = self.plan.programs.iter().position(|program| program.function == function);
                        let program = at.and_then(|at| programs.get(at)).ok_or_else(|| missing("program"))?;
                        outer.map.set_program(slot.index, program)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The values with which struct_ops maps are registered: tables of programs.
    pub(super) fn struct_ops(&self, made: &[Made], programs: &[Program]) -> Result<Vec<StructOps>> {
        let mut tables = Vec::new();
        for (plan, made) in self.plan.maps.iter().zip(made) {
            let Some(ops) = &plan.struct_ops else { continue };
            let bad = || {
                self.failed(plan, "filling it", Cause::invalid("the plan's table and its programs do not fit together"))
            };
            let (mut value, mut members) = (ops.value.clone(), Vec::new());
            for (offset, function) in &ops.programs {
                let at = self.plan.programs.iter().position(|program| program.function == *function);
                let program = at.and_then(|at| programs.get(at)).ok_or_else(bad)?;
                // The kernel reads a descriptor's number where its own structure has a pointer.
                let number = (program.as_fd().as_raw_fd() as usize).to_ne_bytes();
                let place = value.get_mut(*offset as usize..).and_then(|rest| rest.first_chunk_mut());
                *place.ok_or_else(bad)? = number;
                members.push(program.clone());
            }
            tables.push(StructOps { map: made.map.clone(), value, link: ops.link, _programs: members });
        }
        Ok(tables)
    }
}

/// Writes what a map holds at first.
fn fill(map: &Map, contents: &[u8]) -> sys::Result<()> {
    let fd = map.fd();
    let shape = fd.shape();
    let zeros = contents.iter().all(|byte| *byte == 0);
    if shape.kind == MapType::ARENA {
        // It has no entries: it is written in memory, at the address for which the programs will be compiled. It is mapped
        // also when there is nothing to write: without an address programs do not load.
        let memory = map.hold_memory()?;
        // Zeros too: writing allocates the pages, and what a program writes to a page that is not there is lost.
        let programs_allocate = shape.flags & sys::flags::BPF_F_SEGV_ON_FAULT != 0;
        return if zeros && programs_allocate { Ok(()) } else { memory.write(0, contents) };
    }
    // What the kernel has made is zero already (`.bss`).
    if zeros {
        return Ok(());
    }
    if shape.max_entries == 1 {
        return fd.update(&0u32.to_ne_bytes(), contents, 0);
    }
    let values = contents.chunks((shape.value_size as usize).max(1));
    (0u32..).zip(values).try_for_each(|(key, value)| fd.update(&key.to_ne_bytes(), value, 0))
}

/// A map that is there already must be what the plan would make (`map_is_reuse_compat` of libbpf).
pub(crate) fn same_shape(plan: &MapPlan, fd: &MapFd) -> Result<(), Cause> {
    let there = fd.shape();
    // The kernel always reports device maps as read-only to programs.
    const RDONLY_PROG: u32 = sys::flags::BPF_F_RDONLY_PROG;
    let device = matches!(plan.kind, MapType::DEVMAP | MapType::DEVMAP_HASH);
    let flags = if device { there.flags & !RDONLY_PROG } else { there.flags };
    // A memory node that is asked for shows as a flag.
    let wanted = plan.flags | if plan.numa_node.is_some() { sys::flags::BPF_F_NUMA_NODE } else { 0 };
    let differs = if there.kind != plan.kind {
        format!("is of the kind {}, not {}", there.kind, plan.kind)
    } else if there.key_size != plan.key_size {
        format!("has keys of {} bytes, not {}", there.key_size, plan.key_size)
    } else if there.value_size != plan.value_size {
        format!("has values of {} bytes, not {}", there.value_size, plan.value_size)
    } else if there.max_entries != plan.max_entries {
        format!("has room for {} entries, not {}", there.max_entries, plan.max_entries)
    } else if flags != wanted {
        format!("has the flags {flags:#x}, not {wanted:#x}")
    } else if there.map_extra != plan.map_extra {
        format!("has map_extra {:#x}, not {:#x}", there.map_extra, plan.map_extra)
    } else {
        return Ok(());
    };
    Err(Cause::invalid(differs))
}
