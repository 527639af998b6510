/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

struct task_struct;
struct tiny_ops {
	void (*start)(struct task_struct *task);
	u32 flags;
	u32 old_member;
	int (*stop)(void);
};
#ifdef GONE
#define OLD 1
#else
#define OLD 0
#endif

SEC("struct_ops/start") void start(u64 *ctx) {}
SEC("struct_ops.s/stop") int stop(u64 *ctx) { return 0; }
SEC("struct_ops/spare") int spare(u64 *ctx) { return 0; }
SEC("socket") int plain(void *ctx) { return 0; }

SEC(".struct_ops.link")
struct tiny_ops ops = { .start = (void *)start, .stop = (void *)stop, .flags = 0x11223344, .old_member = OLD };
SEC("?.struct_ops")
struct tiny_ops again = { .start = (void *)start };

char LICENSE[] SEC("license") = "GPL";
