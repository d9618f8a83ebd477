//! The prefetch depth: how many objects a worker claims before it loads them.

use std::time::Duration;

use super::prefetch::MAX_PREFETCHED;

/// The prefetched objects should take PostgreSQL this long at first. S3 can deliver the next objects in this time, and
/// few objects wait behind a large one.
const FIRST_TARGET: Duration = Duration::from_millis(80);
/// The longest that this time may grow to. A longer time would not help, because large objects are not prefetched.
const LARGEST_TARGET: Duration = Duration::from_millis(640);
/// The object that is fetched and decoded, and the one after it.
const LEAST: usize = 2;

/// The prefetch depth of one worker, which adapts to the objects and to S3. It starts anew when the queue is empty.
#[derive(Debug, Clone, Copy)]
pub struct PrefetchDepth {
    /// How long PostgreSQL should take for the prefetched objects.
    target: Duration,
    /// How long PostgreSQL took for the last object.
    work: Option<Duration>,
}

impl Default for PrefetchDepth {
    fn default() -> Self {
        PrefetchDepth { target: FIRST_TARGET, work: None }
    }
}

impl PrefetchDepth {
    /// Records a loaded object: `work` is its time in PostgreSQL, `waited` the time before that in which the worker
    /// only waited for S3.
    pub fn loaded(&mut self, work: Duration, waited: Duration) {
        let first = self.work.replace(work).is_none();
        // The first object was not prefetched, so its wait says nothing. At the largest depth, more time changes
        // nothing.
        if !first && waited > work / 2 && self.wanted() < MAX_PREFETCHED {
            self.target = LARGEST_TARGET.min(self.target * 2);
        }
    }

    /// Returns how many objects should be claimed beyond the one that is loaded.
    fn wanted(&self) -> usize {
        let loads = self.work.map_or(0, |work| self.target.as_micros() / work.as_micros().max(1));
        usize::try_from(loads).unwrap_or(MAX_PREFETCHED).clamp(LEAST, MAX_PREFETCHED)
    }

    /// Returns how many objects to claim now if `claimed` objects are claimed already. It is 0 while more than half of
    /// the depth is claimed. Thus objects are claimed together rather than one by one, and always before the last
    /// claimed object is loaded, so that one is always being fetched.
    pub fn missing(&self, claimed: usize) -> usize {
        let wanted = self.wanted();
        if claimed <= wanted / 2 { wanted - claimed } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(loads: &[(u32, u32)]) -> PrefetchDepth {
        let mut depth = PrefetchDepth::default();
        loads.iter().for_each(|(work, waited)| depth.loaded(MS * *work, MS * *waited));
        depth
    }

    #[test]
    fn little_is_claimed_before_anything_is_known() {
        assert_eq!(PrefetchDepth::default().missing(0), LEAST);
        assert_eq!(PrefetchDepth::default().missing(1), 1);
        assert_eq!(PrefetchDepth::default().missing(2), 0);
    }

    #[test]
    fn more_small_objects_are_prefetched_than_large_ones() {
        let missing = [1, 10, 16, 40, 10_000].map(|work| after(&[(work, 0)]).missing(0));
        assert_eq!(missing, [MAX_PREFETCHED, MAX_PREFETCHED, 5, 2, LEAST]);
        assert_eq!(after(&[(0, 0)]).missing(0), MAX_PREFETCHED);
    }

    #[test]
    fn many_are_claimed_together() {
        assert_eq!([8, 5, 4, 1].map(|claimed| after(&[(1, 0)]).missing(claimed)), [0, 0, 4, 7]);
    }

    #[test]
    fn a_wait_for_s3_deepens_the_prefetch_but_not_the_first_wait() {
        assert_eq!(after(&[(40, 500)]).missing(0), 2);
        assert_eq!(after(&[(40, 500), (40, 60)]).missing(0), 4);
        assert_eq!(after(&[(40, 500), (40, 60), (40, 60)]).missing(0), MAX_PREFETCHED);
        assert_eq!(after(&[(40, 500), (40, 60), (40, 10)]).missing(0), 4);
        assert_eq!(after(&[(2, 0), (2, 5), (2, 5), (2, 5), (40, 0)]).missing(0), 2);
        let mut far = after(&[(40, 0)]);
        (0..1000).for_each(|_| far.loaded(MS * 40, MS * 100));
        assert_eq!(far.missing(0), MAX_PREFETCHED);
        (0..10).for_each(|_| far.loaded(MS * 10_000, MS * 20_000));
        assert_eq!(far.missing(0), LEAST);
    }
}
