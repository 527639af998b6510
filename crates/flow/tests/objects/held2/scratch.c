/* A per-CPU scratch that is too large for the stack, with rows of arguments, sent by perf with the bytes that are used. */
#include "more.h"

#define MAX_ARGS 20
#define ARG_LEN 64

struct exec_data_t {
	u64 cgroup_id;
	u32 pid, ppid;
	u32 uid;
	u32 argc;
	int pathlen;
	u8 truncated;
	char comm[16];
	char path[256];
	char argv[MAX_ARGS][ARG_LEN];
};

struct {
	__uint(type, 6);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, sizeof(struct exec_data_t));
} heap SEC(".maps");

struct args { u64 common; long id; const char *filename; const char *const *argv; const char *const *envp; };

static __always_inline struct exec_data_t *get_scratch(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&heap, &zero);
}

SEC("tp/syscalls/sys_enter_execve")
int trace_execve(struct args *ctx)
{
	struct exec_data_t *data = get_scratch();
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	const char *arg;
	int i;

	if (!data)
		return 0;
	data->cgroup_id = bpf_get_current_cgroup_id();
	data->pid = bpf_get_current_pid_tgid() >> 32;
	data->uid = bpf_get_current_uid_gid() & 0xffffffff;
	data->ppid = BPF_CORE_READ(t, real_parent, tgid);
	data->argc = 0;
	data->truncated = 0;
	bpf_get_current_comm(data->comm, sizeof(data->comm));
	data->pathlen = bpf_probe_read_user_str(data->path, sizeof(data->path), ctx->filename);
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_ARGS; i++) {
		arg = NULL;
		bpf_probe_read_user(&arg, sizeof(arg), &ctx->argv[i]);
		if (!arg)
			goto out;
		bpf_probe_read_user_str(data->argv[i], ARG_LEN, arg);
		data->argc++;
	}
	data->truncated = 1;
out:
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, data, sizeof(*data));
	return 0;
}
