// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that are called, and tail calls by an array that the object fills.
#include "bpf.h"

static void (*bpf_tail_call)(void *ctx, void *map, __u32 index) = (void *)12;

struct args {
	__u64 a, b, sum;
};

SEC("syscall")
int add(struct args *args)
{
	args->sum = args->a + args->b;
	return 5;
}

int called(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [1] = (void *)&called },
};

SEC("tc")
int called(void *ctx)
{
	return 77;
}

SEC("tc")
int caller(void *ctx)
{
	bpf_tail_call(ctx, &jumps, 1);
	return 1;
}
