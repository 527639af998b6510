//! Names close to one that does not exist.

/// The most names that an error shows.
const MOST: usize = 3;
/// Names longer than this are no slips of the finger.
const LONGEST: usize = 128;
/// Names up to this are a part of too many others.
const SHORT: usize = 3;

/// At most three of `known` for which `name` may be a slip, the nearest first; a name that it is a part of is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // With more than a third of the letters wrong, two names have nothing to do with each other.
    let limit = name.len().div_ceil(3);
    let most = u32::try_from(limit.saturating_mul(2)).unwrap_or(u32::MAX);
    let own = letters(name);
    let far = |other: &str| match name.len() > SHORT && name != other && other.contains(name) {
        true => Some(1),
        // An edit takes one letter away and brings another: where more differ the distance need not be known. A kernel has two
        // hundred thousand names.
        false if (own ^ letters(other)).count_ones() > most => None,
        false => distance(name, other, limit),
    };
    let mut near: Vec<_> = known.into_iter().filter_map(|other| Some((far(other)?, other))).collect();
    // Of those that are as near the one that is as long.
    near.sort_unstable_by_key(|(far, other)| (*far, other.len().abs_diff(name.len()), *other));
    near.dedup();
    let best = near.first().map_or(0, |(far, _)| *far);
    near.retain(|(far, _)| *far <= best.saturating_add(1));
    near.into_iter().take(MOST).map(|(_, name)| name.to_owned()).collect()
}

/// Which letters a name has, as bits.
fn letters(name: &str) -> u64 {
    name.bytes().fold(0, |letters, byte| letters | 1 << (byte & 63))
}

/// Levenshtein's distance; `None`: above the limit.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit || a.len() > LONGEST {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, x) in a.bytes().enumerate() {
        let mut diagonal = above;
        let mut left = above.saturating_add(1);
        for (at, cell) in row.iter_mut().enumerate() {
            let Some(y) = at.checked_sub(1).and_then(|at| b.as_bytes().get(at)) else {
                *cell = left;
                continue;
            };
            let changed = diagonal.saturating_add(usize::from(x != *y));
            diagonal = *cell;
            left = changed.min(left.saturating_add(1)).min(cell.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().filter(|far| *far <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting", 9), Some(3));
        assert_eq!(distance("kitten", "sitting", 2), None);
        assert_eq!(distance("", "abc", 9), Some(3));
        assert_eq!(distance("same", "same", 0), Some(0));
    }

    #[test]
    fn a_slip_is_found_and_nothing_else() {
        let known = ["target_pid", "target_tgid", "min_us", "verbose"];
        assert_eq!(nearest("targte_pid", known), ["target_pid"]);
        assert_eq!(nearest("Verbose", known), ["verbose"]);
        assert_eq!(nearest("tabel", ["table", "unsized"]), ["table"]);
        assert!(nearest("filename", known).is_empty());
        assert_eq!(nearest("verb", known), ["verbose"]);
        assert!(nearest("pid", known).is_empty());
        let events = ["sys_enter_openat", "sys_enter_openat2", "sys_exit_openat", "sched_switch"];
        assert_eq!(nearest("sys_enter_opennat", events), ["sys_enter_openat", "sys_enter_openat2"]);
        assert_eq!(nearest("sched_swich", events), ["sched_switch"]);
        assert!(nearest("tcp_connect", events).is_empty());
        let functions = ["initialize_readline", "pcomp_readline", "posix_readline", "readline"];
        assert_eq!(nearest("readlin", functions).first().map(String::as_str), Some("readline"));
    }
}
