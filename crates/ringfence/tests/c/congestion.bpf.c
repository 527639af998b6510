// SPDX-License-Identifier: MIT OR Apache-2.0
// Congestion control in two tables: one registered by a link, one by its value.
#include "bpf.h"

struct sock;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	__u32 flags;
	char name[16];
} __attribute__((preserve_access_index));

__u64 started = 0;

SEC("struct_ops")
void begin(__u64 *ctx)
{
	__sync_fetch_and_add(&started, 1);
}

SEC("struct_ops")
__u32 threshold(__u64 *ctx)
{
	return 4;
}

SEC("struct_ops")
void avoid(__u64 *ctx)
{
}

SEC("struct_ops")
__u32 undo(__u64 *ctx)
{
	return 4;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops linked = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.init = (void *)begin,
	.name = "rf_linked",
};

SEC(".struct_ops")
struct tcp_congestion_ops by_value = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "rf_by_value",
};
