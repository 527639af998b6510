// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* How often each task was switched in: sched_switch, counted in a hash, and in all per CPU. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct trace_event_raw_sched_switch {
	char next_comm[16];
	int next_pid;
} __attribute__((preserve_access_index));

struct task {
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct task);
	__type(value, __u64);
} switches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

/* Tasks for which the table had no room. */
__u64 lost_tasks = 0;

SEC("tracepoint/sched/sched_switch")
int count_switches(struct trace_event_raw_sched_switch *ctx)
{
	struct task task = { .pid = ctx->next_pid };
	__u64 one = 1, *count;
	__u32 zero = 0;

	bpf_probe_read_kernel_str(task.comm, sizeof(task.comm), ctx->next_comm);
	count = bpf_map_lookup_elem(&switches, &task);
	if (count)
		__sync_fetch_and_add(count, 1);
	else if (bpf_map_update_elem(&switches, &task, &one, BPF_NOEXIST))
		__sync_fetch_and_add(&lost_tasks, 1);

	count = bpf_map_lookup_elem(&total, &zero);
	if (count)
		*count += 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
