/* Ways of filling records whose structs no map and no prototype reaches: they are in no BTF. Each program is a case of
 * tests/styles.rs, which holds what is true of its struct. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef long long __s64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define inline_ static inline __attribute__((always_inline))
#define noinline_ static __attribute__((noinline))

static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static long (*bpf_get_current_comm)(void *, __u32) = (void *)16;
static long (*bpf_perf_event_output)(void *, void *, __u64, void *, __u64) = (void *)25;
static long (*bpf_get_stackid)(void *, void *, __u64) = (void *)27;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*bpf_probe_read_kernel)(void *, __u32, const void *) = (void *)113;
static long (*bpf_probe_read_user_str)(void *, __u32, const void *) = (void *)114;
static long (*bpf_ringbuf_output)(void *, void *, __u64, __u64) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *, __u64, __u64) = (void *)131;
static void (*bpf_ringbuf_submit)(void *, __u64) = (void *)132;

struct ring { __uint(type, 27); __uint(max_entries, 4096); };
struct ring plain SEC(".maps"), parts SEC(".maps"), tags SEC(".maps"), halves SEC(".maps"), copies SEC(".maps"),
	macros SEC(".maps"), tails SEC(".maps"), inits SEC(".maps"), scratch SEC(".maps"), zeroes SEC(".maps"),
	joined SEC(".maps");
struct { __uint(type, 4); __uint(max_entries, 0); __uint(key_size, 4); __uint(value_size, 4); } stack SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, 512); } heap SEC(".maps");
struct { __uint(type, 7); __uint(max_entries, 64); __uint(key_size, 4); __uint(value_size, 1016); } stacks SEC(".maps");

struct plain_rec { __u64 ts; __u32 pid; __u32 tid; __u32 uid; __u16 cpu; __u8 flag; char comm[16]; };

SEC("raw_tp/a") int p_plain(__u64 *ctx)
{
	struct plain_rec *e = bpf_ringbuf_reserve(&plain, sizeof(*e), 0);
	__u64 id = bpf_get_current_pid_tgid();

	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->pid = id >> 32;
	e->tid = id;
	e->uid = bpf_get_current_uid_gid();
	e->cpu = bpf_get_smp_processor_id();
	e->flag = ctx[1] > 3;
	bpf_get_current_comm(&e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

struct parts_rec { __u64 ts; __u64 cgroup; char name[32]; __u32 stack_id; __u32 code; };

noinline_ int fill_time(struct parts_rec *r)
{
	r->ts = bpf_ktime_get_ns();
	r->cgroup = bpf_get_current_cgroup_id();
	return 0;
}

inline_ void fill_name(struct parts_rec *r, const void *from)
{
	bpf_probe_read_user_str(r->name, sizeof(r->name), from);
}

SEC("raw_tp/a") int p_parts(__u64 *ctx)
{
	struct parts_rec *r = bpf_ringbuf_reserve(&parts, sizeof(*r), 0);

	if (!r)
		return 0;
	fill_time(r);
	fill_name(r, (void *)ctx[0]);
	r->stack_id = bpf_get_stackid(ctx, &stacks, 0);
	r->code = ctx[1] * 3;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* Two events in one buffer, told apart by the first member and by size; and a third of the first's size. */
struct open_rec { __u32 tag; __u32 pid; char path[64]; };
struct exit_rec { __u32 tag; __u32 pid; __u64 code; __u64 when; };
struct read_rec { __u32 tag; __u32 fd; __u64 bytes; __u64 when; };

SEC("raw_tp/a") int p_tag_open(__u64 *ctx)
{
	struct open_rec *o = bpf_ringbuf_reserve(&tags, sizeof(*o), 0);

	if (!o)
		return 0;
	o->tag = 1;
	o->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_probe_read_user_str(&o->path, sizeof(o->path), (void *)ctx[0]);
	bpf_ringbuf_submit(o, 0);
	return 0;
}

SEC("raw_tp/a") int p_tag_exit(__u64 *ctx)
{
	struct exit_rec *x = bpf_ringbuf_reserve(&tags, sizeof(*x), 0);

	if (!x)
		return 0;
	x->tag = 2;
	x->pid = bpf_get_current_pid_tgid() >> 32;
	x->code = ctx[1] >> 8;
	x->when = bpf_ktime_get_ns();
	bpf_ringbuf_submit(x, 0);
	return 0;
}

SEC("raw_tp/a") int p_tag_read(__u64 *ctx)
{
	struct read_rec *x = bpf_ringbuf_reserve(&tags, sizeof(*x), 0);

	if (!x)
		return 0;
	x->tag = 3;
	x->fd = ctx[0] + 1;
	x->bytes = ctx[1] * 2;
	x->when = bpf_ktime_get_ns();
	bpf_ringbuf_submit(x, 0);
	return 0;
}

/* Halves of one number beside each other: one store of 8 bytes can do both. */
struct halves_rec { __u32 tid; __u32 pid; __u32 uid; __u32 gid; __u64 pid_tgid; };

SEC("raw_tp/a") int p_halves(void *ctx)
{
	struct halves_rec *e = bpf_ringbuf_reserve(&halves, sizeof(*e), 0);
	__u64 id = bpf_get_current_pid_tgid(), ug = bpf_get_current_uid_gid();

	if (!e)
		return 0;
	e->tid = (__u32)id;
	e->pid = id >> 32;
	e->uid = (__u32)ug;
	e->gid = ug >> 32;
	e->pid_tgid = id;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Copies whose neighbours can be joined, and copies of arrays. */
struct from { __u32 a, b; __u16 c, d; __u32 e; char text[16]; __u8 addr[16]; };
struct copies_rec { __u32 a, b; __u16 c, d; __u32 e; char text[16]; __u8 addr[16]; };

SEC("raw_tp/a") int p_copies(void *ctx)
{
	__u32 zero = 0;
	struct from *from = bpf_map_lookup_elem(&heap, &zero);
	struct copies_rec *e;

	if (!from)
		return 0;
	e = bpf_ringbuf_reserve(&copies, sizeof(*e), 0);
	if (!e)
		return 0;
	e->a = from->a;
	e->b = from->b;
	e->c = from->c;
	e->d = from->d;
	e->e = from->e;
	__builtin_memcpy(&e->text, from->text, sizeof(e->text));
	__builtin_memcpy(e->addr, from->addr, 16);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* The same from the stack, read before anything is written: neighbours can be copied at once. */
struct joined_rec { __u32 a, b; __u16 c, d; __u32 e; __u64 f; };

SEC("raw_tp/a") int p_joined(__u64 *ctx)
{
	struct joined_rec *z;
	struct from from;
	__u32 a, b, e;
	__u16 c, d;

	bpf_probe_read_kernel(&from, sizeof(from), (void *)ctx[0]);
	z = bpf_ringbuf_reserve(&joined, sizeof(*z), 0);
	if (!z)
		return 0;
	a = from.a;
	b = from.b;
	c = from.c;
	d = from.d;
	e = from.e;
	z->a = a;
	z->b = b;
	z->c = c;
	z->d = d;
	z->e = e;
	z->f = ctx[1];
	bpf_ringbuf_submit(z, 0);
	return 0;
}

#define SET(member, value) (e->member = (value))
struct macros_rec { __u64 when; __u64 delta; __u32 pid; __u32 size; };

SEC("raw_tp/a") int p_macros(__u64 *ctx)
{
	struct macros_rec *e = bpf_ringbuf_reserve(&macros, sizeof(*e), 0);

	if (!e)
		return 0;
	SET(when, bpf_ktime_get_ns());
	SET(delta, ctx[0] / 1000);
	SET(pid, bpf_get_current_pid_tgid() >> 32);
	SET(size, (__u32)(ctx[1] + 7));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* A tail of varying length. */
struct tails_rec { __u64 ts; __u32 len; __u32 cpu; char data[256]; };

SEC("raw_tp/a") int p_tails(__u64 *ctx)
{
	__u32 zero = 0;
	struct tails_rec *e = bpf_map_lookup_elem(&heap, &zero);
	__u64 len;

	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->cpu = bpf_get_smp_processor_id();
	len = bpf_probe_read_user_str(e->data, sizeof(e->data), (void *)ctx[0]);
	if (len > sizeof(e->data))
		return 0;
	e->len = len;
	bpf_ringbuf_output(&tails, e, __builtin_offsetof(struct tails_rec, data) + len, 0);
	return 0;
}

struct inits_rec { __u64 ts; __u32 pid; __u32 cpu; __u64 cookie; };

SEC("raw_tp/a") int p_inits(__u64 *ctx)
{
	struct inits_rec e = {
		.ts = bpf_ktime_get_ns(),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.cpu = bpf_get_smp_processor_id(),
		.cookie = ctx[0] ^ ctx[1],
	};

	bpf_ringbuf_output(&inits, &e, sizeof(e), 0);
	return 0;
}

/* The same stack for a temporary before, and padding. */
struct stack_rec { __u8 kind; __u32 pid; __u16 port; __u64 ns; char comm[16]; };

SEC("raw_tp/a") int p_stack(__u64 *ctx)
{
	{
		__u64 temporary[4];
		bpf_probe_read_kernel(&temporary, sizeof(temporary), (void *)ctx[0]);
		if (temporary[0] == 7)
			return 0;
	}
	struct stack_rec e;

	__builtin_memset(&e, 0, sizeof(e));
	e.kind = ctx[1] & 7;
	e.pid = bpf_get_current_pid_tgid();
	e.port = ctx[1] >> 16;
	e.ns = bpf_ktime_get_ns();
	bpf_get_current_comm(e.comm, sizeof(e.comm));
	bpf_perf_event_output(ctx, &stack, 0xffffffffULL, &e, sizeof(e));
	return 0;
}

/* Nothing but zeroes and constants: no store has a width that can be believed. */
struct zeroes_rec { __u16 a, b; __u32 c; __u64 d; __u32 e, f; };

SEC("raw_tp/a") int p_zeroes(void *ctx)
{
	struct zeroes_rec *z = bpf_ringbuf_reserve(&zeroes, sizeof(*z), 0);

	if (!z)
		return 0;
	z->a = 0;
	z->b = 0;
	z->c = 0;
	z->d = 0;
	z->e = 1;
	z->f = 0;
	bpf_ringbuf_submit(z, 0);
	return 0;
}

/* Two programs that use one scratch buffer for records of one size. */
struct first_rec { __u64 start; __u32 one; __u32 two; };
struct second_rec { __u32 x; __u32 y; __u64 end; };

SEC("raw_tp/a") int p_scratch_first(__u64 *ctx)
{
	__u32 zero = 0;
	struct first_rec *r = bpf_map_lookup_elem(&heap, &zero);

	if (!r)
		return 0;
	r->start = bpf_ktime_get_ns();
	r->one = ctx[0] + 1;
	r->two = ctx[1] + 2;
	bpf_ringbuf_output(&scratch, r, sizeof(*r), 0);
	return 0;
}

SEC("raw_tp/a") int p_scratch_second(__u64 *ctx)
{
	__u32 zero = 0;
	struct second_rec *r = bpf_map_lookup_elem(&heap, &zero);

	if (!r)
		return 0;
	r->x = ctx[0] + 1;
	r->y = ctx[1] + 2;
	r->end = bpf_ktime_get_ns();
	bpf_ringbuf_output(&scratch, r, sizeof(*r), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
