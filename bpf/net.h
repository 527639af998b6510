/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet's headers as far as flows are told apart by them, read by XDP and tc programs alike. */
#ifndef RINGFENCE_NET_H
#define RINGFENCE_NET_H

#define ETH_8021Q 0x8100
#define ETH_8021AD 0x88a8
#define ETH_IP 0x0800
#define ETH_IPV6 0x86dd

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMP6 58
#define PROTO_SCTP 132
#define PROTO_UDPLITE 136
#define PROTO_DCCP 33

#define ETHERNET 14
#define MOST_TAGS 2
#define MOST_EXTENSIONS 8
#define MOST_HEADERS 8192 /* bytes */

enum note {
	NOTE_TRUNCATED = 1, /* ended within its headers */
	NOTE_FRAGMENT = 2,  /* a part of a larger packet; only the first one has ports */
	NOTE_TAGGED = 4,    /* had a VLAN tag */
};

/* Numbers in the machine's byte order, addresses as they were sent; of IPv4 the first 4 bytes. What a packet does not have is zero. */
struct packet {
	__u16 eth;  /* protocol behind all tags */
	__u16 vlan; /* the outer tag's number */
	__u8 family; /* 4, 6, or 0 */
	__u8 proto;
	__u8 tos; /* type of service, traffic class */
	__u8 tcp; /* flags */
	__u16 sport; /* of ICMP: type and code */
	__u16 dport;
	__u32 l3;  /* where the network header begins */
	__u32 l4;  /* where the transport header begins */
	__u32 end; /* where the headers that were understood end */
	__u32 notes;
	__u32 src[4];
	__u32 dst[4];
};

struct ipv6_head {
	__u8 first[4];
	__u16 len;
	__u8 next;
	__u8 hops;
	__u8 src[16];
	__u8 dst[16];
};

struct ipv4_head {
	__u8 version_len;
	__u8 tos;
	__u16 len;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 proto;
	__u16 check;
	__u8 src[4];
	__u8 dst[4];
};

/* `xdp` is known where this is inlined, so that one of the two is left. Fails where the packet ends. */
static __always_inline int load(void *ctx, bool xdp, __u32 offset, void *to, __u32 len)
{
	if (xdp) {
		struct xdp_md *md = ctx;
		void *at = (void *)(long)md->data;

		if (offset > MOST_HEADERS)
			return -1;
		at += offset;
		if (at + len > (void *)(long)md->data_end)
			return -1;
		__builtin_memcpy(to, at, len);
		return 0;
	}
	return bpf_skb_load_bytes(ctx, offset, to, len);
}

#define TRY(what)                                      \
	do {                                           \
		if (what) {                            \
			packet->notes |= NOTE_TRUNCATED; \
			return;                        \
		}                                      \
	} while (0)

static __always_inline void read_ports(void *ctx, bool xdp, struct packet *packet)
{
	__u8 head[4];

	packet->end = packet->l4;
	switch (packet->proto) {
	case PROTO_TCP: {
		__u8 tail[2];

		TRY(load(ctx, xdp, packet->l4, head, 4));
		packet->sport = head[0] << 8 | head[1];
		packet->dport = head[2] << 8 | head[3];
		TRY(load(ctx, xdp, packet->l4 + 12, tail, 2));
		packet->tcp = tail[1];
		packet->end = packet->l4 + (tail[0] >> 4) * 4;
		break;
	}
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_SCTP:
	case PROTO_DCCP:
		TRY(load(ctx, xdp, packet->l4, head, 4));
		packet->sport = head[0] << 8 | head[1];
		packet->dport = head[2] << 8 | head[3];
		packet->end = packet->l4 + 8;
		break;
	case PROTO_ICMP:
	case PROTO_ICMP6:
		TRY(load(ctx, xdp, packet->l4, head, 2));
		packet->sport = head[0];
		packet->dport = head[1];
		packet->end = packet->l4 + 8;
		break;
	}
}

static __always_inline void read_ipv4(void *ctx, bool xdp, struct packet *packet)
{
	struct ipv4_head head;
	__u16 fragment;

	TRY(load(ctx, xdp, packet->l3, &head, sizeof(head)));
	if (head.version_len >> 4 != 4 || (head.version_len & 15) < 5)
		TRY(true);
	packet->family = 4;
	packet->tos = head.tos;
	packet->proto = head.proto;
	__builtin_memcpy(packet->src, head.src, 4);
	__builtin_memcpy(packet->dst, head.dst, 4);
	packet->l4 = packet->l3 + (head.version_len & 15) * 4;
	packet->end = packet->l4;
	fragment = bpf_ntohs(head.fragment);
	if (fragment & 0x3fff) /* more follow, or it begins further on */
		packet->notes |= NOTE_FRAGMENT;
	if (!(fragment & 0x1fff))
		read_ports(ctx, xdp, packet);
}

static __always_inline void read_ipv6(void *ctx, bool xdp, struct packet *packet)
{
	struct ipv6_head head;
	__u8 next;
	int i;

	TRY(load(ctx, xdp, packet->l3, &head, sizeof(head)));
	if (head.first[0] >> 4 != 6)
		TRY(true);
	packet->family = 6;
	packet->tos = head.first[0] << 4 | head.first[1] >> 4;
	__builtin_memcpy(packet->src, head.src, 16);
	__builtin_memcpy(packet->dst, head.dst, 16);
	packet->l4 = packet->l3 + sizeof(head);
	packet->end = packet->l4;
	next = head.next;
	packet->proto = next;
	for (i = 0; i < MOST_EXTENSIONS; i++) {
		__u8 extension[4];
		__u32 len;

		switch (next) {
		case 0:   /* hop by hop */
		case 43:  /* routing */
		case 60:  /* for the destination */
		case 135: /* mobility */
		case 139: /* host identity */
		case 140: /* shim6 */
		case 44:  /* fragment */
		case 51:  /* authentication */
			break;
		default:
			read_ports(ctx, xdp, packet);
			return;
		}
		TRY(load(ctx, xdp, packet->l4, extension, 4));
		len = (extension[1] + 1) * 8;
		if (next == 51)
			len = (extension[1] + 2) * 4;
		if (next == 44) {
			len = 8;
			packet->notes |= NOTE_FRAGMENT;
		}
		packet->l4 += len;
		packet->end = packet->l4;
		packet->proto = extension[0];
		/* What is behind a later fragment's header is data. */
		if (next == 44 && (extension[2] || extension[3] & 0xf8))
			return;
		next = extension[0];
	}
}

static __always_inline void read_network(void *ctx, bool xdp, struct packet *packet)
{
	packet->end = packet->l3;
	if (packet->eth == ETH_IP)
		read_ipv4(ctx, xdp, packet);
	else if (packet->eth == ETH_IPV6)
		read_ipv6(ctx, xdp, packet);
}

/* `outer`: the number of a tag that the device has taken off already, `tagged` whether there was one. */
static __always_inline void read_frame(void *ctx, bool xdp, struct packet *packet, bool tagged, __u16 outer)
{
	__u8 type[2], tag[2];
	int i;

	if (tagged) {
		packet->notes |= NOTE_TAGGED;
		packet->vlan = outer;
	}
	packet->l3 = ETHERNET;
	packet->end = ETHERNET;
	TRY(load(ctx, xdp, 12, type, 2));
	packet->eth = type[0] << 8 | type[1];
	for (i = 0; i < MOST_TAGS; i++) {
		if (packet->eth != ETH_8021Q && packet->eth != ETH_8021AD)
			break;
		TRY(load(ctx, xdp, packet->l3, tag, 2));
		if (!(packet->notes & NOTE_TAGGED))
			packet->vlan = (tag[0] & 15) << 8 | tag[1];
		packet->notes |= NOTE_TAGGED;
		TRY(load(ctx, xdp, packet->l3 + 2, type, 2));
		packet->eth = type[0] << 8 | type[1];
		packet->l3 += 4;
	}
	if (packet->eth == ETH_IP || packet->eth == ETH_IPV6) {
		read_network(ctx, xdp, packet);
		return;
	}
	/* Devices' own addresses. */
	TRY(load(ctx, xdp, 6, packet->src, 6));
	TRY(load(ctx, xdp, 0, packet->dst, 6));
}

#endif
