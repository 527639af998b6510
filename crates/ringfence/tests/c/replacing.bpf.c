// SPDX-License-Identifier: MIT OR Apache-2.0
// Takes the place of a function of another program.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

SEC("freplace/answer")
int better(struct __sk_buff *skb)
{
	return 42;
}
