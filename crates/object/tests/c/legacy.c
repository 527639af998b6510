// SPDX-License-Identifier: GPL-2.0 OR MIT
// Maps as arrays of integers in section maps: as old C has them (5 words), older (4), and Rust (7).
#include "bpf.h"

struct four { u32 type, key_size, value_size, max_entries; };
struct five { u32 type, key_size, value_size, max_entries, map_flags; };
struct seven { u32 type, key_size, value_size, max_entries, map_flags, id, pinning; };

struct five counts SEC("maps") = { 1, 4, 8, 100, 1 };
struct four oldest SEC("maps") = { 2, 4, 4, 3 };
struct seven rust SEC("maps") = { 4, 4, 4, 0, 0, 0, 0 };
struct seven pinned SEC("maps") = { 1, 4, 4, 2, 0, 0, 1 };
#ifdef UNKNOWN
struct seven unknown SEC("maps") = { 1, 4, 4, 2, 0, 77, 0 };
#endif

struct ____btf_map_counts { u32 key; u64 value; };
struct ____btf_map_counts ____btf_map_counts SEC(".maps.counts");

SEC("tracepoint/syscalls/sys_enter_openat") int program(void *ctx)
{
	u32 key = 1;
	return (u64)map_lookup(&counts, &key) + (u64)map_lookup(&oldest, &key) + (u64)map_lookup(&rust, &key) +
	       (u64)map_lookup(&pinned, &key);
}
