//! Which chunks ticks need that do not exist yet.

use std::collections::BTreeSet;
use std::ops::Range;

/// Returns the beginnings of the chunks that ticks in these buckets need beside the `existing` ones. All times are in
/// microseconds since 1970; `existing` is sorted. A new chunk begins at a multiple of `interval`.
pub fn missing_chunks(buckets: impl IntoIterator<Item = i64>, existing: &[Range<i64>], interval: i64) -> BTreeSet<i64> {
    let exists = |bucket: &i64| {
        let at = existing.partition_point(|chunk| chunk.start <= *bucket);
        at > 0 && existing[at - 1].contains(bucket)
    };
    buckets
        .into_iter()
        .filter(|bucket| !exists(bucket))
        .map(|bucket| bucket - bucket.rem_euclid(interval.max(1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_chunk_counts_once_and_existing_ones_do_not() {
        let existing = [0..10, 20..30];
        assert_eq!(missing_chunks([0, 9, 25], &existing, 10), BTreeSet::new());
        assert_eq!(missing_chunks([-1, 10, 11, 19, 30, 39, 40], &existing, 10), BTreeSet::from([-10, 10, 30, 40]));
        assert_eq!(missing_chunks([5], &[], 10), BTreeSet::from([0]));
    }

    #[test]
    fn existing_chunks_may_have_another_interval() {
        assert_eq!(missing_chunks([3, 7, 12], &[0..5, 10..11], 4), BTreeSet::from([4, 12]));
    }

    #[test]
    fn an_interval_that_makes_no_sense_is_survived() {
        assert_eq!(missing_chunks([3], &[], 0), BTreeSet::from([3]));
    }
}
