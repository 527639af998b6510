/* Programs that start: the name by the tracepoint's own offset, arguments one after another, parent and exit in a second event. */
#include "../held2/more.h"

#define ARGS 6
struct exec_ctx { u64 common; u32 data_loc; int pid; int old_pid; };
struct sys_enter { u64 common; s64 id; u64 args[6]; };
struct exec_event {
	u32 type;
	u32 pid;
	u32 ppid;
	u32 argc;
	u64 ns;
	char comm[16];
	char file[64];
	char args[ARGS][24];
};
struct exit_event {
	u32 type;
	u32 pid;
	s32 exit_code;
	u8 core_dumped;
	u64 duration_ns;
	char comm[16];
};

SEC("tracepoint/syscalls/sys_enter_execve") int exec(struct sys_enter *ctx)
{
	const char **argv = (void *)ctx->args[1];
	struct task_struct *task = (void *)bpf_get_current_task();
	struct exec_event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	int i;

	if (!e)
		return 0;
	e->type = 1;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->ns = bpf_ktime_get_ns();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_probe_read_user_str(e->file, sizeof(e->file), (void *)ctx->args[0]);
#pragma unroll
	for (i = 0; i < ARGS; i++) {
		const char *arg = NULL;

		bpf_probe_read_user(&arg, sizeof(arg), &argv[i]);
		if (!arg)
			break;
		bpf_probe_read_user_str(e->args[i], sizeof(e->args[i]), arg);
	}
	e->argc = i;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit") int gone(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u64 id = bpf_get_current_pid_tgid();
	struct exit_event *e;
	int code;

	if (id >> 32 != (u32)id)
		return 0;
	e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	if (!e)
		return 0;
	code = BPF_CORE_READ(task, exit_code);
	e->type = 2;
	e->pid = id >> 32;
	e->exit_code = code >> 8;
	e->core_dumped = (code & 0x80) >> 7;
	e->duration_ns = bpf_ktime_get_ns() - BPF_CORE_READ(task, start_time);
	BPF_CORE_READ_STR_INTO(&e->comm, task, comm);
	bpf_ringbuf_submit(e, 0);
	return 0;
}
