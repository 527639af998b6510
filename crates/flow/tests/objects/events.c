/* Ways of sending records; each program is a case of the tests. Compiled by them. */
typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define inline_ inline __attribute__((always_inline))
#define noinline_ __attribute__((noinline))

static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static long (*bpf_perf_event_output)(void *, void *, __u64, void *, __u64) = (void *)25;
static long (*bpf_ringbuf_output)(void *, void *, __u64, __u64) = (void *)130;
static void *(*bpf_ringbuf_reserve)(void *, __u64, __u64) = (void *)131;
static void (*bpf_ringbuf_submit)(void *, __u64) = (void *)132;
static long (*bpf_loop)(__u32, void *, void *, __u64) = (void *)181;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *, __u32) = (void *)16;

struct ring { __uint(type, 27); __uint(max_entries, 4096); };

struct reserved { __u64 ts; __u32 pid; __u32 cpu; };
typedef struct { __u32 a, b, c; } typedefed_t;
typedef struct { __u32 pid, count; __u64 stack[6]; } typedef_inner_t;
struct kept { __u64 a[5]; };
struct by_name_event { __u64 a[6]; };
struct decoy { __u64 a[6]; };
struct value { __u64 a[7]; };
struct heap { __u32 used; char buf[252]; };
struct state { __u64 ip, sp; typedef_inner_t samples[2]; };
struct tail { __u32 len; char data[]; };
struct global { __u64 a[9]; };
struct kernel_event { int pid; __u64 fields[10]; } __attribute__((preserve_access_index));
struct same { __u64 a[12]; };
struct other { __u64 b[12]; };

const struct kept *unused_kept SEC(".data");
const struct tail *unused_tail SEC(".data");
struct global global_record;

/* Types stay in the BTF because this uses them. */
struct all {
	struct reserved r; typedefed_t t; struct by_name_event n; struct decoy d; 
	struct same s; struct other o;
} *all SEC(".data.types");

struct ring reserved SEC(".maps"), typedefed SEC(".maps"), kept SEC(".maps"), named SEC(".maps"), values SEC(".maps"),
	cut SEC(".maps"), tails SEC(".maps"), globals SEC(".maps"), nothing SEC(".maps"), looks SEC(".maps"),
	called_a SEC(".maps"), called_b SEC(".maps"), looped SEC(".maps"), counted SEC(".maps"), spilled SEC(".maps"),
	two SEC(".maps"), missing SEC(".maps"), far SEC(".maps"), members SEC(".maps"),
	difference SEC(".maps"), text SEC(".maps"), word SEC(".maps");
struct { __uint(type, 4); __uint(max_entries, 0); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps"),
	number SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 1); __type(key, __u32); __type(value, struct value); } store SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, __u32); __type(value, struct heap); } heaps SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 1); __type(key, __u32); __type(value, struct state); } states SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 1); __uint(key_size, 4); __array(values, struct ring); } rings SEC(".maps");
struct ring first_ring SEC(".maps"), second_ring SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 3); __uint(key_size, 4); __array(values, struct ring); }
	filled SEC(".maps") = { .values = { [0] = &first_ring, [2] = &second_ring } };

SEC("raw_tp/a") int p_reserved(void *ctx)
{
	struct reserved *e = bpf_ringbuf_reserve(&reserved, sizeof(*e), 0);
	if (!e)
		return 0;
	e->ts = bpf_ktime_get_ns();
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("raw_tp/a") int p_typedefed(void *ctx)
{
	typedefed_t e = { .a = 1 };
	e.b = bpf_ktime_get_ns();
	bpf_ringbuf_output(&typedefed, &e, sizeof(e), 0);
	return 0;
}

/* A member of a value, with as much of its stack as there is; and a helper without arguments after which it is still known. */
SEC("raw_tp/a") int p_members(void *ctx)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&states, &zero);
	if (!state)
		return 0;
	void *sample = &state->samples[1];
	__u32 bytes = 8 + 8 * state->samples[1].count;
	if (bytes <= sizeof(state->samples[1]))
		bpf_ringbuf_output(&members, sample, bytes, 0);
	return 0;
}

/* Records that are one variable. */
SEC("raw_tp/a") int p_variables(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	bpf_perf_event_output(ctx, &number, 0xffffffff, &pid, sizeof(pid));

	long long delta = bpf_ktime_get_ns() - 7;
	bpf_ringbuf_output(&difference, &delta, sizeof(delta), 0);

	char name[16];
	bpf_get_current_comm(name, sizeof(name));
	bpf_ringbuf_output(&text, name, sizeof(name), 0);

	__u64 *when = bpf_ringbuf_reserve(&word, sizeof(*when), 0);
	if (!when)
		return 0;
	*when = bpf_ktime_get_ns() * 3;
	bpf_ringbuf_submit(when, 0);
	return 0;
}

/* No line says what it is. */
#define SEND(map, bytes) do { \
	void *p = bpf_ringbuf_reserve(map, bytes, 0); \
	if (p) bpf_ringbuf_submit(p, 0); } while (0)

SEC("raw_tp/a") int p_kept(void *ctx) { SEND(&kept, 40); return 0; }
SEC("raw_tp/a") int p_named(void *ctx) { SEND(&named, 48); return 0; }
SEC("raw_tp/a") int p_nothing(void *ctx) { SEND(&nothing, 1234); return 0; }

/* Types that the context reaches are the kernel's: BTF ends before them, DWARF does not. */
struct far_event { __u64 m[13]; };
struct device { int (*call)(struct far_event *event); };
struct context { struct device *device; };
SEC("raw_tp/a") int p_far(struct context *ctx) { SEND(&far, 104); return 0; }

SEC("raw_tp/a") int p_values(void *ctx)
{
	__u32 key = 0;
	void *v = bpf_map_lookup_elem(&store, &key);
	if (v)
		bpf_ringbuf_output(&values, v, 56, 0);
	return 0;
}

SEC("raw_tp/a") int p_cut(void *ctx)
{
	__u32 key = 0;
	struct heap *h = bpf_map_lookup_elem(&heaps, &key);
	if (!h)
		return 0;
	__u32 used = h->used;
	if (used > sizeof(h->buf))
		return 0;
	bpf_ringbuf_output(&cut, h, used + 4, 0);
	return 0;
}

SEC("raw_tp/a") int p_tails(void *ctx)
{
	struct tail *t = bpf_ringbuf_reserve(&tails, sizeof(struct tail) + 28, 0);
	if (t)
		bpf_ringbuf_submit(t, 0);
	return 0;
}

SEC("raw_tp/a") int p_globals(void *ctx)
{
	bpf_ringbuf_output(&globals, &global_record, sizeof(global_record), 0);
	return 0;
}

/* As large as struct kernel_event, which is not a record's. */
SEC("raw_tp/a") int p_looks(struct kernel_event *t)
{
	int pid = __builtin_preserve_access_index(t->pid);
	if (pid)
		SEND(&looks, 88);
	return 0;
}

static noinline_ long send(void *map, void *data, __u64 size)
{
	return bpf_ringbuf_output(map, data, size, 0);
}

SEC("raw_tp/a") int p_called(void *ctx)
{
	__u64 a[2] = { bpf_ktime_get_ns(), 1 }, b[4] = { bpf_ktime_get_ns(), 2, 3, 4 };
	send(&called_a, a, sizeof(a));
	send(&called_b, b, sizeof(b));
	return 0;
}

static long callback(__u32 n, void *ctx)
{
	SEND(&looped, 24);
	return 0;
}

SEC("raw_tp/a") int p_looped(void *ctx)
{
	bpf_loop(10, callback, 0, 0);
	return 0;
}

SEC("raw_tp/a") int p_counted(void *ctx)
{
	__u64 bytes = 8;
	char buf[64] = {};
#pragma clang loop unroll(disable)
	for (int i = 0; i < 7; i++)
		if (bpf_ktime_get_ns() & 1)
			bytes += 8;
	bpf_ringbuf_output(&counted, buf, bytes & 63, 0);
	return 0;
}

SEC("raw_tp/a") int p_perf(void *ctx)
{
	struct same e = {};
	e.a[0] = bpf_ktime_get_ns();
	bpf_perf_event_output(ctx, &perf, 0xffffffffULL, &e, sizeof(e));
	return 0;
}

SEC("tc") int p_packet(void *ctx)
{
	struct reserved e = {};
	e.ts = bpf_ktime_get_ns();
	bpf_perf_event_output(ctx, &perf, 0xffffffffULL | 64ULL << 32, &e, sizeof(e));
	return 0;
}

SEC("raw_tp/a") int p_inner(void *ctx)
{
	__u32 key = 0;
	void *ring = bpf_map_lookup_elem(&rings, &key);
	if (ring)
		SEND(ring, 72);
	return 0;
}

SEC("raw_tp/a") int p_filled(void *ctx)
{
	__u32 key = 2;
	void *ring = bpf_map_lookup_elem(&filled, &key);
	if (ring)
		SEND(ring, 80);
	return 0;
}

/* Two structs of one size to one map. */
SEC("raw_tp/a") int p_two(void *ctx)
{
	struct same *s = bpf_ringbuf_reserve(&two, sizeof(struct same), 0);
	if (s)
		bpf_ringbuf_submit(s, 0);
	struct other *o = bpf_ringbuf_reserve(&two, sizeof(struct other), 0);
	if (o)
		bpf_ringbuf_submit(o, 0);
	return 0;
}

/* The type is only on the stack, so the BTF does not have it; struct by_name_event has its size by chance. */
SEC("raw_tp/a") int p_missing(void *ctx)
{
	struct on_stack { __u64 x[6]; };
	struct on_stack gone = {};
	gone.x[1] = bpf_ktime_get_ns();
	bpf_ringbuf_output(&missing, &gone, sizeof(gone), 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
