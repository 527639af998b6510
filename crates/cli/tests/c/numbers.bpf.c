// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Bare numbers in maps: getpriority(2) leaves the caller, its stack, and the time since the call before. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 target_pid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__type(key, __u32);
} stacks SEC(".maps");

struct place {
	__u32 tgid;
	int kernel;
	int user;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct place);
	__type(value, __u64);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} before SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} waited SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpriority")
int count(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), one = 1, *last, passed, *sum;
	__u32 process = id >> 32, thread = id;
	struct place place = {};

	if (process != target_pid)
		return 0;
	place.tgid = process;
	place.kernel = bpf_get_stackid(ctx, &stacks, 0);
	place.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	bpf_map_update_elem(&calls, &place, &one, BPF_ANY);
	last = bpf_map_lookup_elem(&before, &thread);
	if (last) {
		passed = (now - *last) / 1000;
		sum = bpf_map_lookup_elem(&waited, &process);
		if (sum)
			__sync_fetch_and_add(sum, passed);
		else
			bpf_map_update_elem(&waited, &process, &passed, BPF_ANY);
	}
	bpf_map_update_elem(&before, &thread, &now, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
