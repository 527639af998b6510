// SPDX-License-Identifier: GPL-2.0 OR MIT
// CO-RE relocations of every kind.
#include "bpf.h"

#define CORE __attribute__((preserve_access_index))
struct CORE parent { u64 a; struct { u32 first : 3; u32 second : 5; } bits[2]; };
enum colour { RED = 1, BLUE = 7 };

__noinline int sub(struct parent *p) { return __builtin_preserve_field_info(p->bits[1].second, 2); }

SEC("tp_btf/sched_switch") int kinds(u64 *ctx)
{
	struct parent *p = (void *)ctx[0];
	u64 sum = p->a;
	sum += __builtin_preserve_field_info(p->bits[0].second, 0);
	sum += __builtin_preserve_field_info(p->bits[0].second, 1);
	sum += __builtin_preserve_field_info(p->bits[0].second, 3);
	sum += __builtin_preserve_field_info(p->bits[0].second, 4);
	sum += __builtin_preserve_field_info(p->bits[0].second, 5);
	sum += __builtin_btf_type_id(*(struct parent *)0, 0);
	sum += __builtin_btf_type_id(*(struct parent *)0, 1);
	sum += __builtin_preserve_type_info(*(struct parent *)0, 0);
	sum += __builtin_preserve_type_info(*(struct parent *)0, 1);
	sum += __builtin_preserve_type_info(*(struct parent *)0, 2);
	sum += __builtin_preserve_enum_value(*(enum colour *)BLUE, 0);
	sum += __builtin_preserve_enum_value(*(enum colour *)BLUE, 1);
	return sum + sub(p);
}

char _license[] SEC("license") = "GPL";
