/* Flows at a socket: a key inside of the event, filled as a whole, and the rest by state. */
#include "../held2/more.h"

struct key { __be32 saddr; __be32 daddr; u16 sport; u16 dport; u8 proto; u8 pad[3]; };
struct flow_event {
	struct key key;
	u32 pid;
	u64 start_us;
	u64 rtt_us;
	u32 rx_bytes;
	u32 tx_bytes;
	u16 old_state;
	u16 new_state;
	u32 mark;
	s32 ifindex;
	char comm[16];
};
struct args { u64 common; struct sock *sk; int oldstate; int newstate; u16 sport; u16 dport; u16 family; u16 protocol; };
struct { __uint(type, 9); __uint(max_entries, 4096); __type(key, struct key); __type(value, u64); } born SEC(".maps");

static __noinline int key_of(struct key *key, struct sock *sk)
{
	if (!key)
		return -1;
	key->saddr = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	key->daddr = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	key->sport = BPF_CORE_READ(sk, __sk_common.skc_num);
	key->dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	key->proto = BPF_CORE_READ(sk, sk_protocol);
	return 0;
}

SEC("tracepoint/sock/inet_sock_set_state") int state(struct args *ctx)
{
	struct sock *sk = ctx->sk;
	struct flow_event e = {};
	u64 now = bpf_ktime_get_ns(), *since;

	if (ctx->family != 2 || key_of(&e.key, sk))
		return 0;
	since = bpf_map_lookup_elem(&born, &e.key);
	if (!since) {
		bpf_map_update_elem(&born, &e.key, &now, 0);
		return 0;
	}
	e.pid = bpf_get_current_pid_tgid() >> 32;
	e.start_us = *since / 1000;
	e.rtt_us = (now - *since) / 1000;
	e.old_state = ctx->oldstate;
	e.new_state = ctx->newstate;
	e.rx_bytes = BPF_CORE_READ(sk, sk_rcvbuf);
	e.tx_bytes = BPF_CORE_READ(sk, sk_sndbuf);
	e.mark = BPF_CORE_READ(sk, sk_mark);
	e.ifindex = BPF_CORE_READ(sk, __sk_common.skc_bound_dev_if);
	bpf_get_current_comm(&e.comm, sizeof(e.comm));
	bpf_ringbuf_output(&ring, &e, sizeof(e), 0);
	return 0;
}
