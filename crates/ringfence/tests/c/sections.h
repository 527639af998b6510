/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program for each section name (`on_` and the name), which counts its runs. Loaded one at a time: they share the counter. */
#pragma once
#include "bpf.h"

__u64 runs = 0;

#define ROW(name, section, answer) \
	SEC(section) \
	int on_##name(void *ctx) \
	{ \
		__sync_fetch_and_add(&runs, 1); \
		return answer; \
	}

/* Run for a test where a row's hook is in the machinery of test runs. */
SEC("socket")
int packet(void *ctx)
{
	return 0;
}
