//! Events that programs send: ring buffers and perf event arrays, several of them in one reader.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ringfence_sys as sys;
use ringfence_uapi::MapType;

use crate::error::{Cause, Error, Kind, Result};
use crate::map::{Map, Plain};
use crate::perf::PerfSource;
use crate::ring::RingSource;

/// Records of one source that are handed out before the next source has its turn: a program that writes all the time
/// cannot keep the others waiting.
const TURN: usize = 16 << 10;
/// Events of one source that [`Events::next`] copies at once.
const KEEP: usize = 64;

/// An event as it lies in the buffer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// From which map: its place in the reader, from 0.
    pub source: usize,
    /// The CPU whose buffer it was in; a ring buffer is shared by all.
    pub cpu: Option<u32>,
    /// What the program wrote. Records of a perf event array end with up to 7 bytes that mean nothing: the kernel rounds up.
    pub bytes: &'a [u8],
}

impl Event<'_> {
    /// The event as a value of a plain type; what is behind it is left.
    ///
    /// `None`: the record is shorter than the type.
    pub fn read<T: Plain>(&self) -> Option<T> {
        T::read_from_prefix(self.bytes).ok().map(|(value, _)| value)
    }
}

/// How perf event arrays are read. Ring buffers have their size and their wake-ups from the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Buffering {
    /// Bytes of buffer for each CPU, rounded up to a power of two of pages.
    pub bytes_per_cpu: usize,
    /// The reader is woken when a CPU's buffer holds this many bytes: being woken for each record costs a hundred times as much
    /// as the record.
    pub wake_bytes: usize,
    /// Records are handed out after this time at the latest, also when there are too few to wake anybody.
    pub flush_after: Duration,
}

impl Default for Buffering {
    fn default() -> Self {
        Buffering { bytes_per_cpu: 256 << 10, wake_bytes: 32 << 10, flush_after: Duration::from_millis(100) }
    }
}

/// What a reader has seen of one map.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Name of the map.
    pub map: String,
    /// Events handed out.
    pub events: u64,
    /// Events that were lost because a buffer was full; `None`: a ring buffer, where the kernel does not count what could not
    /// be reserved.
    pub lost: Option<u64>,
    /// There may be more of them: a kernel before 6.0 tells of losses only with the next event that finds room.
    pub lost_is_least: bool,
    /// The same for each CPU that lost any.
    pub lost_by_cpu: Vec<(u32, u64)>,
    /// The most bytes that were found waiting in a buffer. Near to `size`, and events were probably lost.
    pub fullest: usize,
    /// Bytes of (one CPU's) buffer.
    pub size: usize,
}

#[derive(Debug)]
enum Source {
    Ring(RingSource),
    Perf(PerfSource),
}

/// A reader of events from any number of ring buffers and perf event arrays.
///
/// ```no_run
/// use std::time::Duration;
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let mut events = loaded.events("events")?;
/// events.poll(Some(Duration::from_secs(1)), |event| println!("{} bytes", event.bytes.len()))?;
/// # Ok(())
/// # }
/// ```
///
/// An event counts as read when the callback is called: if that panics, the reader is as good as before and goes on with the next.
#[derive(Debug)]
pub struct Events {
    epoll: sys::Epoll,
    sources: Vec<Source>,
    buffering: Buffering,
    /// For [`Events::next`].
    kept: Kept,
}

/// Events that were copied out of their buffers and not yet handed out.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    events: Vec<(usize, Option<u32>, Range<usize>)>,
    given: usize,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.given == self.events.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.events.clear();
        self.given = 0;
    }

    fn add(&mut self, event: Event<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(event.bytes);
        self.events.push((event.source, event.cpu, start..self.bytes.len()));
    }

    fn take(&mut self) -> Option<(usize, Option<u32>, Range<usize>)> {
        let event = self.events.get(self.given)?.clone();
        self.given += 1;
        Some(event)
    }
}

impl Events {
    /// Reads these maps.
    ///
    /// # Errors
    /// One of them holds no events, or the kernel refuses (memory; for perf event arrays CAP_PERFMON).
    pub fn new<'m>(maps: impl IntoIterator<Item = &'m Map>) -> Result<Events> {
        Events::with(maps, Buffering::default())
    }

    /// Reads these maps, with buffers of one's own choice.
    ///
    /// # Errors
    /// As [`Events::new`].
    pub fn with<'m>(maps: impl IntoIterator<Item = &'m Map>, buffering: Buffering) -> Result<Events> {
        let epoll =
            sys::Epoll::new().map_err(|errno| Error::system("making an epoll set", crate::explain::plain(errno)))?;
        let mut events = Events { epoll, sources: Vec::new(), buffering, kept: Kept::default() };
        maps.into_iter().try_for_each(|map| events.add(map))?;
        Ok(events)
    }

    /// Reads one more map.
    ///
    /// # Errors
    /// As [`Events::new`].
    pub fn add(&mut self, map: &Map) -> Result<()> {
        let token = self.sources.len() as u64;
        self.sources.push(match map.kind() {
            MapType::RINGBUF => Source::Ring(RingSource::new(map, &self.epoll, token)?),
            MapType::PERF_EVENT_ARRAY => Source::Perf(PerfSource::new(map, &self.epoll, token, &self.buffering)?),
            kind => return Err(map.invalid("reading events", format!("a map of the kind {kind} holds no events"))),
        });
        Ok(())
    }

    /// Hands out what is there, and waits for something when there is nothing: until events came, or the time is over
    /// (`None`: without end). Gives how many there were.
    ///
    /// # Errors
    /// A buffer holds what the kernel does not write, or waiting fails.
    pub fn poll(&mut self, timeout: Option<Duration>, mut each: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut end = None;
        loop {
            let count = self.consume(&mut each)?;
            if count > 0 || !self.wait(timeout, &mut end)? {
                // Records that did not wake anybody are handed out at the end of the time, too.
                return Ok(if count > 0 { count } else { self.consume(&mut each)? });
            }
        }
    }

    /// Hands out what is there and never waits. Gives how many there were.
    ///
    /// # Errors
    /// As [`Events::poll`].
    pub fn consume(&mut self, mut each: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut count = 0;
        while let Some((source, cpu, place)) = self.kept.take() {
            count += 1;
            each(Event { source, cpu, bytes: &self.kept.bytes[place] });
        }
        for (place, source) in self.sources.iter_mut().enumerate() {
            count += source.drain(place, TURN, &mut each)?;
        }
        Ok(count)
    }

    /// The next event, lent until the next call; `None`: the time is over.
    ///
    /// This copies each event once, some dozens at a time: those that were copied and not yet asked for are gone with the
    /// reader. [`Events::poll`] copies nothing.
    ///
    /// # Errors
    /// As [`Events::poll`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event<'_>>> {
        let mut end = None;
        let mut over = false;
        while self.kept.is_empty() {
            self.keep()?;
            if over || !self.kept.is_empty() {
                break;
            }
            over = !self.wait(timeout, &mut end)?;
        }
        Ok(self.kept.take().map(|(source, cpu, place)| Event { source, cpu, bytes: &self.kept.bytes[place] }))
    }

    /// Copies some events of each source.
    fn keep(&mut self) -> Result<()> {
        let Events { sources, kept, .. } = self;
        kept.clear();
        for (place, source) in sources.iter_mut().enumerate() {
            source.drain(place, KEEP, &mut |event: Event<'_>| kept.add(event))?;
        }
        Ok(())
    }

    /// Waits until something may be there; `false`: the time is over. `end` is when it is, reckoned at the first wait.
    fn wait(&mut self, timeout: Option<Duration>, end: &mut Option<Instant>) -> Result<bool> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Ok(false);
        }
        let now = Instant::now();
        // A time that the clock cannot hold is without end.
        if end.is_none() {
            *end = timeout.and_then(|timeout| now.checked_add(timeout));
        }
        let left = end.map(|end| end.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let flush = self.flush_after()?;
        let timeout = left.into_iter().chain(flush).min();
        match self.epoll.wait(&mut Vec::new(), timeout) {
            // A signal ends the waiting as the time does: the caller may want to look at a flag.
            Ok(()) => Ok(true),
            Err(sys::Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::system("waiting for events", crate::explain::plain(errno))),
        }
    }

    /// How long records may lie in a buffer without waking anybody; `None`: they do not. Looks for new CPUs, too.
    pub(crate) fn flush_after(&mut self) -> Result<Option<Duration>> {
        let mut flush = None;
        for source in &mut self.sources {
            if let Source::Perf(perf) = source {
                perf.look_for_cpus(&self.epoll, Instant::now())?;
                flush = Some(self.buffering.flush_after);
            }
        }
        Ok(flush)
    }

    /// What was seen of each map so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.sources
            .iter()
            .map(|source| match source {
                Source::Ring(ring) => ring.seen(),
                Source::Perf(perf) => perf.seen(),
            })
            .collect()
    }

    /// Events lost so far, in all perf event arrays.
    pub fn lost(&self) -> u64 {
        self.seen().iter().filter_map(|seen| seen.lost).sum()
    }
}

/// Becomes readable when events wait: for one's own event loop, with [`Events::consume`].
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Source {
    #[inline]
    fn drain(&mut self, place: usize, most: usize, each: &mut impl FnMut(Event<'_>)) -> Result<usize> {
        match self {
            Source::Ring(ring) => ring.drain(most, |bytes| each(Event { source: place, cpu: None, bytes })),
            Source::Perf(perf) => perf.drain(most, |cpu, bytes| each(Event { source: place, cpu: Some(cpu), bytes })),
        }
    }
}

/// A buffer that holds what the kernel does not write.
pub(crate) fn damaged(map: &Map, error: sys::RingError) -> Error {
    let why = format!(
        "its buffer is damaged at byte {}: a record claims {} bytes, {} are there",
        error.position, error.claimed, error.present
    );
    map.failed(
        "reading events",
        Cause::new(Kind::Io, why).action("something else has written to the buffer, or reads it too"),
    )
}
