// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The first program of every guide: a line for each openat(2). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tracepoint/syscalls/sys_enter_openat")
int hello_openat(void *ctx)
{
	bpf_printk("hello from openat, pid %d", (int)(bpf_get_current_pid_tgid() >> 32));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
