//! Chunks that other sessions hold. A load that needs one waits for a second and is put off. So that such loads do not
//! take all of a worker's time, it claims their objects last for a while.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::{Duration, Instant};

use pgrx::datum::TimestampWithTimeZone;

use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::model::bucket::POSTGRES_EPOCH_US;
use crate::pg::load::chunk;
use crate::pg::session::ffi::Failure;
use crate::pg::session::time::{Time, timestamp};

/// For how long the objects of a chunk come last.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most chunks that are remembered.
const MOST: usize = 32;

thread_local! {
    /// Times of chunks in microseconds since 1970, and until when their objects come last.
    static HELD: RefCell<Vec<(Range<i64>, Instant)>> = const { RefCell::new(Vec::new()) };
    static IS_NEW: Cell<bool> = const { Cell::new(false) };
}

/// Notes the chunk for which the last load has waited in vain, if that was its failure.
pub fn note(failure: &Failure) {
    if failure.verdict() != Verdict::LockTimeout {
        return;
    }
    let Some(chunk) = chunk::take_awaited() else { return };
    HELD.with_borrow_mut(|held| {
        held.retain(|(other, _)| *other != chunk);
        held.truncate(MOST - 1);
        held.insert(0, (chunk, Instant::now() + PATIENCE));
    });
    IS_NEW.set(true);
}

/// Returns once whether [`note`] has noted a chunk.
pub fn has_new() -> bool {
    IS_NEW.take()
}

/// Returns the beginnings and the ends of the chunks whose objects come last now.
pub fn times() -> Result<(Vec<TimestampWithTimeZone>, Vec<TimestampWithTimeZone>)> {
    let bounds = |range: Range<i64>| Ok((timestamp(range.start)?, timestamp(range.end)?));
    now().into_iter().map(bounds).collect()
}

/// Returns whether objects whose times begin then come last now.
pub fn holds(span: Time) -> bool {
    match span {
        Time::At(us) => now().iter().any(|chunk| chunk.contains(&us.saturating_add(POSTGRES_EPOCH_US))),
        Time::Beginning | Time::End => false,
    }
}

fn now() -> Vec<Range<i64>> {
    HELD.with_borrow_mut(|held| {
        let now = Instant::now();
        held.retain(|(_, until)| *until > now);
        held.iter().map(|(chunk, _)| chunk.clone()).collect()
    })
}
