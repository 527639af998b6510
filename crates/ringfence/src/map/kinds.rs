//! Which view fits which kind of map: one table.

use ringfence_uapi::MapType;

/// How maps of a kind are used from here.
pub(super) fn view(kind: MapType) -> &'static str {
    match kind {
        MapType::PERCPU_HASH | MapType::PERCPU_ARRAY | MapType::LRU_PERCPU_HASH | MapType::PERCPU_CGROUP_STORAGE => {
            "open it with `per_cpu`"
        }
        MapType::QUEUE | MapType::STACK => "open it with `queue`",
        MapType::BLOOM_FILTER => "open it with `bloom`",
        MapType::RINGBUF | MapType::PERF_EVENT_ARRAY => "read its events with `Loaded::events` or `Events::new`",
        MapType::USER_RINGBUF => "open it with `user_ring`",
        MapType::ARENA => "open it with `arena`",
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => "open it with `of_maps`",
        MapType::DEVMAP | MapType::DEVMAP_HASH => "open it with `devices`",
        MapType::CPUMAP => "open it with `cpus`",
        MapType::PROG_ARRAY => "fill it with `set_program`",
        MapType::XSKMAP
        | MapType::SOCKMAP
        | MapType::SOCKHASH
        | MapType::REUSEPORT_SOCKARRAY
        | MapType::CGROUP_ARRAY => "fill it with `set_fd`",
        MapType::STRUCT_OPS => "register it with `Loaded::register`",
        kind if is_storage(kind) => "open it with `storage`",
        _ => "open it with `table`",
    }
}

/// Values that hang on an object of the kernel's.
pub(super) fn is_storage(kind: MapType) -> bool {
    matches!(kind, MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE)
}

/// Its values are things known by a file descriptor. What a kind newer than this code holds is not known: the kernel will say.
pub(super) fn holds_descriptors(kind: MapType) -> bool {
    kind.enumerator().is_none()
        || matches!(
            kind,
            MapType::PROG_ARRAY
                | MapType::PERF_EVENT_ARRAY
                | MapType::CGROUP_ARRAY
                | MapType::ARRAY_OF_MAPS
                | MapType::HASH_OF_MAPS
                | MapType::SOCKMAP
                | MapType::SOCKHASH
                | MapType::XSKMAP
                | MapType::REUSEPORT_SOCKARRAY
        )
}
