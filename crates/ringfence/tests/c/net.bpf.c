// SPDX-License-Identifier: MIT OR Apache-2.0
// Packets at every place of the network that a link can hold.
#include "bpf.h"

struct xdp_md {
	__u32 data, data_end;
};
struct __sk_buff {
	__u32 len;
};
struct bpf_sock {
	__u32 bound_dev_if;
};
struct bpf_sk_lookup {
	__u64 sk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

static void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&packets, &key);

	if (value)
		*value += 1;
}

SEC("xdp")
int ipv4(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 <= end && data[12] == 0x08 && data[13] == 0x00)
		count(0);
	return 2;
}

SEC("tc")
int either_side(struct __sk_buff *skb)
{
	count(1);
	return -1;
}

SEC("tcx/egress")
int egress(struct __sk_buff *skb)
{
	count(2);
	return -1;
}

SEC("cgroup/sock_create")
int sockets(struct bpf_sock *sock)
{
	count(3);
	return 1;
}

SEC("socket")
int shorten(struct __sk_buff *skb)
{
	count(4);
	return 8 + 4;
}

SEC("sk_lookup")
int look(struct bpf_sk_lookup *ctx)
{
	count(5);
	return 1;
}

SEC("classifier")
int classify(struct __sk_buff *skb)
{
	count(1);
	return -1;
}
