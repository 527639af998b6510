// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Places in user space by the name of the section alone. The test writes the binary's path for BINARY. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

struct event {
	char what[16];
	__s64 first;
	__s64 second;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

static int tell(const char *what, __s64 first, __s64 second)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	__builtin_memcpy(event->what, what, 8);
	event->first = first;
	event->second = second;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("uprobe.multi/BINARY:work_*")
int BPF_KPROBE(many, long value)
{
	return tell("many\0\0\0", value, 0);
}

SEC("uprobe/BINARY:work_two")
int BPF_KPROBE(one, long value)
{
	return tell("one\0\0\0\0", value, 0);
}

SEC("usdt/BINARY:ringfence:twelve")
int BPF_USDT(twelve, long count, int negative, short small, char byte, int first, long second)
{
	tell("twelve\0", count, negative);
	return tell("pair\0\0\0", first, second);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
