/* Counters by index: a mask, a bounded variable, a partly used table, a union by version. */
#include "../held2/more.h"

struct bucket { u64 count; u64 sum; };
struct summary {
	u64 since;
	u32 cpu;
	u32 flags;
	u16 depth[16];
	struct bucket buckets[8];
	u8 marks[12];
	u32 unused_tail;
	union { __be32 v4; u8 v6[16]; } peer;
	u64 last_ns;
	u64 delta_ns;
	s32 err;
	u32 n;
};

struct { __uint(type, 6); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, sizeof(struct summary)); }
	work SEC(".maps");

SEC("raw_tp/irq") int irqs(u64 *ctx)
{
	u32 zero = 0, at = ctx[0] & 7, d;
	struct summary *s = bpf_map_lookup_elem(&work, &zero);
	u64 now = bpf_ktime_get_ns();

	if (!s)
		return 0;
	s->since = now - s->last_ns;
	s->cpu = bpf_get_smp_processor_id();
	s->buckets[at].count = ctx[1];
	s->buckets[at].sum = ctx[1] * ctx[2];
	d = ctx[3];
	if (d < 16)
		s->depth[d] = ctx[4] >> 2;
	s->marks[ctx[1] & 3] = ctx[2];
	if (ctx[1] & 1)
		bpf_probe_read_kernel(&s->peer.v4, sizeof(s->peer.v4), (void *)ctx[2]);
	else
		bpf_probe_read_kernel(s->peer.v6, sizeof(s->peer.v6), (void *)ctx[2]);
	s->last_ns = now;
	s->delta_ns = s->since / 10;
	s->err = (s32)ctx[3] >> 1;
	s->n = ctx[4] / 3;
	bpf_ringbuf_output(&ring, s, sizeof(*s), 0);
	return 0;
}
