// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* A loop that the compiler unrolls, for kernels before 5.3, which take no loop at all. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ROUNDS 8

/* What the last run was given, byte by byte, and their sum. */
__u64 sum = 0;
__u8 seen[ROUNDS] = {};

SEC("socket")
int sum_bytes(struct __sk_buff *skb)
{
	__u64 all = 0;

#pragma unroll
	for (int i = 0; i < ROUNDS; i++) {
		__u8 byte = 0;

		if (bpf_skb_load_bytes(skb, i, &byte, 1))
			return 0;
		seen[i] = byte;
		all += byte;
	}
	sum = all;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
