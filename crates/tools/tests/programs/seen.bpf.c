// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What packets have when they leave. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 marked = 0;
__u64 others = 0;

SEC("tcx/egress")
int look(struct __sk_buff *skb)
{
	if (skb->mark == 0x10 && skb->priority == 6)
		__sync_fetch_and_add(&marked, 1);
	else
		__sync_fetch_and_add(&others, 1);
	return -1;
}

char LICENSE[] SEC("license") = "GPL";
