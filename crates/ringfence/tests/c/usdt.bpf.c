// SPDX-License-Identifier: MIT OR Apache-2.0
// Static probes. The maps and their types have the names and members of libbpf's usdt.bpf.h (of 1.7).
#include "bpf.h"

extern const _Bool LINUX_HAS_BPF_COOKIE __attribute__((section(".kconfig")));

enum __bpf_usdt_arg_type {
	CONSTANT,
	REGISTER,
	MEMORY,
	INDEXED,
};

struct __bpf_usdt_arg_spec {
	__u64 val_off;
#ifdef BEFORE_1_7
	enum __bpf_usdt_arg_type arg_type;
#else
	enum __bpf_usdt_arg_type arg_type : 8;
	__u16 idx_reg_off : 12;
	__u16 scale_bitshift : 4;
	__u8 __reserved : 8;
#endif
	short reg_off;
	_Bool arg_signed;
	char arg_bitshift;
};

struct __bpf_usdt_spec {
	struct __bpf_usdt_arg_spec args[12];
	__u64 usdt_cookie;
	short arg_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, int);
	__type(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, long);
	__type(value, __u32);
} __bpf_usdt_ip_to_spec_id SEC(".maps");

static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static __u64 (*bpf_get_attach_cookie)(void *ctx) = (void *)174;

__u64 hits = 0, cookie = 0, count = 0, sum = 0;
__u64 read[12] = {};

static struct __bpf_usdt_spec *spec_of(struct pt_regs *ctx)
{
	int id;
	if (LINUX_HAS_BPF_COOKIE) {
		id = bpf_get_attach_cookie(ctx);
	} else {
#ifdef __TARGET_ARCH_arm64
		long ip = ((unsigned long *)ctx)[32];
#else
		long ip = ((unsigned long *)ctx)[16];
#endif
		int *found = bpf_map_lookup_elem(&__bpf_usdt_ip_to_spec_id, &ip);
		if (!found)
			return 0;
		id = *found;
	}
	return bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
}

static __u64 value_of(struct pt_regs *ctx, struct __bpf_usdt_arg_spec *arg)
{
	__u64 value = arg->val_off;
	if (arg->arg_type == REGISTER || arg->arg_type == MEMORY)
		bpf_probe_read_kernel(&value, sizeof(value), (void *)ctx + arg->reg_off);
	if (arg->arg_type == MEMORY)
		bpf_probe_read_user(&value, sizeof(value), (void *)value + arg->val_off);
	value <<= arg->arg_bitshift;
	return arg->arg_signed ? (long long)value >> arg->arg_bitshift : value >> arg->arg_bitshift;
}

static void record(struct pt_regs *ctx)
{
	struct __bpf_usdt_spec *spec = spec_of(ctx);
	__sync_fetch_and_add(&hits, 1);
	if (!spec)
		return;
	cookie = spec->usdt_cookie;
	count = spec->arg_cnt;
#pragma unroll
	for (int at = 0; at < 12; at++)
		if (at < spec->arg_cnt)
			read[at] = value_of(ctx, &spec->args[at]);
	if (spec->arg_cnt)
		__sync_fetch_and_add(&sum, read[0]);
}

SEC("usdt")
int probe(struct pt_regs *ctx)
{
	record(ctx);
	return 0;
}

SEC("usdt.s")
int may_sleep(struct pt_regs *ctx)
{
	record(ctx);
	return 0;
}
