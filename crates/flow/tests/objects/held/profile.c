/* Samples: stacks in the record, stack ids, lengths with a sign; the record is a typedef on a per-CPU map's value. */
#include "held.h"

#define DEPTH 32
typedef struct sample {
	u32 pid;
	u32 cpu;
	u64 time;
	s32 kstack_len;
	s32 ustack_len;
	u64 kstack[DEPTH];
	u64 ustack[DEPTH];
	u32 kid;
	u32 uid;
	char name[16];
} sample_t;

struct { __uint(type, 6); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, sizeof(sample_t)); } heap SEC(".maps");
struct { __uint(type, 7); __uint(max_entries, 64); __uint(key_size, 4); __uint(value_size, 1016); } stacks SEC(".maps");

#define STAMP(s) ((s)->time = bpf_ktime_get_ns(), (s)->cpu = bpf_get_smp_processor_id())

SEC("perf_event") int sampled(void *ctx)
{
	u32 key = 0;
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	sample_t *sample = bpf_map_lookup_elem(&heap, &key);

	if (!sample || pid == 0)
		return 0;
	sample->pid = pid;
	STAMP(sample);
	sample->kstack_len = bpf_get_stack(ctx, sample->kstack, sizeof(sample->kstack), 0);
	sample->ustack_len = bpf_get_stack(ctx, sample->ustack, sizeof(sample->ustack), 256);
	sample->kid = bpf_get_stackid(ctx, &stacks, 0);
	sample->uid = bpf_get_stackid(ctx, &stacks, 256);
	bpf_get_current_comm(sample->name, sizeof(sample->name));
	bpf_ringbuf_output(&ring, sample, sizeof(*sample), 0);
	return 0;
}
