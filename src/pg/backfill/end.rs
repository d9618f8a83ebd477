//! The end of a backfill, and the message in its row while it waits.

use pgrx::spi::SpiClient;

use super::compression;
use super::row::Backfill;
use crate::error::{Error, Result};
use crate::pg::session::ffi::Failure;
use crate::pg::session::tx::{tx, tx_with_target};
use crate::pg::session::{guc, spi};

/// Does the last work of a backfill: compresses a chunk, or else marks the backfill as done if nothing is
/// left to load. Returns `false` if neither was possible.
pub fn finish(backfill: &Backfill) -> Result<bool> {
    if compression::compress_next(backfill)? {
        return Ok(true);
    }
    let id = backfill.id;
    end(id, |client| {
        let counts: Option<String> = spi::fetch_kept(client, statement!("backfill_finish"), &[id.into()])?;
        counts.iter().for_each(|counts| guc::log_load(&format!("btc_ingest: backfill {id} is done: {counts}")));
        Ok(counts.is_some())
    })
}

/// Stops the backfill because of a failure that the administrator must fix first.
pub fn stop(id: i64, failure: &Failure) -> Result<()> {
    let (sqlstate, message) = sqlstate_and_advice(failure);
    end(id, |client| {
        guc::log_load(&format!("btc_ingest: backfill {id} has stopped: {message} ({sqlstate})"));
        let args = [id.into(), sqlstate.into(), message.into()];
        spi::execute_kept(client, statement!("backfill_stop"), &args)?;
        Ok(true)
    })
    .map(drop)
}

/// Ends a backfill and resumes the compression policies, in one transaction: a worker that ended between two
/// transactions would leave the policies paused. Returns whether `work` has ended the backfill.
fn end(id: i64, work: impl FnOnce(&mut SpiClient<'_>) -> Result<bool>) -> Result<bool> {
    tx_with_target(|client, target| {
        let ended = work(client)?;
        if ended {
            compression::resume(client, target, id)?;
        }
        Ok(ended)
    })
}

/// Notes in the backfill's row the failure after which it tries again.
pub fn note(id: i64, failure: &Failure) -> Result<()> {
    let (sqlstate, message) = failure.sqlstate_and_message();
    let sql = "UPDATE ingestion.backfills SET sqlstate = $2, message = $3 WHERE id = $1";
    tx(|client| spi::execute_kept(client, sql, &[id.into(), sqlstate.into(), message.into()]).map(drop))
}

fn sqlstate_and_advice(failure: &Failure) -> (String, String) {
    match failure {
        Failure::Ours(error) => (error.sqlstate().to_owned(), with_hint(error)),
        Failure::Postgres { .. } => failure.sqlstate_and_message(),
    }
}

/// Returns an error's message followed by its hint.
pub fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}. {hint}"),
        None => error.to_string(),
    }
}
