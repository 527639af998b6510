//! Perf maps: `/tmp/perf-PID.map`, in which JIT compilers write where they have put which function.

use std::fs::{self, File};
use std::io::{Read, Seek};

/// Bytes of such a file that are read.
const MOST: u64 = 256 << 20;

/// Functions in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct Functions(Vec<(u64, u64, String)>);

/// Opens the map of a process. It names itself by the number that it has in its own namespace, in its own `/tmp`.
pub(super) fn open(pid: u32) -> Option<File> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let own = status.lines().find_map(|line| line.strip_prefix("NStgid:"))?.split_whitespace().last()?;
    File::open(format!("/proc/{pid}/root/tmp/perf-{own}.map")).ok()
}

impl Functions {
    /// Reads what the file has by now. A function that was compiled again at the same place is the newer one.
    pub(super) fn read(file: &mut File) -> Functions {
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.take(MOST).read_to_end(&mut bytes));
        if read.is_err() {
            return Functions::default();
        }
        Functions::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Functions {
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let line = |line: &str| {
            let (start, rest) = line.split_once(' ')?;
            let (size, name) = rest.split_once(' ')?;
            let start = hex(start)?;
            Some((start, start.checked_add(hex(size)?)?, name.to_owned()))
        };
        let mut all: Vec<_> = text.lines().filter_map(line).collect();
        all.reverse();
        all.sort_by_key(|(start, _, _)| *start);
        all.dedup_by_key(|(start, _, _)| *start);
        Functions(all)
    }

    /// The function that an address lies in.
    pub(super) fn at(&self, address: u64) -> Option<&str> {
        let behind = self.0.partition_point(|(start, _, _)| *start <= address);
        let (_, end, name) = self.0.get(behind.checked_sub(1)?)?;
        (address < *end).then_some(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_function_is_found() {
        let text = "1000 10 old\n2000 20 py::work:/a b.py\n1000 18 new\nnonsense\nffffffffffffffff ff too far\n";
        let functions = Functions::parse(text);
        let names = [0xfff, 0x1000, 0x1017, 0x1018, 0x2010].map(|address| functions.at(address));
        assert_eq!(names, [None, Some("new"), Some("new"), None, Some("py::work:/a b.py")]);
    }
}
