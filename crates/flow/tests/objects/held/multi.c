/* Three events in one buffer: a head that a subprogram fills, a tag, then what differs. */
#include "held.h"

enum tag { FORK = 1, EXEC, SIGNAL };
struct head { u32 tag; u32 cpu; u64 ns; u32 pid; u32 tid; };
struct fork_ev { struct head h; u32 child; u32 flags; };
struct exec_ev { struct head h; u32 uid; u32 argc; char file[96]; };
struct signal_ev { struct head h; s32 sig; s32 code; u32 target; u32 result; u64 value; };

static __noinline int begin(struct head *h, u32 tag)
{
	u64 both = bpf_get_current_pid_tgid();

	if (!h)
		return 1;
	h->tag = tag;
	h->cpu = bpf_get_smp_processor_id();
	h->ns = bpf_ktime_get_ns();
	h->pid = both >> 32;
	h->tid = (u32)both;
	return 0;
}

SEC("raw_tp/sched_process_fork") int on_fork(u64 *ctx)
{
	struct fork_ev e = {};

	begin(&e.h, FORK);
	e.child = ctx[1] + 1;
	e.flags = ctx[2] >> 3;
	bpf_ringbuf_output(&ring, &e, sizeof(e), 0);
	return 0;
}

SEC("raw_tp/sched_process_exec") int on_exec(u64 *ctx)
{
	struct exec_ev *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e)
		return 0;
	if (begin(&e->h, EXEC)) {
		bpf_ringbuf_discard(e, 0);
		return 0;
	}
	e->uid = bpf_get_current_uid_gid();
	e->argc = ctx[2] & 0xffff;
	if (bpf_probe_read_kernel_str(e->file, sizeof(e->file), (void *)ctx[1]) < 0)
		e->file[0] = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/signal_generate") int on_signal(u64 *ctx)
{
	struct signal_ev e;

	__builtin_memset(&e, 0, sizeof(e));
	begin(&e.h, SIGNAL);
	e.sig = ctx[0];
	e.code = (s32)ctx[1] - 5;
	e.target = ctx[2] >> 32;
	e.result = ctx[3] % 7;
	e.value = ctx[4] * 10;
	bpf_ringbuf_output(&ring, &e, sizeof(e), 0);
	return 0;
}
