//! Names that are close to one that does not exist.

/// The most names that an error shows.
const MOST: usize = 3;

/// At most three of `known` that `name` may be a slip for, the nearest first.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // A third of the letters may be wrong: with more, the names have nothing to do with each other.
    let limit = (name.len() / 3).max(1);
    let letters = letters(name);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|other| {
            let part = name.len() > 3 && other.contains(name);
            // An edit takes one letter away and brings another: where more differ, the distance need not be known. A kernel has
            // two hundred thousand names.
            let like = (letters ^ self::letters(other)).count_ones() as usize <= 2 * limit;
            let far = if part { 1 } else { like.then(|| distance(name, other, limit)).flatten()? };
            Some((far, other))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().take(MOST).map(|(_, other)| other.to_owned()).collect()
}

/// Which letters a name has, as bits.
fn letters(name: &str) -> u64 {
    name.bytes().fold(0, |letters, byte| letters | 1 << (byte & 63))
}

/// Levenshtein's distance, `None` when it is above `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let swap = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = swap.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().filter(|far| *far <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_nothing_else() {
        let known = ["sys_enter_openat", "sys_enter_openat2", "sys_exit_openat", "sched_switch"];
        assert_eq!(nearest("sys_enter_opennat", known)[0], "sys_enter_openat");
        assert_eq!(nearest("sched_swich", known), ["sched_switch"]);
        assert!(nearest("tcp_connect", known).is_empty());
        assert_eq!(distance("kitten", "sitting", 5), Some(3));
        assert_eq!(distance("kitten", "sitting", 2), None);
        assert_eq!(distance("", "ab", 2), Some(2));
    }
}
