/* Records whose structs are in no BTF, filled in ways that tools of others use. Written before any rule was made for
 * them; tests/unseen.rs holds what is true of each. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define inline_ static inline __attribute__((always_inline))
#define noinline_ static __attribute__((noinline))

static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static long (*bpf_map_update_elem)(void *, const void *, const void *, __u64) = (void *)2;
static long (*bpf_map_delete_elem)(void *, const void *) = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static long (*bpf_get_current_comm)(void *, __u32) = (void *)16;
static long (*bpf_perf_event_output)(void *, void *, __u64, void *, __u64) = (void *)25;
static __u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_get_stack)(void *, void *, __u32, __u64) = (void *)67;
static long (*bpf_probe_read_user)(void *, __u32, const void *) = (void *)112;
static long (*bpf_probe_read_kernel)(void *, __u32, const void *) = (void *)113;
static long (*bpf_probe_read_user_str)(void *, __u32, const void *) = (void *)114;
static long (*bpf_probe_read_kernel_str)(void *, __u32, const void *) = (void *)115;
static long (*bpf_ringbuf_output)(void *, void *, __u64, __u64) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *, __u64, __u64) = (void *)131;
static void (*bpf_ringbuf_submit)(void *, __u64) = (void *)132;
static void (*bpf_ringbuf_discard)(void *, __u64) = (void *)133;
struct bpf_dynptr { __u64 opaque[2]; };
static long (*bpf_ringbuf_reserve_dynptr)(void *, __u32, __u64, struct bpf_dynptr *) = (void *)198;
static void (*bpf_ringbuf_submit_dynptr)(struct bpf_dynptr *, __u64) = (void *)199;
static long (*bpf_dynptr_write)(struct bpf_dynptr *, __u32, void *, __u32, __u64) = (void *)202;
static void *(*bpf_dynptr_data)(struct bpf_dynptr *, __u32, __u32) = (void *)203;

#define core __attribute__((preserve_access_index))
struct css { __u64 id; } core;
struct task { __u64 flags; __s32 pid, tgid; struct task *real_parent; char comm[16]; __s32 exit_code; } core;
struct sock { __u32 daddr, saddr; __u16 dport, num; __u16 family; __u8 state; __u8 v6[16]; } core;

struct ring { __uint(type, 27); __uint(max_entries, 4096); };
struct ring dyn_whole SEC(".maps"), dyn_data SEC(".maps"), dyn_parts SEC(".maps"), kept SEC(".maps"),
	copied SEC(".maps"), nested SEC(".maps"), kinds SEC(".maps"), filled SEC(".maps"), reads SEC(".maps"),
	socks SEC(".maps"), counts SEC(".maps"), argv SEC(".maps"), same SEC(".maps"), bits SEC(".maps"),
	arrays SEC(".maps"), once SEC(".maps"), either SEC(".maps"), flagged SEC(".maps");
struct { __uint(type, 4); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 64); __uint(key_size, 8); __uint(value_size, 64); } started SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 64); __uint(key_size, 8); __uint(value_size, 40); } opened SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, 1024); } scratch SEC(".maps");
struct { __uint(type, 9); __uint(max_entries, 64); __uint(key_size, 4); __uint(value_size, 32); } totals SEC(".maps");

/* A dynptr, written from the stack in one piece. */
struct dyn_whole_t { __u64 when; __u32 who; __u32 core_id; char name[16]; };

SEC("raw_tp/a") int p_dyn_whole(void *ctx)
{
	struct dyn_whole_t rec = {};
	struct bpf_dynptr ptr;

	rec.when = bpf_ktime_get_ns();
	rec.who = bpf_get_current_pid_tgid() >> 32;
	rec.core_id = bpf_get_smp_processor_id();
	bpf_get_current_comm(rec.name, sizeof(rec.name));
	bpf_ringbuf_reserve_dynptr(&dyn_whole, sizeof(rec), 0, &ptr);
	bpf_dynptr_write(&ptr, 0, &rec, sizeof(rec), 0);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	return 0;
}

/* A dynptr, filled in place. */
struct dyn_data_t { __u32 tid; __u32 uid; __u64 start; };

SEC("raw_tp/a") int p_dyn_data(void *ctx)
{
	struct bpf_dynptr ptr;
	struct dyn_data_t *rec;

	bpf_ringbuf_reserve_dynptr(&dyn_data, sizeof(*rec), 0, &ptr);
	rec = bpf_dynptr_data(&ptr, 0, sizeof(*rec));
	if (rec) {
		rec->tid = (__u32)bpf_get_current_pid_tgid();
		rec->uid = (__u32)bpf_get_current_uid_gid();
		rec->start = bpf_ktime_get_ns();
	}
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	return 0;
}

/* A dynptr, written member by member. */
struct dyn_parts_t { __u64 at; __u64 cgroup; __u32 code; char path[36]; };

SEC("raw_tp/a") int p_dyn_parts(__u64 *ctx)
{
	struct bpf_dynptr ptr;
	__u64 now = bpf_ktime_get_ns();
	__u32 code = ctx[1] >> 3;
	char path[36];

	bpf_ringbuf_reserve_dynptr(&dyn_parts, sizeof(struct dyn_parts_t), 0, &ptr);
	bpf_dynptr_write(&ptr, __builtin_offsetof(struct dyn_parts_t, at), &now, sizeof(now), 0);
	bpf_dynptr_write(&ptr, __builtin_offsetof(struct dyn_parts_t, code), &code, sizeof(code), 0);
	bpf_probe_read_user_str(path, sizeof(path), (void *)ctx[0]);
	bpf_dynptr_write(&ptr, __builtin_offsetof(struct dyn_parts_t, path), path, sizeof(path), 0);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	return 0;
}

/* Built at entry, kept by thread, completed in place and sent at exit. */
struct kept_t { __u64 start; __u64 duration; __u32 pid; __s32 ret; char file[32]; __u64 bytes; };

SEC("raw_tp/a") int p_kept_entry(__u64 *ctx)
{
	struct kept_t k = {};
	__u64 id = bpf_get_current_pid_tgid();

	k.start = bpf_ktime_get_ns();
	k.pid = id >> 32;
	k.bytes = ctx[2] + 1;
	bpf_probe_read_user_str(k.file, sizeof(k.file), (void *)ctx[0]);
	bpf_map_update_elem(&started, &id, &k, 0);
	return 0;
}

SEC("raw_tp/a") int p_kept_exit(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct kept_t *k = bpf_map_lookup_elem(&started, &id);

	if (!k)
		return 0;
	k->duration = bpf_ktime_get_ns() - k->start;
	k->ret = (__s32)ctx[1];
	bpf_ringbuf_output(&kept, k, sizeof(*k), 0);
	bpf_map_delete_elem(&started, &id);
	return 0;
}

/* Kept, then copied into what is reserved. */
struct open_args { __u64 ts; __u64 fname; __u32 flags; __u32 mode; __u64 dfd; __u64 more; };
struct copied_t { __u64 ts; __u32 flags; __u32 mode; __s64 fd; __u32 tgid; char fname[60]; };

SEC("raw_tp/a") int p_open_entry(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct open_args a = {};

	a.ts = bpf_ktime_get_ns();
	a.fname = ctx[1];
	a.flags = (__u32)ctx[2];
	a.mode = (__u32)ctx[3] & 0777;
	a.dfd = ctx[0];
	bpf_map_update_elem(&opened, &id, &a, 0);
	return 0;
}

SEC("raw_tp/a") int p_open_exit(__u64 *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct open_args *a = bpf_map_lookup_elem(&opened, &id);
	struct copied_t *e;

	if (!a)
		return 0;
	e = bpf_ringbuf_reserve(&copied, sizeof(*e), 0);
	if (!e)
		return 0;
	e->ts = a->ts;
	e->flags = a->flags;
	e->mode = a->mode;
	e->fd = (__s64)ctx[1];
	e->tgid = id >> 32;
	bpf_probe_read_user_str(&e->fname, sizeof(e->fname), (const void *)a->fname);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* A header inside, filled by a function of its own. */
struct header { __u64 time; __u32 pid; __u32 cpu; __u8 type; };
struct nested_t { struct header hdr; __u64 latency; struct { __u32 major, minor; } dev; char disk[12]; };

inline_ void init_header(struct header *h, __u8 type)
{
	h->time = bpf_ktime_get_ns();
	h->pid = bpf_get_current_pid_tgid() >> 32;
	h->cpu = bpf_get_smp_processor_id();
	h->type = type;
}

SEC("raw_tp/a") int p_nested(__u64 *ctx)
{
	struct nested_t *n = bpf_ringbuf_reserve(&nested, sizeof(*n), 0);

	if (!n)
		return 0;
	init_header(&n->hdr, 3);
	n->latency = bpf_ktime_get_ns() - ctx[0];
	n->dev.major = (__u32)ctx[1] >> 20;
	n->dev.minor = (__u32)ctx[1] & 0xfffff;
	bpf_probe_read_kernel_str(n->disk, sizeof(n->disk), (void *)ctx[2]);
	bpf_ringbuf_submit(n, 0);
	return 0;
}

/* Three events of one size, told apart by their first member. */
enum kind { K_FORK = 1, K_EXEC, K_EXIT };
struct k_fork { __u32 kind; __u32 parent; __u32 child; __u32 cpu; __u64 ts; };
struct k_exec { __u32 kind; __u32 pid; __u64 ts; __u64 inode; };
struct k_exit { __u32 kind; __u32 pid; __s32 code; __u32 signal; __u64 lifetime; };

SEC("raw_tp/a") int p_fork(__u64 *ctx)
{
	struct k_fork *e = bpf_ringbuf_reserve(&kinds, sizeof(*e), 0);

	if (!e)
		return 0;
	e->kind = K_FORK;
	e->parent = (__u32)ctx[0] + 1;
	e->child = (__u32)ctx[1] + 1;
	e->cpu = bpf_get_smp_processor_id();
	e->ts = bpf_ktime_get_ns();
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/a") int p_exec(__u64 *ctx)
{
	struct k_exec *e = bpf_ringbuf_reserve(&kinds, sizeof(*e), 0);

	if (!e)
		return 0;
	e->kind = K_EXEC;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ts = bpf_ktime_get_ns();
	e->inode = ctx[2] * 3;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/a") int p_exit(__u64 *ctx)
{
	struct k_exit *e = bpf_ringbuf_reserve(&kinds, sizeof(*e), 0);
	struct task *t = (void *)bpf_get_current_task();
	__s32 code = 0;

	if (!e)
		return 0;
	bpf_probe_read_kernel(&code, sizeof(code), &t->exit_code);
	e->kind = K_EXIT;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->code = code >> 8;
	e->signal = code & 0x7f;
	e->lifetime = bpf_ktime_get_ns() - ctx[0];
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* On the stack, filled by functions that are called. */
struct filled_t { __u32 pid; __u32 ppid; __u64 flags; char comm[16]; char pcomm[16]; };

noinline_ int fill_task(struct filled_t *f, struct task *t)
{
	bpf_probe_read_kernel(&f->flags, sizeof(f->flags), &t->flags);
	bpf_get_current_comm(&f->comm, sizeof(f->comm));
	return 0;
}

noinline_ int fill_parent(struct filled_t *f, struct task *t)
{
	struct task *parent = 0;

	bpf_probe_read_kernel(&parent, sizeof(parent), &t->real_parent);
	bpf_probe_read_kernel(&f->ppid, sizeof(f->ppid), &parent->tgid);
	bpf_probe_read_kernel_str(&f->pcomm, sizeof(f->pcomm), &parent->comm);
	return 0;
}

SEC("raw_tp/a") int p_filled(void *ctx)
{
	struct filled_t f = {};
	struct task *t = (void *)bpf_get_current_task();

	f.pid = bpf_get_current_pid_tgid() >> 32;
	fill_task(&f, t);
	fill_parent(&f, t);
	bpf_ringbuf_output(&filled, &f, sizeof(f), 0);
	return 0;
}

/* Of a socket: addresses of both families, ports, state. */
struct socks_t {
	__u64 ts;
	union { __u32 saddr_v4; __u8 saddr_v6[16]; };
	union { __u32 daddr_v4; __u8 daddr_v6[16]; };
	__u16 sport, dport;
	__u16 family;
	__u8 old_state, new_state;
	__u32 pid;
};

SEC("raw_tp/a") int p_socks(__u64 *ctx)
{
	struct socks_t s = {};
	struct sock *sk = (void *)ctx[0];

	s.ts = bpf_ktime_get_ns();
	bpf_probe_read_kernel(&s.family, sizeof(s.family), &sk->family);
	if (s.family == 2) {
		bpf_probe_read_kernel(&s.saddr_v4, sizeof(s.saddr_v4), &sk->saddr);
		bpf_probe_read_kernel(&s.daddr_v4, sizeof(s.daddr_v4), &sk->daddr);
	} else {
		bpf_probe_read_kernel(&s.saddr_v6, sizeof(s.saddr_v6), &sk->v6);
		bpf_probe_read_kernel(&s.daddr_v6, sizeof(s.daddr_v6), &sk->v6);
	}
	bpf_probe_read_kernel(&s.sport, sizeof(s.sport), &sk->num);
	bpf_probe_read_kernel(&s.dport, sizeof(s.dport), &sk->dport);
	s.old_state = (__u8)ctx[1];
	s.new_state = (__u8)ctx[2];
	s.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_perf_event_output(ctx, &perf, 0xffffffffULL, &s, sizeof(s));
	return 0;
}

/* Counters in a map, sent as they are. */
struct counts_t { __u64 packets; __u64 bytes; __u32 drops; __u32 last_cpu; __u64 last_seen; };

SEC("raw_tp/a") int p_counts(__u64 *ctx)
{
	__u32 key = (__u32)ctx[0];
	struct counts_t *c = bpf_map_lookup_elem(&totals, &key);

	if (!c) {
		struct counts_t first = { .packets = 1, .bytes = ctx[1] };

		bpf_map_update_elem(&totals, &key, &first, 1);
		return 0;
	}
	c->packets++;
	__sync_fetch_and_add(&c->bytes, ctx[1]);
	if (ctx[2] & 4)
		__sync_fetch_and_add(&c->drops, 1);
	c->last_cpu = bpf_get_smp_processor_id();
	c->last_seen = bpf_ktime_get_ns();
	if (c->packets % 1000 == 0)
		bpf_ringbuf_output(&counts, c, sizeof(*c), 0);
	return 0;
}

/* Arguments in a scratch buffer, sent as far as they go. */
struct argv_t { __u64 ts; __u32 pid; __u32 uid; __u32 argc; __u32 size; char args[512]; };

SEC("raw_tp/a") int p_argv(__u64 *ctx)
{
	__u32 zero = 0;
	struct argv_t *a = bpf_map_lookup_elem(&scratch, &zero);
	__u64 size;

	if (!a)
		return 0;
	a->ts = bpf_ktime_get_ns();
	a->pid = bpf_get_current_pid_tgid() >> 32;
	a->uid = bpf_get_current_uid_gid();
	a->argc = 0;
	size = bpf_probe_read_user_str(a->args, 512, (void *)ctx[0]);
	if (size > 512)
		return 0;
	a->size = size;
	a->argc++;
	bpf_ringbuf_output(&argv, a, __builtin_offsetof(struct argv_t, args) + size, 0);
	return 0;
}

/* Of one size, and nothing tells them apart. */
struct same_a { __u64 first; __u32 left; __u32 right; };
struct same_b { __u32 up; __u32 down; __u64 last; };

SEC("raw_tp/a") int p_same_a(__u64 *ctx)
{
	struct same_a *e = bpf_ringbuf_reserve(&same, sizeof(*e), 0);

	if (!e)
		return 0;
	e->first = bpf_ktime_get_ns();
	e->left = (__u32)ctx[0] * 5;
	e->right = (__u32)ctx[1] * 7;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/a") int p_same_b(__u64 *ctx)
{
	struct same_b *e = bpf_ringbuf_reserve(&same, sizeof(*e), 0);

	if (!e)
		return 0;
	e->up = (__u32)ctx[0] * 5;
	e->down = (__u32)ctx[1] * 7;
	e->last = bpf_ktime_get_ns();
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Bit-fields: nothing may be said of their widths. */
struct bits_t { __u64 ts; __u32 a : 4, b : 12, c : 16; __u32 whole; };

SEC("raw_tp/a") int p_bits(__u64 *ctx)
{
	struct bits_t *e = bpf_ringbuf_reserve(&bits, sizeof(*e), 0);

	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	e->a = ctx[0];
	e->b = ctx[1];
	e->c = ctx[2];
	e->whole = (__u32)ctx[0] + 9;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Arrays: of numbers, of structs, of addresses. */
struct pair { __u32 key; __u32 value; };
struct arrays_t { __u64 ts; __u32 counts[4]; struct pair pairs[3]; __u64 stack[8]; __u32 n; __u32 size; };

SEC("raw_tp/a") int p_arrays(__u64 *ctx)
{
	struct arrays_t *e = bpf_ringbuf_reserve(&arrays, sizeof(*e), 0);

	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	for (int i = 0; i < 4; i++)
		e->counts[i] = (__u32)ctx[i] + i;
	for (int i = 0; i < 3; i++) {
		e->pairs[i].key = (__u32)ctx[i] ^ 3;
		e->pairs[i].value = (__u32)ctx[i] >> 2;
	}
	e->size = bpf_get_stack(ctx, e->stack, sizeof(e->stack), 0);
	e->n = (__u32)ctx[1] % 5;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Wrong on purpose for what counts on names: what is stored has another name than its source. */
struct once_t { __u32 target; __u32 sender; __s32 sig; __s32 ret; __u64 when_ns; char who[16]; bool ok; };

SEC("raw_tp/a") int p_once(__u64 *ctx)
{
	struct once_t *o = bpf_ringbuf_reserve(&once, sizeof(*o), 0);
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 sender = pid_tgid >> 32;
	__u64 ts = bpf_ktime_get_ns();

	if (!o)
		return 0;
	o->target = (__u32)ctx[0];
	o->sender = sender;
	o->sig = (__s32)ctx[1];
	o->ret = (__s32)ctx[2];
	o->when_ns = ts;
	o->ok = ctx[2] == 0;
	bpf_get_current_comm(&o->who, sizeof(o->who));
	bpf_ringbuf_submit(o, 0);
	return 0;
}

/* Flags that are set one by one. */
struct flagged_t { __u64 id; __u16 flags; __u16 len; __u32 mark; __u8 proto; __u8 dir; };

SEC("raw_tp/a") int p_flagged(__u64 *ctx)
{
	struct flagged_t f = { 0 };

	f.id = bpf_ktime_get_ns() ^ ctx[0];
	if (ctx[1] & 1)
		f.flags |= 1;
	if (ctx[1] & 2)
		f.flags |= 0x100;
	f.len = (__u16)ctx[2];
	f.mark = (__u32)ctx[3];
	f.proto = (__u8)(ctx[3] >> 32);
	f.dir = ctx[1] > 5 ? 1 : 2;
	bpf_ringbuf_output(&flagged, &f, sizeof(f), 0);
	return 0;
}

/* A struct that is as large as the record and named like an event, but is another one: the code contradicts it. */
struct event { __u32 a; __u64 when; __u32 b; } __attribute__((packed));
struct event *unused SEC(".data");
struct unpacked { __u64 start; __u32 pid; __u32 tid; };
struct ring odd SEC(".maps");

SEC("raw_tp/a") int p_odd(void *ctx)
{
	void *record = bpf_ringbuf_reserve(&odd, 16, 0);
	struct unpacked *p = record;

	if (!p)
		return 0;
	p->start = bpf_ktime_get_ns() / 1000;
	p->pid = bpf_get_current_pid_tgid() >> 32;
	p->tid = (__u32)bpf_get_current_pid_tgid();
	bpf_ringbuf_submit(p, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
