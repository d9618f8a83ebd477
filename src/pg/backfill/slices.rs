//! The second phase, one transaction per object: claim, order, load, book, and begin the next attempt in the same commit.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::queue::{Claim, Queue, Whose, release};
use super::series::Series;
use super::{Backfill, stop_with};
use crate::error::{Error, Result};
use crate::load::pipeline::Job;
use crate::load::series::AHEAD;
use crate::model::report::{LoadReport, Outcome};
use crate::pg::ffi::{self, Failure};
use crate::pg::registry::count_attempt;
use crate::pg::worker::tx;
use crate::pg::{guc, loader, spi};
use pgrx::spi::SpiClient;

/// An object that was ordered from the reading thread.
struct Ordered {
    claim: Claim,
    job: Job,
    begun: bool,
}

/// A worker that loads one object after another.
pub struct SliceWorker {
    backfill: i64,
    slot: i32,
    queue: Queue,
    ordered: VecDeque<Ordered>,
    series: Option<Series>,
}

/// What became of one object.
enum Done {
    Loaded,
    Failed,
    /// Somebody else has it, or has changed it.
    Left,
    /// Disk, memory or connections have run out: no object's fault, and no use to go on with the next one.
    OutOfResources {
        sqlstate: String,
        message: String,
    },
}

impl SliceWorker {
    /// With nothing claimed.
    pub fn new(backfill: i64, slot: i32) -> Self {
        SliceWorker { backfill, slot, queue: Queue::new(slot), ordered: VecDeque::new(), series: None }
    }

    /// Which of the backfill's workers this is.
    pub fn slot(&self) -> i32 {
        self.slot
    }

    /// Loads objects until more are to be claimed. `false`: there was nothing to load.
    pub fn work(&mut self, backfill: &Backfill, whose: Whose) -> Result<bool> {
        // Before the queue is empty, so that there is always one object on its way.
        if self.ordered.len() <= AHEAD / 2 {
            self.claim(backfill, whose)?;
        }
        if self.ordered.is_empty() {
            if whose == Whose::Live {
                return Ok(false);
            }
            let sql = include_str!("../../../sql/queries/backfill_retry_due.sql");
            return Ok(tx(|client| spi::execute_kept(client, sql, &[self.backfill.into()])) > 0);
        }
        let mut moved = false;
        while let Some(next) = self.ordered.pop_front() {
            moved |= self.load(next)?;
            if self.ordered.len() <= AHEAD / 2 {
                break;
            }
        }
        // Somebody else is loading all of these: asking again and again would not make them faster.
        if !moved && self.ordered.is_empty() {
            return Ok(false);
        }
        Ok(true)
    }

    /// Gives back what was claimed and not begun.
    pub fn give_back(&mut self) {
        self.series = None;
        let ordered: Vec<Ordered> = self.ordered.drain(..).collect();
        tx(|client| {
            for begun in ordered.iter().filter(|ordered| ordered.begun) {
                take_back(client, &begun.claim.uri)?;
            }
            release(client, ordered.into_iter().map(|ordered| ordered.claim.uri).collect())
        });
    }

    /// Claims the next objects and orders them.
    fn claim(&mut self, backfill: &Backfill, whose: Whose) -> Result<()> {
        // An advisory lock does not keep its own session out.
        let own: HashSet<String> = self.ordered.iter().map(|ordered| ordered.claim.uri.clone()).collect();
        let claims = tx(|client| self.queue.claim(client, backfill, whose, &own));
        for claim in claims {
            let order = tx(|client| Ok(loader::order(client, &claim.uri)));
            match order {
                Ok(job) => {
                    self.order(job.clone())?;
                    self.ordered.push_back(Ordered { claim, job, begun: false });
                }
                Err(error) => {
                    tx(|client| {
                        begin(client, &claim)?;
                        fail(client, &claim.uri, &Failure::Ours(error))?;
                        self.count(client, &claim, 0, 1, None)?;
                        release(client, vec![claim.uri])
                    });
                }
            }
        }
        Ok(())
    }

    fn order(&mut self, job: Job) -> Result<()> {
        match &self.series {
            Some(series) => series.order(job),
            None => {
                self.series = Some(Series::start([job])?);
                Ok(())
            }
        }
    }

    /// One object, in one transaction, with the beginning of the next one's attempt. `false`: it was left to somebody else.
    fn load(&mut self, mut next: Ordered) -> Result<bool> {
        ffi::show_activity(Some(&format!("loading {}", next.claim.uri)));
        if !next.begun {
            next.begun = tx(|client| begin(client, &next.claim));
        }
        let done = if next.begun { self.load_begun(&next)? } else { Done::Left };
        if let Done::OutOfResources { sqlstate, message } = done {
            // First of all, and alone: where nothing more can be written, this may be what still fits.
            stop_with(self.backfill, &sqlstate, &message);
            self.ordered.push_front(next);
            self.give_back();
            return Ok(true);
        }
        tx(|client| release(client, vec![next.claim.uri.clone()]));
        if !matches!(done, Done::Loaded) {
            // What else the thread has to say of this object would be taken for the next one's.
            self.reorder()?;
        }
        Ok(!matches!(done, Done::Left))
    }

    fn load_begun(&mut self, next: &Ordered) -> Result<Done> {
        let began = Instant::now();
        let Some(mut series) = self.series.take() else {
            return Err(Error::Internal { why: "nobody reads what was ordered".into() });
        };
        let done = tx(|client| {
            let attempt = ffi::attempt(|| loader::load_ordered(&next.job, series.thread()));
            let done = match attempt {
                Ok(Some(report)) => {
                    self.count(client, &next.claim, 1, 0, Some((&report, began)))?;
                    Done::Loaded
                }
                Ok(None) => {
                    take_back(client, &next.claim.uri)?;
                    Done::Left
                }
                Err(Failure::Postgres { sqlstate, message }) if sqlstate.starts_with("53") => {
                    Done::OutOfResources { sqlstate, message }
                }
                Err(failure) => {
                    fail(client, &next.claim.uri, &failure)?;
                    self.count(client, &next.claim, 0, 1, None)?;
                    Done::Failed
                }
            };
            if let (Done::Loaded, Some(follower)) = (&done, self.ordered.front_mut()) {
                follower.begun = begin(client, &follower.claim)?;
            }
            Ok(done)
        });
        self.series = Some(series);
        Ok(done)
    }

    /// A new thread with the orders that are left.
    fn reorder(&mut self) -> Result<()> {
        self.series = None;
        let jobs: Vec<Job> = self.ordered.iter().map(|ordered| ordered.job.clone()).collect();
        if !jobs.is_empty() {
            self.series = Some(Series::start(jobs)?);
        }
        Ok(())
    }

    fn count(
        &self,
        client: &mut SpiClient<'_>,
        claim: &Claim,
        done: i64,
        failed: i64,
        loaded: Option<(&LoadReport, Instant)>,
    ) -> Result<()> {
        if claim.live {
            return Ok(());
        }
        let (read, inserted, bytes, ms) = match loaded {
            Some((report, began)) if report.outcome == Outcome::Loaded => {
                (report.read, report.inserted, report.bytes, began.elapsed().as_secs_f64() * 1e3)
            }
            Some((_, began)) => (0, 0, 0, began.elapsed().as_secs_f64() * 1e3),
            None => (0, 0, 0, 0.0),
        };
        let args = [
            self.backfill.into(),
            self.slot.into(),
            done.into(),
            failed.into(),
            read.into(),
            inserted.into(),
            bytes.into(),
            ms.into(),
        ];
        spi::execute_kept(client, include_str!("../../../sql/queries/backfill_count.sql"), &args).map(drop)
    }
}

/// Burns an attempt. `false`: the object is not what was claimed, or has killed too many backends; the row says so.
fn begin(client: &mut SpiClient<'_>, claim: &Claim) -> Result<bool> {
    let retry = guc::retry();
    let args = [claim.uri.clone().into(), claim.generation.into(), retry.max_attempts.into()];
    let begun = spi::json_kept(client, include_str!("../../../sql/queries/attempt_begin.sql"), &args)?;
    if begun["too_many"] == true {
        let message = "every attempt ended with its backend; see the server's log";
        let killed = Failure::Postgres { sqlstate: "57P02".into(), message: message.into() };
        fail(client, &claim.uri, &killed)?;
        return Ok(false);
    }
    Ok(!begun.is_null())
}

/// The attempt did not take place.
fn take_back(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    let sql = "UPDATE ingestion.objects SET attempts = greatest(attempts - 1, 0), attempt_started_at = NULL WHERE s3_uri = $1";
    spi::execute_kept(client, sql, &[uri.to_owned().into()]).map(drop)
}

/// Books an object that cannot be loaded for what was found before its load began.
pub fn refuse(client: &mut SpiClient<'_>, uri: &str, error: Error) -> Result<()> {
    refuse_failure(client, uri, &Failure::Ours(error))
}

/// The same with whatever went wrong.
pub fn refuse_failure(client: &mut SpiClient<'_>, uri: &str, failure: &Failure) -> Result<()> {
    count_attempt(client, uri)?;
    fail(client, uri, failure)
}

/// Books a failed attempt: when the next one is, or that there is none.
fn fail(client: &mut SpiClient<'_>, uri: &str, failure: &Failure) -> Result<()> {
    let (sqlstate, message, transient) = match failure {
        Failure::Ours(error) => (error.sqlstate().to_owned(), words(error), error.is_transient()),
        Failure::Postgres { sqlstate, message } => (sqlstate.clone(), message.clone(), may_pass(sqlstate)),
    };
    let retry = guc::retry();
    let args = [
        uri.to_owned().into(),
        sqlstate.into(),
        message.into(),
        (!transient).into(),
        retry.max_attempts.into(),
        retry.backoff_ms.into(),
        retry.backoff_max_ms.into(),
    ];
    spi::execute_kept(client, include_str!("../../../sql/queries/attempt_failed.sql"), &args).map(drop)
}

fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{error} ({detail})"),
        None => error.to_string(),
    }
}

/// SQLSTATEs of PostgreSQL's that pass by themselves: connections, resources, interventions, deadlocks, serialization.
pub fn may_pass(sqlstate: &str) -> bool {
    ["08", "40", "53", "55", "57"].iter().any(|class| sqlstate.starts_with(class))
}
