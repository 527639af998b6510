//! pprof: `profile.proto` of github.com/google/pprof, compressed with gzip, which Go's and Grafana's tools read.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::{Clock, Profile};
use crate::error::{Error, Result};

/// The messages of `profile.proto` as far as they are used here: tags are the file's.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(super) mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) kind: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) str: i64,
        #[prost(int64, tag = "3")]
        pub(super) num: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Mapping {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "5")]
        pub(super) filename: i64,
        #[prost(bool, tag = "7")]
        pub(super) has_functions: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) mapping_id: u64,
        #[prost(uint64, tag = "3")]
        pub(super) address: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}

impl Profile {
    /// The profile as pprof reads it: `samples` and `cpu` nanoseconds, or `waits` and `off-cpu` nanoseconds; the thread's name and
    /// the process's number are labels.
    ///
    /// # Errors
    /// None is known: gzip into memory.
    pub fn pprof(&self) -> Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let bytes = self.proto().encode_to_vec();
        let written = gzip.write_all(&bytes).and_then(|()| gzip.finish());
        written.map_err(|error| Error::Output { what: "pprof", why: error.to_string() })
    }

    fn proto(&self) -> proto::Profile {
        let mut strings = Strings::default();
        strings.of("");
        let period = 1_000_000_000_i64.checked_div(self.summary.frequency.into()).unwrap_or(0);
        let [count, time] = match self.summary.clock {
            Clock::Switches => ["waits", "off-cpu"],
            Clock::Cycles | Clock::Software => ["samples", "cpu"],
        };
        let time_type = proto::ValueType { kind: strings.of(time), unit: strings.of("nanoseconds") };
        let count_type = proto::ValueType { kind: strings.of(count), unit: strings.of("count") };
        let (thread, process) = (strings.of("thread"), strings.of("pid"));
        let mut out = proto::Profile {
            sample_type: vec![count_type, time_type],
            period_type: Some(time_type),
            period: if self.is_time() { 1 } else { period },
            duration_nanos: nanos(self.summary.time),
            time_nanos: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| nanos(now.saturating_sub(self.summary.time))),
            ..proto::Profile::default()
        };
        let (mut mappings, mut functions, mut locations) = (HashMap::new(), HashMap::new(), HashMap::new());
        for row in &self.rows {
            let mut ids = Vec::with_capacity(row.frames.len());
            for frame in &row.frames {
                let next = locations.len() as u64 + 1;
                // The same address is something else in another process: what it means is part of the key.
                let id = *locations.entry((frame.address, &frame.symbols)).or_insert(next);
                ids.push(id);
                if id != next {
                    continue;
                }
                let Some(last) = frame.symbols.last() else { continue };
                let next = mappings.len() as u64 + 1;
                let mapping_id = *mappings.entry(&last.module).or_insert(next);
                if mapping_id == next {
                    let filename = strings.of(&last.module);
                    out.mapping.push(proto::Mapping { id: next, filename, has_functions: true });
                }
                let mut line = Vec::with_capacity(frame.symbols.len());
                for symbol in frame.symbols.iter() {
                    let next = functions.len() as u64 + 1;
                    let function_id = *functions.entry((&symbol.function, &symbol.file)).or_insert(next);
                    if function_id == next {
                        let filename = strings.of(symbol.file.as_deref().unwrap_or_default());
                        out.function.push(proto::Function { id: next, name: strings.of(&symbol.function), filename });
                    }
                    line.push(proto::Line { function_id, line: symbol.line.map_or(0, i64::from) });
                }
                out.location.push(proto::Location { id, mapping_id, address: frame.address, line });
            }
            let count = i64::try_from(row.count).unwrap_or(i64::MAX);
            let time =
                if self.is_time() { i64::try_from(row.ns).unwrap_or(i64::MAX) } else { count.saturating_mul(period) };
            let label = vec![
                proto::Label { key: thread, str: strings.of(&row.comm), num: 0 },
                proto::Label { key: process, str: 0, num: row.pid.into() },
            ];
            out.sample.push(proto::Sample { location_id: ids, value: vec![count, time], label });
        }
        out.string_table = strings.all;
        out
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Texts by their place in the table.
#[derive(Default)]
struct Strings {
    all: Vec<String>,
    places: HashMap<String, i64>,
}

impl Strings {
    fn of(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = i64::try_from(self.all.len()).unwrap_or(i64::MAX);
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}
