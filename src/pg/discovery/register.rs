//! Registers what a listing has found in `ingestion.objects`.

use std::ops::AddAssign;

use pgrx::spi::SpiClient;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::listing::listed::Batch;
use crate::pg::session::spi;

/// The numbers of listed keys by result.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All listed keys.
    pub listed: i64,
    /// Objects that were not known before; they are pending now.
    #[serde(rename = "registered_new")]
    pub new: i64,
    /// Objects that were known at another version; they are pending again.
    pub changed: i64,
    /// Objects that are known at this version, or that are not to be loaded.
    pub known: i64,
    /// Keys that are not taken as objects.
    pub passed_over: i64,
    /// Changed objects that another session had locked; they stay as they are.
    pub skipped: i64,
}

impl Counts {
    /// Returns whether there are objects to load now.
    pub fn has_work(&self) -> bool {
        self.new + self.changed > 0
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

/// The row of `discover_register.sql`.
#[derive(Deserialize)]
struct Registered {
    registered_new: i64,
    changed: i64,
    skipped: i64,
}

/// Registers the objects of a batch under this prefix, without waiting for an object that another session has locked.
pub fn register(client: &mut SpiClient<'_>, prefix: &str, batch: Batch) -> Result<Counts> {
    let (objects, passed_over) = (batch.len() as i64, batch.passed_over);
    let [uris, etags, sizes, from, to, metadata] = batch.columns();
    let args = [uris, etags, sizes, from, to, metadata, prefix.to_owned().into()];
    let Registered { registered_new: new, changed, skipped } =
        spi::fetch_kept(client, statement!("discover_register"), &args)?;
    let known = objects - new - changed - skipped;
    Ok(Counts { listed: objects + passed_over, new, changed, known, passed_over, skipped })
}
