// SPDX-License-Identifier: MIT OR Apache-2.0
// Packets in several parts.
#include "bpf.h"

struct xdp_md {
	__u32 data, data_end;
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

SEC("xdp.frags")
int fragments(struct xdp_md *ctx)
{
	count(6);
	return 2;
}
