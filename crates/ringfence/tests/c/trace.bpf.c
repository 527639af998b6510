// SPDX-License-Identifier: MIT OR Apache-2.0
// One counter for each way to be called when this process asks for its user id.
#include "bpf.h"

const volatile __u32 target = 0, getuid_number = 0;
__u64 by_tracepoint = 0, by_raw_tp = 0, by_btf = 0, by_clock = 0;

static int ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == target;
}

SEC("tracepoint/syscalls/sys_enter_getuid")
int tracepoint(void *ctx)
{
	if (ours()) {
		__sync_fetch_and_add(&by_tracepoint, 1);
		bpf_printk("tracepoint saw %d", target);
	}
	return 0;
}

SEC("raw_tp/sys_enter")
int raw_tp(__u64 *ctx)
{
	if (ours() && ctx[1] == getuid_number) {
		__sync_fetch_and_add(&by_raw_tp, 1);
		bpf_printk("raw tracepoint saw %d", target);
	}
	return 0;
}

SEC("tp_btf/sys_exit")
int btf_tp(__u64 *ctx)
{
	if (ours())
		__sync_fetch_and_add(&by_btf, 1);
	return 0;
}

SEC("perf_event")
int clock(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&by_clock, 1);
	return 0;
}
