/* Processes: nested structs, a task that is read through its pointer (trusted by BTF). */
#include "held.h"

struct cred { u32 uid, gid; } core;
struct task_struct {
	int pid, tgid, prio;
	u32 exit_code;
	u64 start_time, start_boottime;
	struct task_struct *real_parent;
	const struct cred *cred;
	char comm[16];
} core;

struct who { u32 pid; u32 tgid; u32 uid; u32 gid; };
struct life {
	u64 now;
	struct who self;
	struct who parent;
	u64 started;
	u64 age;
	u64 cgroup_id;
	int exit_code;
	int prio;
	char self_comm[16];
	char parent_comm[16];
};

static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;

static __always_inline void describe(struct who *w, struct task_struct *t)
{
	w->pid = t->pid;
	w->tgid = t->tgid;
	w->uid = t->cred->uid;
	w->gid = t->cred->gid;
}

SEC("tp_btf/sched_process_exit") int lives(u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct life *l;
	u64 now;

	l = bpf_ringbuf_reserve(&ring, sizeof(struct life), 0);
	if (!l)
		return 0;
	now = bpf_ktime_get_boot_ns();
	l->now = now;
	describe(&l->self, task);
	describe(&l->parent, task->real_parent);
	l->started = task->start_boottime;
	l->age = now - task->start_boottime;
	l->cgroup_id = bpf_get_current_cgroup_id();
	l->exit_code = task->exit_code >> 8;
	l->prio = task->prio - 120;
	bpf_probe_read_kernel_str(l->self_comm, sizeof(l->self_comm), task->comm);
	bpf_probe_read_kernel_str(l->parent_comm, sizeof(l->parent_comm), task->real_parent->comm);
	bpf_ringbuf_submit(l, 0);
	return 0;
}
