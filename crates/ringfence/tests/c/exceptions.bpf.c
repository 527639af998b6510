// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that throw: with the kernel's way to end them, and with one of their own.
#include "bpf.h"

struct __sk_buff {
	__u32 len;
};
extern void bpf_throw(__u64 cookie) __attribute__((section(".ksyms")));

__u64 caught = 0;

static __attribute__((noinline)) int deep(__u32 len)
{
	if (len)
		bpf_throw(len);
	return 0;
}

SEC("tc")
int thrown(struct __sk_buff *skb)
{
	deep(skb->len);
	return 1;
}

__attribute__((noinline)) int handle(__u64 cookie)
{
	caught = cookie;
	return 64;
}

SEC("tc")
__attribute__((btf_decl_tag("exception_callback:handle"))) int handled(struct __sk_buff *skb)
{
	deep(skb->len);
	return 1;
}
