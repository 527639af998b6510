/* TLS: two structs of one family, chosen at run time; text of a length that a helper returned; an array with a gap behind. */
#include "../held2/more.h"

#define MAX 256
struct head { u8 type; u8 flags; u16 size; u32 seq; };
struct data_ev { struct head h; u64 conn; u64 at; u32 len; char buf[MAX]; };
struct conn_ev { struct head h; u64 conn; u64 at; u8 alpn[3][8]; u16 port; u16 version; u32 pid; char host[48]; char comm[16]; };
struct regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di; };

static u32 seq;

SEC("uprobe/read") int data(struct regs *ctx)
{
	struct data_ev *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	u32 n = ctx->dx;

	if (!e)
		return 0;
	e->h.type = 1;
	e->h.flags = ctx->cx & 3;
	e->h.size = sizeof(*e);
	e->h.seq = seq++;
	e->conn = ctx->di;
	e->at = bpf_ktime_get_boot_ns();
	e->len = n;
	n &= MAX - 1;
	bpf_probe_read_user(e->buf, n, (void *)ctx->si);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("uprobe/connect") int conn(struct regs *ctx)
{
	struct conn_ev *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e)
		return 0;
	e->h.type = 2;
	e->h.flags = ctx->cx & 3;
	e->h.size = sizeof(*e);
	e->h.seq = seq++;
	e->conn = ctx->di;
	e->at = bpf_ktime_get_boot_ns();
	e->port = bpf_ntohs(ctx->dx);
	e->version = ctx->r8 >> 4;
	e->pid = bpf_get_current_pid_tgid() >> 32;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 3; i++)
		bpf_probe_read_user(e->alpn[i], 8, (void *)ctx->r9 + i * 8);
	bpf_probe_read_user_str(e->host, sizeof(e->host), (void *)ctx->si);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}
