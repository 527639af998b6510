// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What goes through network devices: counted by XDP as frames come in, and by tc in both directions with the flow that each packet
 * belongs to. No packet is dropped, delayed or changed but by the rules of --mark. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "net.h"
#include "sockets.h"

#define LOOPBACK 1 /* its number in every network namespace */
#define MOST_RULES 32
#define SIZES 8
#define SNAP 1024

enum hook { HOOK_XDP, HOOK_IN, HOOK_OUT, HOOKS };

/* A device's packets at one place. Prepared by user space, so that counting never fails. */
struct place {
	__u32 device;
	__u32 hook;
};

struct counts {
	__u64 packets;
	__u64 bytes; /* as on the wire, without what the device adds itself: a packet of several segments has their headers, too */
	__u64 filtered; /* not wanted, and counted nowhere else */
	__u64 tagged;
	__u64 fragments;
	__u64 truncated;
	__u64 marked;
	__u64 mark_failed;
	__u64 sizes[SIZES]; /* up to 64, 128, 256, 512, 1024, 1518, 9018 bytes, more; a segment counts as a packet */
};

/* What the kernel's own types are read for; CO-RE finds the rest. */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
} __attribute__((preserve_access_index));

struct sock_common {
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct sk_buff {
	char cb[48];
} __attribute__((preserve_access_index));

/* Newer kernels also tell of what could not be sent (6.18 does, 6.12 does not). */
struct trace_event_raw_tcp_retransmit_skb {
	int err;
} __attribute__((preserve_access_index));

/* What TCP keeps in `cb`. */
struct tcp_skb_cb {
	__u16 tcp_gso_segs;
} __attribute__((preserve_access_index));

struct protocol {
	__u32 device;
	__u16 hook;
	__u16 eth;
	__u32 proto;
	__u32 tunnel; /* a UDP port that tunnels use, or 0 */
};

struct amount {
	__u64 packets;
	__u64 bytes;
};

/* Both directions of a flow have one key: `a` is the smaller of the two ends. */
struct flow_key {
	__u32 device;
	__u16 eth;
	__u16 vlan;
	__u8 family;
	__u8 proto;
	__u16 a_port;
	__u16 b_port;
	__u16 unused;
	__u32 a[4];
	__u32 b[4];
};

struct flow {
	__u64 packets[2]; /* from a, from b */
	__u64 bytes[2];
	__u64 first_ns;
	__u64 last_ns;
	__u32 tcp;   /* all flags that were seen */
	__u32 notes; /* enum note */
	__u32 b_began; /* the first packet came from b */
	__u32 mark;   /* of the last packet that a rule has marked */
};

/* A connection that sent a segment again. */
struct connection {
	__u32 a[4];
	__u32 b[4];
	__u16 a_port;
	__u16 b_port;
	__u32 family;
};

struct totals {
	__u64 flows;		  /* that were put into the table */
	__u64 flows_lost;	  /* packets whose flow found no room */
	__u64 protocols_lost;	  /* packets whose protocol found no room */
	__u64 sampled;
	__u64 samples_lost;
	__u64 retransmits;
	__u64 retransmits_lost;
	__u64 unexpected; /* packets of devices that nobody prepared */
	__u64 sockets_lost; /* that could not be marked */
};

/* Conditions that must all hold; what is zero is none, but for those with a flag. */
struct match {
	__u8 hooks;  /* bit set of enum hook */
	__u8 family;
	__u8 proto;
	__u8 flags;  /* enum match_flag */
	__u16 vlan;
	__u16 sport[2]; /* least and most */
	__u16 dport[2];
	__u16 port[2]; /* of either side */
	__u32 src[4];
	__u32 src_mask[4];
	__u32 dst[4];
	__u32 dst_mask[4];
	__u32 host[4]; /* of either side */
	__u32 host_mask[4];
};

enum match_flag {
	MATCH_PROTO = 1,
	MATCH_VLAN = 2,
	MATCH_SPORT = 4,
	MATCH_DPORT = 8,
	MATCH_PORT = 16,
	MATCH_SRC = 32,
	MATCH_DST = 64,
	MATCH_HOST = 128,
};

struct rule {
	struct match match;
	__u32 prio;
	__u32 mark;
	__u8 dscp;
	__u8 set; /* enum rule_set */
	__u8 unused[6];
};

enum rule_set { SET_PRIO = 1, SET_MARK = 2, SET_DSCP = 4 };

/* In a ring buffer: a packet, as much of it as is wanted. */
struct sample {
	__u64 ns; /* since boot */
	__u32 device;
	__u32 hook;
	__u32 len; /* of the packet without the tag that is beside it */
	__u32 kept;
	__u32 tag; /* that tag: its protocol and its 16 bits, as they are sent; 0: none */
	__u32 unused;
	__u8 bytes[SNAP];
};

const volatile bool filtering = false;
const volatile struct match filter = {};
const volatile __u32 rule_count = 0;
const volatile struct rule rules[MOST_RULES] = {};
const volatile bool flows_wanted = true;
const volatile __u32 sample_every = 0;
const volatile __u32 snap = SNAP;
/* Some device has no Ethernet header: see `bare`. */
const volatile bool any_bare = false;
/* The network namespace whose retransmits are counted. */
const volatile __u32 netns = 0;

const struct sample *unused_sample __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct place);
	__type(value, struct counts);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct protocol);
	__type(value, struct amount);
} protocols SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct connection);
	__type(value, __u64);
} retransmits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} bare SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct sample);
} samples SEC(".maps");

static __always_inline struct totals *all(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline bool within(const __u32 *address, const volatile __u32 *net, const volatile __u32 *mask)
{
	__u32 differs = 0;

	for (int i = 0; i < 4; i++)
		differs |= (address[i] & mask[i]) ^ net[i];
	return !differs;
}

static __always_inline bool between(__u16 port, const volatile __u16 *range)
{
	return port >= range[0] && port <= range[1];
}

static __always_inline bool has_ports(__u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP || proto == PROTO_UDPLITE ||
	       proto == PROTO_DCCP;
}

static __always_inline bool matches(const struct packet *packet, __u32 hook, const volatile struct match *match)
{
	__u8 flags = match->flags;

	if (!(match->hooks & 1 << hook))
		return false;
	if (match->family && match->family != packet->family)
		return false;
	if (flags & MATCH_PROTO && (!packet->family || match->proto != packet->proto))
		return false;
	if (flags & MATCH_VLAN && (!(packet->notes & NOTE_TAGGED) || match->vlan != packet->vlan))
		return false;
	if (flags & (MATCH_SPORT | MATCH_DPORT | MATCH_PORT) && !has_ports(packet->proto))
		return false;
	if (flags & MATCH_SPORT && !between(packet->sport, match->sport))
		return false;
	if (flags & MATCH_DPORT && !between(packet->dport, match->dport))
		return false;
	if (flags & MATCH_PORT && !between(packet->sport, match->port) && !between(packet->dport, match->port))
		return false;
	if (flags & MATCH_SRC && !within(packet->src, match->src, match->src_mask))
		return false;
	if (flags & MATCH_DST && !within(packet->dst, match->dst, match->dst_mask))
		return false;
	if (flags & MATCH_HOST && !within(packet->src, match->host, match->host_mask) &&
	    !within(packet->dst, match->host, match->host_mask))
		return false;
	return true;
}

static __always_inline __u32 size_class(__u32 len)
{
	if (len <= 64)
		return 0;
	if (len <= 128)
		return 1;
	if (len <= 256)
		return 2;
	if (len <= 512)
		return 3;
	if (len <= 1024)
		return 4;
	if (len <= 1518)
		return 5;
	return len <= 9018 ? 6 : 7;
}

/* Tunnels over UDP are protocols of their own. */
static __always_inline __u32 tunnel(const struct packet *packet)
{
	if (packet->proto != PROTO_UDP)
		return 0;
	switch (packet->dport) {
	case 4789: /* VXLAN */
	case 6081: /* Geneve */
	case 2152: /* GTP-U */
		return packet->dport;
	}
	return 0;
}

/* Counts a packet at a place. NULL: it is not wanted. */
static __always_inline struct counts *count(const struct packet *packet, bool wanted, __u32 device, __u32 hook,
					    __u64 packets, __u64 bytes)
{
	struct place place = { .device = device, .hook = hook };
	struct protocol protocol = {
		.device = device, .hook = hook, .eth = packet->eth, .proto = packet->proto, .tunnel = tunnel(packet),
	};
	struct amount *amount, first = { .packets = packets, .bytes = bytes };
	struct counts *counts = bpf_map_lookup_elem(&devices, &place);
	struct totals *total = all();

	if (!total)
		return NULL;
	if (!counts) {
		total->unexpected += packets;
		return NULL;
	}
	if (!wanted || (filtering && !matches(packet, hook, &filter))) {
		counts->filtered += packets;
		return NULL;
	}
	counts->packets += packets;
	counts->bytes += bytes;
	if (packet->notes & NOTE_TAGGED)
		counts->tagged += packets;
	if (packet->notes & NOTE_FRAGMENT)
		counts->fragments += packets;
	if (packet->notes & NOTE_TRUNCATED)
		counts->truncated += packets;
	counts->sizes[size_class(bytes / packets) & (SIZES - 1)] += packets;

	amount = bpf_map_lookup_elem(&protocols, &protocol);
	if (amount) {
		amount->packets += packets;
		amount->bytes += bytes;
	} else if (bpf_map_update_elem(&protocols, &protocol, &first, BPF_NOEXIST)) {
		/* Another CPU may have been first. */
		amount = bpf_map_lookup_elem(&protocols, &protocol);
		if (amount) {
			amount->packets += packets;
			amount->bytes += bytes;
		} else {
			total->protocols_lost += packets;
		}
	}
	return counts;
}

/* Whether `a` is the end that comes first in a key. Any order will do that is the same for both directions. */
static __always_inline bool ordered(const __u32 *a, __u16 a_port, const __u32 *b, __u16 b_port)
{
	for (int i = 0; i < 4; i++)
		if (a[i] != b[i])
			return a[i] < b[i];
	return a_port <= b_port;
}

/* Gives whether the packet is from `b`. */
static __always_inline bool find_key(const struct packet *packet, __u32 device, struct flow_key *key)
{
	__u16 sport = 0, dport = 0;

	key->device = device;
	key->eth = packet->eth;
	key->vlan = packet->vlan;
	key->family = packet->family;
	key->proto = packet->proto;
	if (has_ports(packet->proto)) {
		sport = packet->sport;
		dport = packet->dport;
	}
	if (ordered(packet->src, sport, packet->dst, dport)) {
		__builtin_memcpy(key->a, packet->src, 16);
		__builtin_memcpy(key->b, packet->dst, 16);
		key->a_port = sport;
		key->b_port = dport;
		return false;
	}
	__builtin_memcpy(key->a, packet->dst, 16);
	__builtin_memcpy(key->b, packet->src, 16);
	key->a_port = dport;
	key->b_port = sport;
	return true;
}

static __always_inline void add_flow(const struct packet *packet, const struct flow_key *key, bool from_b, __u64 packets,
				     __u64 bytes, __u32 mark)
{
	__u64 now = bpf_ktime_get_ns();
	struct totals *total;
	struct flow *flow;

	flow = bpf_map_lookup_elem(&flows, key);
	if (!flow) {
		struct flow fresh = { .first_ns = now, .b_began = from_b };
		long failed = bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);

		total = all();
		if (total && !failed)
			total->flows++;
		flow = bpf_map_lookup_elem(&flows, key);
		if (!flow) {
			if (total)
				total->flows_lost += packets;
			return;
		}
	}
	if (from_b) {
		__sync_fetch_and_add(&flow->packets[1], packets);
		__sync_fetch_and_add(&flow->bytes[1], bytes);
	} else {
		__sync_fetch_and_add(&flow->packets[0], packets);
		__sync_fetch_and_add(&flow->bytes[0], bytes);
	}
	flow->last_ns = now;
	if (packet->tcp & ~flow->tcp)
		flow->tcp |= packet->tcp;
	if (packet->notes & ~flow->notes)
		flow->notes |= packet->notes;
	if (mark)
		flow->mark = mark;
}

static __always_inline int set_dscp(struct __sk_buff *skb, const struct packet *packet, __u8 dscp)
{
	__u8 tos = dscp << 2 | (packet->tos & 3);

	if (tos == packet->tos)
		return 0;
	if (packet->family == 4) {
		__u32 check = packet->l3 + __builtin_offsetof(struct ipv4_head, check);
		__u32 at = packet->l3 + __builtin_offsetof(struct ipv4_head, tos);

		/* The header's sum is over words, and this is the second byte of the first. */
		if (bpf_l3_csum_replace(skb, check, bpf_htons(packet->tos), bpf_htons(tos), 2))
			return -1;
		return bpf_skb_store_bytes(skb, at, &tos, 1, 0);
	}
	if (packet->family == 6) {
		__u8 first[2];

		if (bpf_skb_load_bytes(skb, packet->l3, first, 2))
			return -1;
		first[0] = (first[0] & 0xf0) | tos >> 4;
		first[1] = (first[1] & 0x0f) | tos << 4;
		/* No sum covers it but that which the device may have made of the whole packet. */
		return bpf_skb_store_bytes(skb, packet->l3, first, 2, BPF_F_RECOMPUTE_CSUM);
	}
	return 0;
}

/* The first rule that fits. Gives 0, or what it set as mark. */
static __always_inline __u32 apply_rules(struct __sk_buff *skb, const struct packet *packet, __u32 hook,
					 struct counts *counts, __u64 packets)
{
	for (__u32 i = 0; i < MOST_RULES; i++) {
		const volatile struct rule *rule = &rules[i];

		if (i >= rule_count)
			break;
		if (!matches(packet, hook, &rule->match))
			continue;
		if (rule->set & SET_PRIO)
			skb->priority = rule->prio;
		if (rule->set & SET_MARK)
			skb->mark = rule->mark;
		if (rule->set & SET_DSCP && set_dscp(skb, packet, rule->dscp))
			counts->mark_failed += packets;
		else
			counts->marked += packets;
		return rule->set & SET_MARK ? rule->mark : 0;
	}
	return 0;
}

static __always_inline void take_sample(struct __sk_buff *skb, __u32 hook)
{
	struct totals *total = all();
	struct sample *sample;
	__u32 len = skb->len;

	if (!sample_every || bpf_get_prandom_u32() % sample_every || !total)
		return;
	sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	if (!sample) {
		total->samples_lost++;
		return;
	}
	sample->ns = bpf_ktime_get_boot_ns();
	sample->device = skb->ifindex;
	sample->hook = hook;
	sample->len = len;
	if (len > snap)
		len = snap;
	if (len) {
		/* 1 to SNAP, in a way that kernels before 6.2 understand and the compiler keeps. */
		len--;
		barrier_var(len);
		len = (len & (SNAP - 1)) + 1;
		if (bpf_skb_load_bytes(skb, 0, sample->bytes, len))
			len = 0;
	}
	sample->kept = len;
	sample->tag = skb->vlan_present ? (__u32)bpf_ntohs(skb->vlan_proto) << 16 | skb->vlan_tci : 0;
	sample->unused = 0;
	total->sampled++;
	bpf_ringbuf_submit(sample, 0);
}

static __always_inline void watch(struct __sk_buff *skb, __u32 hook)
{
	__u64 packets = skb->gso_segs ?: 1, bytes = skb->len;
	struct packet packet = {};
	__u32 device = skb->ifindex, mark = 0;
	bool wanted = true, from_b = false;
	struct flow_key key = {};
	struct counts *counts;

	if (any_bare && bpf_map_lookup_elem(&bare, &device)) {
		packet.eth = bpf_ntohs(skb->protocol);
		read_network(skb, false, &packet);
	} else {
		read_frame(skb, false, &packet, skb->vlan_present, skb->vlan_tci & 0xfff);
	}
	/* Beside the packet and not in it. */
	if (skb->vlan_present)
		bytes += 4;
	if (packets > 1)
		bytes += (packets - 1) * (packet.end + (skb->vlan_present ? 4 : 0));
	if (by_owner || flows_wanted)
		from_b = find_key(&packet, device, &key);
	/* The flow tells more than the socket: some answers have none, and there is one less when a connection has ended. */
	if (by_owner && !bpf_map_lookup_elem(&flows, &key))
		wanted = packet_is_owned(skb, &packet, hook == HOOK_OUT, device == LOOPBACK);
	counts = count(&packet, wanted, device, hook, packets, bytes);
	if (!counts)
		return;
	if (rule_count)
		mark = apply_rules(skb, &packet, hook, counts, packets);
	/* What leaves by the loopback comes in by it, too. */
	if (flows_wanted && !(device == LOOPBACK && hook == HOOK_OUT))
		add_flow(&packet, &key, from_b, packets, bytes, mark);
	if (sample_every)
		take_sample(skb, hook);
}

SEC("tcx/ingress")
int on_in(struct __sk_buff *skb)
{
	watch(skb, HOOK_IN);
	return -1; /* TCX_NEXT, TC_ACT_UNSPEC: whoever comes next decides */
}

SEC("tcx/egress")
int on_out(struct __sk_buff *skb)
{
	watch(skb, HOOK_OUT);
	return -1;
}

SEC("xdp")
int on_frame(struct xdp_md *ctx)
{
	__u64 bytes = ctx->data_end - ctx->data;
	struct packet packet = {};

	read_frame(ctx, true, &packet, false, 0);
	count(&packet, true, ctx->ingress_ifindex, HOOK_XDP, 1, bytes);
	return XDP_PASS;
}

/* A process makes a socket. */
SEC("cgroup/sock_create")
int on_socket(struct bpf_sock *sk)
{
	struct totals *total = all();

	if (filter_takes() && !bpf_sk_storage_get(&owned, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) && total)
		total->sockets_lost++;
	return 1; /* it may */
}

SEC("raw_tp/tcp_retransmit_skb")
int BPF_PROG(on_retransmit, struct sock *sk, struct sk_buff *skb)
{
	struct trace_event_raw_tcp_retransmit_skb *event = 0;
	struct tcp_skb_cb *tcp = (void *)&skb->cb;
	struct connection key = {};
	__u32 here[4] = {}, there[4] = {};
	struct totals *total = all();
	__u64 segments, *known;
	__u16 own, other;

	if (!total || (netns && BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) != netns))
		return 0;
	if (bpf_core_field_exists(event->err) && (int)ctx[2])
		return 0;
	own = BPF_CORE_READ(sk, __sk_common.skc_num);
	other = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	key.family = BPF_CORE_READ(sk, __sk_common.skc_family) == 2 ? 4 : 6;
	if (key.family == 4) {
		here[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		there[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&here, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(&there, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
		/* IPv4 by a socket of the newer family. */
		if (!there[0] && !there[1] && there[2] == bpf_htonl(0xffff)) {
			key.family = 4;
			here[0] = here[3];
			there[0] = there[3];
			here[2] = here[3] = there[2] = there[3] = 0;
		}
	}
	if (ordered(here, own, there, other)) {
		__builtin_memcpy(key.a, here, 16);
		__builtin_memcpy(key.b, there, 16);
		key.a_port = own;
		key.b_port = other;
	} else {
		__builtin_memcpy(key.a, there, 16);
		__builtin_memcpy(key.b, here, 16);
		key.a_port = other;
		key.b_port = own;
	}
	/* One buffer may be many segments (`tcp_skb_pcount`), as TcpRetransSegs counts them. */
	segments = BPF_CORE_READ(tcp, tcp_gso_segs);
	if (!segments)
		segments = 1;
	total->retransmits += segments;
	known = bpf_map_lookup_elem(&retransmits, &key);
	if (!known && !bpf_map_update_elem(&retransmits, &key, &segments, BPF_NOEXIST))
		return 0;
	/* Another CPU may have put it there just now. */
	if (!known)
		known = bpf_map_lookup_elem(&retransmits, &key);
	if (known)
		__sync_fetch_and_add(known, segments);
	else
		total->retransmits_lost += segments;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
