/* A compound literal assigned whole, with text read behind it. */
#include "more.h"

#define ARGSIZE 128

struct {
	__uint(type, 1);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, u64);
} exec_start SEC(".maps");

struct event {
	u64 timestamp;
	u64 duration_ns;
	u32 pid;
	u32 tid;
	u32 ppid;
	u32 uid;
	int retval;
	bool is_exit;
	char comm[16];
	char filename[ARGSIZE];
};

struct exec_ctx { u16 type; u8 flags, preempt; int pid; int nr; int pad; const char *filename; u64 argv, envp; };
struct exit_ctx { u16 type; u8 flags, preempt; int pid; int nr; int pad; long ret; };

SEC("tracepoint/syscalls/sys_enter_execve")
int handle_enter(struct exec_ctx *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u64 ts = bpf_ktime_get_ns();
	u32 tid = (u32)id;
	struct event *e;

	bpf_map_update_elem(&exec_start, &tid, &ts, 0);
	e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	if (!e)
		return 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	*e = (struct event){
		.timestamp = ts,
		.pid = id >> 32,
		.tid = tid,
		.ppid = BPF_CORE_READ(task, real_parent, tgid),
		.uid = (u32)bpf_get_current_uid_gid(),
		.is_exit = false,
	};
	bpf_get_current_comm(&e->comm, sizeof(e->comm));
	bpf_probe_read_user_str(&e->filename, sizeof(e->filename), ctx->filename);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int handle_exit(struct exit_ctx *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = (u32)id;
	u64 *start = bpf_map_lookup_elem(&exec_start, &tid);

	if (!start)
		return 0;
	u64 now = bpf_ktime_get_ns();
	struct event *e = bpf_ringbuf_reserve(&ring, sizeof(struct event), 0);
	if (e) {
		*e = (struct event){
			.timestamp = now,
			.duration_ns = now - *start,
			.pid = id >> 32,
			.tid = tid,
			.uid = (u32)bpf_get_current_uid_gid(),
			.retval = (int)ctx->ret,
			.is_exit = true,
		};
		bpf_get_current_comm(&e->comm, sizeof(e->comm));
		bpf_ringbuf_submit(e, 0);
	}
	bpf_map_delete_elem(&exec_start, &tid);
	return 0;
}
