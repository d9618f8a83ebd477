//! The chunks over which the ticks of one load reach. Each takes locks for the table and its indexes until the
//! transaction ends, and the ticks of a small object may reach over thousands.

use std::collections::BTreeSet;

use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::bucket::BUCKET_US;
use crate::model::chunk_reach::missing_chunks;
use crate::pg::session::time::date;
use crate::pg::session::{lock_room, spi};
use crate::tuple::batch::SliceRun;

/// Further locks of a chunk that is being made: its TOAST table, the index of that, and what TimescaleDB locks.
const LOCKS_OF_NEW: usize = 3;

/// The chunks over which a load has reached so far.
#[derive(Debug, Default)]
pub struct Reach {
    /// Where they begin, in microseconds since 1970.
    chunks: BTreeSet<i64>,
    /// How many they are: of a hypertable with further dimensions, several may begin together.
    number: usize,
    /// The locks that they take.
    locks: usize,
}

/// The row of `chunks_between.sql`. All times are in microseconds since 1970.
#[derive(Deserialize)]
struct Between {
    interval: i64,
    indexes: usize,
    /// How many chunks there may be of the same time.
    beside: usize,
    existing: Vec<(i64, i64)>,
}

impl Reach {
    /// Must be called before statements over the hypertable store these runs, which are sorted by bucket. Such a
    /// statement locks all chunks between the first and the last bucket, also those without a tick of the object.
    pub fn extend(&mut self, client: &mut SpiClient<'_>, runs: &[&SliceRun]) -> Result<()> {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(()) };
        let args = [(first.bucket - BUCKET_US).into(), (last.bucket + BUCKET_US).into()];
        let Between { interval, indexes, beside, existing } =
            spi::fetch_kept(client, statement!("chunks_between"), &args)?;
        let existing: Vec<_> = existing.into_iter().map(|(from, to)| from..to).collect();
        let missing = missing_chunks(runs.iter().map(|run| run.bucket), &existing, interval);
        let before = self.chunks.len();
        let mut add = |begin: i64, locks: usize| if self.chunks.insert(begin) { locks * beside } else { 0 };
        let locks: usize = existing.iter().map(|chunk| add(chunk.start, 1 + indexes)).sum::<usize>()
            + missing.into_iter().map(|begin| add(begin, 1 + indexes + LOCKS_OF_NEW)).sum::<usize>();
        self.number += (self.chunks.len() - before) * beside;
        self.locks += locks;
        let most = lock_room::most();
        if self.locks > most {
            let ends = self.chunks.first().zip(self.chunks.last());
            let span = ends.map(|(from, to)| format!("from {} to {}", date(*from), date(*to))).unwrap_or_default();
            return Err(Error::TooManyChunks { chunks: self.number, span, locks: self.locks, most });
        }
        lock_room::reserve(locks)
    }
}
