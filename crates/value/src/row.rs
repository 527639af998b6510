//! Table cells: one for each member that is no struct, in buffers that are used again.

use crate::layout::{Scalar, Sink, Step, What};
use crate::text::{self, Put};

/// The cells of one record. Reuse it: after the first records it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Row {
    text: String,
    ends: Vec<usize>,
}

impl Row {
    /// An empty row.
    pub fn new() -> Row {
        Row::default()
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No cells.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Text of a cell.
    pub fn get(&self, cell: usize) -> Option<&str> {
        let start = match cell.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(cell)?)
    }

    /// The cells in order.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|cell| self.get(cell).unwrap_or_default())
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn end_cell(&mut self) {
        self.ends.push(self.text.len());
    }
}

/// What turns a kernel time stamp into wall clock. Whoever has a clock fills it in, now and then again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The kernel's clock (`CLOCK_MONOTONIC` for `bpf_ktime_get_ns`, `CLOCK_BOOTTIME` for
    /// `bpf_ktime_get_boot_ns`) at this moment, in nanoseconds.
    pub now_ns: u64,
    /// Wall clock minus kernel clock, in nanoseconds.
    pub offset_ns: i64,
    /// Local time minus UTC, in seconds.
    pub zone_seconds: i32,
}

const SECOND: u64 = 1_000_000_000;
/// An event is shown soon after it happened; a number from outside this hour is no time stamp of one.
const RECENT: u64 = SECOND.saturating_mul(3600);

impl Clock {
    /// `HH:MM:SS.micros`; `None` for what is no time within the hour that ends now.
    fn write(&self, ns: u64, out: &mut String) -> Option<()> {
        // The reading of `now` may be older than the event that is being shown.
        let since = self.now_ns.saturating_sub(RECENT)..=self.now_ns.saturating_add(SECOND.saturating_mul(60));
        if ns == 0 || !since.contains(&ns) {
            return None;
        }
        let local = i128::from(ns)
            .checked_add(self.offset_ns.into())?
            .checked_add(i128::from(self.zone_seconds).checked_mul(SECOND.into())?)?;
        let micros = u64::try_from(local.rem_euclid(i128::from(SECOND).checked_mul(86_400)?)).ok()? / 1_000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        text::push_fmt(
            out,
            format_args!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        );
        Some(())
    }
}

pub(crate) struct Cells<'a> {
    row: &'a mut Row,
    clock: Option<&'a Clock>,
    /// How many lists we are in: they share one cell.
    lists: usize,
    /// The innermost is of so many bytes that they are shown as one, in hexadecimal.
    bytes: bool,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(row: &'a mut Row, clock: Option<&'a Clock>) -> Self {
        Cells { row, clock, lists: 0, bytes: false }
    }

    /// Inside a list, members carry their names.
    fn label(&mut self, step: &Step) {
        if self.lists > 0 && !step.key.is_empty() {
            if step.key.starts_with(',') {
                self.row.text.push(' ');
            }
            text::push_visible(step.name.as_bytes(), &mut self.row.text);
            self.row.text.push('=');
        }
    }
}

impl Sink for Cells<'_> {
    fn leaf(&mut self, step: &Step, value: Scalar<'_>) {
        self.label(step);
        match value {
            Scalar::Unsigned(byte) if self.bytes => text::push_byte(&mut self.row.text, byte.to_le_bytes()[0]),
            value => cell(value, self.clock, &mut self.row.text),
        }
        if self.lists == 0 {
            self.row.end_cell();
        }
    }

    fn open_record(&mut self, step: &Step) {
        self.label(step);
        if self.lists > 0 {
            self.row.text.push('{');
        }
    }

    fn close_record(&mut self) {
        if self.lists > 0 {
            self.row.text.push('}');
        }
    }

    fn open_list(&mut self, step: &Step, bytes: usize) {
        /// Fewer are a few numbers.
        const LONG: usize = 8;
        self.label(step);
        self.bytes = bytes >= LONG;
        self.row.text.push_str(if self.bytes { "0x" } else { "[" });
        self.lists = self.lists.saturating_add(1);
    }

    fn element(&mut self, index: usize) {
        if index > 0 && !self.bytes {
            self.row.text.push(' ');
        }
    }

    fn close_list(&mut self) {
        if !std::mem::take(&mut self.bytes) {
            self.row.text.push(']');
        }
        self.lists = self.lists.saturating_sub(1);
        if self.lists == 0 {
            self.row.end_cell();
        }
    }
}

/// Where the kernel's half of the addresses begins (4-level page tables): nobody counts so far.
const KERNEL: u64 = 0xffff_8000_0000_0000;

fn cell(value: Scalar<'_>, clock: Option<&Clock>, out: &mut String) {
    match value {
        Scalar::Null => out.push('-'),
        Scalar::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Scalar::Unsigned(value) if value >= KERNEL => text::push_pointer(out, value),
        Scalar::Unsigned(value) => text::push_integer(out, value),
        Scalar::Signed(value) => text::push_integer(out, value),
        Scalar::Unsigned128(value) => text::push_integer(out, value),
        Scalar::Signed128(value) => text::push_integer(out, value),
        Scalar::Float(value) => text::push_fmt(out, format_args!("{value}")),
        Scalar::Float32(value) => text::push_fmt(out, format_args!("{value}")),
        Scalar::Pointer(value) => text::push_pointer(out, value),
        Scalar::Enum(names, value) => match names.of(value) {
            Some(name) => text::push_visible(name.as_bytes(), out),
            None => {
                for (n, name) in names.flags_of(value).into_iter().flatten().enumerate() {
                    out.put(if n > 0 { "|" } else { "" });
                    text::push_visible(name.as_bytes(), out);
                }
            }
        },
        Scalar::Text(bytes) => text::push_visible(text::until_nul(bytes), out),
        Scalar::Joined(bytes) => {
            for (n, part) in text::strings(bytes).enumerate() {
                out.put(if n > 0 { " " } else { "" });
                text::push_visible(part, out);
            }
        }
        Scalar::Bytes(bytes) => text::push_bytes(out, bytes),
        Scalar::Ipv4(address) => text::push_ipv4(out, address),
        Scalar::Ipv6(address) => text::push_ipv6(out, address),
        Scalar::Mac(address) => text::push_mac(out, address),
        Scalar::Return(value) => {
            text::push_integer(out, value);
            if let Some(name) = value.checked_neg().and_then(|n| i32::try_from(n).ok()).and_then(crate::errno_name) {
                out.push(' ');
                out.push_str(name);
            }
        }
        Scalar::Coded(code, value) => {
            text::push_integer(out, value);
            if let Some(name) = code.name(value) {
                out.push(' ');
                out.push_str(name);
            }
        }
        Scalar::Time { value, unit } => {
            let ns = value.checked_mul(unit.into());
            if ns.zip(clock).and_then(|(ns, clock)| clock.write(ns, out)).is_none() {
                text::push_integer(out, value);
            }
        }
    }
}

/// The names of the cells that [`Cells`] writes for these steps.
pub(crate) fn columns(steps: &[Step]) -> Vec<String> {
    let mut columns = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut at = 0usize;
    while let Some(step) = steps.get(at) {
        while open.pop_if(|(end, _)| *end <= at).is_some() {}
        let next = at.saturating_add(1);
        if let What::Record { end } = step.what {
            open.push((end, &step.name));
            at = next;
            continue;
        }
        let path: Vec<&str> =
            open.iter().map(|(_, name)| *name).chain([&*step.name]).filter(|name| !name.is_empty()).collect();
        columns.push(path.join("."));
        at = match step.what {
            What::List { end, .. } => end,
            What::Leaf(_) | What::Record { .. } => next,
        };
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recent_numbers_are_times() {
        let clock = Clock { now_ns: 10_000 * SECOND, offset_ns: 0, zone_seconds: 3600 };
        let shown = |ns| {
            let mut out = String::new();
            clock.write(ns, &mut out).map(|()| out)
        };
        assert_eq!(shown(10_000 * SECOND).as_deref(), Some("03:46:40.000000"));
        assert_eq!(shown(9_999 * SECOND + 1_500).as_deref(), Some("03:46:39.000001"));
        assert_eq!(shown(0), None);
        assert_eq!(shown(5), None);
        assert_eq!(shown(6_000 * SECOND), None);
        assert_eq!(shown(u64::MAX), None);
    }

    #[test]
    fn addresses_of_the_kernel_are_no_counts() {
        let shown = |value| {
            let mut out = String::new();
            cell(Scalar::Unsigned(value), None, &mut out);
            out
        };
        assert_eq!(shown(0xffff_888a_3c0f_0000), "0xffff888a3c0f0000");
        assert_eq!(shown(KERNEL - 1), "18446603336221196287");
    }
}
