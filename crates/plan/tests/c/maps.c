/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

struct value { u64 count; u32 last; };
struct { __uint(type, 1); __uint(max_entries, 64); __type(key, u32); __type(value, struct value); } table SEC(".maps");
struct { __uint(type, 1); __type(key, u32); __type(value, u64); } unsized SEC(".maps");
struct { __uint(type, 1); } bare SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 5000); } ring SEC(".maps");
struct { __uint(type, 27); } empty_ring SEC(".maps");
struct { __uint(type, 4); __type(key, u32); __type(value, u32); } perf SEC(".maps");
struct { __uint(type, 7); __uint(max_entries, 16); __uint(key_size, 4); } stacks SEC(".maps");
struct { __uint(type, 13); __uint(max_entries, 8); __type(key, u32); __type(value, u32); } outer SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 8); __uint(pinning, 1); __type(key, u32); __type(value, u32); } pinned SEC(".maps");
struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u32); } inner SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 2); __type(key, u32); __array(values, struct inner); } filled SEC(".maps") = {
	.values = { [1] = &inner },
};
int uses_table(void *ctx);
int uses_ring(void *ctx);
struct { __uint(type, 3); __uint(max_entries, 2); __type(key, u32); __array(values, int (void *)); } jumps SEC(".maps") = {
	.values = { (void *)&uses_table, (void *)&uses_ring },
};

const volatile u32 limit = 3;
static volatile u32 hidden_counter;
u32 counter;
u32 start = 1;
u32 alone SEC(".data.alone") = 9;

SEC("socket") int uses_table(void *ctx) { u32 zero = 0; return !map_lookup(&table, &zero) + limit + counter + start + alone; }
SEC("socket") int uses_unsized(void *ctx) { u32 zero = 0; return !map_lookup(&unsized, &zero); }
SEC("socket") int uses_ring(void *ctx) { return (long)&ring + hidden_counter; }

char LICENSE[] SEC("license") = "GPL";
