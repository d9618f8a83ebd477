//! The scheduler: keeps as many loaders as there is work for, goes on with unfinished backfills, lists what is watched, and
//! prunes the history.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::DynamicBackgroundWorker;

use super::fit::{self, Fit};
use super::keeper::Keeper;
use crate::error::{Error, Result};
use crate::pg::discovery::Rounds;
use crate::pg::shared::{self, Presence, Role};
use crate::pg::worker::{self, tx, tx_with_all_rights};
use crate::pg::{backfill, ffi, guc, report, spi};

/// How often old rows of the history go.
const PRUNE: Duration = Duration::from_secs(3600);
/// Rows that go in one transaction.
const PRUNE_ROWS: i64 = 10_000;

/// The scheduler's life.
pub fn schedule() {
    let _presence = Presence::enter(Role::Scheduler);
    let mut scheduler = Scheduler::default();
    loop {
        ffi::reload_settings();
        let wakes = shared::wakes();
        let pause = match ffi::survive(|| scheduler.turn()) {
            Ok(Some(pause)) => pause,
            // The next process begins afresh.
            Ok(None) => return,
            Err(failure) => {
                let (sqlstate, message) = failure.words();
                report::log(&format!("btc_ingest scheduler: {message} ({sqlstate})"));
                shared::note_trouble(&sqlstate, &message);
                return;
            }
        };
        ffi::show_activity(None);
        if shared::wakes() == wakes {
            ffi::idle(pause.min(guc::poll_interval()));
        }
    }
}

#[derive(Default)]
struct Scheduler {
    /// By number of loader.
    loaders: Vec<Keeper>,
    /// By backfill and number of its worker.
    backfills: HashMap<(i64, i32), Keeper>,
    /// What the process has begun with.
    versions: Option<String>,
    /// The last misfit that was said.
    said: Option<String>,
    pruned: Option<Instant>,
    rounds: Rounds,
}

impl Scheduler {
    /// Everything once; how long to wait until the next time, or `None`: the process is to end.
    fn turn(&mut self) -> Option<Duration> {
        match tx_with_all_rights(fit::look) {
            Fit::Elsewhere => None,
            Fit::Absent => Some(guc::poll_interval()),
            Fit::Misfit { sqlstate, message } => {
                if self.said.as_ref() != Some(&message) {
                    report::log(&format!("btc_ingest loads nothing: {message} ({sqlstate})"));
                    shared::note_trouble(&sqlstate, &message);
                    self.said = Some(message);
                }
                Some(guc::poll_interval())
            }
            Fit::Ready(versions) => {
                self.said = None;
                if self.versions.get_or_insert_with(|| versions.clone()) != &versions {
                    return None;
                }
                let pause = self.keep_loaders().min(self.keep_backfills()).min(self.rounds.turn());
                if self.pruned.is_none_or(|at| at.elapsed() > PRUNE) {
                    prune();
                    self.pruned = Some(Instant::now());
                }
                Some(pause)
            }
        }
    }

    /// The first loader is always there, so that a lone slice finds it awake; the others come with the work.
    fn keep_loaders(&mut self) -> Duration {
        let most = guc::workers() as usize;
        self.loaders.resize_with(most.max(self.loaders.len()), Keeper::default);
        let backlog = tx(|client| backlog(client, most as i64)) as usize;
        let wanted = backlog.clamp(1, most.max(1)).min(most);
        let keepers = (0..).zip(self.loaders.iter_mut()).take(wanted);
        // Those that a former scheduler has started go on.
        let missing = keepers.filter(|(slot, _)| !shared::is_there(ffi::current_database(), Role::Loader(*slot)));
        missing.filter_map(|(slot, keeper)| keeper.keep(|| worker::start_loader(slot))).min().unwrap_or(PRUNE)
    }

    /// Starts the workers that unfinished backfills lack, as after a restart.
    fn keep_backfills(&mut self) -> Duration {
        let unfinished = tx_with_all_rights(backfill::unfinished);
        if unfinished.is_empty() {
            self.backfills.clear();
            return PRUNE;
        }
        let places = tx(|client| {
            let mut places = Vec::new();
            for id in unfinished {
                places.extend(backfill::slots(client, id)?.into_iter().map(|(slot, free)| ((id, slot), free)));
            }
            Ok(places)
        });
        self.backfills.retain(|kept, _| places.iter().any(|(place, _)| place == kept));
        let free = places.into_iter().filter_map(|(place, free)| free.then_some(place));
        let pauses =
            free.filter_map(|(id, slot)| self.backfills.entry((id, slot)).or_default().keep(|| start(id, slot)));
        pauses.min().unwrap_or(PRUNE)
    }
}

/// Objects and registry rows that wait, counted up to `most` each.
fn backlog(client: &mut pgrx::spi::SpiClient<'_>, most: i64) -> Result<i64> {
    Ok(spi::json_kept(client, include_str!("../../../sql/queries/backlog.sql"), &[most.into()])?.as_i64().unwrap_or(0))
}

/// Starts a backfill's worker; without room for it somebody is to know.
fn start(backfill: i64, slot: i32) -> Option<DynamicBackgroundWorker> {
    let worker = worker::start_backfill(backfill, slot);
    if worker.is_none() {
        shared::note_trouble(Error::NoWorker.sqlstate(), &Error::NoWorker.to_string());
    }
    worker
}

/// Deletes what is older than the history is to be.
fn prune() {
    let Some(minutes) = guc::history_retention() else { return };
    let sql = include_str!("../../../sql/queries/prune_history.sql");
    while tx(|client| spi::execute_kept(client, sql, &[minutes.into(), PRUNE_ROWS.into()])) as i64 == PRUNE_ROWS {}
}
