/* System calls: the context's fields, an array of numbers, an array of strings, an early return in between. */
#include "held.h"

struct sys_enter { u64 common; s64 id; u64 args[6]; };
#define MAX_ARGS 4
#define ARG_LEN 32
typedef struct {
	u64 timestamp;
	u32 tid;
	u32 tgid;
	u32 euid;
	s32 nr;
	u64 regs[6];
	char argv[MAX_ARGS][ARG_LEN];
	u8 argn;
	u8 truncated;
	u16 reserved;
	s32 depth;
} call_t;

SEC("tracepoint/raw_syscalls/sys_enter") int calls(struct sys_enter *args)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tgid = id >> 32;
	u32 tid = (u32)id;
	const char **argv = (const char **)args->args[1];
	const char *arg = NULL;
	call_t *call;
	int i;

	if (tgid == 1)
		return 0;
	call = bpf_ringbuf_reserve(&ring, sizeof(call_t), 0);
	if (!call)
		return 0;
	call->timestamp = bpf_ktime_get_ns();
	call->tid = tid;
	call->tgid = tgid;
	call->euid = bpf_get_current_uid_gid() & 0xffffffff;
	call->nr = args->id;
#pragma unroll
	for (i = 0; i < 6; i++)
		call->regs[i] = args->args[i];
	call->argn = 0;
	call->truncated = 0;
	call->reserved = 0;
	call->depth = (s32)args->common >> 4;
#pragma unroll
	for (i = 0; i < MAX_ARGS; i++) {
		bpf_probe_read_user(&arg, sizeof(arg), &argv[i]);
		if (!arg)
			break;
		if (bpf_probe_read_user_str(call->argv[i], ARG_LEN, arg) == ARG_LEN)
			call->truncated = 1;
		call->argn = i + 1;
	}
	bpf_ringbuf_submit(call, 0);
	return 0;
}
