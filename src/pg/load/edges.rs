//! What continuous aggregates must learn of appended ticks. TimescaleDB notes the lowest and the greatest bucket of the
//! rows that its own INSERT stores in a chunk, and logs all between them when the transaction commits. So the ticks at
//! the edges of a batch are stored by INSERT, and everything between them may be appended.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use pgrx::pg_sys;
use pgrx::spi::SpiClient;
use serde::de::IgnoredAny;

use crate::error::Result;
use crate::pg::session::ffi::TickStore;
use crate::pg::session::spi;
use crate::pg::session::time::timestamp;
use crate::tuple::batch::EncodedBatch;

/// A tuple of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub tuple: usize,
    /// Microseconds since 1970.
    bucket: i64,
}

/// The buckets that TimescaleDB has noted in this load.
pub struct Edges {
    collation: pg_sys::Oid,
    /// The chunk, and the start of the lowest and of the greatest bucket, in microseconds since 1970. No subtransaction
    /// of the load can roll it back.
    noted: Option<(pg_sys::Oid, RangeInclusive<i64>)>,
}

impl Edges {
    pub fn new(collation: pg_sys::Oid) -> Self {
        Edges { collation, noted: None }
    }

    /// Returns the tuples that are to be stored by INSERT, so that TimescaleDB notes all buckets of a batch: one of the
    /// lowest bucket before the others, in key order, and one of the greatest behind them. `skip` are the tuples that
    /// are not stored.
    pub fn lacking(
        &self,
        chunk: pg_sys::Oid,
        encoded: &mut EncodedBatch,
        skip: &HashSet<usize>,
    ) -> (Option<Edge>, Option<Edge>) {
        let mut stored = (0..encoded.tuples.len()).filter(|tuple| !skip.contains(tuple));
        let Some(first) = stored.next() else { return (None, None) };
        let last = stored.next_back().unwrap_or(first);
        let mut edge = |tuple: usize| encoded.run_of(tuple).map(|run| Edge { tuple, bucket: run.bucket });
        let is_noted = |edge: &Edge| {
            self.noted.as_ref().is_some_and(|(oid, buckets)| *oid == chunk && buckets.contains(&edge.bucket))
        };
        let lowest = edge(first);
        let greatest = edge(last).filter(|edge| lowest.is_none_or(|lowest| lowest.bucket != edge.bucket));
        (lowest.filter(|edge| !is_noted(edge)), greatest.filter(|edge| !is_noted(edge)))
    }

    /// Stores an edge, which makes TimescaleDB note its bucket. Returns `false` if it is stored already: then nothing
    /// is noted.
    pub fn insert(
        &mut self,
        client: &mut SpiClient<'_>,
        chunk: pg_sys::Oid,
        encoded: &EncodedBatch,
        edge: Edge,
    ) -> Result<bool> {
        let _store = TickStore::register_these(&encoded.tuples, &[edge.tuple], self.collation)?;
        let stored: Vec<IgnoredAny> = spi::fetch(client, statement!("insert_missing"), &[])?;
        if !stored.is_empty() {
            self.extend(chunk, edge.bucket);
        }
        Ok(!stored.is_empty())
    }

    /// Makes TimescaleDB note the bucket of an edge that is stored already. Returns `false` if it is not stored any
    /// more.
    pub fn touch(
        &mut self,
        client: &mut SpiClient<'_>,
        chunk: pg_sys::Oid,
        encoded: &EncodedBatch,
        edge: Edge,
    ) -> Result<bool> {
        let _store = TickStore::register_these(&encoded.tuples, &[edge.tuple], self.collation)?;
        let touched = spi::fetch(client, statement!("touch_edge"), &[timestamp(edge.bucket)?.into()])?;
        if touched {
            self.extend(chunk, edge.bucket);
        }
        Ok(touched)
    }

    fn extend(&mut self, chunk: pg_sys::Oid, bucket: i64) {
        let buckets = match &self.noted {
            Some((oid, buckets)) if *oid == chunk => bucket.min(*buckets.start())..=bucket.max(*buckets.end()),
            _ => bucket..=bucket,
        };
        self.noted = Some((chunk, buckets));
    }
}
