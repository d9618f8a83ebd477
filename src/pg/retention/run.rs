//! A run of retention in a process of its own, and when the scheduler starts one.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use serde::Deserialize;

use super::outcome::Outcome;
use super::step::step;
use crate::error::{Error, Result};
use crate::pg::session::shared;
use crate::pg::session::time::now;
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, processes, report, spi};

/// The time between two looks whether a run is due. A change of `ops.retention_jobs` wakes the scheduler.
const LOOK: Duration = Duration::from_secs(60);

/// How often chunks are to be dropped (`retention_due.sql`).
#[derive(Deserialize)]
struct Due {
    every_s: f64,
    #[serde(deserialize_with = "spi::nullable")]
    max_s: Option<f64>,
}

/// Drops the chunks that are due, until none is left or the time of a run has passed.
pub fn run() {
    ffi::show_activity(Some("dropping chunks"));
    if let Err(failure) = ffi::survive(run_to_end)
        && !ffi::is_ending()
    {
        let (sqlstate, message) = failure.sqlstate_and_message();
        report::log(&format!("btc_ingest retention: {message} ({sqlstate})"));
        shared::note_error(&sqlstate, &message);
    }
}

fn run_to_end() -> Result<()> {
    let (began, from) = (Instant::now(), now()?);
    loop {
        let due: Option<Due> = tx(|client| spi::fetch_kept(client, statement!("retention_due"), &[]))?;
        let Some(due) = due else { return Ok(()) };
        if due.max_s.is_some_and(|most| began.elapsed().as_secs_f64() >= most) {
            return Ok(());
        }
        let outcome = tx(|client| step(client, from))?;
        if matches!(outcome, Outcome::Done | Outcome::Busy) || ffi::is_ending() {
            return Ok(());
        }
    }
}

/// The scheduler's part in retention.
#[derive(Default)]
pub struct RetentionRounds {
    process: Option<DynamicBackgroundWorker>,
    /// When the last process was started.
    started: Option<Instant>,
    looked: Option<Instant>,
    wakes: u64,
}

impl RetentionRounds {
    /// Starts a run if one is due. Returns the pause until the next call. It is called outside a transaction.
    pub fn turn(&mut self) -> Result<Duration> {
        let wakes = shared::wakes();
        if let Some(rest) = self.looked.and_then(|at| LOOK.checked_sub(at.elapsed()))
            && self.wakes == wakes
        {
            return Ok(rest);
        }
        (self.looked, self.wakes) = (Some(Instant::now()), wakes);
        let due: Option<Due> = tx(|client| spi::fetch_kept(client, statement!("retention_due"), &[]))?;
        let Some(due) = due else {
            // A row that is enabled later is due at once.
            self.started = None;
            return Ok(LOOK);
        };
        let waited = self.started.is_none_or(|at| at.elapsed().as_secs_f64() >= due.every_s);
        if waited && !self.is_running() {
            self.process = processes::start_retention();
            if self.process.is_none() {
                shared::note_error(Error::NoWorker.sqlstate(), &Error::NoWorker.to_string());
                return Ok(LOOK);
            }
            self.started = Some(Instant::now());
        }
        Ok(LOOK.min(Duration::from_secs_f64(due.every_s.max(1.0))))
    }

    fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            !matches!(process.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        })
    }
}
