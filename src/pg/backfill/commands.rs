//! The commands `pause_ingest`, `resume_ingest` and `cancel_backfill`.

use pgrx::Spi;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::compression;
use super::end::with_hint;
use super::row::unfinished;
use super::start::{MOST_WORKERS, start_workers};
use crate::error::{Error, Result};
use crate::model::backfill::BackfillStatus;
use crate::pg::queue::control;
use crate::pg::session::locks::Lock;
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::target::as_owner;
use crate::pg::session::{guc, spi};

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

/// Cancels a backfill and terminates its workers. A cancelled backfill is never continued. A caller that is no
/// administrator may cancel only a backfill that the session's role has started.
pub fn cancel(id: i64) -> Result<String> {
    let was = as_owner(|client, target| {
        let was = mark_cancelled(client, id)?;
        if was.is_some_and(|was| !was.is_over()) {
            compression::resume(client, target, id)?;
        }
        Ok(was)
    })?;
    let Some(was) = was else {
        return Err(Error::InvalidBackfill { what: format!("there is no backfill {id}") });
    };
    if was.is_over() {
        return Ok(format!("backfill {id} is {was} already"));
    }
    let ended = Spi::connect_mut(|client| terminate_workers(client, id))?;
    guc::log_load(&format!("btc_ingest: backfill {id} is cancelled"));
    let rest = if ended > 0 { format!(", {ended} workers were ended") } else { String::new() };
    Ok(format!("backfill {id} is cancelled; what was loaded stays{rest}"))
}

/// The row of a backfill that is to be cancelled.
#[derive(Deserialize)]
struct Cancelled {
    status: BackfillStatus,
    requested_by: String,
    /// Whether the session's role has started it, or is an administrator.
    may_cancel: bool,
}

/// Marks a backfill as cancelled unless it is done or cancelled. Returns the status that it had, or `None` if
/// there is no such backfill.
fn mark_cancelled(client: &mut SpiClient<'_>, id: i64) -> Result<Option<BackfillStatus>> {
    let sql = "SELECT json_build_object('status', status, 'requested_by', requested_by, 'may_cancel',
                      requested_by = session_user OR pg_has_role(session_user, 'btc_ingest_admin', 'MEMBER'))::text
                 FROM ingestion.backfills WHERE id = $1 FOR UPDATE";
    let row: Option<Cancelled> = spi::fetch(client, sql, &[id.into()])?;
    let Some(Cancelled { status, requested_by, may_cancel }) = row else { return Ok(None) };
    if !may_cancel {
        return Err(Error::OthersBackfill { id, requested_by });
    }
    if !status.is_over() {
        let sql = "UPDATE ingestion.backfills SET status = 'cancelled', finished_at = now() WHERE id = $1";
        spi::execute(client, sql, &[id.into()])?;
    }
    Ok(Some(status))
}

/// Terminates the processes that hold the slots of a backfill, and returns their number. The pids come from
/// the locks: a pid in a table may belong to another process by now.
fn terminate_workers(client: &mut SpiClient<'_>, backfill: i64) -> Result<i64> {
    let slots = 0..MOST_WORKERS;
    let pids: Vec<i32> = slots.flat_map(|slot| Lock::BackfillWorker { backfill, slot }.holders()).collect();
    spi::fetch(client, statement!("backfill_terminate"), &[pids.into()])
}
