/* Reads and writes of files: one function fills for both, the name through two pointers, the time by two probes. */
#include "../held2/more.h"

struct regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di; };
struct rw_event {
	u32 pid;
	u32 tid;
	u32 uid;
	u32 op;
	u64 inode;
	u64 offset;
	u64 count;
	u64 latency_us;
	s64 ret;
	u32 mode;
	char comm[16];
	char filename[48];
	char dir[32];
};
struct began { u64 ts; struct file *file; u64 count; s64 pos; };

struct { __uint(type, 1); __uint(max_entries, 10240); __type(key, u64); __type(value, struct began); } start SEC(".maps");
const volatile u64 min_us = 0;
const volatile u32 target_tgid = 0;

static __always_inline int enter(struct file *file, u64 count, s64 *ppos)
{
	u64 id = bpf_get_current_pid_tgid();
	struct began b = {};

	if (target_tgid && target_tgid != id >> 32)
		return 0;
	b.ts = bpf_ktime_get_ns();
	b.file = file;
	b.count = count;
	bpf_probe_read_kernel(&b.pos, sizeof(b.pos), ppos);
	bpf_map_update_elem(&start, &id, &b, 0);
	return 0;
}

static __always_inline int leave(void *ctx, s64 ret, u32 op)
{
	u64 id = bpf_get_current_pid_tgid(), delta;
	struct began *b = bpf_map_lookup_elem(&start, &id);
	struct rw_event e = {};
	struct dentry *dentry;
	struct qstr name;

	if (!b)
		return 0;
	delta = (bpf_ktime_get_ns() - b->ts) / 1000;
	if (delta < min_us)
		goto out;
	e.pid = id >> 32;
	e.tid = id;
	e.uid = bpf_get_current_uid_gid();
	e.op = op;
	e.offset = b->pos;
	e.count = b->count;
	e.latency_us = delta;
	e.ret = ret;
	e.inode = BPF_CORE_READ(b->file, f_inode, i_ino);
	e.mode = BPF_CORE_READ(b->file, f_inode, i_mode);
	dentry = BPF_CORE_READ(b->file, f_path.dentry);
	bpf_core_read(&name, sizeof(name), &dentry->d_name);
	bpf_probe_read_kernel_str(e.filename, sizeof(e.filename), name.name);
	dentry = BPF_CORE_READ(dentry, d_parent);
	bpf_core_read(&name, sizeof(name), &dentry->d_name);
	bpf_probe_read_kernel_str(e.dir, sizeof(e.dir), name.name);
	bpf_get_current_comm(&e.comm, sizeof(e.comm));
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &e, sizeof(e));
out:
	bpf_map_delete_elem(&start, &id);
	return 0;
}

SEC("kprobe/vfs_read") int read_enter(struct regs *ctx) { return enter((void *)ctx->di, ctx->dx, (void *)ctx->cx); }
SEC("kprobe/vfs_write") int write_enter(struct regs *ctx) { return enter((void *)ctx->di, ctx->dx, (void *)ctx->cx); }
SEC("kretprobe/vfs_read") int read_exit(struct regs *ctx) { return leave(ctx, ctx->ax, 0); }
SEC("kretprobe/vfs_write") int write_exit(struct regs *ctx) { return leave(ctx, ctx->ax, 1); }
