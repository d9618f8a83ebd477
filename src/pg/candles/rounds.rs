//! When the scheduler has the candles refreshed.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::pg_sys;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::shared;
use crate::pg::session::tx::tx_with_target;
use crate::pg::session::{processes, spi};

/// The time between two looks, and between two refreshes after loads. What was loaded is in the candles after two of
/// them and the refresh itself.
const LOOK: Duration = Duration::from_secs(15);
/// The time between two looks while a history or a range is wanted, or a refresh runs.
const SOON: Duration = Duration::from_secs(1);
/// The time between two refreshes without loads, for what other clients have changed.
const ANYWAY: Duration = Duration::from_secs(300);
/// The pause without candles. A command on candles wakes the scheduler.
const NONE: Duration = Duration::from_secs(3600);

/// Whether something is to be done (`candles_due.sql`).
#[derive(Deserialize)]
struct Due {
    aggregates: i64,
    urgent: bool,
    history: i64,
    may_log_in: bool,
}

/// The scheduler's part in keeping candles current.
#[derive(Default)]
pub struct CandleRounds {
    process: Option<DynamicBackgroundWorker>,
    /// When the last process was started, and the last attempt at an object at that time.
    started: Option<(Instant, i64)>,
    looked: Option<Instant>,
    wakes: u64,
}

impl CandleRounds {
    /// Starts a refresh if one is due. Returns the pause until the next call. It is called outside a transaction.
    pub fn turn(&mut self) -> Result<Duration> {
        let wakes = shared::wakes();
        if let Some(rest) = self.looked.and_then(|at| LOOK.checked_sub(at.elapsed()))
            && self.wakes == wakes
        {
            return Ok(rest);
        }
        (self.looked, self.wakes) = (Some(Instant::now()), wakes);
        let (due, owner) = tx_with_target(|client, target| {
            let due: Due = spi::fetch_kept(client, statement!("candles_due"), &[])?;
            if due.aggregates > 0 && !due.may_log_in {
                let sql = "UPDATE ingestion.candles SET last_error = 'the owner of the tables may not log in'
                            WHERE aggregate IS NOT NULL AND last_error IS NULL";
                spi::execute_kept(client, sql, &[])?;
            }
            Ok((due, target.owner))
        })?;
        Ok(if due.aggregates == 0 || !due.may_log_in { NONE } else { self.keep(&due, owner) })
    }

    fn keep(&mut self, due: &Due, owner: pg_sys::Oid) -> Duration {
        if self.is_running() {
            self.looked = None;
            return SOON;
        }
        let waited = self.started.map(|(at, _)| at.elapsed());
        let is_due = match (self.started, waited) {
            (Some((_, history)), Some(waited)) => {
                due.urgent && waited > SOON || due.history != history && waited > LOOK || waited > ANYWAY
            }
            _ => true,
        };
        if is_due {
            self.process = processes::start_candles(owner);
            if self.process.is_none() {
                shared::note_error(Error::NoWorker.sqlstate(), &Error::NoWorker.to_string());
            }
            self.started = Some((Instant::now(), due.history));
        }
        if due.urgent {
            self.looked = None;
            return SOON;
        }
        LOOK
    }

    fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            !matches!(process.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        })
    }
}
