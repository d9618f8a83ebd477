//! What a listing has found, into `ingestion.objects`.

use std::ops::AddAssign;

use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use crate::error::Result;
use crate::pg::queue::listed::Batch;
use crate::pg::session::spi;

/// What became of listed keys.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub listed: i64,
    /// Not known before: pending now.
    pub new: i64,
    /// Known at another version: pending again.
    pub changed: i64,
    /// Known at this version, or nobody wants them.
    pub known: i64,
    /// No objects, by their names.
    pub passed_over: i64,
    /// Changed, but somebody holds them at this moment.
    pub skipped: i64,
}

impl Counts {
    /// Whether there is something to load now.
    pub fn has_work(&self) -> bool {
        self.new + self.changed > 0
    }

    /// For a table.
    pub fn to_json(self) -> Value {
        let Counts { listed, new, changed, known, passed_over, skipped } = self;
        json!({ "listed": listed, "registered_new": new, "changed": changed, "known": known,
                "passed_over": passed_over, "skipped": skipped })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.listed += other.listed;
        self.new += other.new;
        self.changed += other.changed;
        self.known += other.known;
        self.passed_over += other.passed_over;
        self.skipped += other.skipped;
    }
}

/// Registers a batch.
pub fn register(client: &mut SpiClient<'_>, batch: Batch) -> Result<Counts> {
    let (objects, passed_over) = (batch.len() as i64, batch.passed_over);
    let args = batch.columns();
    let done = spi::json_kept(client, statement!("discover_register"), &args)?;
    let count = |key: &str| done[key].as_i64().unwrap_or(0);
    let (new, changed, skipped) = (count("registered_new"), count("changed"), count("skipped"));
    let known = objects - new - changed - skipped;
    Ok(Counts { listed: objects + passed_over, new, changed, known, passed_over, skipped })
}
