// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "flood.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 0);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpriority")
int flood(void *ctx)
{
	struct flood_event event = { .text = "a text that is as long as texts of events are" };

	event.pid = bpf_get_current_pid_tgid() >> 32;
	if (event.pid != target_pid)
		return 0;
	for (int i = 0; i < BATCH; i++) {
		event.number = __sync_fetch_and_add(&numbers, 1);
		event.batch = i;
		bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	}
	return 0;
}
