// SPDX-License-Identifier: MIT OR Apache-2.0
// Packets and sockets.
#include "sections.h"

ROW(socket, "socket", 0)
ROW(sk_reuseport, "sk_reuseport", 1)
ROW(sk_reuseport_migrate, "sk_reuseport/migrate", 1)
ROW(tc_ingress, "tc/ingress", -1)
ROW(tc_egress, "tc/egress", -1)
ROW(tcx_ingress, "tcx/ingress", -1)
ROW(tcx_egress, "tcx/egress", -1)
ROW(tc, "tc", -1)
ROW(classifier, "classifier", -1)
ROW(action, "action", -1)
ROW(netkit_primary, "netkit/primary", -1)
ROW(netkit_peer, "netkit/peer", -1)
ROW(xdp, "xdp", 2)
ROW(xdp_frags, "xdp.frags", 2)
ROW(xdp_devmap, "xdp/devmap", 2)
ROW(xdp_frags_devmap, "xdp.frags/devmap", 2)
ROW(xdp_cpumap, "xdp/cpumap", 2)
ROW(xdp_frags_cpumap, "xdp.frags/cpumap", 2)
ROW(lwt_in, "lwt_in", 0)
ROW(lwt_out, "lwt_out", 0)
ROW(lwt_xmit, "lwt_xmit", 0)
ROW(lwt_seg6local, "lwt_seg6local", 0)
ROW(sk_skb, "sk_skb", 1)
ROW(sk_skb_stream_verdict, "sk_skb/stream_verdict", 1)
ROW(sk_skb_verdict, "sk_skb/verdict", 1)
ROW(sk_msg, "sk_msg", 1)
ROW(lirc_mode2, "lirc_mode2", 0)
ROW(flow_dissector, "flow_dissector", 0)
ROW(sk_lookup, "sk_lookup", 1)
ROW(netfilter, "netfilter", 1)

struct __sk_buff {
	__u32 len;
};

/* The answer is the length of the message that begins here. */
SEC("sk_skb/stream_parser")
int on_sk_skb_stream_parser(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&runs, 1);
	return skb->len;
}

/* What rows need beside their own program: none of it counts. */

SEC("sk_skb/stream_parser")
int parse(struct __sk_buff *skb)
{
	return skb->len;
}

SEC("sk_skb/stream_verdict")
int judge(struct __sk_buff *skb)
{
	return 1;
}

SEC("lwt_out")
int let_out(struct __sk_buff *skb)
{
	return 0;
}

static __u32 (*bpf_get_hash_recalc)(void *skb) = (void *)34;
static void (*bpf_set_hash_invalid)(void *skb) = (void *)41;

/* A flow is read when somebody asks for a packet's hash. */
SEC("tc")
int ask(struct __sk_buff *skb)
{
	bpf_set_hash_invalid(skb);
	bpf_get_hash_recalc(skb);
	return -1;
}

SEC("xdp")
int pass(void *ctx)
{
	return 2;
}

enum {
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_CPUMAP = 16,
};

static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;

/* Entries with a program: struct bpf_devmap_val, struct bpf_cpumap_val. */
struct entry {
	__u32 where;
	__u32 program;
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct entry);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct entry);
} cpus SEC(".maps");

SEC("xdp")
int to_device(void *ctx)
{
	return bpf_redirect_map(&devices, 0, 0);
}

SEC("xdp")
int to_cpu(void *ctx)
{
	return bpf_redirect_map(&cpus, 0, 0);
}

SEC("xdp.frags")
int parts_to_device(void *ctx)
{
	return bpf_redirect_map(&devices, 0, 0);
}

SEC("xdp.frags")
int parts_to_cpu(void *ctx)
{
	return bpf_redirect_map(&cpus, 0, 0);
}
