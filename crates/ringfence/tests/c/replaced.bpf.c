// SPDX-License-Identifier: MIT OR Apache-2.0
// A program with a function that another program replaces.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

__attribute__((noinline)) int answer(struct __sk_buff *skb)
{
	/* Not folded into the caller. */
	__attribute__((unused)) volatile int keep = 1;

	return 1;
}

SEC("tc")
int asks(struct __sk_buff *skb)
{
	return answer(skb);
}
