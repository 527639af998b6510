// SPDX-License-Identifier: MIT OR Apache-2.0
// Two good programs, and a third that the verifier must refuse.
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

SEC("socket")
int first(void *ctx)
{
	return 1;
}

SEC("raw_tp/sys_enter")
int second(void *ctx)
{
	__u32 key = 1;
	return bpf_map_lookup_elem(&numbers, &key) != 0;
}

SEC("raw_tp/sys_enter")
int third(void *ctx)
{
	__u32 key = 1;
	__u64 *value = bpf_map_lookup_elem(&numbers, &key);

	return *value; /* may be null */
}
