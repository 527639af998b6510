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
