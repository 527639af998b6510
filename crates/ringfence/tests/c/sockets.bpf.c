// SPDX-License-Identifier: MIT OR Apache-2.0
// Sockets in maps, in groups, and how they are found.
#include "bpf.h"

enum {
	BPF_MAP_TYPE_REUSEPORT_SOCKARRAY = 20,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_MAP_TYPE_SOCKHASH = 18,
};

static long (*bpf_sk_redirect_map)(void *skb, void *map, __u32 key, __u64 flags) = (void *)52;
static long (*bpf_msg_redirect_hash)(void *msg, void *map, void *key, __u64 flags) = (void *)71;
static long (*bpf_sk_select_reuseport)(void *ctx, void *map, void *key, __u64 flags) = (void *)82;

struct __sk_buff {
	__u32 len;
};
struct sk_msg_md {
	__u64 data;
	__u64 data_end;
	__u32 family;
	__u32 remote_ip4, local_ip4;
	__u32 remote_ip6[4], local_ip6[4];
	__u32 remote_port, local_port;
	__u32 size;
};
struct sk_reuseport_md {
	__u64 data;
	__u64 data_end;
	__u32 len;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} group SEC(".maps");

__u64 parsed = 0, judged = 0, bytes_sent = 0, chosen = 0;
__u32 choice = 0;

SEC("sk_skb/stream_parser")
int parse(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&parsed, 1);
	return skb->len;
}

/* What one socket receives the other one gets, too: it is as if its peer had sent it there. */
SEC("sk_skb/stream_verdict")
int verdict(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&judged, 1);
	return 1;
}

SEC("sk_skb/verdict")
int alone(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&judged, 1);
	return 1;
}

SEC("sk_skb")
int drop(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&judged, 1);
	return 0;
}

SEC("sk_msg")
int message(struct sk_msg_md *msg)
{
	__sync_fetch_and_add(&bytes_sent, msg->size);
	return 1;
}

SEC("sk_reuseport")
int choose(struct sk_reuseport_md *ctx)
{
	__u32 key = choice;

	__sync_fetch_and_add(&chosen, 1);
	return bpf_sk_select_reuseport(ctx, &group, &key, 0) == 0;
}
