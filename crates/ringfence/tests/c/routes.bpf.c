// SPDX-License-Identifier: MIT OR Apache-2.0
// Packets of routes, and how their flow is read.
#include "bpf.h"

static __u32 (*bpf_get_hash_recalc)(void *skb) = (void *)34;
static void (*bpf_set_hash_invalid)(void *skb) = (void *)41;

struct __sk_buff {
	__u32 len;
};

__u64 in = 0, out = 0, xmit = 0, segment = 0, dissected = 0, hashed = 0;

/* BPF_DROP: passed on, it would come back by a route to the loopback device. */
SEC("lwt_in")
int on_in(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&in, 1);
	return 2;
}

SEC("lwt_out")
int on_out(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&out, 1);
	return 0;
}

SEC("lwt_xmit")
int on_xmit(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&xmit, 1);
	return 0;
}

SEC("lwt_seg6local")
int on_segment(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&segment, 1);
	return 0;
}

/* A flow is read when somebody asks for a packet's hash. */
SEC("tc")
int ask(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&hashed, 1);
	bpf_set_hash_invalid(skb);
	bpf_get_hash_recalc(skb);
	return -1;
}

/* BPF_OK: the flow is as nothing was read, which is enough to be counted. */
SEC("flow_dissector")
int dissect(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&dissected, 1);
	return 0;
}
