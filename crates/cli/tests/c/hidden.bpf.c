// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* getpriority(2) sends a record whose struct clang leaves out of the object's types: only a local variable has it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "hidden.h"

const volatile __u32 target_pid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpriority")
int send(void *ctx)
{
	struct hidden_event event = {};
	__u64 id = bpf_get_current_pid_tgid();

	if (id >> 32 != target_pid)
		return 0;
	event.started = bpf_ktime_get_ns();
	event.pid = id >> 32;
	event.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(&event.comm, sizeof(event.comm));
	event.kind = HIDDEN_KIND;
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
