/* Where threads wait, with both stacks in the event. */
#include "../held2/more.h"

#define DEPTH 20
struct stack_event {
	u32 pid;
	u32 tid;
	u32 cpu;
	s32 prio;
	u64 offcpu_ns;
	u64 at;
	s32 kstack_sz;
	s32 ustack_sz;
	u64 kstack[DEPTH];
	u64 ustack[DEPTH];
	char comm[16];
};
struct start { u64 ts; u32 cpu; };
struct { __uint(type, 1); __uint(max_entries, 10240); __type(key, u32); __type(value, struct start); } starts SEC(".maps");
const volatile u64 min_ns = 1000;

SEC("raw_tp/sched_switch") int handle_switch(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	struct start fresh = { .ts = bpf_ktime_get_ns(), .cpu = bpf_get_smp_processor_id() }, *start;
	struct stack_event *event;
	u32 pid = BPF_CORE_READ(prev, pid);
	u64 delta;

	bpf_map_update_elem(&starts, &pid, &fresh, 0);
	pid = BPF_CORE_READ(next, pid);
	start = bpf_map_lookup_elem(&starts, &pid);
	if (!start)
		return 0;
	delta = fresh.ts - start->ts;
	if (delta < min_ns)
		goto out;
	event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event)
		goto out;
	event->pid = BPF_CORE_READ(next, tgid);
	event->tid = pid;
	event->cpu = start->cpu;
	event->prio = BPF_CORE_READ(next, prio);
	event->offcpu_ns = delta;
	event->at = fresh.ts;
	event->kstack_sz = bpf_get_stack(ctx, event->kstack, sizeof(event->kstack), 0);
	event->ustack_sz = bpf_get_stack(ctx, event->ustack, sizeof(event->ustack), 256);
	bpf_core_read_str(event->comm, sizeof(event->comm), &next->comm);
	bpf_ringbuf_submit(event, 0);
out:
	bpf_map_delete_elem(&starts, &pid);
	return 0;
}
