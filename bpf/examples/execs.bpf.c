// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Programs started, sent through a perf event array that leaves its size to the loader: one slot a CPU. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct exec_event {
	__u64 ts_ns;
	__u32 pid;
	__u32 cpu;
	char comm[16];
};

const struct exec_event *unused_exec_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 0);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int on_exec(void *ctx)
{
	struct exec_event event = {};

	event.ts_ns = bpf_ktime_get_ns();
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
