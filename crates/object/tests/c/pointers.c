// SPDX-License-Identifier: GPL-2.0 OR MIT
// Addresses in data, which no loader can fill in.
#include "bpf.h"

__noinline int one(int x) { barrier(); return x; }
u64 pad = 1;
int (*table[2])(int) = { 0, one };
const char *volatile words[2] = { "alpha", "beta" };

SEC("xdp") int program(void *ctx) { return words[pad] != 0 && table[pad] != 0; }
