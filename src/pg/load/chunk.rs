//! The chunk that a batch goes to, and whether the batch may be appended to it directly.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};

use pgrx::pg_sys;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::bucket::BUCKET_US;
use crate::pg::session::ffi::{self, Appended};
use crate::pg::session::target::Target;
use crate::pg::session::{guc, lock_room, spi};
use crate::tuple::batch::EncodedBatch;

/// The chunk that the last batch of a load went to. Its lock is held until the transaction ends, so that
/// what was read of it stays true.
pub struct Chunks {
    target: Target,
    /// The statement that finds a bucket's chunk.
    find: &'static str,
    last: Option<Chunk>,
    /// The version of the catalogs from which it was read.
    version: u64,
}

thread_local! {
    /// The chunk that this session's last load went to, and the version of the catalogs that it was read
    /// from. Consecutive slices go to the same chunk, and reading the catalogs takes longer than storing
    /// some hundred ticks.
    static REMEMBERED: RefCell<Option<(Chunk, u64)>> = const { RefCell::new(None) };
    /// The times of the chunk whose lock this session waits for, or has waited for in vain, in microseconds since 1970.
    static AWAITED: RefCell<Option<Range<i64>>> = const { RefCell::new(None) };
    /// The chunk whose locks were counted last, and when the transaction began.
    static COUNTED: Cell<(i64, pg_sys::Oid)> = const { Cell::new((i64::MIN, pg_sys::InvalidOid)) };
}

/// The locks of a chunk: the table and its indexes.
const LOCKS: usize = 4;

/// One chunk, locked.
#[derive(Clone)]
pub struct Chunk {
    oid: pg_sys::Oid,
    name: String,
    /// Microseconds since 1970.
    buckets: Range<i64>,
    properties: Properties,
}

/// The row of `chunk_is_appendable.sql`.
#[derive(Clone, Copy, Deserialize)]
struct Properties {
    /// Whether an index decides what is a duplicate.
    key: bool,
    appendable: bool,
    /// Whether the hypertable has continuous aggregates.
    aggregates: bool,
}

/// The row of `chunk_of_bucket.sql` and `chunk_of_bucket_by_slice.sql`.
#[derive(Deserialize)]
struct Found {
    oid: u32,
    /// Microseconds since 1970.
    from: i64,
    /// Microseconds since 1970, exclusive.
    to: i64,
}

impl Chunk {
    /// Returns the oid of its table.
    pub fn oid(&self) -> pg_sys::Oid {
        self.oid
    }

    /// Returns whether continuous aggregates must learn of the buckets that change.
    pub fn has_aggregates(&self) -> bool {
        self.properties.aggregates
    }

    /// Returns the name of its table with the schema, quoted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether it holds all buckets from the first to the last.
    pub fn holds(&self, buckets: &RangeInclusive<i64>) -> bool {
        self.buckets.contains(buckets.start()) && self.buckets.contains(buckets.end())
    }

    /// Turns a statement over the hypertable into one over this chunk, which is planned without TimescaleDB.
    pub fn instead_of_hypertable(&self, sql: &str) -> String {
        sql.replace("market_data.btc_ticks t", &format!("ONLY {} t", self.name))
    }
}

/// Returns the times of the chunk whose lock the last load has waited for in vain, once, in microseconds since 1970.
pub fn take_awaited() -> Option<Range<i64>> {
    AWAITED.take()
}

/// Returns the buckets from the one before `first` to the one behind `last`: a batch is compared with all of them.
pub fn around(first: i64, last: i64) -> RangeInclusive<i64> {
    first - BUCKET_US..=last + BUCKET_US
}

impl Chunks {
    /// Begins a load, of which no chunk is known yet.
    pub fn new(target: &Target) -> Self {
        let find = if target.has_chunk_constraint {
            statement!("chunk_of_bucket")
        } else {
            statement!("chunk_of_bucket_by_slice")
        };
        AWAITED.take();
        Chunks { target: *target, find, last: None, version: 0 }
    }

    /// Returns the chunk that holds all buckets from `first` to `last`. Returns `None` if no chunk does or
    /// if rows may not be appended to it directly.
    pub fn direct(&mut self, client: &mut SpiClient<'_>, first: i64, last: i64) -> Result<Option<&Chunk>> {
        // An aggregate that is made meanwhile must learn of the batches that follow.
        let unchanged = self.version == ffi::catalog_version();
        let known = unchanged && self.last.as_ref().is_some_and(|chunk| chunk.buckets.contains(&first));
        if !known {
            self.version = ffi::catalog_version();
            self.last = match self.recall(first) {
                Some(chunk) => Some(chunk),
                None => self.find(client, first)?,
            };
            self.reserve_locks()?;
            // Now the hypertable and the chunk are locked, too.
            self.target.must_still_hold(client)?;
            if let Some(chunk) = self.last.as_ref().filter(|chunk| !chunk.properties.key) {
                return Err(Error::NoKey { table: chunk.name.clone() });
            }
        }
        if !self.last.as_ref().is_some_and(|chunk| chunk.holds(&(first..=last))) {
            // TimescaleDB will choose the chunks.
            let other: Option<String> = spi::fetch_kept(client, statement!("chunk_without_key"), &[])?;
            other.map_or(Ok(()), |table| Err(Error::NoKey { table }))?;
        }
        Ok(self.last.as_ref().filter(|chunk| chunk.properties.appendable && chunk.holds(&(first..=last))))
    }

    /// Counts the locks of the present chunk, unless the last load of this transaction went to it as well.
    fn reserve_locks(&self) -> Result<()> {
        let Some(chunk) = &self.last else { return Ok(()) };
        let now = (ffi::transaction_time(), chunk.oid);
        if COUNTED.replace(now) == now { Ok(()) } else { lock_room::reserve(LOCKS) }
    }

    /// Locks the remembered chunk and the hypertable. Returns `None` if the chunk does not hold the bucket,
    /// or if the catalogs have changed since they were read.
    fn recall(&self, bucket: i64) -> Option<Chunk> {
        let (chunk, version) = REMEMBERED.with_borrow(|known| {
            known
                .clone()
                .filter(|(chunk, version)| *version == ffi::catalog_version() && chunk.buckets.contains(&bucket))
        })?;
        ffi::lock_for_writing(self.target.root);
        AWAITED.set(Some(chunk.buckets.clone()));
        ffi::lock_for_writing(chunk.oid);
        AWAITED.take();
        (ffi::catalog_version() == version).then_some(chunk)
    }

    fn find(&self, client: &mut SpiClient<'_>, bucket: i64) -> Result<Option<Chunk>> {
        // An INSERT locks the hypertable before the chunk, too.
        ffi::lock_for_writing(self.target.root);
        let version = ffi::catalog_version();
        let found: Option<Found> = spi::fetch_kept(client, self.find, &[bucket.into()])?;
        let Some(Found { oid, from, to }) = found else { return Ok(None) };
        let sql = "SELECT to_json($1::oid::regclass::text)::text";
        let name: String = spi::fetch_kept(client, sql, &[i64::from(oid).into()])?;
        // LOCK TABLE raises an error if the chunk was dropped meanwhile; a lock by oid would not.
        AWAITED.set(Some(from..to));
        spi::execute(client, &format!("LOCK TABLE ONLY {name} IN ROW EXCLUSIVE MODE"), &[])?;
        AWAITED.take();
        // A statement of its own, whose snapshot shows what was done to the chunk before it was locked.
        let properties: Properties =
            spi::fetch_kept(client, statement!("chunk_is_appendable"), &[i64::from(oid).into()])?;
        let chunk = Chunk { oid: pg_sys::Oid::from(oid), name, buckets: from..to, properties };
        REMEMBERED.set(Some((chunk.clone(), version)));
        Ok(Some(chunk))
    }
}

/// Appends a batch to a chunk. The result is that of `INSERT … ON CONFLICT DO NOTHING`, except for the
/// tuples that the answer names: they are not stored, and the merge path must decide on them. Afterwards
/// the tuples hold the rows' numbers as before.
pub fn append(chunk: pg_sys::Oid, batch: &mut EncodedBatch, skip: &HashSet<usize>) -> Appended {
    let now = ffi::transaction_time();
    batch.tuples.set_last(|_| now);
    let appended = ffi::append(chunk, &batch.tuples, skip, guc::fills_in_runs());
    batch.restore_rows();
    appended
}
