//! Sets of trade ids as ranges. The ids of an exchange are a sequence, so a slice usually is one range.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The most ranges that a set keeps. A slice with more holes is not one of a sequence.
const MAX_RANGES: usize = 1024;

/// A set of trade ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// First and last id of each range, ascending, with at least one id missing between two of them.
    ranges: Vec<(i64, i64)>,
    /// Whether there were more ranges than are kept.
    sparse: bool,
}

impl Ids {
    /// Returns the set of one id.
    pub fn of(id: i64) -> Self {
        Ids { ranges: vec![(id, id)], sparse: false }
    }

    /// Adds an id that is not below the highest one.
    #[inline]
    pub fn push(&mut self, id: i64) {
        self.append(id, id);
    }

    /// Adds all ids of another set.
    pub fn absorb(&mut self, other: &Ids) {
        self.sparse |= other.sparse;
        let mut all = std::mem::take(&mut self.ranges);
        all.extend(&other.ranges);
        all.sort_unstable();
        all.into_iter().for_each(|(first, last)| self.append(first, last));
    }

    /// Adds ids of which the first is not below the first one of the last range.
    #[inline]
    fn append(&mut self, first: i64, last: i64) {
        if let Some((_, end)) = self.ranges.last_mut()
            && first.checked_sub(1).is_none_or(|before| before <= *end)
        {
            *end = last.max(*end);
        } else if self.ranges.len() < MAX_RANGES {
            self.ranges.push((first, last));
        } else {
            self.sparse = true;
        }
    }

    /// Returns how many ids between the lowest and the highest one the set lacks. Further ranges of a set with too many
    /// ranges are not counted.
    pub fn missing(&self) -> i64 {
        self.ranges
            .windows(2)
            .map(|pair| pair[1].0.saturating_sub(pair[0].1).saturating_sub(1))
            .fold(0, i64::saturating_add)
    }

    /// Returns the set as PostgreSQL's int8multirange, or `None` if it has more ranges than are kept.
    pub fn multirange(&self) -> Option<String> {
        if self.sparse {
            return None;
        }
        let mut text = String::from("{");
        for (first, last) in &self.ranges {
            let comma = if text.len() > 1 { "," } else { "" };
            // The end of a range is exclusive, so the largest id has none.
            let end = last.checked_add(1).map(|end| end.to_string()).unwrap_or_default();
            let _ = write!(text, "{comma}[{first},{end})");
        }
        Some(text + "}")
    }
}

/// All trade ids of an asset, from the ranges of its slices in any order.
#[derive(Debug, Clone, Default)]
pub struct IdSet {
    /// Last id by first id. Ranges that touch are one.
    ranges: BTreeMap<i64, i64>,
}

impl IdSet {
    /// Adds the ids from `first` to `last`.
    pub fn insert(&mut self, mut first: i64, mut last: i64) {
        // Slices mostly come one after another, and then the last range grows.
        if let Some(mut range) = self.ranges.last_entry()
            && *range.key() <= first
            && first <= range.get().saturating_add(1)
        {
            let end = last.max(*range.get());
            range.insert(end);
            return;
        }
        // From the last range that begins at or before the end of the new one, backwards, while they touch it.
        while let Some((&begin, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            first = first.min(begin);
            last = last.max(end);
            self.ranges.remove(&begin);
        }
        self.ranges.insert(first, last);
    }

    /// Returns the number of ids.
    pub fn count(&self) -> i64 {
        self.ranges
            .iter()
            .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
            .fold(0, i64::saturating_add)
    }

    /// Returns first and last id of each hole between the lowest and the highest id, ascending.
    pub fn holes(&self) -> impl Iterator<Item = (i64, i64)> {
        self.ranges.values().zip(self.ranges.keys().skip(1)).map(|(last, first)| (last + 1, first - 1))
    }
}

/// Returns the first and the last id of each range in the text of an int8multirange. Returns `None` for other texts.
pub fn ranges_of(text: &str) -> Option<Vec<(i64, i64)>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let range = |text: &str| {
        let (first, end) = text.strip_prefix('[')?.split_once(',')?;
        // The highest number has none behind it.
        let last = if end.is_empty() { i64::MAX } else { end.parse::<i64>().ok()?.checked_sub(1)? };
        Some((first.parse().ok()?, last))
    };
    inner.strip_suffix(')')?.split("),").map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i64]) -> Ids {
        let mut set = Ids::default();
        ids.iter().for_each(|id| set.push(*id));
        set
    }

    fn text(ids: &Ids) -> String {
        ids.multirange().unwrap_or_default()
    }

    #[test]
    fn neighbours_join_and_repeated_ids_count_once() {
        assert_eq!(text(&set(&[1, 2, 2, 3, 5, 7, 8])), "{[1,4),[5,6),[7,9)}");
        assert_eq!(text(&set(&[])), "{}");
        assert_eq!(
            text(&set(&[i64::MIN, i64::MAX])),
            "{[-9223372036854775808,-9223372036854775807),[9223372036854775807,)}"
        );
    }

    #[test]
    fn the_text_of_a_set_is_read_back() {
        for ids in [set(&[]), set(&[7]), set(&[1, 2, 2, 3, 5, 7, 8]), set(&[i64::MIN, -3, i64::MAX])] {
            assert_eq!(ranges_of(&text(&ids)), Some(ids.ranges.clone()));
        }
        for other in ["", "{", "[1,2)", "{[1,2]}", "{(1,2)}", "{[1,2),}", "{[a,2)}", "{[,2)}"] {
            assert_eq!(ranges_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_union_does_not_depend_on_the_order() {
        let parts = [set(&[1, 2, 3]), set(&[4, 9]), set(&[2, 3, 4, 6]), set(&[5])];
        let union = |order: [usize; 4]| {
            let mut all = Ids::default();
            order.into_iter().for_each(|at| all.absorb(&parts[at]));
            text(&all)
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            assert_eq!(union(order), "{[1,7),[9,10)}");
        }
    }

    #[test]
    fn a_set_with_too_many_ranges_says_so() {
        let even: Vec<i64> = (0..=MAX_RANGES as i64).map(|n| 2 * n).collect();
        assert!(set(&even[..MAX_RANGES]).multirange().is_some());
        assert_eq!(set(&even).multirange(), None);
        let mut other = Ids::of(1);
        other.absorb(&set(&even));
        assert_eq!(other.multirange(), None);
    }

    #[test]
    fn holes_do_not_depend_on_the_order_of_the_ranges() {
        let ranges = [(1, 4), (5, 5), (8, 9), (3, 6), (12, 20), (13, 13), (21, 30), (40, i64::MAX), (i64::MIN, -5)];
        let mut orders = vec![ranges.to_vec()];
        for turn in 0..ranges.len() {
            let mut order = ranges.to_vec();
            order.rotate_left(turn);
            orders.push(order.clone());
            order.reverse();
            orders.push(order);
        }
        for order in orders {
            let mut set = IdSet::default();
            order.iter().for_each(|(first, last)| set.insert(*first, *last));
            let holes: Vec<_> = set.holes().collect();
            assert_eq!(holes, [(-4, 0), (7, 7), (10, 11), (31, 39)], "{order:?}");
        }
        assert_eq!(IdSet::default().holes().count(), 0);
    }
}
