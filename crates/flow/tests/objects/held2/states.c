/* Socket states: a key of addresses that a helper fills, ports turned round, durations from a map, enums and flags. */
#include "more.h"

enum tcp_state { ESTABLISHED = 1, SYN_SENT, SYN_RECV, CLOSE = 7 };
enum direction { DIR_UNKNOWN, DIR_IN, DIR_OUT };

struct flow_tuple {
	u8 saddr[16];
	u8 daddr[16];
	u16 sport;
	u16 dport;
	u16 family;
	u16 protocol;
};

struct tcp_event {
	struct flow_tuple tuple;
	u64 ts;
	u64 since_us;
	u64 sk;
	enum tcp_state from;
	enum tcp_state to;
	enum direction dir;
	u32 netif;
	u32 mark;
	s32 sndbuf;
	bool is_v6;
	bool first;
	u8 pad[6];
};

struct { __uint(type, 1); __uint(max_entries, 1024); __type(key, u64); __type(value, u64); } births SEC(".maps");

struct state_ctx { u64 common; const void *skaddr; int oldstate, newstate; u16 sport, dport, family, protocol;
	u8 saddr[4], daddr[4], saddr_v6[16], daddr_v6[16]; };

static __always_inline void fill_tuple(struct flow_tuple *t, struct sock *sk, struct state_ctx *ctx)
{
	t->family = ctx->family;
	t->protocol = ctx->protocol;
	t->sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	t->dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (t->family == 10) {
		__builtin_memcpy(t->saddr, ctx->saddr_v6, 16);
		__builtin_memcpy(t->daddr, ctx->daddr_v6, 16);
	} else {
		__builtin_memcpy(t->saddr, ctx->saddr, 4);
		__builtin_memcpy(t->daddr, ctx->daddr, 4);
	}
}

SEC("tracepoint/sock/inet_sock_set_state")
int on_state(struct state_ctx *ctx)
{
	struct sock *sk = (struct sock *)ctx->skaddr;
	u64 key = (u64)sk, now = bpf_ktime_get_ns();
	u64 *birth = bpf_map_lookup_elem(&births, &key);
	struct tcp_event ev = {};

	fill_tuple(&ev.tuple, sk, ctx);
	ev.ts = now;
	ev.sk = key;
	ev.first = !birth;
	if (birth)
		ev.since_us = (now - *birth) / 1000;
	ev.from = ctx->oldstate;
	ev.to = ctx->newstate;
	ev.is_v6 = ctx->family == 10;
	if (ctx->newstate == SYN_SENT)
		ev.dir = DIR_OUT;
	else if (ctx->newstate == SYN_RECV)
		ev.dir = DIR_IN;
	BPF_CORE_READ_INTO(&ev.netif, sk, __sk_common.skc_bound_dev_if);
	BPF_CORE_READ_INTO(&ev.mark, sk, sk_mark);
	BPF_CORE_READ_INTO(&ev.sndbuf, sk, sk_sndbuf);
	bpf_map_update_elem(&births, &key, &now, 0);
	bpf_ringbuf_output(&ring, &ev, sizeof(ev), 0);
	return 0;
}
