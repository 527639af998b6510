// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Maps used both ways: user space says which pids to watch and from which values to count on, the kernel
 * counts their system calls in the hash and, by CPU, in the per-CPU array.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} by_pid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} by_cpu SEC(".maps");

SEC("tracepoint/raw_syscalls/sys_enter")
int count_calls(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, slot = pid & 3;
	__u64 *count = bpf_map_lookup_elem(&by_pid, &pid);

	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	count = bpf_map_lookup_elem(&by_cpu, &slot);
	if (count)
		*count += 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
