/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static u64 (*get_prandom_u32)(void) = (void *)7;

SEC("kprobe/tcp_connect") int probe(void *ctx) { return 0; }
SEC("tp_btf/sched_switch") int traced(void *ctx) { return 0; }
SEC("fentry/tcp_connect") int entered(void *ctx) { return 0; }
SEC("fentry/no_such_function") int nowhere(void *ctx) { return 0; }
SEC("fentry") int unnamed(void *ctx) { return 0; }
SEC("fexit/some_module:function") int of_module(void *ctx) { return 0; }
SEC("lsm.s/file_open") int lsm(void *ctx) { return 0; }
SEC("iter/task") int iter(void *ctx) { return 0; }
SEC("freplace/handle") int replaces(void *ctx) { return 0; }
SEC("xdp.frags") int frags(void *ctx) { return 0; }
SEC("kprobes/tcp_connect") int typo(void *ctx) { return 0; }
SEC("?socket") int optional(void *ctx) { return 0; }
SEC("tracepoint/syscalls/sys_enter_openat") int reads(void *ctx)
{
	char to[8];
	probe_read_kernel(to, 8, ctx);
	probe_read_user_str(to, 8, ctx);
	return to[0];
}
SEC("socket") int plain(void *ctx) { return get_prandom_u32(); }
#ifdef LICENCE
char LICENSE[] SEC("license") = LICENCE;
#endif
