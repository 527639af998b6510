//! What goes through network devices: packets, protocols, flows, samples; and marking of packets.
//!
//! ```no_run
//! use std::time::Duration;
//! use ringfence_tools::net::{Options, Watch};
//!
//! # fn show() -> ringfence_tools::Result<()> {
//! let mut watch = Watch::start(&Options { devices: vec!["eth0".into()], ..Options::default() })?;
//! watch.run(Duration::from_secs(5), |_sample| {})?;
//! for flow in watch.finish()?.flows.iter().take(10) {
//!     println!("{} -> {}: {} bytes", flow.from, flow.to, flow.bytes[0]);
//! }
//! # Ok(())
//! # }
//! ```

mod pcapng;
mod raw;
mod report;
mod rules;
mod sockets;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use ringfence::hook::{Hook, NetNamespace, Tc, Xdp};
use ringfence::{Device, DeviceStatistics, Events, Kind, Link, Loaded, PerCpuTable, Settings, Table};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::cost::Meter;
use crate::error::{Error, Result};
use crate::filter::Filter;
pub use pcapng::Capture;
pub use report::{End, Flow, Lost, Own, Place, Protocol, SIZES, Talker, Traffic};
pub use rules::{Match, Rule};

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`: packets begin with an Ethernet header.
const FRAMED: &[u16] = &[1, 772];
/// Bytes of the ring buffer for samples.
const SAMPLES: u32 = 4 << 20;
/// Most bytes of a packet that a sample can have (`SNAP`).
const MOST_SNAP: u32 = 1024;

/// Bytes of the two addresses of a frame: a tag stands behind them.
const ADDRESSES: usize = 12;

/// Where packets are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// As they come in, before the kernel has looked at them (XDP).
    Frame,
    /// Coming in (tc).
    In,
    /// Going out (tc).
    Out,
}

impl Direction {
    const ALL: [Direction; 3] = [Direction::Frame, Direction::In, Direction::Out];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Frame => "xdp",
            Direction::In => "in",
            Direction::Out => "out",
        })
    }
}

/// How frames are counted before the kernel has looked at them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Frames {
    /// In the driver, and where it cannot, or would lose packets when the program goes (veth), in the kernel's stack.
    #[default]
    Best,
    /// In the driver, and where it cannot, in the kernel's stack.
    Native,
    /// In the kernel's stack.
    Generic,
    /// Not at all.
    Off,
}

/// Which packets are handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// One in so many, by chance.
    pub every: u32,
    /// Bytes of each, at most 1024.
    pub snap: u32,
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Options {
    /// Devices by name; none: all that are up.
    pub devices: Vec<String>,
    /// Where they are; else in the namespace of the caller.
    pub namespace: Option<NetNamespace>,
    /// Before the kernel has looked at them.
    pub frames: Frames,
    /// Flows, and what was sent again.
    pub flows: bool,
    /// Flows that are remembered; of more, those that were quiet longest give way.
    pub most_flows: u32,
    /// Count nothing else.
    pub filter: Option<Match>,
    /// Count only packets of sockets that these processes hold, or make from now on. XDP cannot tell them: `frames` is off with it.
    pub whose: Filter,
    /// What is set in packets: at most 32.
    pub rules: Vec<Rule>,
    /// Packets that are handed out.
    pub sampling: Option<Sampling>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            devices: Vec::new(),
            namespace: None,
            frames: Frames::Best,
            flows: true,
            most_flows: 65_536,
            filter: None,
            whose: Filter::default(),
            rules: Vec::new(),
            sampling: None,
        }
    }
}

impl Options {
    fn sees_frames(&self) -> bool {
        self.frames != Frames::Off && self.whose.takes_all()
    }
}

/// A device that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// How its frames are counted, `Off` if they are not.
    pub frames: Frames,
    /// Why not in the driver.
    pub why: Option<String>,
    /// What it is (`ARPHRD_*`).
    hardware: u16,
    /// Its driver throws away what it has queued when its XDP program goes (`veth_disable_xdp`: the ring is emptied).
    lossy: bool,
    before: DeviceStatistics,
}

impl Watched {
    /// Packets of it begin with an Ethernet header.
    pub fn is_framed(&self) -> bool {
        FRAMED.contains(&self.hardware)
    }
}

/// A packet that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// When, since boot.
    pub since_boot: Duration,
    /// Number of its device.
    pub device: u32,
    /// Its direction.
    pub direction: Direction,
    /// Bytes of the packet.
    pub len: u32,
    /// Its beginning.
    pub bytes: &'a [u8],
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    links: Vec<Link>,
    events: Option<Events>,
    watched: Vec<Watched>,
    /// With a filter for processes: sockets that were there.
    held: Option<usize>,
    namespace: NetNamespace,
    places: PerCpuTable<raw::Place, raw::Counts>,
    protocols: PerCpuTable<raw::Protocol, raw::Amount>,
    flows: Table<raw::FlowKey, raw::Flow>,
    retransmits: Table<raw::Connection, u64>,
    totals: PerCpuTable<u32, raw::Totals>,
    started: Instant,
    meter: Meter,
    loaded: Loaded,
}

impl Watch {
    /// Loads and attaches.
    ///
    /// # Errors
    /// A device is not there, or has an XDP program of somebody else's; the kernel refuses.
    pub fn start(options: &Options) -> Result<Watch> {
        let settings = options.whose.settings(Settings::new())?;
        let namespace = options.namespace.clone().unwrap_or_else(NetNamespace::own);
        let mut watched = choose(options, namespace.devices()?)?;
        let mut programs = raw::Programs::open()?;
        set(&mut programs, options, settings, &watched, &namespace)?;
        let mut meter = Meter::start();
        let loaded = programs.load()?;
        let maps = loaded.maps();
        let (places, bare) = (maps.devices()?, maps.bare()?);
        for device in &watched {
            for hook in 0..3 {
                places.fill(&raw::Place { device: device.index, hook }, &raw::Counts::default())?;
            }
            if !device.is_framed() {
                bare.insert(&device.index, &1)?;
            }
        }
        let (protocols, flows) = (maps.protocols()?, maps.flows()?);
        let (retransmits, totals, owned) = (maps.retransmits()?, maps.totals()?, maps.owned()?);
        let loaded = loaded.0;
        let events = options.sampling.map(|_| loaded.events("samples")).transpose()?;
        let mut links = Vec::new();
        let mut held = None;
        if !options.whose.takes_all() {
            let (link, sockets) = sockets::mark(&loaded, &owned, &options.whose)?;
            links.push(link);
            held = Some(sockets);
        }
        for device in &mut watched {
            let tc = Tc::index(device.index);
            links.push(attach(&loaded, "on_in", &namespace, tc.clone().ingress())?);
            links.push(attach(&loaded, "on_out", &namespace, tc.egress())?);
        }
        if options.flows {
            links.push(loaded.attach("on_retransmit")?);
        }
        for device in &mut watched {
            links.extend(frames(&loaded, &namespace, options, device)?);
        }
        meter.loaded();
        Ok(Watch {
            links,
            events,
            watched,
            held,
            namespace,
            places,
            protocols,
            flows,
            retransmits,
            totals,
            started: Instant::now(),
            meter,
            loaded,
        })
    }

    /// The devices, and how they are watched.
    pub fn devices(&self) -> &[Watched] {
        &self.watched
    }

    /// With a filter for processes: how many sockets they had.
    pub fn sockets(&self) -> Option<usize> {
        self.held
    }

    /// Watches for this long; packets that are handed out go to `take`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn run(&mut self, time: Duration, mut take: impl FnMut(Sample<'_>)) -> Result<()> {
        let Some(events) = &mut self.events else {
            std::thread::sleep(time);
            return Ok(());
        };
        let end = Instant::now() + time;
        let mut bytes = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            events.poll(Some(left), |event| {
                let Some(sample) = event.read::<raw::Sample>() else { return };
                let kept = usize::try_from(sample.kept).unwrap_or(usize::MAX).min(sample.bytes.len());
                bytes.clear();
                bytes.extend_from_slice(sample.bytes.get(..kept).unwrap_or_default());
                let tagged = sample.tag != 0 && kept >= ADDRESSES;
                if tagged {
                    bytes.splice(ADDRESSES..ADDRESSES, sample.tag.to_be_bytes());
                }
                take(Sample {
                    since_boot: Duration::from_nanos(sample.ns),
                    device: sample.device,
                    direction: if sample.hook == 2 { Direction::Out } else { Direction::In },
                    len: sample.len + if tagged { 4 } else { 0 },
                    bytes: &bytes,
                });
            })?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn so_far(&self) -> Result<Traffic> {
        self.read(self.started.elapsed())
    }

    /// Takes everything off, and gives what was counted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn finish(mut self) -> Result<Traffic> {
        self.links.clear();
        self.read(self.started.elapsed())
    }

    fn read(&self, time: Duration) -> Result<Traffic> {
        // Whoever has a namespace's name may take it away, and with it all of its devices.
        let now = match self.namespace.devices() {
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Vec::new(),
            devices => devices?,
        };
        let is_there = |device: &&Watched| now.iter().any(|now| now.index == device.index);
        let gone = self.watched.iter().filter(|device| !is_there(device)).map(|device| device.name.clone()).collect();
        let names: HashMap<u32, &Watched> = self.watched.iter().map(|device| (device.index, device)).collect();
        let name =
            |index: u32| names.get(&index).map_or_else(|| format!("number {index}"), |device| device.name.clone());
        let mut places = Vec::new();
        for device in &self.watched {
            let last = now.iter().find(|now| now.index == device.index).map_or(device.before, |now| now.statistics);
            for (hook, direction) in (0..).zip(Direction::ALL) {
                if direction == Direction::Frame && device.frames == Frames::Off {
                    continue;
                }
                let values = self.places.get(&raw::Place { device: device.index, hook })?;
                let own = Own::of(direction, last, device.before);
                let all = values.iter().flat_map(|values| values.iter());
                places.push(place(device.name.clone(), direction, own, all));
            }
        }
        let mut protocols = Vec::new();
        for entry in self.protocols.iter()? {
            let (key, values) = entry?;
            let direction = Direction::ALL.get(usize::from(key.hook)).copied().unwrap_or(Direction::In);
            let (packets, bytes) =
                values.iter().fold((0, 0), |(packets, bytes), one| (packets + one.packets, bytes + one.bytes));
            let (eth, device) = (key.eth, name(key.device));
            let family = if eth == 0x0800 {
                4
            } else if eth == 0x86dd {
                6
            } else {
                0
            };
            let name = report::protocol_name(eth, key.proto, key.tunnel);
            protocols.push(Protocol { device, direction, name, family, packets, bytes });
        }
        protocols.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        let mut again = HashMap::new();
        for entry in self.retransmits.iter()? {
            let (key, times) = entry?;
            again.insert((key.a, key.b, key.a_port, key.b_port), times);
        }
        // Before the flows: those that come meanwhile were not pushed out.
        let mut totals = raw::Totals::default();
        for one in self.totals.get(&0)?.iter().flat_map(|values| values.iter()) {
            totals.flows += one.flows;
            totals.flows_lost += one.flows_lost;
            totals.protocols_lost += one.protocols_lost;
            totals.sampled += one.sampled;
            totals.samples_lost += one.samples_lost;
            totals.retransmits += one.retransmits;
            totals.retransmits_lost += one.retransmits_lost;
            totals.unexpected += one.unexpected;
            totals.sockets_lost += one.sockets_lost;
        }
        let clock = since_boot(ClockId::Monotonic);
        let mut flows = Vec::new();
        for entry in self.flows.iter()? {
            let (key, flow) = entry?;
            let times = again.get(&(key.a, key.b, key.a_port, key.b_port)).filter(|_| key.proto == 6);
            flows.push(Flow::of(name(key.device), &key, &flow, clock, times.copied().unwrap_or(0)));
        }
        flows.sort_by(|a, b| b.all_bytes().cmp(&a.all_bytes()).then_with(|| a.idle.cmp(&b.idle)));
        // Whose connection it is, only the flow tells.
        let of_flows = || flows.iter().map(|flow| flow.retransmits).sum();
        let retransmits = if self.held.is_some() { of_flows() } else { totals.retransmits };
        let present = u64::try_from(flows.len()).unwrap_or(u64::MAX);
        Ok(Traffic {
            time,
            gone,
            places,
            protocols,
            flows,
            flows_seen: totals.flows,
            flows_pushed_out: totals.flows.saturating_sub(present),
            lost: Lost {
                flows: totals.flows_lost,
                protocols: totals.protocols_lost,
                samples: totals.samples_lost,
                retransmits: totals.retransmits_lost,
                unexpected: totals.unexpected,
                sockets: totals.sockets_lost,
            },
            retransmits,
            sampled: totals.sampled,
            cost: self.meter.read(&self.loaded)?,
        })
    }
}

/// The devices that are asked for.
fn choose(options: &Options, there: Vec<Device>) -> Result<Vec<Watched>> {
    let watched = |device: &Device| Watched {
        name: device.name.clone(),
        index: device.index,
        frames: Frames::Off,
        why: None,
        hardware: device.hardware,
        lossy: device.kind == "veth",
        before: device.statistics,
    };
    if options.devices.is_empty() {
        let up: Vec<_> = there.iter().filter(|device| device.up).map(watched).collect();
        let none = || Error::Nothing("no device of this network namespace is up".to_owned());
        return if up.is_empty() { Err(none()) } else { Ok(up) };
    }
    let mut chosen: Vec<Watched> = Vec::new();
    for name in &options.devices {
        let known = || there.iter().map(|device| device.name.clone()).collect();
        let found = there.iter().find(|device| device.name == *name);
        let device = found.ok_or_else(|| Error::NoDevice { name: name.clone(), known: known() })?;
        if !chosen.iter().any(|known| known.index == device.index) {
            chosen.push(watched(device));
        }
    }
    Ok(chosen)
}

/// What the programs are told before they are loaded.
fn set(
    programs: &mut raw::Programs,
    options: &Options,
    settings: Settings,
    watched: &[Watched],
    namespace: &NetNamespace,
) -> Result<()> {
    let count = u32::try_from(watched.len()).unwrap_or(u32::MAX);
    let settings = settings
        .map_entries("devices", count.saturating_mul(3))
        .map_entries("bare", count)
        .map_entries("flows", if options.flows { options.most_flows.max(1) } else { 1 })
        .map_entries("samples", if options.sampling.is_some() { SAMPLES } else { 4096 });
    let of_processes = !options.whose.takes_all();
    let wanted = [
        ("on_in", true),
        ("on_out", true),
        ("on_frame", options.sees_frames()),
        ("on_retransmit", options.flows),
        ("on_socket", of_processes),
    ];
    *programs.settings() = settings.only(wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| *name));
    if options.rules.len() > raw::MOST_RULES {
        return Err(Error::Nothing(format!("there can be {} rules", raw::MOST_RULES)));
    }
    let mut rules = [raw::Rule::default(); raw::MOST_RULES];
    for (place, rule) in rules.iter_mut().zip(&options.rules) {
        *place = rule.raw;
    }
    // The number of a namespace is that of its file.
    let inode = namespace.enter(|| fs::metadata("/proc/thread-self/ns/net").map(|file| file.ino()))?;
    let inode = inode.ok().and_then(|inode| u32::try_from(inode).ok()).unwrap_or(0);
    let mut rodata = programs.rodata();
    rodata.set_rules(rules).set_rule_count(u32::try_from(options.rules.len()).unwrap_or(0));
    rodata.set_flows_wanted(options.flows).set_netns(inode).set_by_owner(of_processes);
    rodata.set_any_bare(watched.iter().any(|device| !device.is_framed()));
    if let Some(filter) = &options.filter {
        rodata.set_filtering(true).set_filter(filter.raw);
    }
    if let Some(sampling) = options.sampling {
        rodata.set_sample_every(sampling.every.max(1)).set_snap(sampling.snap.clamp(1, MOST_SNAP));
    }
    Ok(())
}

fn attach(loaded: &Loaded, program: &str, namespace: &NetNamespace, hook: impl Hook + Sync) -> Result<Link> {
    Ok(loaded.program(program)?.attach_to(&namespace.hook(hook))?)
}

/// Counts a device's frames, as far in front as can be.
fn frames(loaded: &Loaded, namespace: &NetNamespace, options: &Options, device: &mut Watched) -> Result<Option<Link>> {
    if !options.sees_frames() {
        return Ok(None);
    }
    // Those of the loopback are seen twice as it is.
    if device.hardware != FRAMED[0] {
        device.why = Some("no Ethernet device: no XDP".to_owned());
        return Ok(None);
    }
    let place = Xdp::index(device.index);
    let mut modes = vec![(Frames::Native, place.clone().native()), (Frames::Generic, place.generic())];
    if options.frames == Frames::Generic {
        modes.remove(0);
    } else if options.frames == Frames::Best && device.lossy {
        device.why = Some("in the driver of a veth a packet could be lost at the end".to_owned());
        modes.remove(0);
    }
    for (frames, place) in modes {
        match attach(loaded, "on_frame", namespace, place) {
            Ok(link) => {
                device.frames = frames;
                return Ok(Some(link));
            }
            Err(Error::Library(error)) => {
                let why = error.cause().map_or_else(|| error.to_string(), |cause| cause.why.clone());
                // EEXIST: in the other mode.
                let taken = [Errno::BUSY, Errno::EXIST].iter().any(|taken| error.errno() == Some(taken.raw_os_error()));
                // A device that was asked for by name must be watched as was asked for; of all devices, those are that can be.
                match (taken, error.kind()) {
                    (_, Kind::Unsupported) if frames == Frames::Native => {}
                    (true, _) if !options.devices.is_empty() => {
                        return Err(Error::Taken { name: device.name.clone(), why });
                    }
                    _ if options.devices.is_empty() => {
                        device.why = Some(format!("no XDP: {why}"));
                        return Ok(None);
                    }
                    _ => return Err(Error::Library(error)),
                }
                device.why = Some(why);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn place(device: String, direction: Direction, own: Own, values: impl Iterator<Item = raw::Counts>) -> Place {
    let mut sum = raw::Counts::default();
    for one in values {
        sum.packets += one.packets;
        sum.bytes += one.bytes;
        sum.filtered += one.filtered;
        sum.tagged += one.tagged;
        sum.fragments += one.fragments;
        sum.truncated += one.truncated;
        sum.marked += one.marked;
        sum.mark_failed += one.mark_failed;
        sum.sizes.iter_mut().zip(one.sizes).for_each(|(sum, one)| *sum += one);
    }
    Place {
        device,
        direction,
        packets: sum.packets,
        bytes: sum.bytes,
        filtered: sum.filtered,
        tagged: sum.tagged,
        fragments: sum.fragments,
        truncated: sum.truncated,
        marked: sum.marked,
        mark_failed: sum.mark_failed,
        sizes: sum.sizes,
        own,
    }
}

fn since_boot(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
