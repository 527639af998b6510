// SPDX-License-Identifier: GPL-2.0 OR MIT
// Everything that is left for the loader to find.
#include "bpf.h"

enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };
struct rq;

extern u32 LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_JIT __kconfig __weak;
extern char CONFIG_A_CHAR __kconfig;
extern enum libbpf_tristate CONFIG_TRI __kconfig;
extern u64 CONFIG_HZ __kconfig;
extern signed short CONFIG_SHORT __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[5] __kconfig;
extern const void jiffies __ksym;
extern const struct rq runqueues __ksym;
extern const int not_there __ksym __weak;
extern struct task_struct *task_from_pid(int pid) __ksym;
extern void maybe_release(struct task_struct *task) __ksym __weak;
#ifdef NO_SECTION
extern int nowhere;
#endif
#ifdef BAD_TYPE
extern struct { u64 a, b; } CONFIG_STRUCT __kconfig;
#endif

SEC("raw_tp/sys_enter") int program(void *ctx)
{
	u64 sum = LINUX_KERNEL_VERSION + CONFIG_BPF_JIT + CONFIG_A_CHAR + CONFIG_TRI + CONFIG_HZ + CONFIG_SHORT +
		  CONFIG_DEFAULT_HOSTNAME[1];
	sum += (u64)&jiffies + (u64)&runqueues + (u64)&not_there;
	struct task_struct *task = task_from_pid(1);
	if (task)
		maybe_release(task);
	return sum;
}

SEC("raw_tp/sys_exit") int other(void *ctx)
{
#ifdef NO_SECTION
	return nowhere;
#elif defined(BAD_TYPE)
	return CONFIG_STRUCT.b;
#else
	return 0;
#endif
}

char _license[] SEC("license") = "GPL";
