// SPDX-License-Identifier: MIT OR Apache-2.0
// Global functions that take the context of programs of several types.
#include "bpf.h"

#define __arg_ctx __attribute__((btf_decl_tag("arg:ctx")))
#define __noinline __attribute__((noinline))

struct __sk_buff {
	__u32 len;
};
struct xdp_md {
	__u32 data, data_end;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

__u64 length = 0;

/* A part of programs of three types, each with another context. */
__noinline int output(__u64 value, void *ctx __arg_ctx)
{
	return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &value, sizeof(value));
}

__noinline int measure(void *ctx __arg_ctx)
{
	struct __sk_buff *skb = ctx;
	length = skb->len;
	return 0;
}

__noinline int registers(struct pt_regs *ctx __arg_ctx)
{
	return ARG1(ctx) == 0;
}

SEC("tc")
int classify(struct __sk_buff *skb)
{
	measure(skb);
	output(1, skb);
	return 7;
}

SEC("xdp")
int receive(struct xdp_md *xdp)
{
	output(2, xdp);
	return 2;
}

SEC("?kprobe")
int probe(struct pt_regs *regs)
{
	output(3, regs);
	return registers(regs);
}
