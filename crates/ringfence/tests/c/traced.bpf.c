// SPDX-License-Identifier: MIT OR Apache-2.0
// One counter for each way to be called when this process opens a file.
#include "bpf.h"

const volatile __u32 target = 0;
__u64 at_start = 0, at_return = 0, by_syscall = 0, by_fentry = 0, by_fexit = 0;

static int ours(void)
{
	return bpf_get_current_pid_tgid() >> 32 == target;
}

SEC("kprobe/do_sys_openat2")
int probe(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&at_start, 1);
	return 0;
}

SEC("kretprobe/do_sys_openat2")
int probe_return(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&at_return, 1);
	return 0;
}

SEC("ksyscall/openat")
int system_call(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&by_syscall, 1);
	return 0;
}

SEC("fentry/do_sys_openat2")
int enter(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&by_fentry, 1);
	return 0;
}

SEC("fexit/do_sys_openat2")
int leave(void *ctx)
{
	if (ours())
		__sync_fetch_and_add(&by_fexit, 1);
	return 0;
}
