// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The least that counts packets and bytes: what `ringfence net` is measured against. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct counts {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

static __always_inline void count(__u64 bytes)
{
	__u32 zero = 0;
	struct counts *all = bpf_map_lookup_elem(&counts, &zero);

	if (!all)
		return;
	all->packets++;
	all->bytes += bytes;
}

SEC("xdp")
int on_frame(struct xdp_md *ctx)
{
	count(ctx->data_end - ctx->data);
	return XDP_PASS;
}

SEC("tcx/ingress")
int on_in(struct __sk_buff *skb)
{
	count(skb->len);
	return -1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
