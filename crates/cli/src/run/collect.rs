//! Events that are kept until the end: sorted ones, and counts. Bounded; what found no room is counted and said.

use std::cmp::Ordering;
use std::collections::HashMap;

use ringfence_value::{Clock, Row, SortKey};

use super::wanted::View;

/// Events that --sort keeps.
const MOST_EVENTS: usize = 100_000;
/// Bytes of them, and of the keys of --count-by.
const MOST_BYTES: usize = 64 << 20;
/// Keys of --count-by.
const MOST_KEYS: usize = 100_000;
/// What an entry takes beside its own bytes, about.
const OVERHEAD: usize = 128;

/// Which end first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    pub descending: bool,
    /// By the count, where events are counted.
    pub by_count: bool,
}

impl Order {
    fn of<T: Ord>(self, left: &T, right: &T) -> Ordering {
        if self.descending { right.cmp(left) } else { left.cmp(right) }
    }
}

/// Events until the end.
pub enum Collection {
    Sort(Sort),
    Count(Count),
}

/// An event that is kept: its map and its type by their numbers.
#[derive(Clone)]
pub struct Kept {
    pub source: usize,
    pub shape: usize,
    pub bytes: Box<[u8]>,
    key: SortKey,
    arrived: u64,
}

/// The first events in an order.
pub struct Sort {
    order: Order,
    top: Option<usize>,
    kept: Vec<Kept>,
    bytes: usize,
    arrived: u64,
    /// Nothing behind this key is among the first ones.
    last: Option<SortKey>,
    /// Events that found no room.
    pub dropped: u64,
}

impl Sort {
    pub fn new(order: Order, top: Option<usize>) -> Sort {
        Sort { order, top, kept: Vec::new(), bytes: 0, arrived: 0, last: None, dropped: 0 }
    }

    /// Keeps an event, if it is among the first.
    pub fn add(&mut self, source: usize, shape: usize, view: &View, bytes: &[u8]) {
        let Some(field) = &view.order else { return };
        let key = field.sort_key(bytes);
        self.arrived += 1;
        if self.last.as_ref().is_some_and(|last| self.order.of(&key, last) != Ordering::Less) {
            self.dropped += u64::from(self.is_short());
            return;
        }
        self.bytes += bytes.len() + OVERHEAD;
        self.kept.push(Kept { source, shape, bytes: bytes.into(), key, arrived: self.arrived });
        let most = self.most();
        if self.bytes > MOST_BYTES || self.kept.len() >= most.saturating_mul(2).max(1024) {
            self.sort();
            let fits = self.fitting().min(most);
            let gone = self.kept.len().saturating_sub(fits);
            // Those behind the first N are not missed, unless there is no room for N.
            if self.is_short() || fits < most {
                self.dropped += gone as u64;
            }
            self.kept.truncate(fits);
            self.bytes = self.kept.iter().map(|kept| kept.bytes.len() + OVERHEAD).sum();
            self.last = self.kept.last().map(|kept| kept.key.clone());
        }
    }

    fn most(&self) -> usize {
        self.top.unwrap_or(MOST_EVENTS).min(MOST_EVENTS)
    }

    /// More events are wanted than are kept.
    fn is_short(&self) -> bool {
        self.top.is_none_or(|top| top > MOST_EVENTS)
    }

    /// How many of the first events take three quarters of the room, so that not every event sorts them again.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let fits = self.kept.iter().take_while(|kept| {
            bytes += kept.bytes.len() + OVERHEAD;
            bytes <= MOST_BYTES / 4 * 3
        });
        fits.count().max(1)
    }

    fn sort(&mut self) {
        let order = self.order;
        self.kept.sort_by(|left, right| order.of(&left.key, &right.key).then(left.arrived.cmp(&right.arrived)));
    }

    /// The events in order. They stay.
    pub fn first(&mut self) -> Vec<Kept> {
        self.sort();
        self.kept.iter().take(self.most()).cloned().collect()
    }
}

/// How often each combination of values came.
pub struct Count {
    /// `None`: the most frequent first.
    order: Option<Order>,
    top: Option<usize>,
    counts: HashMap<Box<[u8]>, Counted>,
    bytes: usize,
    scratch: Vec<u8>,
    /// Names of the cells.
    pub columns: Vec<String>,
    /// Events whose values found no room.
    pub dropped: u64,
}

struct Counted {
    row: Row,
    key: SortKey,
    count: u64,
}

/// A combination: as JSON, as cells, and how often it came.
pub struct Line<'a> {
    pub json: &'a [u8],
    pub row: &'a Row,
    pub count: u64,
}

impl Count {
    pub fn new(order: Option<Order>, top: Option<usize>) -> Count {
        let (counts, scratch) = (HashMap::new(), Vec::new());
        Count { order, top, counts, bytes: 0, scratch, columns: Vec::new(), dropped: 0 }
    }

    /// Counts an event that is as long as its type.
    pub fn add(&mut self, view: &View, bytes: &[u8], clock: &Clock) {
        let Some(layout) = &view.layout else { return };
        self.scratch.clear();
        // JSON has the types that cells have lost, and no clock.
        if layout.json(bytes, &mut self.scratch).is_err() {
            return;
        }
        if let Some(counted) = self.counts.get_mut(&*self.scratch) {
            counted.count += 1;
            return;
        }
        let mut row = Row::new();
        if layout.row(bytes, Some(clock), &mut row).is_err() {
            return;
        }
        // The cells are about as long as the JSON.
        let size = self.scratch.len() * 2 + OVERHEAD;
        if self.counts.len() >= MOST_KEYS || self.bytes + size > MOST_BYTES {
            self.dropped += 1;
            return;
        }
        if self.columns.is_empty() {
            self.columns = layout.columns();
        }
        self.bytes += size;
        let key = view.order.as_ref().map_or(SortKey::Nothing, |field| field.sort_key(bytes));
        self.counts.insert(self.scratch.as_slice().into(), Counted { row, key, count: 1 });
    }

    /// The lines in order, and how many there are in all.
    pub fn first(&self) -> (Vec<Line<'_>>, usize) {
        let mut all: Vec<_> = self.counts.iter().collect();
        let order = self.order;
        all.sort_by(|(left_json, left), (right_json, right)| {
            let by = match order {
                None => right.count.cmp(&left.count),
                Some(order) if order.by_count => order.of(&left.count, &right.count),
                Some(order) => order.of(&left.key, &right.key),
            };
            by.then_with(|| left_json.cmp(right_json))
        });
        let lines = all.into_iter().take(self.top.unwrap_or(usize::MAX));
        (lines.map(|(json, counted)| Line { json, row: &counted.row, count: counted.count }).collect(), self.counts.len())
    }
}
