/* connect(2) by its address in user memory: two families share a row of 16 bytes. */
#include "../held2/more.h"

struct sys_enter { u64 common; s64 id; u64 args[6]; };
struct sockaddr { u16 sa_family; char data[14]; };
struct sockaddr_in { u16 sin_family; __be16 sin_port; __be32 sin_addr; u8 zero[8]; };
struct sockaddr_in6 { u16 sin6_family; __be16 sin6_port; u32 flow; u8 sin6_addr[16]; u32 scope; };
struct connect_event {
	u64 timestamp_ns;
	u64 cgroup_id;
	u32 pid;
	u32 uid;
	s32 fd;
	u16 family;
	u16 dport;
	u8 daddr[16];
	char task[16];
	u8 is_v6;
};
struct { __uint(type, 6); __uint(max_entries, 1); __type(key, u32); __type(value, u8[80]); } heap SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_connect") int on_connect(struct sys_enter *ctx)
{
	struct sockaddr *address = (void *)ctx->args[1];
	struct connect_event *event;
	u16 family = 0;
	u32 zero = 0;

	bpf_probe_read_user(&family, sizeof(family), &address->sa_family);
	if (family != 2 && family != 10)
		return 0;
	event = bpf_map_lookup_elem(&heap, &zero);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->timestamp_ns = bpf_ktime_get_tai_ns();
	event->cgroup_id = bpf_get_current_cgroup_id();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->fd = ctx->args[0];
	event->family = family;
	bpf_get_current_comm(&event->task, sizeof(event->task));
	if (family == 2) {
		struct sockaddr_in in = {};

		bpf_probe_read_user(&in, sizeof(in), address);
		event->dport = bpf_ntohs(in.sin_port);
		__builtin_memcpy(event->daddr, &in.sin_addr, 4);
	} else {
		struct sockaddr_in6 in6 = {};

		bpf_probe_read_user(&in6, sizeof(in6), address);
		event->dport = bpf_ntohs(in6.sin6_port);
		__builtin_memcpy(event->daddr, in6.sin6_addr, 16);
		event->is_v6 = 1;
	}
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, event, sizeof(*event));
	return 0;
}
