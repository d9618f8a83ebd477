//! The scheduler: it keeps as many loaders running as there is work for, starts the workers of unfinished
//! backfills, lists watched prefixes, has candles refreshed, chunks dropped and the index on vectors made anew, and
//! prunes the history.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::spi::SpiClient;

use super::compatibility::{self, Compatibility};
use super::supervisor::Supervisor;
use crate::error::{Error, Result};
use crate::pg::backfill::row::unfinished;
use crate::pg::backfill::start::{Place, missing};
use crate::pg::candles::rounds::CandleRounds;
use crate::pg::discovery::Rounds;
use crate::pg::quality::gaps;
use crate::pg::retention::run::RetentionRounds;
use crate::pg::session::shared::{self, Presence, Role};
use crate::pg::session::tx::{tx, tx_as_superuser};
use crate::pg::session::{ffi, guc, lock_waits, processes, report, spi};
use crate::pg::windows::rounds::UpkeepRounds;

/// The time between two deletions of old rows of the history.
const PRUNE: Duration = Duration::from_secs(3600);
/// The time between two looks for holes in the trade ids.
const REPORT_GAPS: Duration = Duration::from_secs(60);
/// The pause if there is no worker to start.
const NOTHING_TO_START: Duration = Duration::from_secs(3600);
/// Rows that one transaction deletes.
const PRUNE_ROWS: i64 = 10_000;

/// Runs the scheduler until it must end.
pub fn run() {
    let _presence = Presence::enter(Role::Scheduler);
    lock_waits::limit_in_process();
    let mut scheduler = Scheduler::default();
    loop {
        ffi::reload_settings();
        let wakes = shared::wakes();
        let pause = match ffi::survive(|| scheduler.turn()) {
            Ok(Some(pause)) => pause,
            Ok(None) => return,
            // The launcher starts another scheduler, which begins with a clean state.
            Err(failure) => {
                let (sqlstate, message) = failure.sqlstate_and_message();
                report::log(&format!("btc_ingest scheduler: {message} ({sqlstate})"));
                shared::note_error(&sqlstate, &message);
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
    /// The supervisors of the loaders, by the number of the loader.
    loaders: Vec<Supervisor>,
    /// The supervisors of the workers of backfills.
    backfills: HashMap<Place, Supervisor>,
    /// The versions of the extensions when the process began.
    versions: Option<String>,
    /// The last incompatibility that was reported.
    reported: Option<String>,
    /// When the history was pruned.
    pruned: Option<Instant>,
    /// When holes were looked for, and the last load at that time.
    looked: Option<(Instant, i64)>,
    rounds: Rounds,
    candles: CandleRounds,
    retention: RetentionRounds,
    index_upkeep: UpkeepRounds,
}

impl Scheduler {
    /// Does all work of the scheduler once. Returns the pause until the next turn, or `None` if the process
    /// must end.
    fn turn(&mut self) -> Result<Option<Duration>> {
        let versions = match tx_as_superuser(compatibility::check)? {
            Compatibility::Elsewhere => return Ok(None),
            Compatibility::Absent => return Ok(Some(guc::poll_interval())),
            Compatibility::Incompatible { sqlstate, message } => {
                if self.reported.as_ref() != Some(&message) {
                    report::log(&format!("btc_ingest loads nothing: {message} ({sqlstate})"));
                    shared::note_error(&sqlstate, &message);
                    self.reported = Some(message);
                }
                return Ok(Some(guc::poll_interval()));
            }
            Compatibility::Ready { versions, .. } => versions,
        };
        self.reported = None;
        if self.versions.get_or_insert_with(|| versions.clone()) != &versions {
            return Ok(None);
        }
        let pause = self.keep_loaders()?.min(self.keep_backfills()?).min(self.rounds.turn());
        if self.pruned.is_none_or(|at| at.elapsed() > PRUNE) {
            prune()?;
            self.pruned = Some(Instant::now());
        }
        if self.looked.is_none_or(|(at, _)| at.elapsed() > REPORT_GAPS) {
            self.report_gaps()?;
        }
        let pause = pause.min(self.candles.turn()?).min(self.retention.turn()?);
        Ok(Some(pause.min(self.index_upkeep.turn()?)))
    }

    /// Reports new holes in the trade ids, if something was loaded since the last time and nothing waits any more:
    /// while objects are loaded in any order, there are holes that the next ones fill.
    fn report_gaps(&mut self) -> Result<()> {
        let last = tx(|client| {
            let last: i64 =
                spi::fetch_kept(client, "SELECT coalesce(max(id), 0)::text FROM ingestion.load_history", &[])?;
            if self.looked.is_none_or(|(_, known)| known != last)
                && backlog(client, 1)? == 0
                && unfinished(client)?.is_empty()
            {
                gaps::report_in(client)?;
                return Ok(Some(last));
            }
            Ok(None)
        })?;
        let known = last.or(self.looked.map(|(_, known)| known)).unwrap_or(-1);
        self.looked = Some((Instant::now(), known));
        Ok(())
    }

    /// Starts the loaders that are missing. The first one always runs, so that it takes a new object without
    /// delay. The others run while there is work for them.
    fn keep_loaders(&mut self) -> Result<Duration> {
        let most = guc::workers() as usize;
        self.loaders.resize_with(most.max(self.loaders.len()), Supervisor::default);
        let backlog = tx(|client| backlog(client, most as i64))? as usize;
        let wanted = backlog.clamp(1, most.max(1)).min(most);
        let supervisors = (0..).zip(self.loaders.iter_mut()).take(wanted);
        // Loaders that an earlier scheduler has started still run.
        let missing = supervisors.filter(|(slot, _)| !shared::is_there(ffi::current_database(), Role::Loader(*slot)));
        let pauses = missing.filter_map(|(slot, supervisor)| supervisor.keep(|| processes::start_loader(slot)));
        Ok(pauses.min().unwrap_or(NOTHING_TO_START))
    }

    /// Starts the missing workers of unfinished backfills, for example after a restart of the server.
    fn keep_backfills(&mut self) -> Result<Duration> {
        let (running, missing) = tx(|client| Ok((unfinished(client)?, missing(client)?)))?;
        self.backfills.retain(|place, _| running.contains(&place.backfill));
        let pauses = missing
            .into_iter()
            .filter_map(|place| self.backfills.entry(place).or_default().keep(|| start(place.backfill, place.slot)));
        Ok(pauses.min().unwrap_or(NOTHING_TO_START))
    }
}

/// Counts the objects and the registry rows that wait for a loader, up to `most` of each.
fn backlog(client: &mut SpiClient<'_>, most: i64) -> Result<i64> {
    spi::fetch_kept(client, statement!("backlog"), &[most.into()])
}

/// Starts a worker of a backfill. If the server has no room for it, that is the last error, which `doctor()`
/// shows.
fn start(backfill: i64, slot: i32) -> Option<DynamicBackgroundWorker> {
    let worker = processes::start_backfill(backfill, slot);
    if worker.is_none() {
        shared::note_error(Error::NoWorker.sqlstate(), &Error::NoWorker.to_string());
    }
    worker
}

/// Deletes rows of the history that are older than `btc_ingest.history_retention`.
fn prune() -> Result<()> {
    let Some(minutes) = guc::history_retention() else { return Ok(()) };
    let args = || [minutes.into(), PRUNE_ROWS.into()];
    while tx(|client| spi::execute_kept(client, statement!("prune_history"), &args()))? as i64 == PRUNE_ROWS {}
    Ok(())
}
