/* An audit daemon: wrappers with the member first, a macro with the object first, arrays that are only partly filled. */
#include "../held2/more.h"

#define NARGS 6
#define NGROUPS 8
#define CHUNK 32

struct range { u32 from; u16 len; u16 kind; };
struct audit_rec {
	u32 magic;
	u16 version;
	u16 nargs;
	u64 when;
	u64 args[NARGS];
	u32 groups[NGROUPS];
	char parts[4][CHUNK];
	struct range ranges[5];
	u32 loginuid;
	u32 session;
	s64 result;
	u32 pid;
	u32 tid;
	bool allowed;
	u8 class;
	char exe[64];
};

struct ctx { u64 common; long id; u64 args[6]; };
struct { __uint(type, 2); __uint(max_entries, NGROUPS); __type(key, u32); __type(value, u32); } groups SEC(".maps");

#define PUT(obj, member, val) ((obj)->member = (val))

static __always_inline long read_text(void *to, u32 size, const void *from)
{
	long n = bpf_probe_read_user_str(to, size, from);
	return n < 0 ? 0 : n;
}

SEC("tracepoint/raw_syscalls/sys_enter") int audit(struct ctx *ctx)
{
	struct audit_rec *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	u64 id = bpf_get_current_pid_tgid();

	if (!r)
		return 0;
	PUT(r, magic, 0xabcd);
	PUT(r, version, 3);
	PUT(r, nargs, ctx->id & 7);
	PUT(r, when, bpf_ktime_get_ns());
#pragma clang loop unroll(disable)
	for (int i = 0; i < NARGS; i++)
		r->args[i] = ctx->args[i];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < NGROUPS; i++) {
		u32 *g = bpf_map_lookup_elem(&groups, &i);
		r->groups[i] = g ? *g : 0;
	}
	read_text(r->parts[0], sizeof(r->parts[0]), (void *)ctx->args[0]);
#pragma clang loop unroll(disable)
	for (int i = 1; i < 4; i++)
		bpf_probe_read_user_str(r->parts[i], sizeof(r->parts[i]), (void *)ctx->args[i]);
#pragma clang loop unroll(disable)
	for (int i = 0; i < 5; i++) {
		r->ranges[i].from = ctx->args[1] + i;
		r->ranges[i].len = ctx->args[2] >> i;
		r->ranges[i].kind = ctx->args[3] * 3;
	}
	r->loginuid = bpf_get_current_uid_gid();
	r->session = ctx->args[5] / 3;
	r->result = -(s64)ctx->id;
	r->pid = id >> 32;
	r->tid = id;
	r->allowed = ctx->args[4] != 0;
	r->class = ctx->args[4] >> 5;
	read_text(r->exe, sizeof(r->exe), (void *)ctx->args[2]);
	bpf_ringbuf_submit(r, 0);
	return 0;
}
