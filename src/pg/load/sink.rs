//! Batches into the hypertable, by one of three paths. If no tick of the batch is stored yet, the append
//! path writes into the chunk itself, or the insert path into the hypertable. If some may be stored, the
//! merge path compares first. The probe before only saves work: the unique index decides.

use std::borrow::Cow;
use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::Value;

use super::chunk::{self, Chunk, Chunks, around};
use super::dropped::DroppedRanges;
use super::edges::{Edge, Edges};
use super::merged::{Merged, count_conflicts};
use super::probe::{IdRange, probe};
use super::reach::Reach;
use super::rejects::{Reject, insert_rejects};
use super::slices::{SliceKey, Slices, add_to};
use crate::error::{Error, Result};
use crate::load::pipeline::{Job, Opened};
use crate::model::options::OnConflict;
use crate::model::report::LoadReport;
use crate::pg::session::ffi::{self, TickStore};
use crate::pg::session::target::Target;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, spi};
use crate::tuple::batch::{EncodedBatch, SliceRun};

/// After this many subtransactions a load takes the merge path only: from 65 subtransactions on, the
/// snapshots of all other sessions become slower.
const MAX_SUBTRANSACTIONS: u32 = 48;

const COMPARE: &str = statement!("compare");

/// Stores the batches of one load.
pub struct Sink<'a> {
    uri: String,
    etag: String,
    rows: u64,
    on_conflict: OnConflict,
    /// The only slice that is stored. All other ticks are known to be stored.
    only: Option<&'a SliceKey>,
    /// What must not be stored; `None` if everything may be.
    dropped: Option<DroppedRanges>,
    collation: pg_sys::Oid,
    max_conflict_fraction: f64,
    kept_rejects_left: usize,
    /// The hypertable's own table. It stays empty: ticks are stored in chunks.
    root: pg_sys::Oid,
    root_size: u64,
    subtransactions: u32,
    chunks: Chunks,
    edges: Edges,
    reach: Reach,
    counts: Counts,
    slices: Slices,
    /// The first conflict as a sentence, for an error's detail; empty before there is one.
    example: String,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    inserted: i64,
    duplicate: i64,
    conflicting: i64,
    replaced: i64,
    rejected: i64,
}

/// A batch that is being stored.
struct Batch<'a> {
    encoded: &'a mut EncodedBatch,
    /// The chunk that the batch can be appended to.
    direct: Option<pg_sys::Oid>,
    /// Whether continuous aggregates must learn of the batch.
    aggregates: bool,
    /// The statement that compares the batch with stored ticks.
    compare: Cow<'static, str>,
    /// Indices of the tuples that are not stored.
    skip: HashSet<usize>,
    /// Its first bucket.
    first: TimestampWithTimeZone,
    /// Its last bucket.
    last: TimestampWithTimeZone,
}

impl Batch<'_> {
    /// Returns the arguments that bound the buckets of a statement.
    fn bounds(&self) -> [DatumWithOid<'static>; 2] {
        [self.first.into(), self.last.into()]
    }

    fn rows(&self) -> u64 {
        (self.encoded.tuples.len() - self.skip.len()) as u64
    }
}

impl<'a> Sink<'a> {
    /// Prepares for the first batch.
    pub fn new(
        target: &Target,
        job: &Job,
        opened: &Opened,
        on_conflict: OnConflict,
        only: Option<&'a SliceKey>,
    ) -> Result<Sink<'a>> {
        target.must_have_key()?;
        Ok(Sink {
            uri: job.uri.to_string(),
            etag: opened.head.etag.clone(),
            rows: opened.rows,
            on_conflict,
            only,
            dropped: None,
            collation: target.symbol_collation,
            max_conflict_fraction: guc::max_conflict_fraction(),
            // The rejected rows of the last load are still kept.
            kept_rejects_left: if only.is_some() { 0 } else { job.limits.kept_rejects },
            root: target.root,
            root_size: ffi::table_size(target.root).ok_or(Error::TargetChanged)?,
            subtransactions: 0,
            chunks: Chunks::new(target),
            edges: Edges::new(target.symbol_collation),
            reach: Reach::default(),
            counts: Counts::default(),
            slices: Slices::new(),
            example: String::new(),
        })
    }

    /// Makes the sink refuse ticks of ranges that were dropped, if `yes`.
    pub fn refusing_dropped(mut self, yes: bool) -> Sink<'a> {
        self.dropped = yes.then(DroppedRanges::default);
        self
    }

    /// Stores one batch.
    pub fn store(&mut self, client: &mut SpiClient<'_>, encoded: &mut EncodedBatch) -> Result<()> {
        self.counts.rejected += encoded.rejected as i64;
        let rejects = encoded.rejects.iter().map(|reject| Reject {
            row: reject.position.row,
            kept: Some((reject.reason.clone(), Value::Object(reject.values.clone()))),
        });
        self.keep(client, rejects.collect())?;
        let skip = self.leave_out(encoded);
        let only = self.only;
        let runs: Vec<&SliceRun> = encoded.runs.iter().filter(|run| wants(only, run)).collect();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(()) };
        if let Some(dropped) = &mut self.dropped {
            dropped.refuse(client, &runs)?;
        }
        let chunk = self.chunks.direct(client, first.bucket, last.bucket)?;
        if !chunk.is_some_and(|chunk| chunk.holds(&around(first.bucket, last.bucket))) {
            self.reach.extend(client, &runs)?;
        }
        let ranges: Vec<IdRange> = runs.iter().map(|run| IdRange::from(*run)).collect();
        let met = probe(client, &ranges, chunk)?;
        let mut batch = Batch {
            direct: chunk.map(Chunk::oid),
            aggregates: chunk.is_some_and(Chunk::has_aggregates),
            compare: chunk.map_or(COMPARE.into(), |chunk| chunk.instead_of_hypertable(COMPARE).into()),
            skip,
            first: timestamp(first.bucket)?,
            last: timestamp(last.bucket)?,
            encoded,
        };
        if met.near || !batch.encoded.misplaced.is_empty() {
            self.resolve_neighbours(client, &mut batch, met.near)?;
        }
        if met.own {
            self.merge(client, &mut batch)?;
        } else {
            self.insert_all(client, &mut batch)?;
        }
        self.count_slices(&batch.encoded.runs);
        self.check_fraction()
    }

    /// Counts the ticks of slices that are not stored as duplicates, and returns their indices.
    fn leave_out(&mut self, encoded: &EncodedBatch) -> HashSet<usize> {
        let others = encoded.runs.iter().filter(|run| !wants(self.only, run));
        let skip: HashSet<usize> = others.flat_map(|run| run.start..run.start + run.len).collect();
        self.counts.duplicate += skip.len() as i64;
        skip
    }

    /// Makes the last checks and fills the report's counts.
    pub fn finish(&mut self, report: &mut LoadReport) -> Result<()> {
        if ffi::table_size(self.root).is_some_and(|size| size > self.root_size) {
            return Err(Error::RootGrew);
        }
        report.slices = self.slices.len() as i32;
        report.inserted = self.counts.inserted;
        report.duplicate = self.counts.duplicate;
        report.conflicting = self.counts.conflicting;
        report.replaced = self.counts.replaced;
        report.rejected = self.counts.rejected;
        Ok(())
    }

    /// Returns what the object has in each slice.
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// Stores a batch of which no tick is known to be stored: by the append path if the chunk is
    /// appendable, else by the insert path. Merges what turns out to be stored all the same.
    fn insert_all(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>) -> Result<()> {
        let Some(chunk) = batch.direct else {
            return if self.insert_through_hypertable(client, batch)? { Ok(()) } else { self.merge(client, batch) };
        };
        if !batch.aggregates {
            return self.append(client, batch, chunk);
        }
        // The edges are stored in key order, as everything else: two loads that hold each other's next key would be a
        // deadlock.
        let (lowest, greatest) = self.edges.lacking(chunk, batch.encoded, &batch.skip);
        if let Some(lowest) = lowest {
            if !self.edges.insert(client, chunk, batch.encoded, lowest)? {
                // Another session has stored it since the probe. TimescaleDB notes what it stores of the rest.
                return self.merge(client, batch);
            }
            self.counts.inserted += 1;
            batch.skip.insert(lowest.tuple);
        }
        batch.skip.extend(greatest.map(|greatest| greatest.tuple));
        self.append(client, batch, chunk)?;
        greatest.map_or(Ok(()), |greatest| self.insert_greatest(client, batch, chunk, greatest))
    }

    /// Stores the tick with the greatest bucket of a batch whose other ticks are stored.
    fn insert_greatest(
        &mut self,
        client: &mut SpiClient<'_>,
        batch: &mut Batch<'_>,
        chunk: pg_sys::Oid,
        greatest: Edge,
    ) -> Result<()> {
        loop {
            if self.edges.insert(client, chunk, batch.encoded, greatest)? {
                self.counts.inserted += 1;
                return Ok(());
            }
            // The key repeats within the object, or another session has stored it since the probe.
            if self.edges.touch(client, chunk, batch.encoded, greatest)? {
                batch.skip = (0..batch.encoded.tuples.len()).filter(|tuple| *tuple != greatest.tuple).collect();
                return self.merge(client, batch);
            }
        }
    }

    /// Appends a batch to its chunk. Merges what turns out to be stored all the same.
    fn append(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>, chunk: pg_sys::Oid) -> Result<()> {
        if batch.rows() == 0 {
            return Ok(());
        }
        let appended = chunk::append(chunk, batch.encoded, &batch.skip);
        self.counts.inserted += appended.stored as i64;
        if appended.maybe.is_empty() {
            return Ok(());
        }
        // These keys repeat within the object, or another session has stored them since the probe.
        let maybe: HashSet<usize> = appended.maybe.into_iter().collect();
        batch.skip = (0..batch.encoded.tuples.len()).filter(|index| !maybe.contains(index)).collect();
        self.merge(client, batch)
    }

    /// Stores a batch by the insert path. Returns `false` if nothing of it is stored: a key repeats,
    /// another session has stored one since the probe, or the load has used up its subtransactions.
    fn insert_through_hypertable(&mut self, client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<bool> {
        let repeats = batch.encoded.runs.iter().any(|run| run.repeats);
        if repeats || self.subtransactions == MAX_SUBTRANSACTIONS {
            return Ok(false);
        }
        self.subtransactions += 1;
        let _store = self.register(batch)?;
        let sql = statement!("insert");
        let inserted = ffi::unless_unique_violation(|| spi::execute(client, sql, &[]))?;
        self.counts.inserted += inserted.unwrap_or(0) as i64;
        Ok(inserted.is_some())
    }

    /// Stores a batch by the merge path: compares, stores what is missing, and treats what differs as
    /// `on_conflict` says.
    fn merge(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>) -> Result<()> {
        let _store = self.register(batch)?;
        let rows = batch.rows();
        let mut met = Merged::compare(client, &batch.compare, &batch.bounds())?;
        if met.stored() < rows {
            met.insert_missing(client)?;
            if met.stored() + met.inserted() != rows {
                // A key repeats in the batch, or another session has stored one since the comparison:
                // compare again.
                met.compare_again(client, &batch.compare, &batch.bounds())?;
            }
        }
        let (inserted, differing) = (met.inserted(), met.differing());
        met.count(batch.encoded, &batch.skip);
        let mut replaced = 0;
        if differing > 0 {
            if self.example.is_empty() {
                self.example = example(client, batch)?;
            }
            match self.on_conflict {
                OnConflict::Keep => self.keep_conflicts(client, batch)?,
                OnConflict::Replace => {
                    replaced = spi::execute(client, statement!("replace"), &batch.bounds())?;
                }
                OnConflict::Ranked => {
                    replaced = spi::execute(client, statement!("replace_ranked"), &self.ranking(batch))?;
                    if replaced < differing {
                        self.keep_conflicts(client, batch)?;
                    }
                }
                OnConflict::Abort => {
                    return Err(Error::ConflictAbort { count: differing, example: self.example.clone() });
                }
            }
        }
        self.counts.inserted += inserted as i64;
        self.counts.duplicate += rows as i64 - inserted as i64 - differing as i64;
        self.counts.replaced += replaced as i64;
        self.counts.conflicting += differing as i64 - replaced as i64;
        Ok(())
    }

    /// Resolves conflicts with neighbouring buckets: a tick that has the same trade id as one in the bucket
    /// before or behind is taken out of the batch, or the other one out of the table, as `on_conflict` says.
    fn resolve_neighbours(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>, stored: bool) -> Result<()> {
        let mut conflicts = Vec::new();
        // The statements return at least one reason, as the example of an error.
        let texts = self.kept_rejects_left.max(1) as i64;
        let misplaced: Vec<usize> =
            batch.encoded.misplaced.iter().copied().filter(|at| !batch.skip.contains(at)).collect();
        if !misplaced.is_empty() {
            let store = self.register(batch)?;
            let rows: Vec<i64> = misplaced.iter().map(|&at| batch.encoded.rows[at] as i64).collect();
            let args = [rows.into(), texts.into()];
            conflicts = Reject::query(client, statement!("misplaced"), &args)?;
            drop(store);
            count_conflicts(batch.encoded, misplaced.iter().copied());
            batch.skip.extend(misplaced);
        }
        let mut moved = 0;
        if stored {
            // Registered again without what was just taken out: each row of the object is one conflict at most.
            let store = self.register(batch)?;
            let [first, last] = batch.bounds();
            let sql = statement!("neighbours");
            let found = Reject::query(client, sql, &[first, last, texts.into()])?;
            self.remember(&found);
            let tuples = tuples_of(batch.encoded, found.iter().map(|reject| reject.row));
            count_conflicts(batch.encoded, tuples);
            let (moving, staying) = self.split_neighbours(client, batch, found)?;
            if !moving.is_empty() {
                let [first, last] = batch.bounds();
                let args = [first, last, moving.into()];
                Moved { moved } = spi::fetch(client, statement!("remove_neighbours"), &args)?;
            }
            batch.skip.extend(tuples_of(batch.encoded, staying.iter().map(|reject| reject.row)));
            conflicts.extend(staying);
            drop(store);
        }
        self.remember(&conflicts);
        if self.on_conflict == OnConflict::Abort && !conflicts.is_empty() {
            return Err(Error::ConflictAbort { count: conflicts.len() as u64, example: self.example.clone() });
        }
        self.counts.conflicting += conflicts.len() as i64;
        // A moved tick is inserted again below, which counts it as inserted.
        self.counts.replaced += moved;
        self.counts.inserted -= moved;
        self.keep(client, conflicts)
    }

    /// Divides conflicts with neighbouring buckets into the row numbers whose stored ticks move to the bucket of the
    /// object, and those whose stored ticks stay.
    fn split_neighbours(
        &self,
        client: &mut SpiClient<'_>,
        batch: &Batch<'_>,
        found: Vec<Reject>,
    ) -> Result<(Vec<i64>, Vec<Reject>)> {
        match self.on_conflict {
            OnConflict::Keep | OnConflict::Abort => Ok((Vec::new(), found)),
            OnConflict::Replace => Ok((found.iter().map(|reject| reject.row as i64).collect(), Vec::new())),
            OnConflict::Ranked => {
                let sql = statement!("neighbours_ranked");
                let moving: Vec<i64> = spi::fetch(client, sql, &self.ranking(batch))?;
                let staying = found.into_iter().filter(|reject| !moving.contains(&(reject.row as i64))).collect();
                Ok((moving, staying))
            }
        }
    }

    /// Returns the arguments of a statement that compares the ranks of objects.
    fn ranking(&self, batch: &Batch<'_>) -> [DatumWithOid<'static>; 3] {
        let [first, last] = batch.bounds();
        [first, last, self.uri.clone().into()]
    }

    /// Remembers the first of these conflicts as the example, unless there is one already.
    fn remember(&mut self, conflicts: &[Reject]) {
        if self.example.is_empty() {
            self.example = sentence(conflicts);
        }
    }

    fn keep_conflicts(&mut self, client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<()> {
        if self.kept_rejects_left == 0 {
            return Ok(());
        }
        let [first, last] = batch.bounds();
        let args = [first, last, (self.kept_rejects_left as i64).into()];
        let found = Reject::query(client, statement!("conflicts"), &args)?;
        self.keep(client, found)
    }

    /// Stores rejected rows, as many as may still be kept.
    fn keep(&mut self, client: &mut SpiClient<'_>, mut rejects: Vec<Reject>) -> Result<()> {
        rejects.truncate(self.kept_rejects_left);
        self.kept_rejects_left -= rejects.len();
        insert_rejects(client, &self.uri, &self.etag, rejects)
    }

    fn register(&self, batch: &Batch<'_>) -> Result<TickStore> {
        TickStore::register(&batch.encoded.tuples, &batch.skip, self.collation)
    }

    fn check_fraction(&self) -> Result<()> {
        // These conflicts were there when the object got its place.
        if self.on_conflict == OnConflict::Ranked {
            return Ok(());
        }
        let conflicting = (self.counts.conflicting + self.counts.replaced) as u64;
        if conflicting as f64 <= self.max_conflict_fraction * self.rows as f64 {
            return Ok(());
        }
        let (rows, limit, example) = (self.rows, self.max_conflict_fraction, self.example.clone());
        Err(Error::TooManyConflicts { conflicting, rows, limit, example })
    }

    fn count_slices(&mut self, runs: &[SliceRun]) {
        for run in runs.iter().filter(|run| wants(self.only, run)) {
            add_to(&mut self.slices, run);
        }
    }
}

/// Returns the tuples that come from these rows of the object.
fn tuples_of(encoded: &EncodedBatch, rows: impl Iterator<Item = u64>) -> Vec<usize> {
    let rows: HashSet<u64> = rows.collect();
    (0..encoded.rows.len()).filter(|&at| rows.contains(&encoded.rows[at])).collect()
}

/// Returns whether ticks of this slice are stored, if a load stores one slice only.
fn wants(only: Option<&SliceKey>, run: &SliceRun) -> bool {
    only.is_none_or(|(bucket, asset)| run.bucket == *bucket && *run.symbol == **asset)
}

/// The row of `remove_neighbours.sql`.
#[derive(Deserialize)]
struct Moved {
    moved: i64,
}

/// Returns one conflict of the registered batch as a sentence, or nothing if there is none any more.
fn example(client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<String> {
    let [first, last] = batch.bounds();
    let found = Reject::query(client, statement!("conflicts"), &[first, last, 1i64.into()])?;
    Ok(sentence(&found))
}

/// Returns the first conflict as a sentence, or nothing if there is none.
fn sentence(conflicts: &[Reject]) -> String {
    let reason = conflicts.first().and_then(Reject::reason);
    reason.map(|reason| format!("For example, {reason}.")).unwrap_or_default()
}
