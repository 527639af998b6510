/* Connections: addresses of both families in unions, read through a typed socket; a mark tells what happened. */
#include "held.h"

struct in6 { union { u8 b[16]; __be32 w[4]; } u; };
struct sock_common {
	union { struct { __be32 skc_daddr, skc_rcv_saddr; }; };
	union { struct { __be16 skc_dport; u16 skc_num; }; };
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6 skc_v6_daddr, skc_v6_rcv_saddr;
} core;
struct sock { struct sock_common __sk_common; u32 sk_mark; } core;

#define AF_INET 2
enum what { OPENED = 1, CLOSED = 2 };

struct conn {
	union { __be32 from4; u8 from6[16]; };
	union { __be32 to4; u8 to6[16]; };
	u64 at_ns;
	u64 cgroup;
	u32 process;
	u32 user;
	u16 family;
	u16 sport;
	__be16 dport;
	u8 state;
	u8 mark;
	char who[16];
};

static __always_inline int report(struct sock *sk, enum what mark)
{
	struct conn *c = bpf_ringbuf_reserve(&ring, sizeof(*c), 0);
	u16 family;

	if (!c)
		return 0;
	c->at_ns = bpf_ktime_get_boot_ns();
	c->cgroup = bpf_get_current_cgroup_id();
	c->process = bpf_get_current_pid_tgid() >> 32;
	c->user = (u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(c->who, sizeof(c->who));
	c->mark = mark;
	bpf_probe_read_kernel(&family, sizeof(family), &sk->__sk_common.skc_family);
	c->family = family;
	bpf_probe_read_kernel(&c->sport, sizeof(c->sport), &sk->__sk_common.skc_num);
	bpf_probe_read_kernel(&c->dport, sizeof(c->dport), &sk->__sk_common.skc_dport);
	bpf_probe_read_kernel(&c->state, sizeof(c->state), (void *)&sk->__sk_common.skc_state);
	if (family == AF_INET) {
		bpf_probe_read_kernel(&c->from4, sizeof(c->from4), &sk->__sk_common.skc_rcv_saddr);
		bpf_probe_read_kernel(&c->to4, sizeof(c->to4), &sk->__sk_common.skc_daddr);
	} else {
		bpf_probe_read_kernel(&c->from6, sizeof(c->from6), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(&c->to6, sizeof(c->to6), &sk->__sk_common.skc_v6_daddr);
	}
	bpf_ringbuf_submit(c, 0);
	return 0;
}

SEC("raw_tp/open") int opened(u64 *ctx) { return report((struct sock *)ctx[0], OPENED); }
SEC("raw_tp/close") int closed(u64 *ctx) { return report((struct sock *)ctx[0], CLOSED); }
