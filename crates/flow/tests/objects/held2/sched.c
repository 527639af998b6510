/* The scheduler: a macro fills the head, counters in an array are filled in a loop, each kind is sent with its own size. */
#include "more.h"

#define NR_COUNTERS 6

typedef struct {
	u16 kind;
	u16 size;
	u32 cpu;
	u64 ns;
} hdr_t;

typedef struct {
	hdr_t hdr;
	s32 prev_pid, next_pid;
	s32 prev_prio, next_prio;
	u64 wait_ns;
	u64 run_ns;
	char prev_comm[16];
	char next_comm[16];
} switch_t;

typedef struct {
	hdr_t hdr;
	s32 pid;
	u32 target_cpu;
	u8 success;
	u8 priority;
	u16 reserved;
	u32 waker;
} wakeup_t;

typedef struct {
	hdr_t hdr;
	u64 counters[NR_COUNTERS];
	u32 nr;
	u32 total;
} stat_t;

struct { __uint(type, 1); __uint(max_entries, 10240); __type(key, u32); __type(value, u64); } enqueued SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, NR_COUNTERS); __type(key, u32); __type(value, u64); } counts SEC(".maps");

#define FILL_HDR(e, k) do { \
	(e)->hdr.kind = (k); \
	(e)->hdr.size = sizeof(*(e)); \
	(e)->hdr.cpu = bpf_get_smp_processor_id(); \
	(e)->hdr.ns = bpf_ktime_get_ns(); \
} while (0)

SEC("raw_tp/sched_switch")
int on_switch(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	u64 now = bpf_ktime_get_ns();
	switch_t *s = bpf_ringbuf_reserve(&ring, sizeof(*s), 0);
	u32 pid;

	if (!s)
		return 0;
	FILL_HDR(s, 1);
	s->prev_pid = BPF_CORE_READ(prev, pid);
	s->prev_prio = BPF_CORE_READ(prev, prio);
	s->next_pid = pid = BPF_CORE_READ(next, pid);
	s->next_prio = BPF_CORE_READ(next, prio);
	s->run_ns = now - BPF_CORE_READ(prev, start_time);
	s->wait_ns = 0;
	u64 *at = bpf_map_lookup_elem(&enqueued, &pid);
	if (at) {
		s->wait_ns = now - *at;
		bpf_map_delete_elem(&enqueued, &pid);
	}
	bpf_core_read_str(s->prev_comm, sizeof(s->prev_comm), &prev->comm);
	bpf_core_read_str(s->next_comm, sizeof(s->next_comm), &next->comm);
	bpf_ringbuf_submit(s, 0);
	return 0;
}

SEC("raw_tp/sched_wakeup")
int on_wakeup(u64 *ctx)
{
	struct task_struct *p = (void *)ctx[0];
	u32 pid = BPF_CORE_READ(p, pid);
	u64 ts = bpf_ktime_get_ns();
	wakeup_t w = {0};

	bpf_map_update_elem(&enqueued, &pid, &ts, 0);
	FILL_HDR(&w, 2);
	w.pid = pid;
	w.target_cpu = BPF_CORE_READ(p, on_cpu);
	w.success = ctx[1] != 0;
	w.priority = BPF_CORE_READ(p, prio);
	w.waker = bpf_get_current_pid_tgid();
	bpf_ringbuf_output(&ring, &w, sizeof(w), 0);
	return 0;
}

SEC("perf_event")
int on_tick(void *ctx)
{
	stat_t st;
	u32 total = 0;

	__builtin_memset(&st, 0, sizeof(st));
	FILL_HDR(&st, 3);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < NR_COUNTERS; i++) {
		u32 key = i;
		u64 *v = bpf_map_lookup_elem(&counts, &key);
		if (v) {
			st.counters[i] = *v;
			total += *v;
		}
	}
	st.nr = NR_COUNTERS;
	st.total = total;
	bpf_ringbuf_output(&ring, &st, sizeof(st), 0);
	return 0;
}
