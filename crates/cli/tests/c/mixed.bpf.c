// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Programs of every fate: taken, refused by the verifier, of a section that nobody knows, left out by default. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
} unsized_map SEC(".maps");

SEC("socket")
int good(struct __sk_buff *skb)
{
	__u32 key = 0;
	return bpf_map_lookup_elem(&unsized_map, &key) != 0;
}

SEC("socket")
int null_check_forgotten(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&unsized_map, &key);
	return *value;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

/* The kernel lets programs of one type use a program array. */
SEC("socket")
int calls_on(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &next, 0);
	return 0;
}

SEC("xdp")
int of_another_type(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &next, 0);
	return XDP_PASS;
}

SEC("my_own_section")
int of_no_type(void *ctx)
{
	bpf_printk("of no type");
	return 0;
}

SEC("?socket")
int left_out(struct __sk_buff *skb)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
