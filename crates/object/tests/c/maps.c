// SPDX-License-Identifier: GPL-2.0 OR MIT
// Every attribute of a map.
#include "bpf.h"

struct key { u32 pid; u32 cpu; };
struct value { u64 count[4]; char comm[16]; };

struct {
	__uint(type, 1);
	__uint(max_entries, 1024);
	__uint(map_flags, 1);
	__uint(numa_node, 2);
	__uint(pinning, 1);
	__type(key, struct key);
	__type(value, struct value);
} all SEC(".maps");

struct {
	__uint(type, 30);
	__uint(max_entries, 100);
	__uint(key_size, 0);
	__uint(value_size, 8);
	__uint(map_extra, 5);
} bloom SEC(".maps");

struct {
	__uint(type, 33);
	__uint(map_flags, 1024);
	__uint(max_entries, 100);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

#define __arena __attribute__((address_space(1)))
u64 __arena in_arena[3] SEC(".addr_space.1") = { 1, 2, 3 };

struct inner { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, u64); };
struct inner one SEC(".maps");
struct inner two SEC(".maps");

struct {
	__uint(type, 12);
	__uint(max_entries, 8);
	__type(key, u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &two, [6] = &one } };

struct {
	__uint(type, 13);
	__uint(max_entries, 8);
	__type(key, u32);
	__array(values, struct { __uint(type, 27); __uint(max_entries, 5000); });
} rings SEC(".maps");

int tail(void *ctx);
int tail_two(void *ctx);

struct {
	__uint(type, 3);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [0] = &tail, [3] = &tail_two } };

SEC("xdp") int tail(void *ctx) { return in_arena[1]; }
SEC("xdp") int tail_two(void *ctx) { return 2; }
SEC("xdp") int entry(void *ctx)
{
	u32 key = 0;
	return (u64)map_lookup(&arena, &key);
}

char _license[] SEC("license") = "Dual MIT/GPL";
