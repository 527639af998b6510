//! What `ringfence net` adds to a packet: `net BARE-OBJECT ROUNDS`. A line for each reading: case, program, nanoseconds.

use anyhow::{Context, Result, ensure};
use ringfence::{Loaded, Settings};

/// The tool's own object, as it is embedded.
const TOOL: &[u8] = include_bytes!("../../../bpf/net.bpf.o");
const REPEAT: u32 = 500_000;
/// A test run's device is the loopback.
const DEVICE: u64 = 1;

/// Case, program, how the tool is set up.
const CASES: [(&str, &str, Way, Frame); 7] = [
    ("XDP:_IPv4_UDP", "on_frame", Way::Plain, Frame::Udp4),
    ("XDP:_IPv6_TCP", "on_frame", Way::Plain, Frame::Tcp6),
    ("tc:_IPv4_UDP,_without_flows", "on_in", Way::NoFlows, Frame::Udp4),
    ("tc:_IPv4_UDP", "on_in", Way::Plain, Frame::Udp4),
    ("tc:_IPv6_TCP", "on_in", Way::Plain, Frame::Tcp6),
    ("tc:_IPv4_UDP,_a_rule_sets_mark_and_priority", "on_in", Way::Rule, Frame::Udp4),
    ("tc:_IPv4_UDP,_left_out_by_its_socket", "on_in", Way::Process, Frame::Udp4),
];

#[derive(Clone, Copy)]
enum Way {
    Plain,
    NoFlows,
    /// A rule is there that fits.
    Rule,
    /// Another process is asked for. A test run's packet is on the loopback: sockets are looked up for both of its ends.
    Process,
}

#[derive(Clone, Copy)]
enum Frame {
    Udp4,
    Tcp6,
}

impl Frame {
    fn bytes(self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match self {
            Frame::Udp4 => {
                frame.extend([8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
                frame.extend([3, 232, 7, 208, 0, 26, 0, 0]);
            }
            Frame::Tcp6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
                frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
                frame.extend([3, 232, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 16, 1, 0, 0, 0, 0, 0]);
            }
        }
        frame.resize(frame.len().max(74), 7);
        frame
    }
}

fn load(object: &[u8], settings: &Settings) -> Result<Loaded> {
    let kernel = ringfence::Kernel::running();
    let object = ringfence::parse("bench", object)?;
    Ok(ringfence::load(&ringfence::plan(&object, &kernel, settings)?, &kernel)?)
}

/// Every hook of the device is to be counted.
fn tool(program: &str, way: Way) -> Result<Loaded> {
    let settings = Settings::new().only([program]);
    let settings = match way {
        Way::Plain => settings,
        Way::NoFlows => settings.global("flows_wanted", false),
        Way::Rule => settings
            .global("rule_count", 1u32)
            .global("rules[0].match.hooks", 7u8)
            .global("rules[0].set", 3u8)
            .global("rules[0].mark", 16u32)
            .global("rules[0].prio", 6u32),
        Way::Process => settings.global("by_owner", true),
    };
    let loaded = load(TOOL, &settings)?;
    // `struct place` and `struct counts`, which are all numbers.
    let places = loaded.map("devices")?.per_cpu::<u64, [u64; 16]>()?;
    (0..3u64).try_for_each(|hook| places.fill(&(DEVICE | hook << 32), &[0; 16]))?;
    Ok(loaded)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bare = std::fs::read(arguments.next().context("usage: net BARE-OBJECT ROUNDS")?)?;
    let rounds: usize = arguments.next().context("usage: net BARE-OBJECT ROUNDS")?.parse()?;
    let bare = load(&bare, &Settings::new())?;
    let mut tools = Vec::new();
    for (_, program, way, _) in CASES {
        tools.push(tool(program, way)?);
    }
    for round in 0..rounds + 1 {
        for ((case, program, .., frame), tool) in CASES.iter().zip(&tools) {
            for (name, loaded) in [("ringfence", tool), ("bare", &bare)] {
                let run = loaded.program(program)?.test_run(&frame.bytes(), REPEAT)?;
                ensure!(run.retval == 2 || run.retval == u32::MAX, "{name} gave {}", run.retval);
                // The first round warms caches.
                if round > 0 {
                    println!("{case} {name} {}", run.duration.as_nanos());
                }
            }
        }
    }
    for (tool, (case, ..)) in tools.iter().zip(CASES) {
        let places = tool.map("devices")?.per_cpu::<u64, [u64; 16]>()?;
        let mut counted = 0;
        for hook in 0..3u64 {
            counted +=
                places.get(&(DEVICE | hook << 32))?.iter().flat_map(|all| all.iter()).map(|one| one[0] + one[2]).sum::<u64>();
        }
        ensure!(counted == u64::from(REPEAT) * (rounds as u64 + 1), "{case}: {counted} counted");
    }
    Ok(())
}
