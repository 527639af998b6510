// SPDX-License-Identifier: GPL-2.0 OR MIT
// Functions that cannot be used, beside one that can.
#include "bpf.h"

u32 wrong_place SEC(".other") = 3;
__attribute__((common)) int common_variable;

SEC("xdp") int good(void *ctx) { return 2; }
static SEC("xdp") int static_entry(void *ctx) { return 1; }
SEC("xdp") int reads_other(void *ctx) { return wrong_place; }

SEC("xdp") int reads_common(void *ctx) { return common_variable; }

extern int only_declared(int);
SEC("xdp") int calls_nothing(void *ctx) { return only_declared(1); }

SEC("raw_tp") __tag("exception_callback:handle") int throws(void *ctx) { return 0; }
SEC("raw_tp") __tag("exception_callback:missing") int throws_wrong(void *ctx) { return 0; }
SEC("raw_tp") __tag("exception_callback:secret") int throws_hidden(void *ctx) { return 0; }
__noinline int handle(u64 cookie) { barrier(); return cookie; }
__hidden __noinline int secret(u64 cookie) { barrier(); return cookie; }
