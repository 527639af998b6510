/* Packets: a packed record on the stack, with bit-fields, from the packet itself. */
#include "held.h"

struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index; };
struct eth { u8 to[6], from[6]; __be16 proto; } __attribute__((packed));
struct ip { u8 vihl, tos; __be16 len, id, frag; u8 ttl, proto; u16 sum; __be32 from, to; };

struct seen {
	u8 version : 4;
	u8 options : 4;
	u16 length;
	u32 source;
	u32 target;
	u64 stamp;
	u8 ttl;
	u8 protocol;
	u32 ifindex;
	u16 queue;
	u8 mac[6];
} __attribute__((packed));

SEC("xdp") int packets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct ip *ip = data + sizeof(*eth);
	struct seen s;

	if ((void *)(ip + 1) > end)
		return 2;
	__builtin_memset(&s, 0, sizeof(s));
	s.version = ip->vihl >> 4;
	s.options = (ip->vihl & 15) - 5;
	s.length = __builtin_bswap16(ip->len);
	s.source = ip->from;
	s.target = ip->to;
	s.stamp = bpf_ktime_get_ns();
	s.ttl = ip->ttl;
	s.protocol = ip->proto;
	s.ifindex = ctx->ingress_ifindex;
	s.queue = ctx->rx_queue_index;
	__builtin_memcpy(s.mac, eth->from, 6);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &s, sizeof(s));
	return 2;
}
