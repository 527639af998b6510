// SPDX-License-Identifier: MIT OR Apache-2.0
// Both sides of a pair of netkit devices.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

static void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&packets, &key);

	if (value)
		*value += 1;
}

SEC("netkit/primary")
int primary(struct __sk_buff *skb)
{
	count(2);
	return -1;
}

SEC("netkit/peer")
int peer(struct __sk_buff *skb)
{
	count(3);
	return -1;
}
