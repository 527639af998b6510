// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Stacks by number in a map, and whole in events: of every getpriority(2) of one process. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define DEPTH 32

const volatile __u32 target_pid = 0;

struct event {
	__u32 pid;
	__s32 ustack_sz;
	__u64 kstack[DEPTH];
	__u64 ustack[DEPTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpriority")
int tell(void *ctx)
{
	__u32 process = bpf_get_current_pid_tgid() >> 32;
	struct event *event;

	if (process != target_pid)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event->kstack, 0, sizeof(event->kstack));
	/* What was in that memory before. */
	for (int i = 0; i < DEPTH; i++)
		event->ustack[i] = 0x101010101;
	event->pid = process;
	bpf_get_stack(ctx, event->kstack, sizeof(event->kstack), 0);
	event->ustack_sz = bpf_get_stack(ctx, event->ustack, sizeof(event->ustack), BPF_F_USER_STACK);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
