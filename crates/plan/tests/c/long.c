/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

/* 60,000 instructions that many programs share. */
__noinline int shared(int x) { asm volatile(".rept 60000; %0 += 1; .endr" : "+r"(x)); return x; }

#define PROGRAM(name) SEC("socket") int name(void *ctx) { return shared(1); }
#define TEN(name) PROGRAM(name##0) PROGRAM(name##1) PROGRAM(name##2) PROGRAM(name##3) PROGRAM(name##4) \
	PROGRAM(name##5) PROGRAM(name##6) PROGRAM(name##7) PROGRAM(name##8) PROGRAM(name##9)
TEN(a) TEN(b) TEN(c) TEN(d) TEN(e) TEN(f) TEN(g) TEN(h)

/* More than any kernel takes. */
__noinline int endless(int x) { asm volatile(".rept 1000001; %0 += 1; .endr" : "+r"(x)); return x; }
SEC("socket") int too_long(void *ctx) { return endless(1); }

char LICENSE[] SEC("license") = "GPL";
