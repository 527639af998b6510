// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Many programs that do not know each other, each with some work for the verifier.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline int work(__u64 seed)
{
	for (__u32 i = 0; i < 100; i++) {
		__u32 key = (seed >> (i & 31)) & 255;
		__u64 *count = bpf_map_lookup_elem(&counts, &key);

		if (count && *count < seed)
			__sync_fetch_and_add(count, key);
	}
	return 0;
}

#define ONE(n)                                        \
	SEC("tracepoint/syscalls/sys_enter_getpid")   \
	int program_##n(void *ctx)                    \
	{                                             \
		return work(bpf_get_current_pid_tgid() + 0x##n); \
	}
#define EIGHT(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7)

EIGHT(0) EIGHT(1) EIGHT(2) EIGHT(3) EIGHT(4) EIGHT(5) EIGHT(6) EIGHT(7)

SEC("tracepoint/syscalls/sys_enter_getpid")
int nothing(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
