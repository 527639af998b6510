// SPDX-License-Identifier: MIT OR Apache-2.0
// Events by test runs: the packet says how many and how large.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

struct event {
	__u32 number;
	__u32 twice;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event); // as cilium/ebpf's users write it: what the events are
} other SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(value, struct event);
} perf SEC(".maps");

__u32 next_number = 0;
__u64 refused = 0;

SEC("tc")
int to_ring(struct __sk_buff *skb)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		refused++;
		return 0;
	}
	event->number = next_number++;
	event->twice = event->number * 2;
	if (event->number % 4 == 3)
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tc")
int to_other(struct __sk_buff *skb)
{
	struct event event = { .number = next_number++ };

	bpf_ringbuf_output(&other, &event, sizeof(event), 0);
	return 0;
}

SEC("tc")
int to_perf(struct __sk_buff *skb)
{
	struct event event = { .number = next_number++ };

	event.twice = event.number * 2;
	bpf_perf_event_output(skb, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}
