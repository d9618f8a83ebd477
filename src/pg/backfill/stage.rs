//! Objects into the plain table that is to become a chunk. It has no index yet, so nothing may go in that could meet a tick
//! that is there already: an object with such ticks, or with ticks of other chunks, is left to the slices in part.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use pgrx::pg_sys;
use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::load::pipeline::LoadEvent;
use crate::model::bucket::BUCKET_US;
use crate::model::report::LoadReport;
use crate::pg::load::events::{self, First};
use crate::pg::load::offsets::Offsets;
use crate::pg::load::plan::LoadPlan;
use crate::pg::load::probe::{IdRange, Met, probe};
use crate::pg::load::record::{LoadResult, ObjectRecord};
use crate::pg::load::slices::{Slices, add_to};
use crate::pg::load::{chunk, one};
use crate::pg::queue::attempt;
use crate::pg::session::ffi::Thread;
use crate::tuple::batch::{EncodedBatch, SliceRun};

/// What became of one object.
pub enum Staged {
    /// All of its ticks are stored, so many of them by this chunk.
    Finished {
        /// What its whole load did.
        report: Box<LoadReport>,
        /// Rows in the table.
        rows: i64,
    },
    /// So many are; the rest is not this chunk's, or meets what is there.
    Left {
        /// Rows in the table.
        rows: i64,
    },
}

impl Staged {
    /// Rows that went into the table.
    pub fn rows(&self) -> i64 {
        match self {
            Staged::Finished { rows, .. } | Staged::Left { rows } => *rows,
        }
    }
}

/// Bucket and asset.
type SliceKey = (i64, Arc<str>);

/// The table, and which trade ids are in it.
pub struct Stage {
    table: pg_sys::Oid,
    buckets: Range<i64>,
    /// Ranges of ids per slice, one per batch.
    seen: HashMap<SliceKey, Vec<(i64, i64)>>,
    /// The keys of `seen` in the order in which ranges came, to forget the last ones.
    order: Vec<SliceKey>,
    /// Written when the chunk is made: until the end of the transaction nobody else could move them.
    pub offsets: Offsets,
}

impl Stage {
    /// An empty table for these buckets, microseconds since 1970.
    pub fn new(table: pg_sys::Oid, buckets: Range<i64>) -> Self {
        Stage { table, buckets, seen: HashMap::new(), order: Vec::new(), offsets: Offsets::default() }
    }

    /// A point to return to with [`Stage::forget_since`].
    pub fn mark(&self) -> usize {
        self.order.len()
    }

    /// What came since then was rolled back.
    pub fn forget_since(&mut self, mark: usize) {
        for key in self.order.drain(mark..) {
            if let Some(ranges) = self.seen.get_mut(&key) {
                ranges.pop();
            }
        }
    }

    /// Takes one object's events from the thread and stores the ticks that belong here. If these are all of the object's ticks,
    /// the object is loaded.
    pub fn load(
        &mut self,
        client: &mut SpiClient<'_>,
        plan: &LoadPlan,
        thread: &mut Thread<LoadEvent>,
    ) -> Result<Staged> {
        let started = Instant::now();
        let LoadPlan { job, version } = plan;
        let record = ObjectRecord::without_lock(&job.uri)?;
        let known = record.known(client)?;
        let opened = match events::first(thread, &known)? {
            First::AlreadyLoaded(head, cost) => {
                let report = one::already_loaded(job, head, cost, started);
                record.mark_loaded(client, version)?;
                record.record_history(client, &report)?;
                return Ok(Staged::Finished { report: Box::new(report), rows: 0 });
            }
            First::Opened(opened) => opened,
        };
        let mut rows = 0;
        let mut meets = false;
        let mut slices = Slices::new();
        let (cost, storing) = events::batches(thread, |batch| {
            // Once a batch has met something, the rest of the object is merged with it, when the object is loaded by itself.
            meets = meets || self.meets(client, batch)?;
            if !meets {
                rows += self.add(batch, &mut slices) as i64;
            }
            Ok(())
        })?;
        let mut report = one::report_of(job, &opened, &cost);
        report.slices = slices.len() as i32;
        report.insert_ms = one::ms(storing);
        report.elapsed_ms = one::ms(started.elapsed());
        // Two chunks may hold parts of the object: its row says how many of its ticks are stored by now.
        report.inserted = match rows {
            0 => known.rows_staged(&opened.head.etag),
            rows if rows == report.read => rows,
            rows => record.add_staged(client, &opened.head, rows)?,
        };
        let result = LoadResult { options: &job.options, opened: &opened, slices: &slices, report: &report, version };
        if report.inserted == report.read {
            attempt::count(client, &report.uri)?;
            record.record_but_offsets(client, &result)?;
            record.note_offsets(&result, &mut self.offsets);
            return Ok(Staged::Finished { report: Box::new(report), rows });
        }
        record.record_object_slices(client, &result)?;
        Ok(Staged::Left { rows })
    }

    /// Whether a trade at the edges of the table stands in the hypertable, on the other side of the border, by now.
    pub fn meets_neighbours(&self, client: &mut SpiClient<'_>) -> Result<bool> {
        let edges = [self.buckets.start, self.buckets.end - BUCKET_US];
        let mut at_edge = Vec::new();
        for ((bucket, symbol), ranges) in self.seen.iter().filter(|((bucket, _), _)| edges.contains(bucket)) {
            at_edge.extend(ranges.iter().map(|(first_id, last_id)| IdRange {
                bucket: *bucket,
                symbol: symbol.clone(),
                first_id: *first_id,
                last_id: *last_id,
            }));
        }
        at_edge.sort_by_key(|range| range.bucket);
        Ok(probe(client, &at_edge, None)? != Met::default())
    }

    /// Whether a tick of the batch is, or may be, in the table already, or next to its edges in the hypertable.
    fn meets(&self, client: &mut SpiClient<'_>, batch: &EncodedBatch) -> Result<bool> {
        let own: Vec<&SliceRun> = batch.runs.iter().filter(|run| self.buckets.contains(&run.bucket)).collect();
        if !own.is_empty() && (!batch.misplaced.is_empty() || own.iter().any(|run| run.repeats)) {
            return Ok(true);
        }
        for run in &own {
            for bucket in [run.bucket - BUCKET_US, run.bucket, run.bucket + BUCKET_US] {
                let ranges = self.seen.get(&(bucket, run.symbol.clone()));
                let overlaps = |(first, last): &(i64, i64)| *first <= run.last_id && *last >= run.first_id;
                if ranges.is_some_and(|ranges| ranges.iter().any(overlaps)) {
                    return Ok(true);
                }
            }
        }
        let edges = [self.buckets.start, self.buckets.end - BUCKET_US];
        let at_edge = own.into_iter().filter(|run| edges.contains(&run.bucket)).map(IdRange::from);
        Ok(probe(client, &at_edge.collect::<Vec<_>>(), None)? != Met::default())
    }

    /// Puts the ticks of this chunk into the table; how many.
    fn add(&mut self, batch: &mut EncodedBatch, slices: &mut Slices) -> u64 {
        let mut skip = HashSet::new();
        let mut own = 0;
        for run in &batch.runs {
            if self.buckets.contains(&run.bucket) {
                own += run.len;
                let key = (run.bucket, run.symbol.clone());
                self.seen.entry(key.clone()).or_default().push((run.first_id, run.last_id));
                self.order.push(key);
                add_to(slices, run);
            } else {
                skip.extend(run.start..run.start + run.len);
            }
        }
        if own == 0 {
            return 0;
        }
        chunk::append(self.table, batch, &skip).stored
    }
}
