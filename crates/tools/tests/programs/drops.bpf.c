// SPDX-License-Identifier: GPL-2.0
/* Loses some of what TCP sends, so that it is sent again. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

__u64 seen;

SEC("xdp")
int drops(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);

	/* Acknowledgements arrive. */
	if ((void *)(ip + 1) > end || ip->protocol != 6 || end - data < 200)
		return XDP_PASS;
	return __sync_fetch_and_add(&seen, 1) % 40 == 7 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
