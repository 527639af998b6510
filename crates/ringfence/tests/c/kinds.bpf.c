// SPDX-License-Identifier: MIT OR Apache-2.0
// Maps of many kinds, each used by a program: what user space puts in is seen here, and the other way round.
#include "bpf.h"

enum {
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_CPUMAP = 16,
	BPF_MAP_TYPE_XSKMAP = 17,
	BPF_MAP_TYPE_DEVMAP_HASH = 25,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1 << 10,
};

static long (*bpf_perf_event_read_value)(void *map, __u64 flags, void *buf, __u32 size) = (void *)55;
static long (*bpf_current_task_under_cgroup)(void *map, __u32 index) = (void *)37;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static long (*bpf_spin_lock)(void *lock) = (void *)93;
static long (*bpf_spin_unlock)(void *lock) = (void *)94;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;

struct bpf_spin_lock {
	__u32 val;
};
struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, 8);
	__uint(value_size, 4);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, 20);
	__uint(value_size, 4);
} routes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} by_cpu SEC(".maps");

struct locked {
	struct bpf_spin_lock lock;
	__u32 first;
	__u64 second;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct locked);
} pairs SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct inner);
} tenants SEC(".maps");

/* 6.1 compares whether the values' types are known. */
struct pool {
	__u64 size;
	__u64 used;
};
struct pool empty = {};
struct pools {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct pool);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct pools);
} pools SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 100);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct { __u32 a; __u64 b; __u32 c; });
} mapped SEC(".maps");

__u32 asked[4] = {};
__u64 answer = 0;

static __always_inline void look(void *map, const void *key)
{
	__u32 *found = bpf_map_lookup_elem(map, key);

	answer = found ? *found : 0;
}

SEC("tc")
int route(void *ctx)
{
	__u32 key[2] = { 32, asked[0] };

	look(&routes, key);
	return 0;
}

SEC("tc")
int route6(void *ctx)
{
	__u32 key[5] = { 128, asked[0], asked[1], asked[2], asked[3] };

	look(&routes6, key);
	return 0;
}

/* Counts on this CPU what user space has begun. */
SEC("tc")
int count(void *ctx)
{
	__u32 key = 5;
	__u64 *value = bpf_map_lookup_elem(&by_cpu, &key);

	if (value)
		*value += 1;
	return bpf_get_smp_processor_id();
}

SEC("tc")
int pair(void *ctx)
{
	__u32 key = 1;
	struct locked *value = bpf_map_lookup_elem(&pairs, &key);

	if (!value)
		return 0;
	bpf_spin_lock(&value->lock);
	value->second += value->first;
	value->first += 1;
	bpf_spin_unlock(&value->lock);
	return 1;
}

SEC("tc")
int tenant(void *ctx)
{
	__u32 key = asked[0], slot = 2;
	void *inner = bpf_map_lookup_elem(&tenants, &key);
	__u64 *value = inner ? bpf_map_lookup_elem(inner, &slot) : 0;
	struct pool *pool;

	if (!value)
		return 0;
	*value += 1;
	inner = bpf_map_lookup_elem(&pools, &slot);
	pool = inner ? bpf_map_lookup_elem(inner, &slot) : 0;
	return pool && pool->used > empty.size ? 2 : 1;
}

SEC("tc")
int in_memory(void *ctx)
{
	__u32 key = asked[0];
	struct { __u32 a; __u64 b; __u32 c; } *value = bpf_map_lookup_elem(&mapped, &key);

	if (!value)
		return 0;
	answer = value->b;
	value->c = value->a + 1;
	return 1;
}

struct bpf_devmap_val {
	__u32 ifindex;
	int fd;
};
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} plain_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* XDP_REDIRECT where the entry is filled, else what the last argument says: XDP_DROP. */
SEC("xdp")
int to_port(struct xdp_md *ctx)
{
	return bpf_redirect_map(&ports, asked[0], 1);
}

SEC("xdp")
int to_plain_port(struct xdp_md *ctx)
{
	return bpf_redirect_map(&plain_ports, asked[0], 1);
}

SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	return bpf_redirect_map(&cpus, asked[0], 1);
}

SEC("xdp")
int to_socket(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, 0, 1);
}

SEC("xdp/devmap")
int going_out(struct xdp_md *ctx)
{
	answer = ctx->egress_ifindex;
	return 2;
}

SEC("xdp/cpumap")
int going_on(struct xdp_md *ctx)
{
	return 2;
}

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 0);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} groups SEC(".maps");

__u32 own_pid = 0;
__u64 clock = 0, runs = 0;
int inside[2] = {};

SEC("raw_tp/sys_enter")
int watch(void *ctx)
{
	__u64 value[3] = {};

	if (own_pid == 0 || bpf_get_current_pid_tgid() >> 32 != own_pid)
		return 0;
	if (bpf_perf_event_read_value(&counters, BPF_F_CURRENT_CPU, value, sizeof(value)) == 0)
		clock = value[0];
	inside[0] = bpf_current_task_under_cgroup(&groups, 0);
	inside[1] = bpf_current_task_under_cgroup(&groups, 1);
	runs += 1;
	return 0;
}
