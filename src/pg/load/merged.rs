//! What the merge path has found and stored, per slice.

use std::collections::{HashMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::Result;
use crate::pg::session::spi;
use crate::tuple::batch::EncodedBatch;

/// The counts of one batch.
pub struct Merged {
    compared: Vec<Compared>,
    inserted: Vec<Inserted>,
}

/// An element of the array of `compare.sql`.
#[derive(Deserialize)]
struct Compared {
    /// Microseconds since 1970.
    bucket: i64,
    asset: String,
    /// Ticks of the batch that are stored.
    stored: u64,
    /// Those of them that are stored with other values.
    differing: u64,
}

/// An element of the array of `insert_missing.sql`.
#[derive(Deserialize)]
struct Inserted {
    /// Microseconds since 1970.
    bucket: i64,
    asset: String,
    /// Ticks that were stored now.
    ticks: u64,
}

impl Merged {
    /// Compares the registered batch with the stored ticks by a statement that returns what `compare.sql` does.
    pub fn compare(client: &mut SpiClient<'_>, sql: &str, bounds: &[DatumWithOid<'_>]) -> Result<Merged> {
        Ok(Merged { compared: spi::fetch(client, sql, bounds)?, inserted: Vec::new() })
    }

    /// Compares once more, behind the insert.
    pub fn compare_again(&mut self, client: &mut SpiClient<'_>, sql: &str, bounds: &[DatumWithOid<'_>]) -> Result<()> {
        self.compared = spi::fetch(client, sql, bounds)?;
        Ok(())
    }

    /// Stores the ticks of the registered batch that are not stored yet.
    pub fn insert_missing(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        self.inserted = spi::fetch(client, statement!("insert_missing"), &[])?;
        Ok(())
    }

    /// Returns how many ticks were stored at the last comparison.
    pub fn stored(&self) -> u64 {
        self.compared.iter().map(|slice| slice.stored).sum()
    }

    /// Returns how many of these have other values.
    pub fn differing(&self) -> u64 {
        self.compared.iter().map(|slice| slice.differing).sum()
    }

    /// Returns how many ticks were inserted.
    pub fn inserted(&self) -> u64 {
        self.inserted.iter().map(|slice| slice.ticks).sum()
    }

    /// Counts duplicates and conflicts in the runs of the batch. `skip` are the tuples that were not compared.
    pub fn count(&self, encoded: &mut EncodedBatch, skip: &HashSet<usize>) {
        let mut left_out: HashMap<usize, i64> = HashMap::new();
        for &tuple in skip {
            if let Some(run) = encoded.run_of(tuple) {
                *left_out.entry(run.start).or_default() += 1;
            }
        }
        let compared: HashMap<_, _> = self.compared.iter().map(|it| ((it.bucket, &*it.asset), it)).collect();
        let inserted: HashMap<_, _> = self.inserted.iter().map(|it| ((it.bucket, &*it.asset), it.ticks)).collect();
        for run in &mut encoded.runs {
            let key = (run.bucket, &*run.symbol);
            let rows = run.len as i64 - left_out.get(&run.start).copied().unwrap_or(0);
            let differing = compared.get(&key).map_or(0, |slice| slice.differing as i64);
            let inserted = inserted.get(&key).copied().unwrap_or(0) as i64;
            run.conflicts += differing;
            run.duplicates += rows - inserted - differing;
        }
    }
}

/// Counts tuples as conflicts in their runs.
pub fn count_conflicts(encoded: &mut EncodedBatch, tuples: impl IntoIterator<Item = usize>) {
    for tuple in tuples {
        if let Some(run) = encoded.run_of(tuple) {
            run.conflicts += 1;
        }
    }
}
