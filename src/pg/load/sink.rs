//! Batches into the hypertable. Two roads: a plain INSERT where nothing of the batch is stored, and a merge where
//! something may be; the unique index decides, everything before it only saves work.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::Value;

use super::chunk::{self, Chunk, Chunks};
use super::probe::{IdRange, probe};
use super::rejects::insert_rejects;
use crate::error::{Error, Result};
use crate::load::pipeline::{Job, Opened};
use crate::model::options::OnConflict;
use crate::model::report::LoadReport;
use crate::pg::session::ffi::{self, TickStore};
use crate::pg::session::target::Target;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, spi};
use crate::tuple::batch::{EncodedBatch, SliceRun};

/// After this many subtransactions a load takes the merge road only: beyond 64 with an xid every other session's
/// snapshots become slower.
const MAX_SUBTRANSACTIONS: u32 = 48;

const COMPARE: &str = statement!("compare");

/// What one object put into one slice, over all batches.
pub type Slices = BTreeMap<(i64, String), SliceRun>;

/// Where the batches of one load go.
pub struct Sink {
    uri: String,
    etag: String,
    rows: u64,
    on_conflict: OnConflict,
    collation: pg_sys::Oid,
    max_conflict_fraction: f64,
    kept_rejects_left: usize,
    /// The hypertable's own table, which stays empty.
    root: pg_sys::Oid,
    root_size: u64,
    subtransactions: u32,
    chunks: Chunks,
    counts: Counts,
    slices: Slices,
    /// The first conflict in words, for the error that may come of it.
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

/// One batch on its way, with the arguments that bound its buckets.
struct Batch<'a> {
    encoded: &'a mut EncodedBatch,
    /// The table of the chunk that it can be appended to, and how to compare with what is there.
    direct: Option<pg_sys::Oid>,
    compare: Cow<'static, str>,
    skip: HashSet<usize>,
    first: TimestampWithTimeZone,
    last: TimestampWithTimeZone,
}

impl Batch<'_> {
    fn bounds(&self) -> [DatumWithOid<'static>; 2] {
        [self.first.into(), self.last.into()]
    }

    fn rows(&self) -> u64 {
        (self.encoded.tuples.len() - self.skip.len()) as u64
    }
}

impl Sink {
    /// Ready for the first batch.
    pub fn new(target: &Target, job: &Job, opened: &Opened) -> Sink {
        Sink {
            uri: job.uri.to_string(),
            etag: opened.head.etag.clone(),
            rows: opened.meta.rows(),
            on_conflict: job.options.on_conflict,
            collation: target.symbol_collation,
            max_conflict_fraction: guc::max_conflict_fraction(),
            kept_rejects_left: job.limits.kept_rejects,
            root: target.root,
            root_size: ffi::table_size(target.root),
            subtransactions: 0,
            chunks: Chunks::new(target),
            counts: Counts::default(),
            slices: Slices::new(),
            example: String::new(),
        }
    }

    /// Stores one batch.
    pub fn store(&mut self, client: &mut SpiClient<'_>, encoded: &mut EncodedBatch) -> Result<()> {
        self.counts.rejected += encoded.rejected as i64;
        let rejects: Vec<(u64, String, Value)> = encoded
            .rejects
            .iter()
            .map(|reject| (reject.position.row, reject.reason.clone(), Value::Object(reject.values.clone())))
            .collect();
        self.keep(client, rejects)?;
        let (Some(first), Some(last)) = (encoded.runs.first(), encoded.runs.last()) else { return Ok(()) };
        let chunk = self.chunks.direct(client, first.bucket, last.bucket)?;
        let ranges: Vec<IdRange> = encoded.runs.iter().map(IdRange::from).collect();
        let met = probe(client, &ranges, chunk)?;
        let mut batch = Batch {
            direct: chunk.map(Chunk::oid),
            compare: chunk.map_or(COMPARE.into(), |chunk| chunk.instead_of_hypertable(COMPARE).into()),
            skip: HashSet::new(),
            first: timestamp(first.bucket)?,
            last: timestamp(last.bucket)?,
            encoded,
        };
        if met.near || !batch.encoded.misplaced.is_empty() {
            self.resolve_neighbours(client, &mut batch, met.near)?;
        }
        if met.own {
            self.merge(client, &batch)?;
        } else {
            self.insert_all(client, &mut batch)?;
        }
        self.count_slices(&batch.encoded.runs);
        self.check_fraction()
    }

    /// The last checks; fills the report's counts.
    pub fn finish(&mut self, report: &mut LoadReport) -> Result<()> {
        if ffi::table_size(self.root) > self.root_size {
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

    /// What the object put into which slice.
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The fast road: into the chunk itself where that is possible, otherwise through the hypertable.
    fn insert_all(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>) -> Result<()> {
        let Some(chunk) = batch.direct else {
            return if self.insert_through_hypertable(client, batch)? { Ok(()) } else { self.merge(client, batch) };
        };
        let appended = chunk::append(chunk, batch.encoded, &batch.skip);
        self.counts.inserted += appended.stored as i64;
        if appended.maybe.is_empty() {
            return Ok(());
        }
        // Keys that repeat within the object, or that somebody stored meanwhile.
        let maybe: HashSet<usize> = appended.maybe.into_iter().collect();
        batch.skip = (0..batch.encoded.tuples.len()).filter(|index| !maybe.contains(index)).collect();
        self.merge(client, batch)
    }

    /// `false`: somebody stored one of the keys meanwhile, and nothing of the batch was kept.
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

    /// The merge road: compares, stores what is missing, and treats what differs as `on_conflict` says.
    fn merge(&mut self, client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<()> {
        let _store = self.register(batch)?;
        let rows = batch.rows();
        let (stored, mut differing) = compare(client, batch)?;
        let mut inserted = 0;
        if stored < rows {
            inserted = spi::execute(client, statement!("insert_missing"), &[])?;
            if stored + inserted != rows {
                // A key twice in the batch, or another writer in between: look again at what is there now.
                (_, differing) = compare(client, batch)?;
            }
        }
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

    /// Takes out of the batch, or out of the table, what is stored under the same trade id one bucket away.
    fn resolve_neighbours(&mut self, client: &mut SpiClient<'_>, batch: &mut Batch<'_>, stored: bool) -> Result<()> {
        let mut conflicts = Vec::new();
        // One at least, as the example of an error.
        let texts = self.kept_rejects_left.max(1) as i64;
        let misplaced = &batch.encoded.misplaced;
        if !misplaced.is_empty() {
            let store = self.register(batch)?;
            let rows: Vec<i64> = misplaced.iter().map(|&at| batch.encoded.rows[at] as i64).collect();
            let args = [rows.into(), texts.into()];
            conflicts = rejected_rows(client, statement!("misplaced"), &args)?;
            drop(store);
            batch.skip.extend(misplaced);
        }
        let mut moved = 0;
        if stored {
            // Without what was just taken out: each row of the object is one conflict at most.
            let store = self.register(batch)?;
            let [first, last] = batch.bounds();
            let sql = statement!("neighbours");
            let found = rejected_rows(client, sql, &[first, last, texts.into()])?;
            self.remember(&found);
            if self.on_conflict == OnConflict::Replace {
                let rows: Vec<i64> = found.iter().map(|(row, ..)| *row as i64).collect();
                let [first, last] = batch.bounds();
                let sql = statement!("remove_neighbours");
                moved = spi::json(client, sql, &[first, last, rows.into()])?["moved"].as_i64().unwrap_or(0);
            } else {
                let rows: HashSet<u64> = found.iter().map(|(row, ..)| *row).collect();
                batch.skip.extend((0..batch.encoded.rows.len()).filter(|&at| rows.contains(&batch.encoded.rows[at])));
                conflicts.extend(found);
            }
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

    fn remember(&mut self, conflicts: &[(u64, String, Value)]) {
        if let (true, Some((_, reason, _))) = (self.example.is_empty(), conflicts.first()) {
            self.example = format!("For example, {reason}.");
        }
    }

    fn keep_conflicts(&mut self, client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<()> {
        if self.kept_rejects_left == 0 {
            return Ok(());
        }
        let [first, last] = batch.bounds();
        let args = [first, last, (self.kept_rejects_left as i64).into()];
        let found = rejected_rows(client, statement!("conflicts"), &args)?;
        self.keep(client, found)
    }

    /// Stores rejected rows, as many as may still be kept.
    fn keep(&mut self, client: &mut SpiClient<'_>, mut rejects: Vec<(u64, String, Value)>) -> Result<()> {
        rejects.truncate(self.kept_rejects_left);
        self.kept_rejects_left -= rejects.len();
        insert_rejects(client, &self.uri, &self.etag, rejects)
    }

    fn register(&self, batch: &Batch<'_>) -> Result<TickStore> {
        TickStore::register(&batch.encoded.tuples, &batch.skip, self.collation)
    }

    fn check_fraction(&self) -> Result<()> {
        let conflicting = (self.counts.conflicting + self.counts.replaced) as u64;
        if conflicting as f64 <= self.max_conflict_fraction * self.rows as f64 {
            return Ok(());
        }
        let (rows, limit, example) = (self.rows, self.max_conflict_fraction, self.example.clone());
        Err(Error::TooManyConflicts { conflicting, rows, limit, example })
    }

    fn count_slices(&mut self, runs: &[SliceRun]) {
        runs.iter().for_each(|run| add_to(&mut self.slices, run));
    }
}

/// Adds what a batch holds of a slice.
pub fn add_to(slices: &mut Slices, run: &SliceRun) {
    let slice = slices.entry((run.bucket, run.symbol.to_string()));
    slice.and_modify(|slice| slice.absorb(run)).or_insert_with(|| run.clone());
}

fn compare(client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<(u64, u64)> {
    let found = spi::json(client, &batch.compare, &batch.bounds())?;
    let count = |key: &str| found[key].as_u64().unwrap_or(0);
    Ok((count("stored"), count("differing")))
}

/// One conflict of the registered batch in words; empty when there is none left to show.
fn example(client: &mut SpiClient<'_>, batch: &Batch<'_>) -> Result<String> {
    let [first, last] = batch.bounds();
    let found = rejected_rows(client, statement!("conflicts"), &[first, last, 1i64.into()])?;
    Ok(found.first().map(|(_, reason, _)| format!("For example, {reason}.")).unwrap_or_default())
}

/// Runs a statement that returns row_number, reason and row_data.
fn rejected_rows(
    client: &mut SpiClient<'_>,
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<Vec<(u64, String, Value)>> {
    let mut rows = Vec::new();
    for row in spi::query(client, sql, args)? {
        let number: Option<i64> = row.get_by_name("row_number").map_err(spi::internal)?;
        let reason: Option<String> = row.get_by_name("reason").map_err(spi::internal)?;
        let data: Option<pgrx::JsonB> = row.get_by_name("row_data").map_err(spi::internal)?;
        rows.push((number.unwrap_or(0) as u64, reason.unwrap_or_default(), data.map_or(Value::Null, |data| data.0)));
    }
    Ok(rows)
}
