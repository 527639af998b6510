// SPDX-License-Identifier: MIT OR Apache-2.0
// A function of the test's own binary, at its start and return.
#include "bpf.h"

__u64 calls = 0, sum = 0, returns = 0, result = 0;

SEC("uprobe")
int at_start(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	__sync_fetch_and_add(&sum, ARG1(ctx));
	return 0;
}

SEC("uretprobe")
int at_return(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&returns, 1);
	result = RESULT(ctx);
	return 0;
}
