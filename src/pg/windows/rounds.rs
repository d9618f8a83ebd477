//! When the scheduler has the index on the vectors made anew.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};

use super::state::State;
use crate::error::{Error, Result};
use crate::pg::session::tx::tx_with_target;
use crate::pg::session::{guc, processes, shared};

/// The time between two looks, and so between two attempts.
const LOOK: Duration = Duration::from_secs(900);

/// The scheduler's part in the upkeep of the index.
#[derive(Default)]
pub struct UpkeepRounds {
    process: Option<DynamicBackgroundWorker>,
    looked: Option<Instant>,
}

impl UpkeepRounds {
    /// Starts a process if something is due. Returns the pause until the next call. It is called outside a transaction.
    pub fn turn(&mut self) -> Result<Duration> {
        if !guc::embedding_index_upkeep() {
            // The first look comes as soon as it is on.
            self.looked = None;
            return Ok(LOOK);
        }
        if let Some(rest) = self.looked.and_then(|at| LOOK.checked_sub(at.elapsed())) {
            return Ok(rest);
        }
        self.looked = Some(Instant::now());
        if self.is_running() {
            return Ok(LOOK);
        }
        let owner = tx_with_target(|client, target| {
            let state = State::read(client)?;
            // doctor() says so if the owner may not.
            Ok((state.needs_upkeep() && state.may_log_in == Some(true)).then_some(target.owner))
        })?;
        if let Some(owner) = owner {
            self.process = processes::start_index_upkeep(owner);
            if self.process.is_none() {
                shared::note_error(Error::NoWorker.sqlstate(), &Error::NoWorker.to_string());
            }
        }
        Ok(LOOK)
    }

    fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            !matches!(process.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        })
    }
}
