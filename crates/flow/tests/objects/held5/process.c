/* A security sensor: every message begins with the same head, a process is a struct of its own, flags are put together with |=. */
#include "../held2/more.h"

enum { OP_EXECVE = 5, OP_EXIT = 7, OP_CLONE = 23 };
#define EVENT_EXECVE 0x01
#define EVENT_NEEDS_CWD 0x04
#define EVENT_ROOT_CWD 0x08

struct msg_common {
	u8 op;
	u8 flags;
	u8 pad[2];
	u32 size;
	u64 ktime;
};
struct msg_k8s { u32 net_ns; u32 cid; u64 cgrpid; };
struct msg_key { u32 pid; u8 pad[4]; u64 ktime; };
struct msg_creds { u32 uid, gid, euid, egid; };
struct msg_exec {
	struct msg_common common;
	struct msg_k8s kube;
	struct msg_key parent;
	u32 pid;
	u32 tid;
	u32 nspid;
	u32 process_flags;
	struct msg_creds creds;
	u64 start;
	char path[128];
};
struct msg_exit {
	struct msg_common common;
	struct msg_key current;
	u32 code;
	u32 tid;
};
struct cred { u32 usage, uid, gid, suid, sgid, euid, egid; } core;
struct real_task { struct cred *real_cred, *cred; } core;
struct { __uint(type, 6); __uint(max_entries, 1); __type(key, u32); __type(value, u8[512]); } execve_heap SEC(".maps");

static __always_inline void set_in(struct msg_exec *msg, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	msg->parent.pid = BPF_CORE_READ(parent, tgid);
	msg->parent.ktime = BPF_CORE_READ(parent, start_time);
	msg->kube.net_ns = BPF_CORE_READ(task, flags);
	msg->kube.cid = 0;
	msg->kube.cgrpid = bpf_get_current_cgroup_id();
}

static __always_inline void set_creds(struct msg_creds *creds, struct real_task *task)
{
	struct cred *cred = BPF_CORE_READ(task, cred);

	creds->uid = BPF_CORE_READ(cred, uid);
	creds->gid = BPF_CORE_READ(cred, gid);
	creds->euid = BPF_CORE_READ(cred, euid);
	creds->egid = BPF_CORE_READ(cred, egid);
}

SEC("raw_tp/sched_process_exec") int event_execve(u64 *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct msg_exec *msg;
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 zero = 0;
	long len;

	msg = bpf_map_lookup_elem(&execve_heap, &zero);
	if (!msg)
		return 0;
	set_in(msg, task);
	msg->common.op = OP_EXECVE;
	msg->common.flags = 0;
	msg->common.ktime = bpf_ktime_get_ns();
	msg->common.size = offsetof(struct msg_exec, path);
	msg->pid = pid_tgid >> 32;
	msg->tid = (u32)pid_tgid;
	msg->nspid = BPF_CORE_READ(task, pid);
	msg->process_flags = EVENT_EXECVE;
	if (BPF_CORE_READ(task, exit_code))
		msg->process_flags |= EVENT_NEEDS_CWD;
	msg->start = BPF_CORE_READ(task, start_boottime);
	set_creds(&msg->creds, (void *)task);
	len = bpf_probe_read_kernel_str(msg->path, sizeof(msg->path), (void *)ctx[2]);
	if (len < 0)
		msg->process_flags |= EVENT_ROOT_CWD;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, msg, sizeof(*msg));
	return 0;
}

SEC("kprobe/acct_process") int event_exit(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct msg_exit exit = {};

	exit.common.op = OP_EXIT;
	exit.common.size = sizeof(exit);
	exit.common.ktime = bpf_ktime_get_ns();
	exit.current.pid = pid_tgid >> 32;
	exit.current.ktime = BPF_CORE_READ(task, start_time);
	exit.code = BPF_CORE_READ(task, exit_code);
	exit.tid = pid_tgid;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &exit, sizeof(exit));
	return 0;
}
