// SPDX-License-Identifier: MIT OR Apache-2.0
// A map whose key and value are structures.
#include "bpf.h"

struct peer {
	__u32 address;
	__u16 port;
	__u16 zero;
};
struct seen {
	__u32 seconds;
	__u32 cpu;
};
struct traffic {
	__u64 packets;
	__u64 bytes;
	struct seen last;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct peer);
	__type(value, struct traffic);
} traffic SEC(".maps");

SEC("socket")
int nothing(void *ctx)
{
	struct peer peer = {};

	return bpf_map_lookup_elem(&traffic, &peer) != 0;
}
