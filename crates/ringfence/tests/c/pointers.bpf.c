// SPDX-License-Identifier: MIT OR Apache-2.0
// Memory that is shared with user space, with pointers in it.
#include "bpf.h"

enum {
	BPF_MAP_TYPE_ARENA = 33,
	BPF_F_MMAPABLE = 1 << 10,
};
#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8);
} arena SEC(".maps");

struct node {
	__u64 value;
	struct node __arena *next;
};

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 pages, int node, __u64 flags)
	__attribute__((section(".ksyms"))) __attribute__((weak));

struct node __arena *head = 0;
__u64 sum = 0;
__u64 __arena walks = 0;

/* Walks the list that user space has made. */
SEC("syscall")
int walk(void *ctx)
{
	struct node __arena *node = head;
	int left;

	walks += 1;
	sum = 0;
	for (left = 10; left && node; left--) {
		sum += node->value;
		node = node->next;
	}
	return 0;
}

/* Puts a node before it, in a page of its own. */
SEC("syscall")
int grow(void *ctx)
{
	struct node __arena *node = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);

	if (!node)
		return 1;
	node->value = 1000;
	node->next = head;
	head = node;
	return 0;
}
