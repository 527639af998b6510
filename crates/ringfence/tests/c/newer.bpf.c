// SPDX-License-Identifier: MIT OR Apache-2.0
// Kinds of maps that older kernels do not have: a bloom filter (5.16), a user ring buffer (6.1).
#include "bpf.h"

enum {
	BPF_MAP_TYPE_BLOOM_FILTER = 30,
	BPF_MAP_TYPE_USER_RINGBUF = 31,
};

static long (*bpf_map_push_elem)(void *map, const void *value, __u64 flags) = (void *)87;
static long (*bpf_map_peek_elem)(void *map, void *value) = (void *)89;
static long (*bpf_dynptr_read)(void *to, __u32 len, const void *from, __u32 offset, __u64 flags) = (void *)201;
static void *(*bpf_dynptr_data)(const void *from, __u32 offset, __u32 len) = (void *)203;
static long (*bpf_user_ringbuf_drain)(void *map, void *each, void *ctx, __u64 flags) = (void *)209;

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__uint(map_extra, 5);
	__type(value, __u64);
} seen SEC(".maps");

__u64 asked = 0;

SEC("tc")
int look(void *ctx)
{
	__u64 value = asked;

	return bpf_map_peek_elem(&seen, &value) == 0;
}

SEC("tc")
int remember(void *ctx)
{
	__u64 value = asked;

	return bpf_map_push_elem(&seen, &value, 0) == 0;
}

struct bpf_dynptr;

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} commands SEC(".maps");

__u64 records = 0, sum = 0, last = 0, wake = 0;

static long each(struct bpf_dynptr *record, void *ctx)
{
	__u64 value = 0;

	if (bpf_dynptr_read(&value, 8, record, 0, 0))
		bpf_dynptr_read(&value, 4, record, 0, 0);
	records += 1;
	sum += value;
	last = value;
	return 0;
}

SEC("tc")
int drain(void *ctx)
{
	return bpf_user_ringbuf_drain(&commands, each, 0, wake);
}
