//! Sampled packets as a file for Wireshark: pcapng, with an interface for each device and the direction of each packet.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, SystemTime};

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use rustix::time::ClockId;

use super::{Direction, Sample, Watched, since_boot};
use crate::error::{Error, Result};

/// A file of packets.
pub struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
    /// Their numbers, in the order of the interfaces.
    devices: Vec<u32>,
    /// Boot, since 1970.
    boot: Duration,
    written: u64,
}

impl<W: Write> std::fmt::Debug for Capture<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<W: Write> Capture<W> {
    /// Begins a file. `snap`: bytes of a packet, at most.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(to: W, devices: &[Watched], snap: u32) -> Result<Capture<W>> {
        let mut writer = PcapNgWriter::new(to).map_err(failed)?;
        for device in devices {
            let linktype = if device.is_framed() { DataLink::ETHERNET } else { DataLink::RAW };
            // Nanoseconds; without it they are microseconds.
            let options = vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&device.name)),
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            writer
                .write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen: snap, options })
                .map_err(failed)?;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let boot = now.saturating_sub(Duration::from_nanos(since_boot(ClockId::Boottime)));
        Ok(Capture { writer, devices: devices.iter().map(|device| device.index).collect(), boot, written: 0 })
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, sample: &Sample<'_>) -> Result<()> {
        /// Of `epb_flags`: bits 0 and 1.
        const INBOUND: u32 = 1;
        const OUTBOUND: u32 = 2;
        let Some(interface) = self.devices.iter().position(|device| *device == sample.device) else { return Ok(()) };
        let direction = if sample.direction == Direction::Out { OUTBOUND } else { INBOUND };
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(interface).unwrap_or(u32::MAX),
            timestamp: self.boot.saturating_add(sample.since_boot),
            original_len: sample.len,
            data: Cow::Borrowed(sample.bytes),
            options: vec![EnhancedPacketOption::Flags(direction)],
        };
        self.writer.write_pcapng_block(block).map_err(failed)?;
        self.written += 1;
        Ok(())
    }

    /// Packets that were added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.writer.into_inner()
    }
}

fn failed(error: pcap_file::PcapError) -> Error {
    Error::Output { what: "writing packets", why: error.to_string() }
}
