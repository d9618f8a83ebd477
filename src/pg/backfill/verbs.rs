//! What an operator says to backfills: pause, go on, cancel. Tables are written with their owner's rights, as by a load.

use pgrx::Spi;

use super::{compression, start_workers, unfinished, with_hint};
use crate::error::{Error, Result};
use crate::pg::shared::wake_at_commit;
use crate::pg::spi;
use crate::pg::target::as_owner;

/// Workers take nothing more, or may again.
pub fn set_paused(paused: bool) -> Result<String> {
    let changed = as_owner(|client, _| {
        let who = "SELECT to_json(session_user)::text";
        let who = spi::json(client, who, &[])?;
        let sql = "UPDATE ingestion.control SET paused = $1, changed_by = $2, changed_at = now() WHERE paused <> $1";
        let args = [paused.into(), who.as_str().unwrap_or_default().to_owned().into()];
        Ok(spi::execute(client, sql, &args)? > 0)
    })?;
    if paused {
        return Ok(match changed {
            true => "paused: workers end what they are at and take nothing more".into(),
            false => "was paused already".into(),
        });
    }
    wake_at_commit();
    // Workers that a restart of the server has ended.
    let mut answer = if changed { "resumed" } else { "was not paused" }.to_owned();
    let mut started = 0;
    for id in Spi::connect_mut(unfinished)? {
        match start_workers(id) {
            Ok(workers) => started += workers,
            // Everything else goes on all the same.
            Err(error @ Error::NoWorker) => answer += &format!("; backfill {id}: {}", with_hint(&error)),
            Err(error) => return Err(error),
        }
    }
    if started > 0 {
        answer += &format!("; started {started} workers");
    }
    Ok(answer)
}

/// Ends a backfill for good.
pub fn cancel(id: i64) -> Result<String> {
    let was = as_owner(|client, _| {
        let sql = "SELECT to_json(status)::text FROM ingestion.backfills WHERE id = $1 FOR UPDATE";
        let was = spi::json(client, sql, &[id.into()])?;
        if matches!(was.as_str(), Some("pending" | "listing" | "loading" | "stopped")) {
            let sql = "UPDATE ingestion.backfills SET status = 'cancelled', finished_at = now() WHERE id = $1";
            spi::execute(client, sql, &[id.into()])?;
        }
        Ok(was)
    })?;
    let Some(was) = was.as_str() else {
        return Err(Error::InvalidBackfill { what: format!("there is no backfill {id}") });
    };
    if matches!(was, "done" | "cancelled") {
        return Ok(format!("backfill {id} is {was} already"));
    }
    Spi::connect_mut(|client| compression::resume(client, id))?;
    // Only processes that are this backfill's workers: they hold its slots, and a pid may belong to somebody else by now.
    let sql = include_str!("../../../sql/queries/backfill_terminate.sql");
    let ended = Spi::connect_mut(|client| spi::json(client, sql, &[id.into()]))?;
    let ended = ended.as_i64().unwrap_or(0);
    let rest = if ended > 0 { format!(", {ended} workers were ended") } else { String::new() };
    Ok(format!("backfill {id} is cancelled; what was loaded stays{rest}"))
}
