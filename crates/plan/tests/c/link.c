/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); } counts SEC(".maps");

__noinline int leaf(int x) { barrier(); return x + 1; }
static __noinline int middle(int x) { barrier(); return leaf(x) + leaf(x + 2); }
__noinline int unused(int x) { barrier(); return x * 3; }
static long each(u32 index, void *context) { u32 zero = 0; return !map_lookup(&counts, &zero); }
__noinline int thrown(u64 cookie) { barrier(); return cookie; }

SEC("socket")
int first(void *ctx)
{
	u32 zero = 0;
	loop(4, each, 0, 0);
	return middle(1) + !map_lookup(&counts, &zero);
}

SEC("socket")
int second(void *ctx) { return leaf(2); }

SEC("socket") __attribute__((btf_decl_tag("exception_callback:thrown")))
int throws(void *ctx) { return leaf(2); }

char LICENSE[] SEC("license") = "GPL";
