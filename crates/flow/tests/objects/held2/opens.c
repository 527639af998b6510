/* Files: initialisers on the stack, nested; the length that a read returned; a path by its dentry. */
#include "more.h"

#define NAME_MAX 64

struct proc_info { u32 pid; u32 tgid; u32 uid; u32 gid; u32 pid_ns; char comm[16]; };
struct file_info { u64 inode; s64 size; u32 mode; u32 flags; u32 nlink; u32 name_len; char name[NAME_MAX]; };
struct file_event {
	u32 type;
	u32 cpu;
	u64 time;
	struct proc_info proc;
	struct file_info file;
	s64 pos;
};

enum { EV_OPEN = 10, EV_CLOSE = 11 };

static __always_inline void fill_proc(struct proc_info *p)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 pid_tgid = bpf_get_current_pid_tgid(), uid_gid = bpf_get_current_uid_gid();

	p->pid = (u32)pid_tgid;
	p->tgid = pid_tgid >> 32;
	p->uid = (u32)uid_gid;
	p->gid = uid_gid >> 32;
	struct nsproxy *ns = BPF_CORE_READ(task, nsproxy);
	p->pid_ns = BPF_CORE_READ(ns, pid_ns_for_children, ns.inum);
	bpf_get_current_comm(p->comm, sizeof(p->comm));
}

static __always_inline int fill_file(struct file_info *f, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct dentry *d = BPF_CORE_READ(file, f_path.dentry);

	f->inode = BPF_CORE_READ(inode, i_ino);
	f->size = BPF_CORE_READ(inode, i_size);
	f->mode = BPF_CORE_READ(inode, i_mode);
	f->nlink = BPF_CORE_READ(inode, i_nlink);
	f->flags = BPF_CORE_READ(file, f_flags);
	int n = bpf_probe_read_kernel_str(f->name, NAME_MAX, BPF_CORE_READ(d, d_name.name));
	f->name_len = n < 0 ? 0 : n;
	return n;
}

SEC("raw_tp/file_open")
int file_open(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	struct file_event ev = {
		.type = EV_OPEN,
		.cpu = bpf_get_smp_processor_id(),
		.time = bpf_ktime_get_boot_ns(),
	};

	fill_proc(&ev.proc);
	if (fill_file(&ev.file, file) < 0)
		return 0;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &ev, sizeof(ev));
	return 0;
}

SEC("raw_tp/file_close")
int file_close(u64 *ctx)
{
	struct file *file = (struct file *)ctx[0];
	struct file_event ev = {
		.type = EV_CLOSE,
		.cpu = bpf_get_smp_processor_id(),
		.time = bpf_ktime_get_boot_ns(),
		.pos = BPF_CORE_READ(file, f_pos),
	};

	fill_proc(&ev.proc);
	if (fill_file(&ev.file, file) < 0)
		return 0;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &ev, sizeof(ev));
	return 0;
}
