//! The second phase, one transaction per object: a backfill's objects as a worker's source, behind the live ones.

use std::collections::HashSet;
use std::time::Instant;

use pgrx::spi::SpiClient;

use super::end;
use super::queue::{Queue, Whose};
use super::row::Backfill;
use crate::error::Result;
use crate::model::report::{LoadReport, Outcome};
use crate::pg::load::known::Version;
use crate::pg::queue::claim::Claim;
use crate::pg::queue::enqueue::enqueue;
use crate::pg::queue::live;
use crate::pg::queue::loading::{Loading, Source};
use crate::pg::session::ffi::Failure;
use crate::pg::session::tx::tx;
use crate::pg::session::{guc, spi};

/// A backfill's worker that loads one object after another.
pub struct ObjectWorker {
    slot: i32,
    queue: Queue,
    loading: Loading,
}

impl ObjectWorker {
    /// With nothing claimed.
    pub fn new(slot: i32) -> Self {
        ObjectWorker { slot, queue: Queue::new(slot), loading: Loading::default() }
    }

    /// Which of the backfill's workers this is.
    pub fn slot(&self) -> i32 {
        self.slot
    }

    /// Loads objects until more are to be claimed. `false`: there was nothing to load.
    pub fn work(&mut self, backfill: &Backfill, whose: Whose) -> Result<bool> {
        let mut source = Slices { backfill, slot: self.slot, queue: &mut self.queue, whose };
        if self.loading.work(&mut source)? {
            return Ok(true);
        }
        let id = (whose == Whose::All).then_some(backfill.id);
        let due = tx(|client| live::retry_due(client, id))?;
        self.loading.write_offsets()?;
        Ok(due)
    }

    /// Books the object whose transaction an error has ended.
    pub fn fail_current(&mut self, failure: &Failure) -> Result<()> {
        self.loading.fail_current(failure)
    }

    /// Gives back what was claimed.
    pub fn release_all(&mut self) -> Result<()> {
        self.loading.release_all()
    }

    /// The last work of a process.
    pub fn end(&mut self) {
        self.loading.end();
    }

    /// What was claimed is not claimed any more.
    pub fn forget(&mut self) {
        self.loading.forget();
    }
}

/// What a worker of a backfill may load.
struct Slices<'a> {
    backfill: &'a Backfill,
    slot: i32,
    queue: &'a mut Queue,
    whose: Whose,
}

impl Source for Slices<'_> {
    fn refresh_queue(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        enqueue(client).map(drop)
    }

    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>> {
        let live = live::claim(client, guc::queue_order(), None, own, most)?;
        if !live.is_empty() || self.whose == Whose::Live {
            return Ok(live);
        }
        self.queue.claim(client, self.backfill, own)
    }

    fn count(&self, client: &mut SpiClient<'_>, claim: &Claim, loaded: Option<(&LoadReport, Instant)>) -> Result<()> {
        if claim.live {
            return Ok(());
        }
        let ms = loaded.map_or(0.0, |(_, began)| began.elapsed().as_secs_f64() * 1e3);
        let (read, inserted, bytes) = match loaded {
            Some((report, _)) if report.outcome == Outcome::Loaded => (report.read, report.inserted, report.bytes),
            _ => (0, 0, 0),
        };
        let args = [
            self.backfill.id.into(),
            self.slot.into(),
            i64::from(loaded.is_some()).into(),
            i64::from(loaded.is_none()).into(),
            read.into(),
            inserted.into(),
            bytes.into(),
            ms.into(),
        ];
        spi::execute_kept(client, statement!("backfill_count"), &args).map(drop)
    }

    fn out_of_resources(&mut self, _uri: &str, _version: &Version, failure: &Failure) -> Result<()> {
        end::stop(self.backfill.id, failure)
    }
}
