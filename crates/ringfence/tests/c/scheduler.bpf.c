// SPDX-License-Identifier: MIT OR Apache-2.0
// The least scheduler of tasks: the kernel's own queue for all of them, and two counters.
#include "bpf.h"

struct task_struct;
struct sched_ext_ops {
	void (*runnable)(struct task_struct *task, __u64 flags);
	int (*init)(void);
	__u64 flags;
	__u32 timeout_ms;
	char name[128];
} __attribute__((preserve_access_index));

__u64 started = 0, queued = 0;

SEC("struct_ops/runnable")
void runnable(__u64 *ctx)
{
	__sync_fetch_and_add(&queued, 1);
}

SEC("struct_ops.s/init")
int init(__u64 *ctx)
{
	__sync_fetch_and_add(&started, 1);
	return 0;
}

SEC(".struct_ops.link")
struct sched_ext_ops scheduler = {
	.runnable = (void *)runnable,
	.init = (void *)init,
	.timeout_ms = 5000,
	.name = "rf_scheduler",
};
