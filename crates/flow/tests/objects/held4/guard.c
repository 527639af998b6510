/* A security agent: one header for all events, filled by a function; task, parent and namespace; a path by the kernel's own helper. */
#include "../held2/more.h"

enum kind { KIND_OPEN = 1, KIND_EXEC, KIND_CAP };
struct process { u32 pid; u32 tid; u32 ppid; u32 uid; u32 gid; u32 ns_pid; u64 cgroup; u64 started; char comm[16]; char parent_comm[16]; };
struct header { u64 time; u32 kind; u32 size; struct process process; };
struct open_ev { struct header header; u32 flags; u32 mode; u64 ino; u8 denied; char path[64]; };
struct cap_ev { struct header header; s32 cap; s32 options; u8 audit; u8 insetid; };

const volatile bool enforce = false;

static __always_inline void fill(struct header *h, enum kind kind, u32 size)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *parent;
	u64 id = bpf_get_current_pid_tgid(), ug = bpf_get_current_uid_gid();
	struct process *p = &h->process;

	h->time = bpf_ktime_get_boot_ns();
	h->kind = kind;
	h->size = size;
	p->pid = id >> 32;
	p->tid = (u32)id;
	p->uid = (u32)ug;
	p->gid = ug >> 32;
	parent = BPF_CORE_READ(task, real_parent);
	p->ppid = BPF_CORE_READ(parent, tgid);
	p->started = BPF_CORE_READ(task, start_boottime);
	BPF_CORE_READ_STR_INTO(&p->parent_comm, parent, comm);
	p->cgroup = bpf_get_current_cgroup_id();
	p->ns_pid = BPF_CORE_READ(task, nsproxy, pid_ns_for_children)->ns.inum;
	bpf_get_current_comm(p->comm, sizeof(p->comm));
}

SEC("lsm/file_open") int opened(u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	struct open_ev *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e)
		return 0;
	fill(&e->header, KIND_OPEN, sizeof(*e));
	e->flags = file->f_flags;
	e->mode = file->f_inode->i_mode;
	e->ino = file->f_inode->i_ino;
	e->denied = enforce;
	if (bpf_d_path(&file->f_path, e->path, sizeof(e->path)) < 0)
		e->path[0] = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("lsm/capable") int capable(u64 *ctx)
{
	struct cap_ev *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	int options = ctx[3];

	if (!e)
		return 0;
	fill(&e->header, KIND_CAP, sizeof(*e));
	e->cap = ctx[2];
	e->options = options;
	e->audit = !(options & 2);
	e->insetid = (options & 4) != 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}
