// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Calls of a user function, and the sum of what it returns. The section leaves the function to the loader. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

__u64 calls = 0;
__u64 returned = 0;

SEC("uprobe")
int on_call(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	return 0;
}

SEC("uretprobe")
int on_return(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&returned, (__u64)PT_REGS_RC(ctx));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
