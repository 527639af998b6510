// SPDX-License-Identifier: GPL-2.0 OR MIT
// Variables that hold programs.
#include "bpf.h"

struct sock;
struct some_ops {
	u64 flags;
	void (*init)(struct sock *sk);
	u32 (*window)(struct sock *sk);
	void (*unused)(void);
	char name[16];
};

SEC("struct_ops/init") void first_init(struct sock *sk) { barrier(); }
SEC("struct_ops") u32 window(struct sock *sk) { return 3; }
SEC("struct_ops.s/init") void second_init(struct sock *sk) { barrier(); }

SEC(".struct_ops") struct some_ops plain = { .flags = 5, .init = first_init, .window = window, .name = "plain" };
SEC(".struct_ops.link") struct some_ops linked = { .init = second_init, .name = "linked" };
SEC("?.struct_ops.link") struct some_ops off = { .window = window, .name = "off" };

char _license[] SEC("license") = "GPL";
