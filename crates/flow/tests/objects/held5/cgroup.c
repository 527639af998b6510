/* The example of a loader's documents: a struct with a short name, everything in one function, a return value as a condition. */
#include "../held2/more.h"

struct bpf_sock_addr { u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol; };
struct ev {
	u64 cookie;
	u64 cgroup;
	u32 pid;
	u32 ip;
	u16 port;
	u8 proto;
	u8 verdict;
	u32 uid;
	u8 comm[16];
};
struct { __uint(type, 1); __uint(max_entries, 64); __type(key, u32); __type(value, u32); } blocked SEC(".maps");

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	u32 ip = ctx->user_ip4, *found = bpf_map_lookup_elem(&blocked, &ip);
	u8 verdict = found ? 0 : 1;
	struct ev *ev;

	ev = bpf_ringbuf_reserve(&ring, sizeof(struct ev), 0);
	if (ev) {
		ev->cookie = bpf_get_socket_cookie(ctx);
		ev->cgroup = bpf_get_current_cgroup_id();
		ev->pid = (u32)(bpf_get_current_pid_tgid() >> 32);
		ev->uid = (u32)bpf_get_current_uid_gid();
		ev->ip = ip;
		ev->port = bpf_ntohs(ctx->user_port);
		ev->proto = ctx->protocol;
		ev->verdict = verdict;
		bpf_get_current_comm(ev->comm, sizeof(ev->comm));
		bpf_ringbuf_submit(ev, 0);
	}
	return verdict;
}
