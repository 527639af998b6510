/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

struct task_struct { int pid; } __attribute__((preserve_access_index));
extern const struct task_struct init_task __ksym;
extern const int no_such_variable __ksym;
extern const int no_such_weak __ksym __weak;
extern const void no_such_symbol __ksym __weak;
extern u32 kernel_add(u32 a, u32 b) __ksym;
extern u32 kernel_add___flavour(u32 a, u32 b) __ksym;
extern u32 kernel_other(u32 a) __ksym;
extern u32 kernel_other_weak(u32 a) __ksym __weak;
extern u32 kernel_gone(u32 a) __ksym __weak;

extern u32 CONFIG_HZ __kconfig;
extern bool CONFIG_SMP __kconfig;
extern char CONFIG_NAME[8] __kconfig;
extern u32 CONFIG_WEAK __kconfig __weak;
extern u32 CONFIG_MISSING __kconfig;
extern u32 LINUX_SOMETHING __kconfig __weak;
extern u32 LINUX_OTHER __kconfig;

SEC("socket") int typed(void *ctx) { return (long)&init_task; }
SEC("socket") int strong(void *ctx) { return (long)&no_such_variable; }
SEC("socket") int weak(void *ctx) { return &no_such_weak ? 1 : 2; }
SEC("socket") int untyped(void *ctx) { return &no_such_symbol ? 1 : 2; }
SEC("socket") int calls(void *ctx) { return kernel_add(1, 2); }
SEC("socket") int flavour(void *ctx) { return kernel_add___flavour(1, 2); }
SEC("socket") int mismatch(void *ctx) { return kernel_other(1); }
SEC("socket") int gone(void *ctx) { return kernel_gone ? kernel_gone(1) : 0; }
SEC("socket") int config(void *ctx) { return CONFIG_HZ + CONFIG_SMP + CONFIG_NAME[0] + CONFIG_WEAK + LINUX_SOMETHING; }
SEC("socket") int config_missing(void *ctx) { return CONFIG_MISSING; }
SEC("socket") int linux_unknown(void *ctx) { return LINUX_OTHER; }
SEC("socket") int field(struct task_struct *task) { return task->pid; }

char LICENSE[] SEC("license") = "GPL";
