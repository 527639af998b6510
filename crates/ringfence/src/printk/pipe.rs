//! The trace pipe: the lines of all programs on the machine, for kernels whose `bpf_printk` is no tracepoint yet (before 5.9).

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Message;
use super::formats::Formats;
use crate::error::{Error, Result};
use crate::tracefs::TraceFs;

/// A line of the trace pipe, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line<'a> {
    /// Name of the thread in whose context the program ran. It may hold blanks and dashes.
    pub(super) task: &'a str,
    /// Its thread id; 0 is the idle task.
    pub(super) pid: u32,
    /// The CPU.
    pub(super) cpu: u32,
    /// The kernel's clock (`trace_clock`), in microseconds.
    pub(super) micros: u64,
    /// What the program wrote.
    pub(super) text: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart: `TASK-PID [CPU] FLAGS SECONDS.MICROS: bpf_trace_printk: TEXT`.
    ///
    /// `None`: it was not written by `bpf_printk`, or the line is torn.
    pub(super) fn parse(line: &'a str) -> Option<Line<'a>> {
        // The thread's name may hold anything but is at most 15 bytes: what follows is looked for from the right.
        let (head, text) = line.split_once(": bpf_trace_printk: ")?;
        let (head, time) = head.trim_end().rsplit_once(' ')?;
        let (seconds, fraction) = time.split_once('.')?;
        let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)?;
        let (head, flags) = head.rsplit_once('[')?;
        let (cpu, _) = flags.split_once(']')?;
        // With the option record-tgid there is `(TGID)` before the CPU.
        let head = head.trim_end();
        let head = head.strip_suffix(')').and_then(|head| head.rsplit_once('(')).map_or(head, |(head, _)| head);
        let (task, pid) = head.trim().rsplit_once('-')?;
        Some(Line { task, pid: pid.parse().ok()?, cpu: cpu.parse().ok()?, micros, text: text.trim_end_matches('\n') })
    }
}

/// The pipe. What is read from it nobody else gets.
#[derive(Debug)]
pub(super) struct TracePipe {
    file: std::fs::File,
    /// Bytes after the last whole line.
    rest: Vec<u8>,
    lost: u64,
}

impl TracePipe {
    pub(super) fn open() -> Result<TracePipe> {
        let fail = |cause| Error::system("opening the trace pipe", cause);
        let tracefs = TraceFs::open().map_err(fail)?;
        let file = tracefs.file("trace_pipe", OFlags::RDONLY | OFlags::NONBLOCK);
        let file = file.map_err(|errno| fail(crate::explain::plain(errno)))?;
        Ok(TracePipe { file: file.into(), rest: Vec::new(), lost: 0 })
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn poll(
        &mut self,
        timeout: Option<Duration>,
        formats: &Formats,
        each: &mut impl FnMut(Message<'_>),
    ) -> Result<usize> {
        let count = self.read(formats, each)?;
        if count > 0 {
            return Ok(count);
        }
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => self.read(formats, each),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// What is there.
    fn read(&mut self, formats: &Formats, each: &mut impl FnMut(Message<'_>)) -> Result<usize> {
        let mut count = 0;
        let mut buffer = [0; 64 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(len) => self.rest.extend_from_slice(&buffer[..len]),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => return Ok(count),
                    Some(Errno::INTR) => {}
                    errno => return Err(failed(errno.unwrap_or(Errno::IO))),
                },
            }
            // The lines are taken out first: should `each` panic, they do not come again.
            let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let whole: Vec<u8> = self.rest.drain(..end).collect();
            for line in String::from_utf8_lossy(&whole).lines() {
                self.lost = self.lost.saturating_add(lost(line).unwrap_or(0));
                if let Some(line) = Line::parse(line) {
                    count += 1;
                    let (time_ns, writer) = (line.micros.saturating_mul(1000), formats.writer(line.text));
                    each(Message { task: line.task, pid: line.pid, cpu: line.cpu, time_ns, text: line.text, writer });
                }
            }
        }
    }
}

impl AsFd for TracePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `CPU:1 [LOST 12 EVENTS]`
fn lost(line: &str) -> Option<u64> {
    line.strip_prefix("CPU:")?.split_once("[LOST ")?.1.strip_suffix(" EVENTS]")?.parse().ok()
}

fn failed(errno: Errno) -> Error {
    Error::system("reading the trace pipe", crate::explain::plain(errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printk::Writer;

    #[test]
    fn lines_are_taken_apart_whatever_the_task_is_called() {
        let line =
            Line::parse("          a b [c]-d-7       [003] d..21   731.000012: bpf_trace_printk: x: [y] 1.5").unwrap();
        assert_eq!((line.task, line.pid, line.cpu, line.micros), ("a b [c]-d", 7, 3, 731_000_012));
        assert_eq!(line.text, "x: [y] 1.5");
        let line = Line::parse("  <idle>-0     (-----) [000] dNs..    1.000000: bpf_trace_printk: ").unwrap();
        assert_eq!((line.task, line.pid, line.text), ("<idle>", 0, ""));
        for torn in [
            "",
            "x",
            "a-1 [000]",
            "CPU:1 [LOST 12 EVENTS]",
            "a-b [000] d 1.0: bpf_trace_printk: x",
            "a-1 [000] d..2. 1.2: sched_switch: x",
        ] {
            assert_eq!(Line::parse(torn), None, "{torn}");
        }
    }

    #[test]
    fn what_was_lost_is_counted() {
        assert_eq!(lost("CPU:1 [LOST 12 EVENTS]"), Some(12));
        assert_eq!(lost("a-1 [000] d 1.0: bpf_trace_printk: CPU:1 [LOST 12 EVENTS]"), None);
    }

    #[test]
    fn lines_of_the_real_pipe() {
        use ringfence_plan::Plan;
        use ringfence_uapi::{Helper, Insn, ProgramType};

        let mut pipe = TracePipe::open().unwrap();
        let insn = |code, dst, src, off, imm| Insn { code, dst, src, off, imm };
        let word = i32::from_ne_bytes(*b"rf7\0");
        // *(u32 *)(r10 - 8) = "rf7"; bpf_trace_printk(r10 - 8, 4)
        let program = crate::printk::watch::program_plan(
            "says",
            ProgramType::SCHED_CLS,
            vec![
                insn(0x62, 10, 0, -8, word),
                insn(0xbf, 1, 10, 0, 0),
                insn(0x07, 1, 0, 0, -8),
                insn(0xb7, 2, 0, 0, 4),
                insn(Insn::CALL, 0, 0, 0, Helper::TRACE_PRINTK.0.cast_signed()),
                insn(0xb7, 0, 0, 0, 0),
                insn(Insn::EXIT, 0, 0, 0, 0),
            ],
        );
        let mut plan = Plan::default();
        plan.programs = vec![program];
        let loaded = crate::load::load(&plan, &ringfence_kernel::Kernel::running()).unwrap();
        loaded.program("says").unwrap().test_run(&[0; 64], 3).unwrap();
        let mut count = 0;
        let formats = Formats::of(&plan);
        for _ in 0..50 {
            pipe.poll(Some(Duration::from_millis(100)), &formats, &mut |message| {
                // Its format is built on the stack, so all that can be said is who may have written it.
                count += usize::from(message.text == "rf7" && message.writer == Writer::OneOf(vec!["says"]));
            })
            .unwrap();
            if count >= 3 {
                return;
            }
        }
        panic!("{count} of 3 lines");
    }
}
