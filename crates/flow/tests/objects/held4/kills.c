/* Signals: the event lies in a hash from enter to exit, and is sent out of it. */
#include "../held2/more.h"

struct sys_enter { u64 common; s64 id; u64 args[6]; };
struct sys_exit { u64 common; s64 id; s64 ret; };
typedef struct signal_t {
	u32 sender_pid;
	u32 sender_tid;
	int target_pid;
	int sig;
	int ret;
	u32 sender_uid;
	u64 sent_ns;
	u64 took_ns;
	char sender_comm[16];
} signal_t;

struct { __uint(type, 1); __uint(max_entries, 4096); __type(key, u32); __type(value, u8[64]); } pending SEC(".maps");

static int begin(int target, int sig)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 tid = pid_tgid;
	signal_t v = { .sender_pid = pid_tgid >> 32, .sender_tid = tid, .target_pid = target, .sig = sig };

	v.sender_uid = bpf_get_current_uid_gid() & 0xffffffff;
	v.sent_ns = bpf_ktime_get_ns();
	bpf_get_current_comm(v.sender_comm, sizeof(v.sender_comm));
	return bpf_map_update_elem(&pending, &tid, &v, 0);
}

static int end(void *ctx, int ret)
{
	u32 tid = bpf_get_current_pid_tgid();
	signal_t *v = bpf_map_lookup_elem(&pending, &tid);

	if (!v)
		return 0;
	v->ret = ret;
	v->took_ns = bpf_ktime_get_ns() - v->sent_ns;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, v, sizeof(*v));
	bpf_map_delete_elem(&pending, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_kill") int kill_enter(struct sys_enter *ctx) { return begin(ctx->args[0], ctx->args[1]); }
SEC("tracepoint/syscalls/sys_exit_kill") int kill_exit(struct sys_exit *ctx) { return end(ctx, ctx->ret); }
SEC("tracepoint/syscalls/sys_enter_tkill") int tkill_enter(struct sys_enter *ctx) { return begin(ctx->args[0], ctx->args[1]); }
SEC("tracepoint/syscalls/sys_exit_tkill") int tkill_exit(struct sys_exit *ctx) { return end(ctx, ctx->ret); }
