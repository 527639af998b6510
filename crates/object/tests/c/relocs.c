// SPDX-License-Identifier: GPL-2.0 OR MIT
// Every way in which an instruction refers to something.
#include "bpf.h"

struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } first SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, u32); } second SEC(".maps");

u32 in_data = 7;
static volatile u32 hidden_data = 8;
u64 in_bss;
static volatile u64 static_bss[4];
__hidden u32 of_us = 9;
const volatile u32 in_rodata = 10;
u32 custom SEC(".data.custom") = 11;
const u32 custom_ro SEC(".rodata.custom") = 12;
u32 custom_bss SEC(".bss.custom");

__noinline int global_sub(int x) { barrier(); return x + (int)in_data; }
static __noinline int static_sub(int x) { barrier(); return x + (int)hidden_data; }
static __noinline int calls_static(int x) { barrier(); return static_sub(x) * 2; }
__weak __noinline int weak_sub(int x) { barrier(); return x; }
__hidden __noinline int hidden_sub(int x) { barrier(); return calls_static(x); }

static int static_callback(u32 at, void *context) { in_bss += at; return 0; }
int global_callback(u32 at, void *context) { in_bss -= at; return 0; }

SEC("tracepoint/syscalls/sys_enter_openat") int maps_and_data(void *ctx)
{
	u32 key = 3;
	u64 *value = map_lookup(&second, &key);
	if (value)
		in_bss++;
	value = map_lookup(&first, &key);
	static_bss[2] = key;
	of_us++;
	custom += in_rodata;
	custom_bss += custom_ro;
	return hidden_data;
}

SEC("tracepoint/syscalls/sys_enter_openat") int calls(void *ctx)
{
	return global_sub(1) + static_sub(2) + weak_sub(3) + hidden_sub(4);
}

SEC("?raw_tp/sys_enter") int callbacks(void *ctx)
{
	loop(4, static_callback, 0, 0);
	loop(4, global_callback, 0, 0);
	trace_printk("opened %d", 10, 5);
	return 0;
}

char _license[] SEC("license") = "GPL";
u32 _version SEC("version") = 0x060c00;
