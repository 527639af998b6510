// SPDX-License-Identifier: MIT OR Apache-2.0
// Many functions at once. How often, for which cookies, with which arguments.
#include "bpf.h"

extern const _Bool LINUX_HAS_BPF_COOKIE __attribute__((section(".kconfig")));
const volatile __u32 target = 0;
__u64 calls = 0, arguments = 0, returns = 0, both = 0, cookies = 0, kernel_calls = 0, kernel_returns = 0, kernel_both = 0;

static __u64 (*bpf_get_attach_cookie)(void *ctx) = (void *)174;

static int ours(void)
{
	return !target || bpf_get_current_pid_tgid() >> 32 == target;
}

SEC("uprobe.multi")
int at_start(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	__sync_fetch_and_add(&arguments, ARG1(ctx));
	if (LINUX_HAS_BPF_COOKIE)
		__sync_fetch_and_add(&cookies, bpf_get_attach_cookie(ctx));
	return 0;
}

SEC("uretprobe.multi")
int at_return(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&returns, 1);
	return 0;
}

SEC("uprobe.multi.s")
int may_sleep(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	return 0;
}

SEC("uprobe.session")
int at_both(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&both, 1);
	return 0;
}

SEC("kprobe.multi/do_sys_openat*")
int kernel_start(struct pt_regs *ctx)
{
	if (ours())
		__sync_fetch_and_add(&kernel_calls, 1);
	if (LINUX_HAS_BPF_COOKIE && ours())
		__sync_fetch_and_add(&cookies, bpf_get_attach_cookie(ctx));
	return 0;
}

SEC("kretprobe.multi/do_sys_openat2")
int kernel_return(struct pt_regs *ctx)
{
	if (ours())
		__sync_fetch_and_add(&kernel_returns, 1);
	return 0;
}

SEC("kprobe.session/do_sys_openat2")
int kernel_session(struct pt_regs *ctx)
{
	if (ours())
		__sync_fetch_and_add(&kernel_both, 1);
	return 0;
}
