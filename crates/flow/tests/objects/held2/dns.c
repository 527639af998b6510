/* Packets of a socket filter: parts loaded into members one by one, a payload behind them. */
#include "more.h"

struct __sk_buff { u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority,
	ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id; };

struct dns_hdr { u16 id, flags, qdcount, ancount, nscount, arcount; } __attribute__((packed));

struct packet_meta {
	u64 tstamp;
	u32 ifindex;
	u32 len;
	u8 src_mac[6];
	u8 dst_mac[6];
	u16 eth_type;
	__be32 src_ip;
	__be32 dst_ip;
	u8 ip_proto;
	u8 ttl;
	u16 src_port;
	u16 dst_port;
	struct dns_hdr dns;
	u16 payload_len;
	char payload[128];
} __attribute__((packed));

SEC("socket")
int dns_filter(struct __sk_buff *skb)
{
	struct packet_meta *m;
	u16 port;
	u8 vihl;

	if (bpf_skb_load_bytes(skb, 14, &vihl, 1) < 0 || (vihl >> 4) != 4)
		return 0;
	u32 l4 = 14 + (vihl & 0xf) * 4;
	if (bpf_skb_load_bytes(skb, l4 + 2, &port, sizeof(port)) < 0)
		return 0;
	if (bpf_ntohs(port) != 53)
		return 0;
	m = bpf_ringbuf_reserve(&ring, sizeof(struct packet_meta), 0);
	if (!m)
		return 0;
	m->tstamp = bpf_ktime_get_ns();
	m->ifindex = skb->ifindex;
	m->len = skb->len;
	bpf_skb_load_bytes(skb, 0, m->dst_mac, sizeof(m->dst_mac));
	bpf_skb_load_bytes(skb, 6, m->src_mac, sizeof(m->src_mac));
	m->eth_type = bpf_ntohs(skb->protocol);
	bpf_skb_load_bytes(skb, 26, &m->src_ip, 4);
	bpf_skb_load_bytes(skb, 30, &m->dst_ip, 4);
	bpf_skb_load_bytes(skb, 23, &m->ip_proto, sizeof(m->ip_proto));
	bpf_skb_load_bytes(skb, 22, &m->ttl, sizeof(m->ttl));
	bpf_skb_load_bytes(skb, l4, &m->src_port, sizeof(m->src_port));
	m->src_port = bpf_ntohs(m->src_port);
	m->dst_port = bpf_ntohs(port);
	bpf_skb_load_bytes(skb, l4 + 8, &m->dns, sizeof(m->dns));
	u32 left = skb->len - l4 - 20;
	if (left > sizeof(m->payload))
		left = sizeof(m->payload);
	m->payload_len = left;
	if (left > 0)
		bpf_skb_load_bytes(skb, l4 + 20, m->payload, left);
	bpf_ringbuf_submit(m, 0);
	return 0;
}
