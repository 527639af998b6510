//! Maps that no object declares.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ringfence_kernel::{Feature, Kernel};
use ringfence_plan::{MapPlan, since};
use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;
use sys::MapFd;

use super::{Map, pin_cause};
use crate::error::{Cause, Error, Kind, Result};

const CREATING: &str = "creating it";

/// A map to be made, where no object declares one.
///
/// ```no_run
/// use ringfence::{LpmKey, MapType, NewMap};
///
/// let routes = NewMap::of::<LpmKey<[u8; 4]>, u32>("routes", MapType::LPM_TRIE, 1024).create()?;
/// let shape = NewMap::of::<u32, u64>("counts", MapType::HASH, 100);
/// let tenants = NewMap::new("tenants", MapType::HASH_OF_MAPS, 4, 4, 10).inner(shape).pinned("/sys/fs/bpf/tenants")?;
/// # Ok::<(), ringfence::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewMap {
    plan: MapPlan,
    /// Of the object that declares it: `plan` names types of it.
    types: Option<Arc<OwnedFd>>,
}

impl NewMap {
    /// What an object declares. `types`: its BTF, where the kernel has it. From 5.15 to 6.1 a map of maps takes only those whose types
    /// are known, if those of the first one were (`bpf_map_meta_equal` compares `timer_off`, which is another error without types).
    pub(crate) fn declared(plan: &MapPlan, types: Option<Arc<OwnedFd>>) -> Self {
        let mut shape = MapPlan::new(&plan.name, plan.kind, plan.key_size, plan.value_size, plan.max_entries);
        (shape.flags, shape.map_extra, shape.numa_node) = (plan.flags, plan.map_extra, plan.numa_node);
        (shape.btf_key, shape.btf_value) = (plan.btf_key, plan.btf_value);
        NewMap { plan: shape, types }
    }

    /// The same under another name.
    pub(super) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.plan.name);
        self
    }

    /// By sizes in bytes.
    pub fn new(name: &str, kind: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        let mut plan = MapPlan::new(name, kind, key_size, value_size, max_entries);
        // The kernel takes no others (`trie_alloc` of kernel/bpf/lpm_trie.c).
        if kind == MapType::LPM_TRIE {
            plan.flags = sys::flags::BPF_F_NO_PREALLOC;
        }
        NewMap { plan, types: None }
    }

    /// By types; `()` where there is no key.
    pub fn of<K, V>(name: &str, kind: MapType, max_entries: u32) -> Self {
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        NewMap::new(name, kind, size(size_of::<K>()), size(size_of::<V>()), max_entries)
    }

    /// `BPF_F_*`, in addition to those without which the kernel takes no map of this kind.
    pub fn flags(mut self, flags: u32) -> Self {
        self.plan.flags |= flags;
        self
    }

    /// `map_extra`: hashes of a bloom filter, address of an arena.
    pub fn extra(mut self, extra: u64) -> Self {
        self.plan.map_extra = extra;
        self
    }

    /// On this memory node.
    pub fn numa_node(mut self, node: u32) -> Self {
        self.plan.numa_node = Some(node);
        self
    }

    /// Shape of the maps that a map of maps will hold.
    pub fn inner(mut self, inner: NewMap) -> Self {
        self.plan.inner = Some(Box::new(inner.plan));
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// The kernel has no such maps, or refuses the sizes, the flags, or for want of rights.
    pub fn create(&self) -> Result<Map> {
        let plan = &self.plan;
        let inner = plan.inner.as_deref().map(|inner| make(inner, None, None)).transpose()?;
        let fd = make(plan, inner.as_ref(), self.types.as_ref().map(|types| types.as_fd()))?;
        let inner = plan.inner.as_deref().cloned().map(|plan| NewMap { plan, types: None });
        Ok(Map::whole(fd, "", &plan.name, None, inner))
    }

    /// The map that is pinned at this path, if it is what this would make; else makes it and pins it there.
    ///
    /// # Errors
    /// What is there has another shape; as [`NewMap::create`] and [`Map::pin`].
    pub fn pinned(&self, path: impl AsRef<Path>) -> Result<Map> {
        let (plan, path) = (&self.plan, path.as_ref());
        let fail = |cause| Error::map("", &plan.name, "using the one that is there already", cause);
        // Twice: between the look and the pin another process may have pinned its own.
        for last in [false, true] {
            match sys::object_get(path, 0).and_then(MapFd::try_from) {
                Ok(fd) => {
                    crate::load::same_shape(plan, &fd).map_err(|mut cause| {
                        cause.why = format!("what is pinned at {} {}", path.display(), cause.why);
                        fail(cause.action("remove the pin, or take another path"))
                    })?;
                    let inner = plan.inner.as_deref().cloned().map(|plan| NewMap { plan, types: None });
                    return Ok(Map::whole(fd, "", &plan.name, None, inner));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(fail(pin_cause(errno, path))),
            }
            let map = self.create()?;
            match sys::object_pin(map.as_fd(), path) {
                Ok(()) => return Ok(map),
                Err(Errno::EXIST) if !last => {}
                Err(errno) => return Err(map.failed("pinning it", pin_cause(errno, path))),
            }
        }
        Err(fail(pin_cause(Errno::EXIST, path)))
    }
}

/// The shape of a plan, without its types: what is made from it is not for the object that the plan is of.
fn make(plan: &MapPlan, inner: Option<&MapFd>, types: Option<BorrowedFd<'_>>) -> Result<MapFd> {
    // The kernel takes letters, digits, `_` and `.` (`bpf_obj_name_cpy`).
    let name: String = plan.name.chars().take(15).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let kernel = Kernel::running();
    let mut create = sys::MapCreate {
        btf: types.map(|btf| sys::MapBtf { btf, key: plan.btf_key.0, value: plan.btf_value.0 }),
        name: &name,
        flags: plan.flags,
        map_extra: plan.map_extra,
        numa_node: plan.numa_node,
        inner: inner.map(AsFd::as_fd),
        ..sys::MapCreate::new(plan.kind, plan.key_size, plan.value_size, plan.max_entries)
    };
    let made = match sys::map_create(&create) {
        Err(Errno::PERM) if !kernel.has(Feature::MemcgAccounting) && crate::load::raise_memlock() => {
            sys::map_create(&create)
        }
        // Not every kind of map takes types, and which do depends on the kernel.
        Err(errno) if create.btf.take().is_some() => sys::map_create(&create).map_err(|_| errno),
        made => made,
    };
    made.map_err(|errno| Error::map("", &plan.name, CREATING, cause(errno, plan, &kernel)))
}

fn cause(errno: Errno, plan: &MapPlan, kernel: &Kernel) -> Cause {
    let kind = plan.kind;
    if errno == Errno::INVAL {
        if kernel.knows_map_type(kind) == Some(false) {
            let came = since::map_type(kind).map_or(String::new(), |since| format!(" (they came with {since})"));
            let why = format!("this kernel has no maps of type {kind}{came}");
            return Cause::new(Kind::Unsupported, why).errno(errno);
        }
        if super::kinds::is_storage(kind) {
            return Cause::invalid(format!("maps of the kind {kind} need the types of an object"))
                .action("declare it in the object")
                .errno(errno);
        }
    }
    crate::explain::map_create(errno, plan, &[], kernel)
}
