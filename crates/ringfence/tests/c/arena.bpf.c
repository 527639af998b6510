// SPDX-License-Identifier: MIT OR Apache-2.0
// Variables in an arena, whose address is left to the kernel.
#include "bpf.h"

#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, 33); /* BPF_MAP_TYPE_ARENA */
	__uint(map_flags, 1 << 10); /* BPF_F_MMAPABLE */
	__uint(max_entries, 4);
} arena SEC(".maps");

__u64 __arena zero;
__u64 __arena initial = 0x1122334455667788;
__u32 __arena many[1024] = { [1023] = 5 };

__u64 seen = 0;
__u64 address = 0;
__u32 last = 0;

SEC("tc")
int use(void *ctx)
{
	zero++;
	seen = initial;
	last = many[1023]++;
	return zero;
}
