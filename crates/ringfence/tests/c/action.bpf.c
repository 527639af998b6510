// SPDX-License-Identifier: MIT OR Apache-2.0
// What a filter does, for kernels that have such actions.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

__u64 packets = 0;

SEC("action")
int act(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&packets, 1);
	return -1;
}
