// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Maps of all kinds that are metrics: getpriority(2) counts, getgroups(2) takes the caller's keys away. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum what { CALLED = 1, OTHER = 2 };

struct caller {
	__u32 pid;
	enum what what;
	char comm[16];
};

struct usage {
	__u64 calls;
	__u32 level;
	int balance;
};

struct hist {
	__u32 slots[8];
	char comm[16];
};

const volatile __u32 target_pid = 0;
__u64 seen_calls = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 5000);
	__type(key, struct caller);
	__type(value, struct usage);
} callers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct hist);
} hists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 5000);
	__type(key, __u64);
	__type(value, __u64);
} numbers SEC(".maps");

static __always_inline int caller(struct caller *key)
{
	key->pid = bpf_get_current_pid_tgid() >> 32;
	key->what = CALLED;
	bpf_get_current_comm(key->comm, sizeof(key->comm));
	return key->pid == target_pid;
}

SEC("tracepoint/syscalls/sys_enter_getpriority")
int count(void *ctx)
{
	struct caller key = {};
	struct usage first = { .calls = 1, .level = 7, .balance = -3 }, *usage;
	struct hist empty = {}, *hist;
	__u64 *hit, number = __sync_fetch_and_add(&seen_calls, 1);
	__u32 zero = 0;

	if (!caller(&key))
		return 0;
	usage = bpf_map_lookup_elem(&callers, &key);
	if (usage)
		__sync_fetch_and_add(&usage->calls, 1);
	else
		bpf_map_update_elem(&callers, &key, &first, BPF_ANY);
	bpf_get_current_comm(empty.comm, sizeof(empty.comm));
	bpf_map_update_elem(&hists, &key.pid, &empty, BPF_NOEXIST);
	hist = bpf_map_lookup_elem(&hists, &key.pid);
	if (hist)
		__sync_fetch_and_add(&hist->slots[number & 7], 1);
	hit = bpf_map_lookup_elem(&hits, &zero);
	if (hit)
		*hit += 1;
	bpf_map_update_elem(&numbers, &number, &number, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_getgroups")
int forget(void *ctx)
{
	struct caller key = {};

	if (caller(&key))
		bpf_map_delete_elem(&callers, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
