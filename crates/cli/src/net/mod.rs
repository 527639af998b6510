//! `ringfence net`: what goes through network devices.

mod metrics;
mod report;
mod top;

use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringfence::hook::NetNamespace;
use ringfence_tools::net::{Capture, Frames, Match, Options, Rule, Sampling, Watch};

use crate::exit::{Exit, Failure};
use crate::filter::Whose;
use crate::live;
use crate::metrics::Asked;
use crate::output::{Format, Wrote};
use crate::run::{duration, namespace, say};
use crate::tool::{Until, failure};
use top::Top;

/// Shows what goes through network devices: packets, protocols, flows, talkers; and marks packets.
///
/// Counts every packet, none is dropped or delayed; an XDP program of somebody else's is left alone. Ctrl-C or --for ends it, and takes
/// everything off.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("devices").args(["dev", "all"]).required(true)))]
pub struct Args {
    /// Watch this device. May be given several times.
    #[arg(short, long, value_name = "DEVICE")]
    dev: Vec<String>,
    /// Watch all devices that are up.
    #[arg(long)]
    all: bool,
    /// Devices of this network namespace: a name of `ip netns`, or the number of a process.
    #[arg(long, value_name = "NAME|PID")]
    netns: Option<String>,
    /// Count nothing by XDP: needed where the device has an XDP program already.
    #[arg(long, conflicts_with_all = ["generic", "native"])]
    no_xdp: bool,
    /// Count by XDP in the driver, also of a veth, whose driver may lose a packet when the program is taken off.
    #[arg(long, conflicts_with_all = ["generic", "pid", "comm", "uid", "cgroup", "container"])]
    native: bool,
    /// Count by XDP in the kernel's stack even where the driver could.
    #[arg(long, conflicts_with_all = ["pid", "comm", "uid", "cgroup", "container"])]
    generic: bool,
    /// Count only packets that fit: `tcp port 443 and host 10.0.0.1`. Words: in, out, ip, ip6, tcp, udp, .., proto N, host A, src A,
    /// dst A, port N, sport N, dport N-M, vlan N; all must hold. Decided in the kernel.
    #[arg(long, value_name = "WORDS")]
    filter: Option<Match>,
    #[command(flatten)]
    whose: Whose,
    /// Set priority, mark or DSCP of packets: `tcp dport 443 => prio 6 mark 0x10 dscp af41`. May be given several times; the first
    /// that fits is taken.
    #[arg(long, value_name = "WORDS => WHAT")]
    mark: Vec<Rule>,
    /// Flows that are remembered; of more, those that were quiet longest give way, which is counted.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: u32,
    /// Write sampled packets into this file (pcapng), as Wireshark reads it.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// With --pcap: one packet in so many, by chance.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap", value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// With --pcap: bytes of a packet.
    #[arg(long, value_name = "BYTES", default_value_t = 256, requires = "pcap", value_parser = clap::value_parser!(u32).range(14..=1024))]
    snaplen: u32,
    /// End by itself after this time (5s, 2m); else at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How often to print a line for each device where stdout is no terminal.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    interval: Duration,
    /// A table, JSON (one object a line, the last one with flows) or YAML (one document each).
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Rows of flows, talkers and protocols.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Serve the numbers as Prometheus metrics at this address (or port of this machine), under /metrics.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::metrics::address)]
    metrics: Option<SocketAddr>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let whose = args.whose.filter()?;
    let options = Options {
        devices: args.dev.clone(),
        // A process's packets are where its devices are.
        namespace: args
            .netns
            .as_deref()
            .map(namespace)
            .or_else(|| args.whose.process(&whose).map(NetNamespace::of_process)),
        frames: match (args.no_xdp, args.generic, args.native) {
            (true, ..) => Frames::Off,
            (_, true, _) => Frames::Generic,
            (.., true) => Frames::Native,
            _ => Frames::Best,
        },
        flows: true,
        most_flows: args.flows,
        filter: args.filter.clone(),
        whose,
        rules: args.mark.clone(),
        sampling: args.pcap.as_ref().map(|_| Sampling { every: args.sample, snap: args.snaplen }),
    };
    let file = args.pcap.as_ref().map(|path| File::create(path).map_err(|error| file_failure(path, &error)));
    let file = file.transpose()?;
    let mut until = Until::new(args.duration)?;
    let metrics = args.metrics.map(Asked::start).transpose()?;
    let watch = Watch::start(&options).map_err(failure)?;
    until.start();
    let capture = file.map(|file| Capture::new(BufWriter::new(file), watch.devices(), args.snaplen));
    let capture = capture.transpose().map_err(failure)?;
    for line in report::attached(watch.devices(), watch.sockets()) {
        say(&line);
    }
    say(&format!("net: {}", until.words()));
    if let Some(metrics) = &metrics {
        say(&format!("metrics are at {}", metrics.url()));
    }
    let mut running = Running { watch, capture, metrics };
    let mut wrote = Wrote::All;
    if args.output == Format::Table && live::wanted() {
        live::run(&mut Top::new(&mut running)?, &until)?;
    } else {
        let mut lines = report::Lines::new(args.output);
        let mut next = Instant::now() + args.interval;
        while let Some(time) = until.turn()
            && wrote == Wrote::All
        {
            running.work(time)?;
            if Instant::now() >= next {
                next += args.interval;
                wrote = lines.write(&running.watch.so_far().map_err(failure)?)?;
            }
        }
    }
    let Running { watch, capture, metrics } = running;
    let traffic = watch.finish().map_err(failure)?;
    drop(metrics);
    if wrote == Wrote::All {
        report::end(&traffic, args.output, args.top)?;
    }
    for line in report::summary(&traffic) {
        say(&line);
    }
    if let (Some(capture), Some(path)) = (capture, &args.pcap) {
        let written = capture.written();
        let flushed = capture.into_inner().into_inner().map_err(std::io::IntoInnerError::into_error);
        flushed.map_err(|error| file_failure(path, &error))?;
        say(&format!("{}: {written} packets", path.display()));
    }
    say("taken off, nothing is left in the kernel");
    Ok(())
}

fn file_failure(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Error, format_args!("{}: {error}", path.display()))
}

/// A watch, with those who want to know of it.
struct Running {
    watch: Watch,
    capture: Option<Capture<BufWriter<File>>>,
    metrics: Option<Asked>,
}

impl Running {
    fn work(&mut self, time: Duration) -> Result<(), Failure> {
        let (capture, mut failed) = (&mut self.capture, None);
        let run = self.watch.run(time, |sample| {
            if let Some(capture) = capture
                && failed.is_none()
            {
                failed = capture.add(&sample).err();
            }
        });
        run.map_err(failure)?;
        failed.map_or(Ok(()), |error| Err(failure(error)))?;
        match &self.metrics {
            Some(metrics) => metrics.turn(|page| {
                metrics::fill(page, &self.watch.so_far().map_err(failure)?);
                Ok(())
            }),
            None => Ok(()),
        }
    }
}
