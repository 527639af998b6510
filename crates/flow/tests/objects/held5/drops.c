/* Notices of a data path: one head in all of them made by a macro with commas, a byte of reason, sent from tc. */
#include "../held2/more.h"

struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex;
	u32 tc_index, cb[5], hash, tc_classid, data, data_end;
};
#define NOTIFY_COMMON_HDR u8 type; u8 subtype; u16 source; u32 hash;
#define NOTIFY_CAPTURE_HDR NOTIFY_COMMON_HDR u32 len_orig; u16 len_cap; u16 version;
#define __notify_common_hdr(t, s) .type = (t), .subtype = (s), .source = 77, .hash = skb->hash
#define __notify_pktcap_hdr(o, c) .len_orig = (o), .len_cap = (c), .version = 1
struct drop_notify {
	NOTIFY_CAPTURE_HDR
	u32 src_label;
	u32 dst_label;
	u32 dst_id;
	u16 line;
	u8 file;
	s8 ext_error;
	u32 ifindex;
};
struct trace_notify {
	NOTIFY_CAPTURE_HDR
	u32 src_label;
	u32 dst_label;
	u16 dst_id;
	u8 reason;
	u8 ipv6;
	u32 ifindex;
};

SEC("tc") int send_drop(struct __sk_buff *skb)
{
	u32 cap_len = skb->len < 128 ? skb->len : 128;
	struct drop_notify msg = (struct drop_notify){
		__notify_common_hdr(1, skb->cb[0]),
		__notify_pktcap_hdr(skb->len, cap_len),
		.src_label = skb->cb[1],
		.dst_label = skb->cb[2],
		.dst_id = skb->cb[3],
		.line = 321,
		.file = 2,
		.ext_error = (s8)skb->tc_index,
		.ifindex = skb->ingress_ifindex,
	};

	bpf_perf_event_output(skb, &perf, ((u64)cap_len << 32) | BPF_F_CURRENT_CPU, &msg, sizeof(msg));
	return 2;
}

SEC("tc") int send_trace(struct __sk_buff *skb)
{
	u32 cap_len = skb->len < 128 ? skb->len : 128;
	struct trace_notify msg = {
		__notify_common_hdr(4, skb->cb[0]),
		__notify_pktcap_hdr(skb->len, cap_len),
		.src_label = skb->cb[1],
		.dst_label = skb->mark,
		.dst_id = skb->cb[2],
		.reason = skb->cb[3],
		.ifindex = skb->ifindex,
	};

	msg.ipv6 = skb->protocol == 0xdd86;
	bpf_perf_event_output(skb, &perf, ((u64)cap_len << 32) | BPF_F_CURRENT_CPU, &msg, sizeof(msg));
	return -1;
}
