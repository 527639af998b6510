/* Allocations: sizes wait in a hash, addresses come from the return, stacks by number and by themselves. */
#include "../held2/more.h"

struct regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di; };
enum op { ALLOC, FREE };
struct alloc_event {
	enum op op;
	u32 pid;
	u32 tid;
	s32 stack_id;
	u64 addr;
	u64 size;
	u64 ts;
	u64 cpu;
};
struct sample { u32 pid; u32 cpu; u64 ip; s32 kstack_size; s32 ustack_size; u64 kstack[16]; u64 ustack[16]; char comm[16]; };

struct { __uint(type, 1); __uint(max_entries, 10240); __type(key, u32); __type(value, u64); } sizes SEC(".maps");
struct { __uint(type, 7); __uint(max_entries, 1024); __uint(key_size, 4); __uint(value_size, 1016); } stacks SEC(".maps");

static __always_inline int send(void *ctx, enum op op, u64 addr, u64 size)
{
	u64 id = bpf_get_current_pid_tgid();
	struct alloc_event e = { .op = op, .pid = id >> 32, .tid = id, .addr = addr, .size = size };

	e.stack_id = bpf_get_stackid(ctx, &stacks, 1 << 8);
	e.ts = bpf_ktime_get_ns();
	e.cpu = bpf_get_smp_processor_id();
	return bpf_ringbuf_output(&ring, &e, sizeof(e), 0);
}

SEC("uprobe/malloc") int malloc_enter(struct regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	u64 size = ctx->di;

	bpf_map_update_elem(&sizes, &tid, &size, 0);
	return 0;
}

SEC("uretprobe/malloc") int malloc_exit(struct regs *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	u64 *size = bpf_map_lookup_elem(&sizes, &tid);

	if (!size)
		return 0;
	send(ctx, ALLOC, ctx->ax, *size);
	bpf_map_delete_elem(&sizes, &tid);
	return 0;
}

SEC("uprobe/free") int free_enter(struct regs *ctx) { return send(ctx, FREE, ctx->di, 0); }

SEC("perf_event") int sampled(struct regs *ctx)
{
	struct sample *s = bpf_ringbuf_reserve(&ring, sizeof(*s), 0);

	if (!s)
		return 1;
	s->pid = bpf_get_current_pid_tgid() >> 32;
	s->cpu = bpf_get_smp_processor_id();
	s->ip = ctx->bp;
	if (bpf_get_current_comm(s->comm, sizeof(s->comm)))
		s->comm[0] = 0;
	s->kstack_size = bpf_get_stack(ctx, s->kstack, sizeof(s->kstack), 0);
	s->ustack_size = bpf_get_stack(ctx, s->ustack, sizeof(s->ustack), 1 << 8);
	bpf_ringbuf_submit(s, 0);
	return 0;
}
