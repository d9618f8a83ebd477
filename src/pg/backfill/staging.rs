//! The staging table of a unit: a plain table that becomes a chunk. It may have no index while it is filled, so
//! nothing would notice a trade that is stored twice. A batch that may hold a stored trade therefore does not
//! go in, nor do ticks of other chunks. The rest of such an object is stored when the object is loaded by
//! itself.

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
use crate::pg::load::events::{self, First, Read};
use crate::pg::load::offsets::Offsets;
use crate::pg::load::plan::LoadPlan;
use crate::pg::load::probe::{IdRange, Met, probe};
use crate::pg::load::record::{LoadResult, ObjectRecord};
use crate::pg::load::slices::{Slices, add_to};
use crate::pg::load::{chunk, one};
use crate::pg::queue::attempt;
use crate::pg::session::ffi::Thread;
use crate::pg::session::shared::{Phase, Progress};
use crate::tuple::batch::{EncodedBatch, SliceRun};

/// What became of one object.
pub enum Staged {
    /// All of its ticks are stored, by this unit or an earlier one. The object is loaded.
    Loaded {
        /// The report of its load.
        report: Box<LoadReport>,
        /// Rows that this unit has stored.
        rows: i64,
    },
    /// Some of its ticks belong to other chunks, or may be stored already.
    Partial {
        /// Rows that this unit has stored.
        rows: i64,
    },
}

impl Staged {
    /// Returns how many rows went into the table.
    pub fn rows(&self) -> i64 {
        match self {
            Staged::Loaded { rows, .. } | Staged::Partial { rows } => *rows,
        }
    }
}

/// Bucket and asset.
type SliceKey = (i64, Arc<str>);

/// The lowest and the highest trade id of a batch in a slice.
struct IdsOfBatch {
    first: i64,
    last: i64,
    /// Whether the table holds these ticks. If not, they are left to a load of their object alone, and so are ticks of
    /// later objects that may meet them: the object that comes first must win.
    stored: bool,
}

/// The table, and the trade ids that it holds.
pub struct StagingTable {
    /// Its oid.
    pub table: pg_sys::Oid,
    /// The buckets of the chunk, microseconds since 1970.
    buckets: Range<i64>,
    /// Ranges of trade ids by slice, one per batch.
    ids: HashMap<SliceKey, Vec<IdsOfBatch>>,
    /// The keys of `ids` in the order in which ranges were added, for [`StagingTable::roll_back_to`].
    added: Vec<SliceKey>,
    /// Offsets of the objects that are loaded. They are written when the chunk is attached: their rows stay
    /// locked until the transaction ends, and other sessions wait for them.
    pub offsets: Offsets,
}

impl StagingTable {
    /// Describes an empty table for these buckets, microseconds since 1970.
    pub fn new(table: pg_sys::Oid, buckets: Range<i64>) -> Self {
        StagingTable { table, buckets, ids: HashMap::new(), added: Vec::new(), offsets: Offsets::default() }
    }

    /// Returns a point for [`StagingTable::roll_back_to`].
    pub fn mark(&self) -> usize {
        self.added.len()
    }

    /// Forgets the ids that were added since `mark`, after the rollback of their rows.
    pub fn roll_back_to(&mut self, mark: usize) {
        for key in self.added.drain(mark..) {
            if let Some(ranges) = self.ids.get_mut(&key) {
                ranges.pop();
            }
        }
    }

    /// Takes the events of one object from the thread, and stores its ticks that belong to this chunk. If all
    /// ticks of the object are stored then, the object is recorded as loaded.
    pub fn load(
        &mut self,
        client: &mut SpiClient<'_>,
        plan: &LoadPlan,
        thread: &mut Thread<LoadEvent>,
    ) -> Result<Staged> {
        let started = Instant::now();
        let LoadPlan { job, version, .. } = plan;
        let record = ObjectRecord::without_lock(&job.uri)?;
        let known = record.known(client)?;
        let progress = Progress::begin(&plan.uri(), Phase::Opening);
        let opened = match events::first(thread, &known)? {
            First::AlreadyLoaded(head, cost) => {
                let report = one::already_loaded(job, head, cost, started);
                record.mark_loaded(client, version)?;
                record.record_history(client, &report)?;
                return Ok(Staged::Loaded { report: Box::new(report), rows: 0 });
            }
            First::Opened(opened) => opened,
        };
        progress.show(|load| {
            load.size = opened.head.size as i64;
            load.rows = opened.rows as i64;
            load.phase = Phase::Storing;
        });
        let mut rows = 0;
        let mut overlaps = false;
        let mut slices = Slices::new();
        let Read { cost, storing, .. } = events::batches(thread, |batch| {
            let read = (batch.rows.len() as u64 + batch.rejected) as i64;
            progress.show(|load| load.read += read);
            // Behind the first batch that overlaps, nothing more of the object is stored here.
            overlaps = overlaps || self.overlaps(client, batch)?;
            self.remember_ids(batch, !overlaps);
            if !overlaps {
                rows += self.add(batch, &mut slices) as i64;
            }
            Ok(())
        })?;
        let mut report = one::report_of(job, &opened, &cost);
        report.slices = slices.len() as i32;
        report.insert_ms = one::ms(storing);
        report.elapsed_ms = one::ms(started.elapsed());
        // Two workers may store parts of the object in two chunks at the same time. Its row counts all parts.
        report.inserted = match rows {
            0 => known.rows_staged(&opened.head.etag),
            rows if rows == report.read => rows,
            rows => record.add_staged(client, &opened.head, rows)?,
        };
        let (options, on_conflict) = (&job.options, known.on_conflict(&opened.head.etag, &job.options));
        let result = LoadResult { options, on_conflict, opened: &opened, slices: &slices, report: &report, version };
        if report.inserted == report.read {
            attempt::count(client, &report.uri)?;
            record.record_but_offsets(client, &result)?;
            record.note_offsets(&result, &mut self.offsets);
            return Ok(Staged::Loaded { report: Box::new(report), rows });
        }
        record.record_object_slices(client, &result)?;
        Ok(Staged::Partial { rows })
    }

    /// Returns whether the hypertable holds a trade of the first or the last bucket on the other side of the
    /// chunk's border.
    pub fn overlaps_neighbours(&self, client: &mut SpiClient<'_>) -> Result<bool> {
        let mut ids = Vec::new();
        for ((bucket, symbol), ranges) in self.ids.iter().filter(|((bucket, _), _)| self.is_edge(*bucket)) {
            ids.extend(ranges.iter().filter(|ids| ids.stored).map(|ids| IdRange {
                bucket: *bucket,
                symbol: symbol.clone(),
                first_id: ids.first,
                last_id: ids.last,
            }));
        }
        ids.sort_by_key(|range| range.bucket);
        Ok(probe(client, &ids, None)? != Met::default())
    }

    /// Returns whether a trade of the batch may be stored already: in the table, or in the hypertable beside
    /// its borders.
    fn overlaps(&self, client: &mut SpiClient<'_>, batch: &EncodedBatch) -> Result<bool> {
        let own: Vec<&SliceRun> = batch.runs.iter().filter(|run| self.buckets.contains(&run.bucket)).collect();
        if !own.is_empty() && (!batch.misplaced.is_empty() || own.iter().any(|run| run.repeats)) {
            return Ok(true);
        }
        if own.iter().any(|run| self.overlaps_table(run)) {
            return Ok(true);
        }
        let at_edge = own.into_iter().filter(|run| self.is_edge(run.bucket)).map(IdRange::from);
        Ok(probe(client, &at_edge.collect::<Vec<_>>(), None)? != Met::default())
    }

    /// Returns whether the table holds ids of the run's range, in its bucket or the buckets before and behind
    /// it, or an object before has left some.
    fn overlaps_table(&self, run: &SliceRun) -> bool {
        let overlaps = |ids: &IdsOfBatch| ids.first <= run.last_id && ids.last >= run.first_id;
        [run.bucket - BUCKET_US, run.bucket, run.bucket + BUCKET_US].into_iter().any(|bucket| {
            let ranges = self.ids.get(&(bucket, run.symbol.clone()));
            ranges.is_some_and(|ranges| ranges.iter().any(overlaps))
        })
    }

    /// Returns whether this is the first or the last bucket of the chunk.
    fn is_edge(&self, bucket: i64) -> bool {
        [self.buckets.start, self.buckets.end - BUCKET_US].contains(&bucket)
    }

    /// Remembers the trade ids of the batch that belong to this chunk.
    fn remember_ids(&mut self, batch: &EncodedBatch, stored: bool) {
        for run in batch.runs.iter().filter(|run| self.buckets.contains(&run.bucket)) {
            let key = (run.bucket, run.symbol.clone());
            let ids = IdsOfBatch { first: run.first_id, last: run.last_id, stored };
            self.ids.entry(key.clone()).or_default().push(ids);
            self.added.push(key);
        }
    }

    /// Stores the ticks of the batch that belong to this chunk. Returns how many were stored.
    fn add(&mut self, batch: &mut EncodedBatch, slices: &mut Slices) -> u64 {
        let mut skip = HashSet::new();
        let mut own = 0;
        for run in &batch.runs {
            if self.buckets.contains(&run.bucket) {
                own += run.len;
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
