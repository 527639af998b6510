/* Reads and writes: what passes is copied behind the record, as much as there is; sent by a pointer from two places. */
#include "more.h"

#define MAX_DATA 1024

enum op { OP_READ, OP_WRITE };

struct ssl_event {
	u64 start_ns;
	u64 delta_ns;
	u32 pid;
	u32 tid;
	u32 uid;
	u32 op;
	s32 ret;
	u32 len;
	u32 data_len;
	char comm[16];
	u8 data[MAX_DATA];
};

struct start_t { u64 when; const char *buf; u32 op; };

struct { __uint(type, 1); __uint(max_entries, 4096); __type(key, u64); __type(value, struct start_t); } active SEC(".maps");
struct {
	__uint(type, 6);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, sizeof(struct ssl_event));
} storage SEC(".maps");

struct pt_regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di; };

static __always_inline int enter(struct pt_regs *ctx, enum op op)
{
	u64 id = bpf_get_current_pid_tgid();
	struct start_t s = { .when = bpf_ktime_get_ns(), .buf = (const char *)ctx->si, .op = op };

	bpf_map_update_elem(&active, &id, &s, 0);
	return 0;
}

static __noinline int leave(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 zero = 0;
	int ret = (int)ctx->ax;
	struct start_t *s = bpf_map_lookup_elem(&active, &id);
	struct ssl_event *e;
	u32 size;

	if (!s)
		return 0;
	if (ret <= 0)
		goto done;
	e = bpf_map_lookup_elem(&storage, &zero);
	if (!e)
		goto done;
	e->start_ns = s->when;
	e->delta_ns = bpf_ktime_get_ns() - s->when;
	e->pid = id >> 32;
	e->tid = (u32)id;
	e->uid = bpf_get_current_uid_gid();
	e->op = s->op;
	e->ret = ret;
	e->len = (u32)ret;
	bpf_get_current_comm(&e->comm, sizeof(e->comm));
	size = ret;
	if (size > MAX_DATA)
		size = MAX_DATA;
	e->data_len = size;
	if (bpf_probe_read_user(&e->data, size, s->buf))
		e->data_len = size = 0;
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, e, offsetof(struct ssl_event, data) + size);
done:
	bpf_map_delete_elem(&active, &id);
	return 0;
}

SEC("uprobe/SSL_read") int read_enter(struct pt_regs *ctx) { return enter(ctx, OP_READ); }
SEC("uprobe/SSL_write") int write_enter(struct pt_regs *ctx) { return enter(ctx, OP_WRITE); }
SEC("uretprobe/SSL_read") int read_exit(struct pt_regs *ctx) { return leave(ctx); }
SEC("uretprobe/SSL_write") int write_exit(struct pt_regs *ctx) { return leave(ctx); }
