// SPDX-License-Identifier: MIT OR Apache-2.0
// Packets at a hook of netfilter.
#include "bpf.h"

__u64 packets = 0;

SEC("netfilter")
int hooked(void *ctx)
{
	__sync_fetch_and_add(&packets, 1);
	return 1;
}
