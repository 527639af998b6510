//! Events that are kept until the end: sorted ones, and counts. Bounded; what found no room is counted and said.

use std::cmp::Ordering;
use std::collections::HashMap;

use ringfence_value::{Clock, Row, SortKey};

use super::stacks::{self, Stack};
use super::view::View;

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
}

impl Sort {
    pub fn new(order: Order, top: Option<usize>) -> Sort {
        Sort { order, top, kept: Vec::new(), bytes: 0, arrived: 0, last: None }
    }

    /// Keeps an event, if it is among the first.
    pub fn add(&mut self, source: usize, shape: usize, view: &View, bytes: &[u8]) {
        let Some(field) = &view.order else { return };
        let key = field.sort_key(bytes);
        self.arrived += 1;
        if self.last.as_ref().is_some_and(|last| self.order.of(&key, last) != Ordering::Less) {
            return;
        }
        self.bytes += bytes.len() + OVERHEAD;
        self.kept.push(Kept { source, shape, bytes: bytes.into(), key, arrived: self.arrived });
        let most = self.most();
        if self.bytes > MOST_BYTES || self.kept.len() >= most.saturating_mul(2).max(1024) {
            self.sort();
            let fits = self.fitting().min(most);
            self.kept.truncate(fits);
            self.bytes = self.kept.iter().map(|kept| kept.bytes.len() + OVERHEAD).sum();
            self.last = self.kept.last().map(|kept| kept.key.clone());
        }
    }

    fn most(&self) -> usize {
        self.top.unwrap_or(MOST_EVENTS).min(MOST_EVENTS)
    }

    /// Events that are wanted and found no room. Those behind the first N are not missed.
    pub fn dropped(&self) -> u64 {
        let wanted = self.top.map_or(self.arrived, |top| self.arrived.min(top as u64));
        wanted.saturating_sub(self.kept.len().min(self.most()) as u64)
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
    stacks: Vec<Stack>,
    key: SortKey,
    count: u64,
}

/// A combination: as JSON, as cells, and how often it came.
pub struct Line<'a> {
    pub json: &'a [u8],
    pub row: &'a Row,
    pub stacks: &'a [Stack],
    pub count: u64,
}

impl Count {
    pub fn new(order: Option<Order>, top: Option<usize>) -> Count {
        let (counts, scratch) = (HashMap::new(), Vec::new());
        Count { order, top, counts, bytes: 0, scratch, columns: Vec::new(), dropped: 0 }
    }

    /// Counts an event that is as long as its type. `stacks`: those that tell it from others, too.
    pub fn add(&mut self, view: &View, bytes: &[u8], stacks: Vec<Stack>, clock: &Clock) {
        let Some(layout) = &view.layout else { return };
        self.scratch.clear();
        // JSON has the types that cells have lost, and no clock.
        if layout.json(bytes, &mut self.scratch).is_err() {
            return;
        }
        if !stacks.is_empty() && self.scratch.pop().is_some() {
            // Of an object the brace that ends it.
            self.scratch.extend_from_slice(format!(",\"_stacks\":{}}}", stacks::json(&stacks)).as_bytes());
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
        self.counts.insert(self.scratch.as_slice().into(), Counted { row, stacks, key, count: 1 });
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
        (
            lines
                .map(|(json, counted)| Line { json, row: &counted.row, stacks: &counted.stacks, count: counted.count })
                .collect(),
            self.counts.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use ringfence_btf::{Builder, Int, New};
    use ringfence_value::{Layout, Path};

    use super::*;

    /// Events that are one number.
    fn view() -> View {
        let mut b = Builder::new();
        let int = Int { size: 4, bits: 32, offset: 0, signed: false, char: false, bool: false };
        let ty = b.add("u32", New::Int(int));
        let layout = Layout::compile(&b.build().expect("BTF"), ty).expect("a layout");
        let order = Path::parse("value").and_then(|path| layout.field(&path).ok());
        let mut view = View::new(None, layout);
        view.order = order;
        view
    }

    fn numbers(sort: &mut Sort) -> Vec<u32> {
        let number = |kept: Kept| kept.bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        sort.first().into_iter().filter_map(number).collect()
    }

    /// All numbers below `count`, mixed.
    fn mixed(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(move |n| (u64::from(n) * 7919 % u64::from(count)) as u32)
    }

    #[test]
    fn the_first_ones_stay_and_the_others_are_counted() {
        const COUNT: u32 = 250_000;
        let view = view();
        for (descending, top, missed) in [(false, None, 150_000), (true, Some(5), 0), (false, Some(200_000), 100_000)] {
            let mut sort = Sort::new(Order { descending, by_count: false }, top);
            mixed(COUNT).for_each(|n| sort.add(0, 0, &view, &n.to_le_bytes()));
            let kept = numbers(&mut sort);
            let most = top.unwrap_or(MOST_EVENTS).min(MOST_EVENTS);
            let wanted = (0..COUNT).map(|n| if descending { COUNT - 1 - n } else { n }).take(most);
            assert!(kept.iter().copied().eq(wanted), "{top:?}: {:?}", kept.get(..10));
            assert!(sort.dropped() == missed, "{top:?}: {}", sort.dropped());
        }
    }

    #[test]
    fn large_events_are_bounded_in_bytes() {
        let view = view();
        let mut sort = Sort::new(Order { descending: false, by_count: false }, None);
        let mut event = vec![0; 64 << 10];
        for n in mixed(2_500) {
            event[..4].copy_from_slice(&n.to_le_bytes());
            sort.add(0, 0, &view, &event);
            assert!(sort.bytes <= MOST_BYTES);
        }
        let kept = numbers(&mut sort);
        assert!(kept.len() > 500 && kept.iter().copied().eq(0..kept.len() as u32));
        assert_eq!(kept.len() as u64 + sort.dropped(), 2_500);
    }

    #[test]
    fn keys_are_bounded() {
        let view = view();
        let clock = Clock { now_ns: 0, offset_ns: 0, zone_seconds: 0 };
        let mut count = Count::new(None, Some(1));
        let keys = MOST_KEYS as u32 + 10;
        (0..keys).chain([3, 3]).for_each(|n| count.add(&view, &n.to_le_bytes(), Vec::new(), &clock));
        assert_eq!(count.dropped, 10);
        let (lines, all) = count.first();
        assert_eq!((lines.len(), all), (1, MOST_KEYS));
        assert_eq!(lines.first().map(|line| (line.json, line.count)), Some((&b"3"[..], 3)));
    }
}
