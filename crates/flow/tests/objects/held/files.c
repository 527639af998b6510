/* Files: a per-CPU scratch record, filled through macros, strings one behind the other at a running offset. */
#include "held.h"

#define NAMES 1024
struct opened {
	u64 when;
	u32 pid;
	u32 ppid;
	s32 ret;
	u32 flags;
	u16 mode;
	u16 used;
	char comm[16];
	char names[NAMES];
};

struct { __uint(type, 6); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, sizeof(struct opened)); }
scratch SEC(".maps");

struct task_struct { int tgid; struct task_struct *real_parent; } core;
struct syscall_exit { u64 common; u64 id; s64 ret; };

#define FILL(rec, member, value) do { (rec)->member = (value); } while (0)
#define NOW() bpf_ktime_get_ns()

SEC("tracepoint/syscalls/sys_exit_openat") int files(struct syscall_exit *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *parent;
	u32 zero = 0, used = 0, tgid = 0;
	struct opened *o = bpf_map_lookup_elem(&scratch, &zero);
	u64 *args = (u64 *)ctx;
	long got;

	if (!o)
		return 0;
	FILL(o, when, NOW());
	FILL(o, pid, bpf_get_current_pid_tgid() >> 32);
	bpf_probe_read_kernel(&parent, sizeof(parent), &task->real_parent);
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &parent->tgid);
	o->ppid = tgid;
	o->ret = ctx->ret;
	o->flags = (u32)args[3];
	o->mode = args[4] & 0777;
	bpf_get_current_comm(&o->comm, sizeof(o->comm));
	got = bpf_probe_read_user_str(&o->names[0], 256, (void *)args[5]);
	if (got > 0 && got <= 256)
		used = got;
	got = bpf_probe_read_user_str(&o->names[used & 255], 512, (void *)args[6]);
	if (got > 0 && got <= 512)
		used += got;
	o->used = used;
	if (used > NAMES)
		return 0;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, o, offsetof(struct opened, names) + used);
	return 0;
}
