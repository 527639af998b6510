// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Two records of one size in one buffer, told apart by their first member; their structs are in no BTF. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct asked {
	__u32 kind;
	__u32 pid;
	__u64 when_ns;
	__u64 which;
};

struct answered {
	__u32 kind;
	__u32 cpu;
	__u32 tid;
	__u32 answer;
	__u64 at_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} events SEC(".maps");

const volatile __u32 target_pid = 0;
char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct enter { __u64 common; __u64 nr; __u64 which; };
struct leave { __u64 common; __u64 nr; __u64 ret; };

SEC("tracepoint/syscalls/sys_enter_getpriority")
int asks(struct enter *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct asked *a;

	if (pid != target_pid)
		return 0;
	a = bpf_ringbuf_reserve(&events, sizeof(*a), 0);
	if (!a)
		return 0;
	a->kind = 1;
	a->pid = pid;
	a->when_ns = bpf_ktime_get_ns();
	a->which = ctx->which + 7;
	bpf_ringbuf_submit(a, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_getpriority")
int answers(struct leave *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct answered *a;

	if (id >> 32 != target_pid)
		return 0;
	a = bpf_ringbuf_reserve(&events, sizeof(*a), 0);
	if (!a)
		return 0;
	a->kind = 2;
	a->cpu = bpf_get_smp_processor_id();
	a->tid = (__u32)id;
	a->answer = ctx->ret * 2;
	a->at_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(a, 0);
	return 0;
}
