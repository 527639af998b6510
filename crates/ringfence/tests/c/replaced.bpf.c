// SPDX-License-Identifier: MIT OR Apache-2.0
// A program with a function that another program replaces.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};

__attribute__((noinline)) int answer(struct __sk_buff *skb)
{
	/* So that the compiler does not tell the caller what comes back. */
	volatile int answer = 1;

	return answer;
}

SEC("tc")
int asks(struct __sk_buff *skb)
{
	return answer(skb);
}

__attribute__((noinline)) int sum(struct __sk_buff *skb, int more)
{
	volatile int sum = more;

	return sum + 1;
}

SEC("tc")
int adds(struct __sk_buff *skb)
{
	return sum(skb, 1);
}
