/* Mounts: one struct, pointers chosen by a branch, lengths returned, everything through local copies. */
#include "../held2/more.h"

enum mop { MOUNT, UMOUNT };
struct name { u16 len; char text[40]; };
struct mount_event {
	enum mop op;
	u32 ns;
	u64 flags;
	struct name source;
	struct name target;
	u64 started;
	u64 took;
	s32 ret;
	u32 pid;
	u32 tgid;
	u32 uid;
	u32 gid;
	char task[16];
};
struct arg { u64 ts; u64 flags; const char *src; const char *dest; u32 op; };
struct { __uint(type, 1); __uint(max_entries, 64); __type(key, u32); __type(value, struct arg); } args SEC(".maps");
struct ctx { u64 common; long id; u64 a[6]; };
struct exit { u64 common; long id; long ret; };

static __always_inline void copy_name(struct name *n, const char *from)
{
	long got = bpf_probe_read_user_str(n->text, sizeof(n->text), from);
	n->len = got > 0 ? got : 0;
}

SEC("tracepoint/syscalls/sys_enter_mount") int in_mount(struct ctx *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct arg a = {};

	a.ts = bpf_ktime_get_ns();
	a.flags = ctx->a[3];
	a.src = (const char *)ctx->a[0];
	a.dest = (const char *)ctx->a[1];
	a.op = MOUNT;
	bpf_map_update_elem(&args, &tid, &a, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mount") int out_mount(struct exit *ctx)
{
	u64 both = bpf_get_current_pid_tgid(), ids = bpf_get_current_uid_gid();
	u32 tid = both;
	struct arg *a = bpf_map_lookup_elem(&args, &tid);
	struct mount_event *e;

	if (!a)
		return 0;
	e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	if (!e)
		goto out;
	e->op = a->op;
	e->flags = a->flags;
	e->ns = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), flags);
	copy_name(&e->source, a->src);
	copy_name(&e->target, a->dest);
	e->started = a->ts;
	e->took = bpf_ktime_get_ns() - a->ts;
	e->ret = ctx->ret;
	e->pid = tid;
	e->tgid = both >> 32;
	e->uid = ids;
	e->gid = ids >> 32;
	bpf_get_current_comm(e->task, sizeof(e->task));
	bpf_ringbuf_submit(e, 0);
out:
	bpf_map_delete_elem(&args, &tid);
	return 0;
}
