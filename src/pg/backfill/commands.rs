//! The commands `pause_ingest`, `resume_ingest` and `cancel_backfill`.

use pgrx::Spi;
use pgrx::spi::SpiClient;

use super::compression;
use super::end::with_hint;
use super::row::unfinished;
use super::start::{MOST_WORKERS, start_workers};
use crate::error::{Error, Result};
use crate::model::backfill::BackfillStatus;
use crate::pg::queue::control;
use crate::pg::session::locks::Lock;
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::spi;
use crate::pg::session::target::as_owner;

/// Pauses all workers and sweeps of the database: they finish the object that they load, and start no other
/// one.
pub fn pause() -> Result<String> {
    let changed = as_owner(|client, _| control::set_paused(client, true))?;
    Ok(match changed {
        true => "paused: workers finish their current objects and start no others".into(),
        false => "was paused already".into(),
    })
}

/// Ends the pause, and starts the workers that unfinished backfills lack, for example after a restart of the
/// server.
pub fn resume() -> Result<String> {
    let changed = as_owner(|client, _| control::set_paused(client, false))?;
    wake_at_commit();
    let mut answer = if changed { "resumed" } else { "was not paused" }.to_owned();
    let mut started = 0;
    for id in as_owner(|client, _| unfinished(client))? {
        match start_workers(id) {
            Ok(workers) => started += workers,
            // The pause has ended nevertheless, so this is part of the answer and no error.
            Err(error @ Error::NoWorker) => answer += &format!("; backfill {id}: {}", with_hint(&error)),
            Err(error) => return Err(error),
        }
    }
    if started > 0 {
        answer += &format!("; started {started} workers");
    }
    Ok(answer)
}

/// Cancels a backfill and terminates its workers. A cancelled backfill is never continued.
pub fn cancel(id: i64) -> Result<String> {
    let was = as_owner(|client, _| mark_cancelled(client, id))?;
    let Some(was) = was else {
        return Err(Error::InvalidBackfill { what: format!("there is no backfill {id}") });
    };
    if matches!(was, BackfillStatus::Done | BackfillStatus::Cancelled) {
        return Ok(format!("backfill {id} is {was} already"));
    }
    Spi::connect_mut(|client| compression::resume(client, id))?;
    let ended = Spi::connect_mut(|client| terminate_workers(client, id))?;
    let rest = if ended > 0 { format!(", {ended} workers were ended") } else { String::new() };
    Ok(format!("backfill {id} is cancelled; what was loaded stays{rest}"))
}

/// Marks a backfill as cancelled unless it is done or cancelled. Returns the status that it had, or `None` if
/// there is no such backfill.
fn mark_cancelled(client: &mut SpiClient<'_>, id: i64) -> Result<Option<BackfillStatus>> {
    let sql = "SELECT to_json(status)::text FROM ingestion.backfills WHERE id = $1 FOR UPDATE";
    let was: Option<BackfillStatus> = spi::fetch(client, sql, &[id.into()])?;
    if was.is_some_and(|was| was.is_running() || was == BackfillStatus::Stopped) {
        let sql = "UPDATE ingestion.backfills SET status = 'cancelled', finished_at = now() WHERE id = $1";
        spi::execute(client, sql, &[id.into()])?;
    }
    Ok(was)
}

/// Terminates the processes that hold the slots of a backfill, and returns their number. The pids come from
/// the locks: a pid in a table may belong to another process by now.
fn terminate_workers(client: &mut SpiClient<'_>, backfill: i64) -> Result<i64> {
    let slots = 0..MOST_WORKERS;
    let pids: Vec<i32> = slots.flat_map(|slot| Lock::BackfillWorker { backfill, slot }.holders()).collect();
    spi::fetch(client, statement!("backfill_terminate"), &[pids.into()])
}
