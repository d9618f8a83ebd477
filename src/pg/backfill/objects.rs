//! The loads of a worker, one object and one transaction after another: live objects first, then those of its
//! backfill.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Instant;

use pgrx::spi::SpiClient;

use super::cursor::Cursor;
use super::end;
use super::row::Backfill;
use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::model::report::{LoadReport, Outcome};
use crate::pg::load::known::Version;
use crate::pg::queue::attempt;
use crate::pg::queue::claim::Claim;
use crate::pg::queue::enqueue::enqueue;
use crate::pg::queue::live::{self, LOOK_AT};
use crate::pg::queue::loading::{Loading, Source};
use crate::pg::queue::outage::{self, Probe};
use crate::pg::session::ffi::Failure;
use crate::pg::session::locks::Lock;
use crate::pg::session::tx::tx;
use crate::pg::session::{guc, lock_waits, spi};

/// The objects that a worker may load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Live objects, which belong to no backfill.
    Live,
    /// Live objects first, then those of the worker's backfill.
    All,
}

/// A backfill's worker that loads one object after another.
pub struct ObjectWorker {
    /// The number of the worker in its backfill.
    pub slot: i32,
    /// The objects that it has claimed.
    pub loading: Loading,
    cursor: Cursor,
    /// The object at which resources have run out, if none was loaded since.
    short: RefCell<Option<String>>,
}

impl ObjectWorker {
    /// Returns a worker that has claimed nothing.
    pub fn new(backfill: i64, slot: i32) -> Self {
        let loading = Loading::of(Lock::BackfillWorker { backfill, slot });
        ObjectWorker { slot, loading, cursor: Cursor::new(slot), short: RefCell::default() }
    }

    /// Loads a few objects. Returns `false` if there was nothing to load.
    pub fn work(&mut self, backfill: &Backfill, scope: Scope) -> Result<bool> {
        let mut probe = outage::probe(backfill.probes.clone())?;
        if scope == Scope::Live
            && let Some(due) = &probe
            && read_one(backfill, due)?
        {
            probe = None;
        }
        let (cursor, short) = (&mut self.cursor, &self.short);
        let mut source = Objects { backfill, slot: self.slot, cursor, scope, probe, short };
        if self.loading.work(&mut source)? {
            return Ok(true);
        }
        let id = (scope == Scope::All).then_some(backfill.id);
        let due = tx(|client| live::retry_due(client, id))?;
        self.loading.write_offsets();
        Ok(due)
    }
}

/// The objects that a worker of a backfill may load, as the source of its loads.
struct Objects<'a> {
    backfill: &'a Backfill,
    slot: i32,
    cursor: &'a mut Cursor,
    scope: Scope,
    /// The prefix of which one object is to be tried because it cannot be listed.
    probe: Option<Probe>,
    short: &'a RefCell<Option<String>>,
}

impl Objects<'_> {
    /// Claims an object under a prefix that waits for S3: a live one or, if there is none, one of the backfill.
    fn claim_probe(&self, client: &mut SpiClient<'_>, probe: &Probe, own: &HashSet<String>) -> Result<Option<Claim>> {
        let live = live::claim_probe(client, probe, None, own)?;
        if live.is_some() || self.scope == Scope::Live {
            return Ok(live);
        }
        let candidates = candidates(client, self.backfill, probe)?;
        live::take_probe(client, probe, candidates, own)
    }
}

/// Returns objects of a backfill under a prefix that waits for S3.
fn candidates(client: &mut SpiClient<'_>, backfill: &Backfill, probe: &Probe) -> Result<Vec<String>> {
    let args = [backfill.id.into(), probe.prefix.clone().into(), LOOK_AT.into()];
    spi::fetch_kept(client, statement!("backfill_probe"), &args)
}

/// Reads an object of a backfill that may not be loaded now: a load would make a chunk that is to be built as a whole.
/// Returns `false` if there is none.
fn read_one(backfill: &Backfill, probe: &Probe) -> Result<bool> {
    let mut candidates = tx(|client| candidates(client, backfill, probe))?;
    probe.put_first(&mut candidates);
    match candidates.first() {
        Some(uri) => outage::read(uri).map(|()| true),
        None => Ok(false),
    }
}

impl Source for Objects<'_> {
    fn refresh_queue(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        enqueue(client)
    }

    fn claim(&mut self, client: &mut SpiClient<'_>, own: &HashSet<String>, most: usize) -> Result<Vec<Claim>> {
        if let Some(probe) = self.probe.take()
            && let Some(claim) = self.claim_probe(client, &probe, own)?
        {
            return Ok(vec![claim]);
        }
        let live = live::claim(client, guc::queue_order(), None, own, most)?;
        if !live.is_empty() || self.scope == Scope::Live {
            return Ok(live);
        }
        self.cursor.claim(client, self.backfill, own)
    }

    fn count(&self, client: &mut SpiClient<'_>, claim: &Claim, loaded: Option<(&LoadReport, Instant)>) -> Result<()> {
        if loaded.is_some() {
            self.short.take();
        }
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

    fn out_of_resources(&mut self, uri: &str, version: &Version, failure: &Failure) -> Result<()> {
        let before = self.short.replace(Some(uri.to_owned()));
        if failure.is_disk_full() || before.as_ref().is_some_and(|before| before != uri) {
            return end::stop(self.backfill.id, failure);
        }
        // One object alone may be the cause, so the objects behind it are tried. If there are none, its attempts count.
        let verdict = if before.is_some() { Verdict::Transient } else { failure.verdict() };
        tx(|client| {
            lock_waits::limit_in_transaction();
            attempt::fail_as(client, uri, failure, verdict, version)
        })
    }
}
