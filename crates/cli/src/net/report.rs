//! Traffic as tables, lines and documents.

use std::collections::HashMap;
use std::time::Duration;

use ringfence_tools::net::{Direction, Flow, Frames, Place, SIZES, Traffic, Watched};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output::{Format, Wrote, bytes, document, table_within, terminal_width, write, yaml};

/// Which devices are watched, and how; which sockets, if not all.
pub fn attached(devices: &[Watched], sockets: Option<usize>) -> Vec<String> {
    let line = |device: &Watched| {
        let frames = match device.frames {
            Frames::Native => "xdp (native), in, out",
            Frames::Generic => "xdp (generic), in, out",
            Frames::Best | Frames::Off => "in, out",
        };
        let why = device.why.as_ref().map(|why| format!("; {}", why.replace('\n', " "))).unwrap_or_default();
        format!("net: {}: {frames}{why}", device.name)
    };
    let some = |held| format!("net: only packets of sockets that these processes hold ({held}) or make from now on");
    devices.iter().map(line).chain(sockets.map(some)).collect()
}

/// A line for each place, with what came since the last one.
pub struct Lines {
    format: Format,
    before: HashMap<(String, String), (u64, u64)>,
    time: Duration,
    headed: bool,
}

impl Lines {
    pub fn new(format: Format) -> Lines {
        Lines { format, before: HashMap::new(), time: Duration::ZERO, headed: false }
    }

    pub fn write(&mut self, traffic: &Traffic) -> Result<Wrote, Failure> {
        let seconds = (traffic.time.saturating_sub(self.time)).as_secs_f64().max(1e-9);
        self.time = traffic.time;
        let mut text = String::new();
        if !self.headed && self.format == Format::Table {
            self.headed = true;
            text.push_str("TIME     DEVICE           WHERE  PACKETS/S   BYTES/S    PACKETS       BYTES\n");
        }
        let mut objects = Vec::new();
        for place in traffic.places.iter().filter(|place| !traffic.gone.contains(&place.device)) {
            let key = (place.device.clone(), place.direction.to_string());
            let (packets, bytes_before) = self.before.insert(key, (place.packets, place.bytes)).unwrap_or_default();
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let (packets, rate) = (per_second(place.packets, packets), per_second(place.bytes, bytes_before));
            if self.format == Format::Table {
                let time = format!("{:.1}", traffic.time.as_secs_f64());
                text.push_str(&format!(
                    "{time:<7}  {:<15}  {:<5}  {packets:>9.0}  {:>8}  {:>9}  {:>10}\n",
                    place.device,
                    place.direction.to_string(),
                    bytes(rate as u64),
                    place.packets,
                    bytes(place.bytes),
                ));
            } else {
                let mut object = place_json(place);
                object["packets_per_s"] = json!(packets);
                object["bytes_per_s"] = json!(rate);
                objects.push(object);
            }
        }
        let value = json!({ "time_s": traffic.time.as_secs_f64(), "gone": traffic.gone, "places": objects });
        match self.format {
            Format::Table => {}
            Format::Json => text = format!("{value}\n"),
            Format::Yaml => text = yaml(&value)?,
        }
        write(text.as_bytes())
    }
}

/// Everything, at the end.
pub fn end(traffic: &Traffic, format: Format, top: usize) -> Result<Wrote, Failure> {
    match format {
        Format::Json => write(format!("{}\n", whole(traffic, top)).as_bytes()),
        Format::Table | Format::Yaml => document(format, &whole(traffic, top), || tables(traffic, top)),
    }
}

fn place_json(place: &Place) -> Value {
    json!({
        "device": place.device,
        "where": place.direction.to_string(),
        "packets": place.packets,
        "bytes": place.bytes,
        "filtered": place.filtered,
        "tagged": place.tagged,
        "fragments": place.fragments,
        "truncated": place.truncated,
        "marked": place.marked,
        "mark_failed": place.mark_failed,
        "sizes": place.sizes,
        "device_counts": {
            "packets": place.own.packets,
            "bytes": place.own.bytes,
            "dropped": place.own.dropped,
            "errors": place.own.errors,
        },
    })
}

fn flow_json(flow: &Flow) -> Value {
    json!({
        "device": flow.device,
        "protocol": flow.protocol,
        "vlan": flow.vlan,
        "from": flow.from.to_string(),
        "to": flow.to.to_string(),
        "packets": flow.packets,
        "bytes": flow.bytes,
        "time_s": flow.time.as_secs_f64(),
        "idle_s": flow.idle.as_secs_f64(),
        "tcp_flags": flow.flags,
        "retransmits": flow.retransmits,
        "fragments": flow.fragments,
        "mark": flow.mark,
    })
}

fn whole(traffic: &Traffic, top: usize) -> Value {
    let protocols = traffic.protocols.iter().map(|protocol| {
        json!({
            "device": protocol.device,
            "where": protocol.direction.to_string(),
            "protocol": protocol.name,
            "family": protocol.family,
            "packets": protocol.packets,
            "bytes": protocol.bytes,
        })
    });
    let talkers = traffic.talkers().into_iter().take(top).map(|talker| {
        json!({
            "address": talker.address.to_string(),
            "sent": talker.sent,
            "received": talker.received,
            "flows": talker.flows,
        })
    });
    let lost = traffic.lost;
    let cost = traffic.cost;
    json!({
        "time_s": traffic.time.as_secs_f64(),
        "gone": traffic.gone,
        "places": traffic.places.iter().map(place_json).collect::<Vec<_>>(),
        "protocols": protocols.collect::<Vec<_>>(),
        "talkers": talkers.collect::<Vec<_>>(),
        "flows": traffic.flows.iter().map(flow_json).collect::<Vec<_>>(),
        "flows_seen": traffic.flows_seen,
        "flows_pushed_out": traffic.flows_pushed_out,
        "retransmits": traffic.retransmits,
        "sampled": traffic.sampled,
        "lost": {
            "flows": lost.flows,
            "protocols": lost.protocols,
            "samples": lost.samples,
            "retransmits": lost.retransmits,
            "unexpected": lost.unexpected,
            "sockets": lost.sockets,
        },
        "own_cpu_s": cost.own_cpu.as_secs_f64(),
        "kernel_s": cost.in_kernel.map(|(time, _)| time.as_secs_f64()),
        "runs": cost.in_kernel.map(|(_, runs)| runs),
    })
}

/// Columns of a flow; the live view has the same.
pub const FLOW_HEAD: [&str; 9] = ["PROTO", "FROM", "TO", "PACKETS", "BACK", "BYTES", "BACK", "TIME", "NOTES"];

/// A flow's cells.
pub fn flow_row(flow: &Flow) -> [String; 9] {
    let mut notes = Vec::new();
    if !flow.flags.is_empty() {
        notes.push(flow.flags.clone());
    }
    if flow.retransmits > 0 {
        notes.push(format!("{} again", flow.retransmits));
    }
    if let Some(vlan) = flow.vlan {
        notes.push(format!("vlan {vlan}"));
    }
    if flow.fragments {
        notes.push("fragments".to_owned());
    }
    if flow.mark != 0 {
        notes.push(format!("mark {:#x}", flow.mark));
    }
    [
        flow.protocol.clone(),
        flow.from.to_string(),
        flow.to.to_string(),
        flow.packets[0].to_string(),
        flow.packets[1].to_string(),
        bytes(flow.bytes[0]),
        bytes(flow.bytes[1]),
        format!("{:.1}s", flow.time.as_secs_f64()),
        notes.join(" "),
    ]
}

fn tables(traffic: &Traffic, top: usize) -> String {
    let width = terminal_width();
    let places = traffic.places.iter().map(|place| {
        [
            place.device.clone(),
            place.direction.to_string(),
            place.packets.to_string(),
            bytes(place.bytes),
            place.tagged.to_string(),
            place.fragments.to_string(),
            place.truncated.to_string(),
            place.filtered.to_string(),
            place.marked.to_string(),
            place.own.dropped.to_string(),
        ]
    });
    let head =
        ["DEVICE", "WHERE", "PACKETS", "BYTES", "VLAN", "FRAGMENTS", "TRUNCATED", "FILTERED", "MARKED", "DROPPED"];
    let mut text = table_within(width, head, places.collect(), &[0]);
    let sizes = sizes(traffic);
    if !sizes.is_empty() {
        text.push_str(&format!("\nsizes in bytes: {sizes}\n"));
    }
    let protocols: Vec<_> = traffic
        .protocols
        .iter()
        .take(top)
        .map(|protocol| {
            let family = match protocol.family {
                0 => String::new(),
                family => format!("IPv{family}"),
            };
            [
                protocol.device.clone(),
                protocol.direction.to_string(),
                protocol.name.clone(),
                family,
                protocol.packets.to_string(),
                bytes(protocol.bytes),
            ]
        })
        .collect();
    if !protocols.is_empty() {
        text.push('\n');
        text.push_str(&table_within(
            width,
            ["DEVICE", "WHERE", "PROTOCOL", "IP", "PACKETS", "BYTES"],
            protocols,
            &[0, 2],
        ));
    }
    let talkers: Vec<_> = traffic
        .talkers()
        .into_iter()
        .take(top)
        .map(|talker| {
            [talker.address.to_string(), bytes(talker.sent), bytes(talker.received), talker.flows.to_string()]
        })
        .collect();
    if !talkers.is_empty() {
        text.push('\n');
        text.push_str(&table_within(width, ["TALKER", "SENT", "RECEIVED", "FLOWS"], talkers, &[0]));
    }
    let flows: Vec<_> = traffic.flows.iter().take(top).map(flow_row).collect();
    if !flows.is_empty() {
        text.push('\n');
        text.push_str(&table_within(width, FLOW_HEAD, flows, &[1, 2]));
    }
    text
}

/// What came in and went out by size: `<=64 12  <=128 3`.
fn sizes(traffic: &Traffic) -> String {
    let mut sum = [0u64; 8];
    // Frames come in by tc again.
    let by_tc = traffic.places.iter().filter(|place| place.direction != Direction::Frame);
    for place in by_tc {
        sum.iter_mut().zip(place.sizes).for_each(|(sum, one)| *sum += one);
    }
    let name = |class: usize| SIZES.get(class).map_or_else(|| "more".to_owned(), |size| format!("<={size}"));
    let some = sum.iter().enumerate().filter(|(_, count)| **count > 0);
    some.map(|(class, count)| format!("{} {count}", name(class))).collect::<Vec<_>>().join("  ")
}

/// What is said at the end.
pub fn summary(traffic: &Traffic) -> Vec<String> {
    let seconds = traffic.time.as_secs_f64();
    // Frames come in by tc again.
    let by_tc = traffic.places.iter().filter(|place| place.direction != Direction::Frame);
    let packets: u64 = by_tc.map(|place| place.packets).sum();
    let mut lines = vec![format!(
        "{seconds:.1} s: {packets} packets in and out; {} flows seen, {} pushed out by others; {} TCP segments sent again",
        traffic.flows_seen, traffic.flows_pushed_out, traffic.retransmits
    )];
    let lost = traffic.lost;
    let kinds = [
        (lost.flows, "packets without their flow"),
        (lost.protocols, "packets without their protocol"),
        (lost.samples, "samples"),
        (lost.retransmits, "repeated segments without their connection"),
        (lost.unexpected, "packets of unknown devices"),
        (lost.sockets, "sockets of the processes"),
    ];
    let some: Vec<_> =
        kinds.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    lines.push(format!("lost: {}", if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }));
    lines.extend(gone(traffic));
    let failed: u64 = traffic.places.iter().map(|place| place.mark_failed).sum();
    if failed > 0 {
        lines.push(format!("{failed} packets could not be marked"));
    }
    lines.push(format!("own cost: {}", cost(traffic)));
    lines
}

/// Devices that went away while they were watched.
pub fn gone(traffic: &Traffic) -> Option<String> {
    let what = if traffic.gone.len() > 1 { "are" } else { "is" };
    (!traffic.gone.is_empty()).then(|| format!("{} {what} gone", traffic.gone.join(", ")))
}

/// What it costs itself: `0.1% of a CPU here, 2.1% in the kernel (410 ns a run)`.
pub fn cost(traffic: &Traffic) -> String {
    let seconds = traffic.time.as_secs_f64().max(1e-9);
    let share = |time: Duration| 100.0 * time.as_secs_f64() / seconds;
    let kernel = match traffic.cost.in_kernel {
        Some((time, runs)) => {
            let each = time.as_nanos().checked_div(runs.into()).unwrap_or(0);
            format!("{:.2}% in the kernel ({each} ns a run)", share(time))
        }
        None => "in the kernel: not measured".to_owned(),
    };
    format!("{:.2}% of a CPU here, {kernel}", share(traffic.cost.own_cpu))
}
