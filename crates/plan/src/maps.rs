//! Maps: what the object declares, what the user changed and what this kernel takes, as [`MapPlan`]s.
//!
//! All maps of the object are created, as libbpf does, also those that no program uses: user space may. A map
//! that cannot be created stops the programs that use it and nothing else.

use std::path::{Path, PathBuf};

use ringfence_btf::{Btf, TypeId};
use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{Map, MapId, Object, Role, SlotTarget};
use ringfence_uapi::MapType;

use crate::Error;
use crate::error::no_such;
use crate::externs::Externs;
use crate::model::{MapPlan, PlanMap, SlotPlan, SlotTo, kernel_name};
use crate::settings::{InnerMap, MapChoice, Settings};
use crate::since;
use crate::struct_ops::Converted;

/// `BPF_F_*` of `include/uapi/linux/bpf.h` that data sections take.
const F_RDONLY_PROG: u32 = 1 << 7;
/// The pages of an arena are made by programs alone.
const F_SEGV_ON_FAULT: u32 = 1 << 17;
const F_MMAPABLE: u32 = 1 << 10;
const F_LINK: u32 = 1 << 13;
/// Of the kernel's own, for a struct_ops map whose structure is a module's.
const F_VTYPE_BTF_OBJ_FD: u32 = 1 << 15;

/// Where maps are pinned that ask for it by name.
const PINS: &str = "/sys/fs/bpf";
/// Entries of a stack trace when nobody says how many (`PERF_MAX_STACK_DEPTH`), 8 bytes each.
const STACK_DEPTH: u32 = 127;
/// Largest `.kconfig`: a hostile file can declare an array of any size.
const MAX_KCONFIG: u32 = 1 << 20;

/// What became of the object's maps.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    pub(crate) plans: Vec<MapPlan>,
    /// By the object's number.
    pub(crate) place: Vec<Place>,
}

/// What became of one map.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// It is created.
    Planned(PlanMap),
    /// It is not: programs that refer to it get an instruction in its place that no verifier accepts where it can be
    /// reached (libbpf, `poison_map_ldimm64`).
    Off(String),
    /// It cannot be: neither can programs that refer to it.
    Broken(Error),
}

impl Maps {
    pub(crate) fn place(&self, id: MapId) -> Option<&Place> {
        self.place.get(id.0)
    }

    /// The plan of an object's map.
    pub(crate) fn planned(&mut self, id: MapId) -> Option<&mut MapPlan> {
        match self.place.get(id.0)? {
            Place::Planned(PlanMap(at)) => self.plans.get_mut(*at),
            Place::Off(_) | Place::Broken(_) => None,
        }
    }
}

/// What the maps of one object are planned with.
pub(crate) struct Planner<'a> {
    pub(crate) object: &'a Object,
    pub(crate) kernel: &'a Kernel,
    pub(crate) settings: &'a Settings,
    /// BTF will be loaded, so that maps can name types in it.
    pub(crate) with_btf: bool,
}

impl Planner<'_> {
    /// Plans every map. `struct_ops` is what became of the struct_ops maps, by the object's number.
    pub(crate) fn plan<'k>(
        &self,
        externs: &Externs<'_>,
        mut struct_ops: impl FnMut(MapId) -> Option<Result<Converted<'k>, Place>>,
    ) -> Result<Maps, Error> {
        for name in self.settings.maps.keys() {
            if !self.object.maps.iter().any(|map| map.name == *name) {
                return Err(no_such("map", name, self.object.maps.iter().map(|map| map.name.as_str())));
            }
        }
        let mut maps = Maps::default();
        for (id, map) in self.object.maps.iter().enumerate() {
            let id = MapId(id);
            let planned = match struct_ops(id) {
                Some(Ok(converted)) => Ok(self.struct_ops(id, map, converted)?),
                Some(Err(place)) => Err(place),
                None => self.map(id, map, externs)?,
            };
            let place = match planned {
                Ok(plan) => {
                    maps.plans.push(plan);
                    Place::Planned(PlanMap(maps.plans.len().saturating_sub(1)))
                }
                Err(place) => place,
            };
            maps.place.push(place);
        }
        self.slots(&mut maps)?;
        Ok(maps)
    }

    /// Contents of maps of maps and of program arrays.
    fn slots(&self, maps: &mut Maps) -> Result<(), Error> {
        for (id, map) in self.object.maps.iter().enumerate() {
            let mut slots = Vec::with_capacity(map.slots.len());
            for slot in &map.slots {
                let target = match slot.target {
                    SlotTarget::Function(function) => SlotTo::Program(function),
                    SlotTarget::Map(inner) => match maps.place(inner) {
                        Some(Place::Planned(inner)) => SlotTo::Map(*inner),
                        _ => return Err(map_error(map, format!("slot {} holds a map that is left out", slot.index))),
                    },
                };
                slots.push(SlotPlan { index: slot.index, target });
            }
            if let Some(plan) = maps.planned(MapId(id)) {
                plan.slots = slots;
            }
        }
        Ok(())
    }

    /// The inner result is what became of the map; the outer error is that of a setting.
    fn map(&self, id: MapId, map: &Map, externs: &Externs<'_>) -> Result<Result<MapPlan, Place>, Error> {
        let none = MapChoice::default();
        let choice = self.settings.maps.get(&map.name).unwrap_or(&none);
        if choice.create == Some(false) {
            return Ok(Err(Place::Off("the settings leave it out".to_owned())));
        }
        let data = matches!(map.role, Role::Data(_) | Role::Kconfig) && map.kind == MapType::ARRAY;
        if data && !self.kernel.has(Feature::GlobalData) {
            let problem = "this kernel has no global data (it came with 5.2)".to_owned();
            return Ok(Err(Place::Broken(map_error(map, problem))));
        }
        let mut plan = self.shape(id, map);
        self.choose(&mut plan, map, choice)?;
        self.adjust(&mut plan)?;
        if plan.kind == MapType::ARENA {
            // Its address is fixed when it is first mapped, and programs cannot load before that.
            plan.contents = Some(Vec::new());
        }
        match &map.role {
            Role::Declared | Role::Legacy | Role::StructOps(_) => {}
            Role::Kconfig => {
                if plan.value_size > MAX_KCONFIG {
                    let problem = format!("{} bytes of configuration values are too much", plan.value_size);
                    return Ok(Err(Place::Broken(map_error(map, problem))));
                }
                plan.flags |= F_RDONLY_PROG;
                plan.contents = Some(externs.kconfig_contents(plan.value_size));
                plan.freeze = true;
            }
            Role::Data(data) if map.kind == MapType::ARENA => {
                if plan.flags & F_SEGV_ON_FAULT != 0 && data.bytes.iter().any(|byte| *byte != 0) {
                    let problem = "its variables have values, which user space writes first, and BPF_F_SEGV_ON_FAULT \
                                   ends a process that does; set them in a program";
                    return Ok(Err(Place::Broken(map_error(map, problem.to_owned()))));
                }
                plan.contents = Some(data.bytes.clone());
                plan.section = data.datasec;
            }
            Role::Data(data) => {
                if !data.bss {
                    let mut bytes = data.bytes.clone();
                    bytes.resize(plan.value_size as usize, 0);
                    plan.contents = Some(bytes);
                }
                if data.read_only {
                    plan.flags |= F_RDONLY_PROG;
                    plan.freeze = true;
                }
            }
        }
        if data {
            self.data_flags(&mut plan, map);
        }
        Ok(match incomplete(&plan).or_else(|| self.unknown(plan.kind)) {
            None => Ok(plan),
            Some(problem) => Err(Place::Broken(map_error(map, problem))),
        })
    }

    /// A kind of map that this kernel's types do not name.
    fn unknown(&self, kind: MapType) -> Option<String> {
        let since = since::map_type(kind);
        let missing = since::worth_asking(since) && self.kernel.knows_map_type(kind) == Some(false);
        let came = since.map_or(String::new(), |since| format!(" (they came with {since})"));
        missing.then(|| format!("this kernel has no maps of type {kind}{came}"))
    }

    /// Data sections can be mapped when they hold a variable that is not `static` (libbpf, `map_is_mmapable`).
    fn data_flags(&self, plan: &mut MapPlan, map: &Map) {
        let exported = match &map.role {
            Role::Data(data) => data.exported,
            Role::Kconfig => true,
            Role::Declared | Role::Legacy | Role::StructOps(_) => false,
        };
        if exported && self.kernel.has(Feature::ArrayMmap) {
            plan.flags |= F_MMAPABLE;
        }
        // An array without a key type has to have a section as its value (`array_map_check_btf`).
        if plan.btf_value != TypeId::VOID && !self.kernel.has(Feature::BtfDatasec) {
            plan.btf_value = TypeId::VOID;
        }
    }

    /// What the object says, in this kernel's terms.
    fn shape(&self, id: MapId, map: &Map) -> MapPlan {
        let (btf_key, btf_value) = self.types(map);
        let (key_size, value_size) = sizes(map);
        MapPlan {
            id: Some(id),
            kernel_name: self.kernel_name(&map.name),
            flags: map.flags,
            map_extra: map.map_extra,
            numa_node: map.numa_node,
            btf_key,
            btf_value,
            inner: map.inner.as_ref().map(|inner| Box::new(self.shape(id, inner))),
            pin: map.pin_by_name.then(|| self.pin_path(&map.name)),
            ..MapPlan::new(&map.name, map.kind, key_size, value_size, map.max_entries)
        }
    }

    fn struct_ops(&self, id: MapId, map: &Map, converted: Converted<'_>) -> Result<MapPlan, Error> {
        if let Some(choice) = self.settings.maps.get(&map.name)
            && *choice != (MapChoice { create: choice.create, ..MapChoice::default() })
        {
            return Err(map_error(map, "a struct_ops map is made as the kernel wants it".to_owned()));
        }
        let mut plan = self.shape(id, map);
        plan.kind = MapType::STRUCT_OPS;
        plan.key_size = 4;
        plan.value_size = converted.value_size;
        plan.max_entries = 1;
        if converted.plan.link {
            plan.flags |= F_LINK;
        }
        if converted.plan.module.is_some() {
            plan.flags |= F_VTYPE_BTF_OBJ_FD;
        }
        (plan.btf_key, plan.btf_value) = (TypeId::VOID, TypeId::VOID);
        plan.struct_ops = Some(converted.plan);
        Ok(plan)
    }

    fn choose(&self, plan: &mut MapPlan, map: &Map, choice: &MapChoice) -> Result<(), Error> {
        if let Some(entries) = choice.max_entries {
            if matches!(map.role, Role::Data(_) | Role::Kconfig) && map.kind == MapType::ARRAY {
                return Err(map_error(map, "a data section has one entry".to_owned()));
            }
            plan.max_entries = entries;
        }
        if let Some(size) = choice.value_size {
            if let Role::Data(data) = &map.role
                && (size as usize) < data.bytes.len()
            {
                return Err(map_error(map, format!("its variables take {} bytes", data.bytes.len())));
            }
            if size != plan.value_size {
                (plan.btf_key, plan.btf_value) = (TypeId::VOID, TypeId::VOID);
            }
            plan.value_size = size;
        }
        if let Some(flags) = choice.flags {
            plan.flags = flags;
        }
        if let Some(inner) = choice.inner {
            if !is_of_maps(plan.kind) {
                return Err(map_error(map, format!("it is a {} and holds no maps", plan.kind)));
            }
            plan.inner = Some(Box::new(self.inner(plan, inner)));
        }
        if let Some(path) = &choice.pin {
            plan.pin = Some(path.clone());
        }
        if let Some(path) = &choice.reuse {
            plan.pin = Some(path.clone());
            plan.must_exist = true;
        }
        Ok(())
    }

    fn inner(&self, outer: &MapPlan, inner: InnerMap) -> MapPlan {
        let name = format!("{}.inner", outer.name);
        MapPlan {
            id: outer.id,
            kernel_name: self.kernel_name(&name),
            flags: inner.flags,
            ..MapPlan::new(&name, inner.kind, inner.key_size, inner.value_size, inner.max_entries)
        }
    }

    /// Sizes in terms of this kernel, those of inner maps too.
    fn adjust(&self, plan: &mut MapPlan) -> Result<(), Error> {
        if plan.kind == MapType::PERF_EVENT_ARRAY && plan.max_entries == 0 {
            plan.max_entries = self.kernel.possible_cpus()?;
        }
        if self.settings.fill_sizes {
            self.fill(plan);
        }
        if is_ring(plan.kind) {
            plan.max_entries = ring_size(plan.max_entries, self.kernel.page_size());
        }
        if let Some(inner) = &mut plan.inner {
            self.adjust(inner)?;
            plan.filled.extend(inner.filled.iter().map(|filled| format!("inner maps: {filled}")));
        }
        Ok(())
    }

    /// Sizes that real user space sets before it loads.
    fn fill(&self, plan: &mut MapPlan) {
        if is_of_maps(plan.kind) && plan.inner.is_none() {
            let shape = InnerMap { kind: MapType::HASH, key_size: 4, value_size: 4, max_entries: 16, flags: 0 };
            plan.inner = Some(Box::new(self.inner(plan, shape)));
            plan.filled.push("inner maps: hash, 4-byte keys and values, 16 entries".to_owned());
        }
        if plan.kind == MapType::STACK_TRACE && plan.value_size == 0 {
            plan.value_size = STACK_DEPTH.saturating_mul(8);
            plan.filled.push(format!("value_size {}: {STACK_DEPTH} frames", plan.value_size));
        }
        if plan.key_size == 0 && is_table(plan.kind) {
            plan.key_size = 4;
            plan.filled.push("key_size 4".to_owned());
        }
        if plan.value_size == 0 && (is_table(plan.kind) || plan.kind == MapType::BLOOM_FILTER) {
            plan.value_size = 8;
            plan.filled.push("value_size 8".to_owned());
        }
        if plan.max_entries == 0 && needs_entries(plan.kind) {
            plan.max_entries = if is_ring(plan.kind) { self.kernel.page_size() } else { 1 };
            plan.filled.push(format!("max_entries {}", plan.max_entries));
        }
    }

    /// Types of key and value, where the kernel takes them.
    fn types(&self, map: &Map) -> (TypeId, TypeId) {
        let (Some(btf), true) = (&self.object.btf, self.with_btf && takes_types(map.kind)) else {
            return (TypeId::VOID, TypeId::VOID);
        };
        if let Role::Data(data) = &map.role {
            return (TypeId::VOID, data.datasec.unwrap_or_default());
        }
        let key = fitting(btf, map.key_type, map.key_size);
        let value = fitting(btf, map.value_type, map.value_size);
        match (&map.role, key, value) {
            (Role::Kconfig, _, _) => (TypeId::VOID, map.value_type.unwrap_or_default()),
            (_, Some(key), Some(value)) => (key, value),
            // All others want both or none (`map_check_btf`).
            (_, _, Some(value)) if map.kind == MapType::BLOOM_FILTER => (TypeId::VOID, value),
            _ => (TypeId::VOID, TypeId::VOID),
        }
    }

    fn kernel_name(&self, name: &str) -> String {
        if self.kernel.has(Feature::Names) { kernel_name(name) } else { String::new() }
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.settings.pins.as_deref().unwrap_or(Path::new(PINS)).join(name)
    }
}

/// Sizes of keys and values, as the kernel wants them. Objects made for cilium/ebpf say with the value's type what a
/// buffer's events are (its `MapSpec` does the same); the kernel takes no such sizes there.
fn sizes(map: &Map) -> (u32, u32) {
    match map.kind {
        MapType::RINGBUF | MapType::USER_RINGBUF => (0, 0),
        MapType::PERF_EVENT_ARRAY => (4, 4),
        _ => (map.key_size, map.value_size),
    }
}

/// What a map holds at first, to be changed. A new map is all zero, so that nothing is written into `.bss` otherwise.
pub(crate) fn contents(plan: &mut MapPlan) -> &mut Vec<u8> {
    let size = plan.value_size as usize;
    plan.contents.get_or_insert_with(|| vec![0; size])
}

fn map_error(map: &Map, problem: String) -> Error {
    Error::Map { map: map.name.clone(), problem }
}

/// The type, when it describes what the map holds.
fn fitting(btf: &Btf, ty: Option<TypeId>, size: u32) -> Option<TypeId> {
    ty.filter(|ty| btf.size_of(*ty).is_ok_and(|bytes| bytes == u64::from(size)))
}

fn is_of_maps(kind: MapType) -> bool {
    matches!(kind, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS)
}

/// Kinds of map whose key and value may have any size.
fn is_table(kind: MapType) -> bool {
    matches!(
        kind,
        MapType::HASH
            | MapType::ARRAY
            | MapType::PERCPU_HASH
            | MapType::PERCPU_ARRAY
            | MapType::LRU_HASH
            | MapType::LRU_PERCPU_HASH
    )
}

fn is_ring(kind: MapType) -> bool {
    matches!(kind, MapType::RINGBUF | MapType::USER_RINGBUF)
}

/// Kinds of map that refuse types (libbpf, `bpf_object__create_map`, and `map_check_btf` for those without a
/// key or value of their own).
fn takes_types(kind: MapType) -> bool {
    !matches!(
        kind,
        MapType::PERF_EVENT_ARRAY
            | MapType::CGROUP_ARRAY
            | MapType::STACK_TRACE
            | MapType::ARRAY_OF_MAPS
            | MapType::HASH_OF_MAPS
            | MapType::DEVMAP
            | MapType::DEVMAP_HASH
            | MapType::CPUMAP
            | MapType::XSKMAP
            | MapType::SOCKMAP
            | MapType::SOCKHASH
            | MapType::QUEUE
            | MapType::STACK
            | MapType::ARENA
            | MapType::STRUCT_OPS
            | MapType::RINGBUF
            | MapType::USER_RINGBUF
    )
}

/// Kinds of map whose `max_entries` must not be 0.
fn needs_entries(kind: MapType) -> bool {
    !matches!(
        kind,
        MapType::SK_STORAGE
            | MapType::TASK_STORAGE
            | MapType::INODE_STORAGE
            | MapType::CGRP_STORAGE
            | MapType::CGROUP_STORAGE
            | MapType::PERCPU_CGROUP_STORAGE
            | MapType::PERF_EVENT_ARRAY
            | MapType::STRUCT_OPS
    )
}

/// What is still missing, and how to give it.
fn incomplete(plan: &MapPlan) -> Option<String> {
    let what = if plan.max_entries == 0 && needs_entries(plan.kind) {
        "max_entries is 0: give a number of entries"
    } else if plan.kind == MapType::STACK_TRACE && plan.value_size == 0 {
        "value_size is 0: give 8 bytes for each frame of a stack"
    } else if is_of_maps(plan.kind) && plan.inner.is_none() {
        "the shape of its inner maps is not known: give one"
    } else {
        return plan.inner.as_deref().and_then(incomplete).map(|problem| format!("inner maps: {problem}"));
    };
    // A map that is taken from where it is pinned brings its sizes with it.
    (!plan.must_exist).then(|| format!("{what} (the object leaves it to its user-space part)"))
}

/// A power of two of pages, as the kernel wants it (libbpf, `adjust_ringbuf_sz`).
fn ring_size(bytes: u32, page: u32) -> u32 {
    if bytes == 0 || page == 0 {
        return bytes;
    }
    let pages = u64::from(bytes).div_ceil(u64::from(page)).next_power_of_two();
    u32::try_from(pages.saturating_mul(u64::from(page))).unwrap_or(bytes)
}
