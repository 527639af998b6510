/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Whose packet it is. At a device no process is known, but the socket is: it is marked when a process that the filter takes makes it,
 * and user space marks those that were there before. */
#ifndef RINGFENCE_SOCKETS_H
#define RINGFENCE_SOCKETS_H

#include "filter.h"
#include "net.h"

/* Only packets of marked sockets are wanted. */
const volatile bool by_owner = false;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	/* What a listener accepts is a copy of it, with the mark. */
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u32);
} owned SEC(".maps");

static __always_inline bool is_owned(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&owned, sk, 0, 0) != NULL;
}

/* The socket of this machine that sent a packet, or will get it. */
static __always_inline bool end_is_owned(struct __sk_buff *skb, const struct packet *packet, bool sender)
{
	__u16 here = bpf_htons(sender ? packet->sport : packet->dport);
	__u16 there = bpf_htons(sender ? packet->dport : packet->sport);
	const __u32 *own = sender ? packet->src : packet->dst, *other = sender ? packet->dst : packet->src;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 len;
	bool is;

	/* Sockets are looked up as for a packet that comes in: its source is the other end. */
	if (packet->family == 4) {
		tuple.ipv4.saddr = other[0];
		tuple.ipv4.daddr = own[0];
		tuple.ipv4.sport = there;
		tuple.ipv4.dport = here;
		len = sizeof(tuple.ipv4);
	} else if (packet->family == 6) {
		__builtin_memcpy(tuple.ipv6.saddr, other, 16);
		__builtin_memcpy(tuple.ipv6.daddr, own, 16);
		tuple.ipv6.sport = there;
		tuple.ipv6.dport = here;
		len = sizeof(tuple.ipv6);
	} else {
		return false;
	}
	if (packet->proto == PROTO_TCP)
		sk = bpf_sk_lookup_tcp(skb, &tuple, len, BPF_F_CURRENT_NETNS, 0);
	else if (packet->proto == PROTO_UDP)
		sk = bpf_sk_lookup_udp(skb, &tuple, len, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sk)
		return false;
	is = is_owned(sk);
	bpf_sk_release(sk);
	return is;
}

static __always_inline bool packet_is_owned(struct __sk_buff *skb, const struct packet *packet, bool out, bool loopback)
{
	if (out) {
		struct bpf_sock *sk = skb->sk;

		if (sk)
			sk = bpf_sk_fullsock(sk);
		/* Also what has no ports (ping), and what has others by now (NAT). */
		if (sk && is_owned(sk))
			return true;
		if (sk && !loopback)
			return false;
	}
	/* Both ends of what goes over the loopback are here. */
	return end_is_owned(skb, packet, out) || (loopback && end_is_owned(skb, packet, !out));
}

#endif
