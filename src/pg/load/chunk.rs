//! Which chunk a batch goes to, and whether it may be appended to that chunk directly.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};

use pgrx::pg_sys;
use pgrx::spi::SpiClient;

use crate::error::Result;
use crate::pg::session::ffi::{self, Appended};
use crate::pg::session::spi;
use crate::pg::session::target::Target;
use crate::tuple::batch::EncodedBatch;

/// The chunk that the last batch went to; locked until the transaction ends, so that what was found out stays true.
pub struct Chunks {
    root: pg_sys::Oid,
    find: &'static str,
    last: Option<Chunk>,
}

thread_local! {
    /// The chunk that this session's last load went to, and the version of the catalogs that said so: slices come one after
    /// another, and asking the catalogs takes longer than storing some hundred ticks.
    static REMEMBERED: RefCell<Option<(Chunk, u64)>> = const { RefCell::new(None) };
}

/// One chunk, locked.
#[derive(Clone)]
pub struct Chunk {
    oid: pg_sys::Oid,
    name: String,
    /// Microseconds since 1970.
    buckets: Range<i64>,
    plain: bool,
}

impl Chunk {
    /// Its table.
    pub fn oid(&self) -> pg_sys::Oid {
        self.oid
    }

    /// With its schema, quoted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether all buckets from the first to the last are its.
    pub fn holds(&self, buckets: &RangeInclusive<i64>) -> bool {
        self.buckets.contains(buckets.start()) && self.buckets.contains(buckets.end())
    }

    /// A statement over the hypertable as one over this chunk: TimescaleDB plans nothing then.
    pub fn instead_of_hypertable(&self, sql: &str) -> String {
        sql.replace("market_data.btc_ticks t", &format!("ONLY {} t", self.name))
    }
}

impl Chunks {
    /// Nothing is known yet.
    pub fn new(target: &Target) -> Self {
        let find = if target.has_chunk_constraint {
            statement!("chunk_of_bucket")
        } else {
            statement!("chunk_of_bucket_by_slice")
        };
        Chunks { root: target.root, find, last: None }
    }

    /// The chunk that holds all buckets from `first` to `last`, if there is one and rows may be appended to it directly.
    pub fn direct(&mut self, client: &mut SpiClient<'_>, first: i64, last: i64) -> Result<Option<&Chunk>> {
        let known = self.last.as_ref().is_some_and(|chunk| chunk.buckets.contains(&first));
        if !known {
            self.last = match self.recall(first) {
                Some(chunk) => Some(chunk),
                None => self.find(client, first)?,
            };
        }
        Ok(self.last.as_ref().filter(|chunk| chunk.plain && chunk.holds(&(first..=last))))
    }

    /// What is remembered of a bucket's chunk, if it is still true once both tables are locked.
    fn recall(&self, bucket: i64) -> Option<Chunk> {
        let (chunk, version) = REMEMBERED.with_borrow(|known| {
            known
                .clone()
                .filter(|(chunk, version)| *version == ffi::catalog_version() && chunk.buckets.contains(&bucket))
        })?;
        ffi::lock_for_writing(self.root);
        ffi::lock_for_writing(chunk.oid);
        (ffi::catalog_version() == version).then_some(chunk)
    }

    fn find(&self, client: &mut SpiClient<'_>, bucket: i64) -> Result<Option<Chunk>> {
        // In the order in which an INSERT locks them.
        ffi::lock_for_writing(self.root);
        let version = ffi::catalog_version();
        let found = spi::json_kept(client, self.find, &[bucket.into()])?;
        let Some(oid) = found["oid"].as_u64() else { return Ok(None) };
        let name = spi::json_kept(client, "SELECT to_json($1::oid::regclass::text)::text", &[(oid as i64).into()])?;
        let name = name.as_str().unwrap_or_default().to_owned();
        // By its name: a chunk that is gone is an error.
        spi::execute(client, &format!("LOCK TABLE ONLY {name} IN ROW EXCLUSIVE MODE"), &[])?;
        // In a later statement: what was done to the chunk before the lock was ours is seen now.
        let plain = spi::json_kept(client, statement!("chunk_is_appendable"), &[(oid as i64).into()])?;
        let edge = |key: &str| found[key].as_i64().unwrap_or(0);
        let oid = pg_sys::Oid::from(oid as u32);
        let chunk = Chunk { oid, name, buckets: edge("from")..edge("to"), plain: plain == true };
        REMEMBERED.set(Some((chunk.clone(), version)));
        Ok(Some(chunk))
    }
}

/// Appends a batch to a chunk, as `INSERT … ON CONFLICT DO NOTHING` would have stored it but for the tuples that are
/// named in the answer. Afterwards the tuples hold the rows' numbers as before.
pub fn append(chunk: pg_sys::Oid, batch: &mut EncodedBatch, skip: &HashSet<usize>) -> Appended {
    let now = ffi::transaction_time();
    batch.tuples.set_last(|_| now);
    let appended = ffi::append(chunk, &batch.tuples, skip);
    batch.restore_rows();
    appended
}
