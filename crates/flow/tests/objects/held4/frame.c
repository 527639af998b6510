/* A frame, as beginners' XDP tools report it: addresses by memcpy, ports of whichever protocol, flags out of bit-fields. */
#include "../held2/more.h"

struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex; };
struct ethhdr { u8 h_dest[6], h_source[6]; __be16 h_proto; } __attribute__((packed));
struct iphdr { u8 ihl : 4, version : 4; u8 tos; __be16 tot_len, id, frag_off; u8 ttl, protocol; u16 check; __be32 saddr, daddr; };
struct tcphdr { __be16 source, dest; __be32 seq, ack_seq; u16 res1 : 4, doff : 4, fin : 1, syn : 1, rst : 1, psh : 1, ack : 1; };
struct udphdr { __be16 source, dest, len, check; };

struct frame {
	u64 seen_at;
	u8 src_mac[6];
	u8 dst_mac[6];
	__be32 src_ip;
	__be32 dst_ip;
	u16 src_port;
	u16 dst_port;
	u16 length;
	u8 protocol;
	u8 ttl;
	u8 tos;
	u8 syn;
	u8 fin;
	u32 ifindex;
};

SEC("xdp") int watch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct frame *f;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_ntohs(0x0800))
		return 2;
	f = bpf_ringbuf_reserve(&ring, sizeof(*f), 0);
	if (!f)
		return 2;
	__builtin_memset(f, 0, sizeof(*f));
	f->seen_at = bpf_ktime_get_ns();
	__builtin_memcpy(f->src_mac, eth->h_source, 6);
	__builtin_memcpy(f->dst_mac, eth->h_dest, 6);
	f->src_ip = ip->saddr;
	f->dst_ip = ip->daddr;
	f->length = bpf_ntohs(ip->tot_len);
	f->protocol = ip->protocol;
	f->ttl = ip->ttl;
	f->tos = ip->tos;
	f->ifindex = ctx->ingress_ifindex;
	if (ip->protocol == 6) {
		struct tcphdr *tcp = (void *)(ip + 1);

		if ((void *)(tcp + 1) <= end) {
			f->src_port = bpf_ntohs(tcp->source);
			f->dst_port = bpf_ntohs(tcp->dest);
			f->syn = tcp->syn;
			f->fin = tcp->fin;
		}
	} else if (ip->protocol == 17) {
		struct udphdr *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) <= end) {
			f->src_port = bpf_ntohs(udp->source);
			f->dst_port = bpf_ntohs(udp->dest);
		}
	}
	bpf_ringbuf_submit(f, 0);
	return 2;
}
