//! The order in which the rows of a batch go into an index.

use std::cmp::Ordering;

use super::Tid;

/// The rows of a batch in the order of an index: by their keys, and rows with equal keys by their places.
#[derive(Debug)]
pub struct Sorted {
    rows: Vec<u32>,
    /// Whether a row has the same keys as the one before it.
    equal: Vec<bool>,
}

impl Sorted {
    /// Sorts `count` rows. It is quick if the rows come in the order of the index, or, with `reversed`, against it.
    pub fn new(
        count: usize,
        reversed: bool,
        mut compare: impl FnMut(usize, usize) -> Ordering,
        tid: impl Fn(usize) -> Tid,
    ) -> Self {
        let mut rows: Vec<u32> = (0..count as u32).collect();
        if reversed {
            rows.reverse();
        }
        // The sort is stable and finds runs. Equal keys do not end a run in either order of their places.
        rows.sort_by(|a, b| compare(*a as usize, *b as usize));
        let mut equal = vec![false; count];
        let mut group = 0;
        for at in 1..=count {
            equal.get_mut(at).into_iter().for_each(|equal| {
                *equal = compare(rows[at - 1] as usize, rows[at] as usize).is_eq();
            });
            if equal.get(at) != Some(&true) {
                rows[group..at].sort_unstable_by_key(|row| tid(*row as usize));
                group = at;
            }
        }
        Self { rows, equal }
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the row at a position.
    #[must_use]
    pub fn row(&self, at: usize) -> usize {
        self.rows[at] as usize
    }

    /// Returns the rows from a position on.
    #[must_use]
    pub fn rows(&self, at: usize, count: usize) -> &[u32] {
        &self.rows[at..at + count]
    }

    /// Returns whether the row at a position has the same keys as the one before it.
    #[must_use]
    pub fn repeats(&self, at: usize) -> bool {
        self.equal[at]
    }

    /// Returns how many rows from a position on, at most `most`, have keys of their own.
    #[must_use]
    pub fn distinct(&self, at: usize, most: usize) -> usize {
        let end = self.len().min(at + most);
        self.equal[(at + 1).min(end)..end].iter().position(|equal| *equal).map_or(end - at, |equal| equal + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(keys: &[i32], reversed: bool) -> (Vec<usize>, Vec<bool>) {
        let tid = |row: usize| Tid::new(row as u32, 1);
        let sorted = Sorted::new(keys.len(), reversed, |a, b| keys[a].cmp(&keys[b]), tid);
        ((0..keys.len()).map(|at| sorted.row(at)).collect(), sorted.equal)
    }

    #[test]
    fn equal_keys_are_in_the_order_of_their_places_from_either_side() {
        for reversed in [false, true] {
            let (rows, equal) = sorted(&[3, 3, 2, 2, 2, 1], reversed);
            assert_eq!(rows, [5, 2, 3, 4, 0, 1], "{reversed}");
            assert_eq!(equal, [false, false, true, true, false, true]);
        }
        assert_eq!(sorted(&[], true), (vec![], vec![]));
        assert_eq!(sorted(&[7, 7], true), (vec![0, 1], vec![false, true]));
    }

    #[test]
    fn sorted_rows_take_two_comparisons_each() {
        for reversed in [false, true] {
            let mut count = 0;
            let keys: Vec<i32> = (0..10_000).map(|at| if reversed { 10_000 - at } else { at } / 3).collect();
            let compare = |a: usize, b: usize| {
                count += 1;
                keys[a].cmp(&keys[b])
            };
            Sorted::new(keys.len(), reversed, compare, |row| Tid::new(row as u32, 1));
            assert!(count < 20_100, "{count}");
        }
    }

    #[test]
    fn rows_with_keys_of_their_own_end_at_the_first_that_repeats() {
        let keys = [1, 2, 2, 3];
        let sorted = Sorted::new(4, false, |a, b| keys[a].cmp(&keys[b]), |row| Tid::new(row as u32, 1));
        let distinct = |at| sorted.distinct(at, 3);
        assert_eq!([0, 1, 2, 3].map(distinct), [2, 1, 2, 1]);
        assert_eq!(sorted.distinct(0, 1), 1);
    }
}
