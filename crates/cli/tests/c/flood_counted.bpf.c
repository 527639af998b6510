// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "flood.h"

/* Events that found no room. */
__u64 lost_events = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpriority")
int flood(void *ctx)
{
	struct flood_event *event;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (pid != target_pid)
		return 0;
	for (int i = 0; i < BATCH; i++) {
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
		if (!event)
			__sync_fetch_and_add(&lost_events, 1);
		else {
			event->number = __sync_fetch_and_add(&numbers, 1);
			event->pid = pid;
			event->batch = i;
			event->text[0] = 0;
			bpf_ringbuf_submit(event, 0);
		}
	}
	return 0;
}
