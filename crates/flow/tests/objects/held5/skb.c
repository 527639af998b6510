/* A tracer of packets through the kernel: structs of metadata and addresses within the event, filled by functions. */
#include "../held2/more.h"

struct net_device { int ifindex; u32 mtu; } core;
struct sk_buff {
	struct net_device *dev;
	u32 len, data_len;
	u16 protocol, network_header, transport_header;
	u32 mark;
	u8 *head;
	char cb[48];
} core;
struct iphdr { u8 ihl_version, tos; __be16 tot_len, id, frag_off; u8 ttl, protocol; u16 check; __be32 saddr, daddr; } core;
struct tcphdr { __be16 source, dest; __be32 seq, ack; u16 flags; } core;

struct skb_meta { u32 netns; u32 mark; u32 ifindex; u32 len; u32 mtu; u16 protocol; u16 pad; };
struct tuple { __be32 saddr; __be32 daddr; u16 sport; u16 dport; u16 l3_proto; u8 l4_proto; u8 tcp_flags; };
struct event_t {
	u32 pid;
	u32 type;
	u64 addr;
	u64 skb_addr;
	u64 ts;
	long print_stack_id;
	struct skb_meta meta;
	struct tuple tuple;
	u32 cpu_id;
};
struct { __uint(type, 7); __uint(max_entries, 256); __uint(key_size, 4); __uint(value_size, 400); } print_stack_map SEC(".maps");
const volatile bool output_stack = false;

static __always_inline void set_meta(struct sk_buff *skb, struct skb_meta *meta)
{
	meta->mark = BPF_CORE_READ(skb, mark);
	meta->len = BPF_CORE_READ(skb, len);
	meta->protocol = BPF_CORE_READ(skb, protocol);
	meta->ifindex = BPF_CORE_READ(skb, dev, ifindex);
	meta->mtu = BPF_CORE_READ(skb, dev, mtu);
}

static __always_inline void set_tuple(struct sk_buff *skb, struct tuple *tpl)
{
	u8 *head = BPF_CORE_READ(skb, head);
	u16 l3 = BPF_CORE_READ(skb, network_header), l4 = BPF_CORE_READ(skb, transport_header);
	struct iphdr *ip = (void *)(head + l3);
	struct tcphdr *tcp = (void *)(head + l4);

	tpl->l3_proto = 0x0800;
	tpl->saddr = BPF_CORE_READ(ip, saddr);
	tpl->daddr = BPF_CORE_READ(ip, daddr);
	tpl->l4_proto = BPF_CORE_READ(ip, protocol);
	if (tpl->l4_proto == 6) {
		tpl->sport = bpf_ntohs(BPF_CORE_READ(tcp, source));
		tpl->dport = bpf_ntohs(BPF_CORE_READ(tcp, dest));
		tpl->tcp_flags = BPF_CORE_READ(tcp, flags) >> 8;
	}
}

SEC("kprobe/skb") int kprobe_skb_1(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[14];
	struct event_t event = {};

	set_meta(skb, &event.meta);
	set_tuple(skb, &event.tuple);
	if (output_stack)
		event.print_stack_id = bpf_get_stackid(ctx, &print_stack_map, 0);
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.addr = ctx[16];
	event.skb_addr = (u64)skb;
	event.ts = bpf_ktime_get_ns();
	event.cpu_id = bpf_get_smp_processor_id();
	bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
	return 0;
}
