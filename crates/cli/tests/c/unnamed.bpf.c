// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* getpriority(2) sends a record of which no line of the source names the second number. Histograms and counters are globals. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 target_pid = 0;

__u64 calls[2] = {};
struct {
	__u32 slots[8];
} hists[2] = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

static __always_inline void put(void *at, __u32 number)
{
	*(__u32 *)at = number;
}

SEC("tracepoint/syscalls/sys_enter_getpriority")
int send(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct {
		__u32 pid;
		__u32 twice;
	} *event;
	__u64 one = 1;

	if (pid != target_pid)
		return 0;
	calls[1] += 1;
	bpf_map_update_elem(&seen, &pid, &one, BPF_ANY);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = pid;
	put((char *)event + 4, pid * 2);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
