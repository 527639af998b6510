//! The kernel's trace pipe, read without waiting.

use std::io::Read;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Cause, Error, Kind, Result};
use crate::printk::Line;
use crate::tracefs::TraceFs;

/// Bytes that are read at once; the kernel gives whole lines, at most a page a time.
const ROOM: usize = 16 << 10;
/// A line longer than this is no line of `bpf_printk` (1,024 bytes, `BPF_TRACE_PRINTK_SIZE`): what was kept of it is dropped.
const LONGEST: usize = 4 << 10;

/// The lines that programs write with `bpf_printk`. What is read here is gone for other readers of the pipe.
#[derive(Debug)]
pub struct TracePipe {
    file: std::fs::File,
    room: Vec<u8>,
    /// The start of a line whose end has not come yet.
    part: Vec<u8>,
}

impl TracePipe {
    /// Opens it. Lines that wait there from before are thrown away.
    ///
    /// # Errors
    /// The tracing file system can be neither found nor mounted, or is not for this caller (it belongs to root).
    pub fn open() -> Result<TracePipe> {
        let what = "opening the trace pipe, where bpf_printk writes";
        let fail = |cause| Error::System { what: what.into(), cause };
        let files = TraceFs::open().map_err(fail)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = files.file("trace_pipe", flags).map_err(|errno| {
            let kind = if matches!(errno, Errno::ACCESS | Errno::PERM) { Kind::Permission } else { Kind::Unsupported };
            let action =
                if errno == Errno::BUSY { "another program reads it: end that one" } else { "run this as root" };
            fail(Cause::new(kind, "the trace pipe cannot be read").errno(errno).action(action))
        })?;
        let mut pipe = TracePipe { file: fd.into(), room: vec![0; ROOM], part: Vec::new() };
        pipe.read(|_| ())?;
        Ok(pipe)
    }

    /// Hands out the lines that are there, and never waits. Lines that no program wrote are passed over.
    ///
    /// # Errors
    /// Reading fails.
    pub fn read(&mut self, mut each: impl FnMut(Line<'_>)) -> Result<()> {
        loop {
            let count = match self.file.read(&mut self.room) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(Error::System {
                        what: "reading the trace pipe".into(),
                        cause: crate::explain::plain(errno),
                    });
                }
            };
            self.part.extend_from_slice(self.room.get(..count).unwrap_or_default());
            let end = self.part.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in self.part.drain(..end).as_slice().split(|byte| *byte == b'\n') {
                if let Some(line) = Line::parse(&String::from_utf8_lossy(line)) {
                    each(line);
                }
            }
            if self.part.len() > LONGEST {
                self.part.clear();
            }
        }
    }
}
