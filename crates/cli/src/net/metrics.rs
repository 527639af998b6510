//! Traffic as metrics: all since the start.

use ringfence_tools::net::Traffic;

use crate::metrics::{Kind, Page, Sample, label};

/// Flows that have series: those with the most bytes.
const MOST_FLOWS: usize = 100;

/// Puts it on a page.
pub fn fill(page: &mut Page, traffic: &Traffic) {
    for place in &traffic.places {
        let direction = place.direction.to_string();
        let labels: &[(&str, &str)] = &[("device", &place.device), ("direction", &direction)];
        let numbers = [
            ("packets", "Packets, each segment of a larger one.", place.packets),
            ("bytes", "Bytes.", place.bytes),
            ("filtered", "Packets that the filter left out.", place.filtered),
            ("fragments", "Packets that are parts of larger ones.", place.fragments),
            ("tagged", "Packets with a VLAN tag.", place.tagged),
            ("truncated", "Packets that end within their headers.", place.truncated),
            ("marked", "Packets to which a rule was applied.", place.marked),
            ("dropped", "Packets that the device says were dropped.", place.own.dropped),
            ("errors", "Packets that the device says were bad.", place.own.errors),
        ];
        for (name, help, number) in numbers {
            page.counter(&format!("ringfence_net_{name}"), help, labels, number);
        }
    }
    for protocol in &traffic.protocols {
        let direction = protocol.direction.to_string();
        let family = protocol.family.to_string();
        let labels: &[(&str, &str)] = &[
            ("device", &protocol.device),
            ("direction", &direction),
            ("family", &family),
            ("protocol", &protocol.name),
        ];
        page.counter("ringfence_net_protocol_packets", "Packets of a protocol.", labels, protocol.packets);
        page.counter("ringfence_net_protocol_bytes", "Bytes of a protocol.", labels, protocol.bytes);
    }
    for flow in traffic.flows.iter().take(MOST_FLOWS) {
        let ends = [(&flow.from, &flow.to), (&flow.to, &flow.from)];
        for ((from, to), bytes) in ends.into_iter().zip(flow.bytes) {
            let labels = vec![
                label("device", &flow.device),
                label("protocol", &flow.protocol),
                label("from", &from.to_string()),
                label("to", &to.to_string()),
            ];
            // A flow that gives way to others may come back with less.
            page.add(
                "ringfence_net_flow_bytes",
                Kind::Gauge,
                "Bytes of a flow.",
                labels,
                Sample::Integer(bytes.into()),
            );
        }
    }
    let left_out = traffic.flows.len().saturating_sub(MOST_FLOWS);
    let left_out = u64::try_from(left_out).unwrap_or(u64::MAX);
    page.gauge("ringfence_net_flows_left_out", "Flows without a series, because there are more.", &[], left_out);
    let help = "Flows that gave way to others in the kernel's table.";
    page.counter("ringfence_net_flows_pushed_out", help, &[], traffic.flows_pushed_out);
    page.counter("ringfence_net_retransmits", "TCP segments that were sent again.", &[], traffic.retransmits);
    let lost = traffic.lost;
    let kinds = [
        ("flow", lost.flows),
        ("protocol", lost.protocols),
        ("sample", lost.samples),
        ("retransmit", lost.retransmits),
        ("device", lost.unexpected),
        ("socket", lost.sockets),
    ];
    for (what, number) in kinds {
        let help = "Packets that are counted in general and not for what they are part of.";
        page.counter("ringfence_net_lost", help, &[("what", what)], number);
    }
    page.cost("net", traffic.cost.own_cpu, traffic.cost.in_kernel);
}
