// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* A producer that one can count on: each run of a program writes one record, and wakes nobody. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

__u64 lost = 0;

#define PRODUCER(SIZE)                                                      \
	SEC("tc")                                                           \
	int produce_##SIZE(struct __sk_buff *skb)                           \
	{                                                                   \
		__u64 *record = bpf_ringbuf_reserve(&ring, SIZE, 0);        \
		if (!record) {                                              \
			lost++;                                             \
			return 0;                                           \
		}                                                           \
		record[0] = 1;                                              \
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);               \
		return 0;                                                   \
	}

PRODUCER(8)
PRODUCER(64)
PRODUCER(256)
PRODUCER(1024)

char LICENSE[] SEC("license") = "Dual MIT/GPL";
