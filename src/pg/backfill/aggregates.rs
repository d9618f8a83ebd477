//! What follows a chunk that was attached as a whole: continuous aggregates are refreshed over it.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, guc, report, spi};

/// How often a refresh is tried.
const TRIES: i32 = 5;

/// A refresh that is due (`refresh_begin.sql`).
#[derive(Deserialize)]
struct Due {
    backfill: i64,
    /// The first bucket of the chunk, as PostgreSQL writes it. `None` if it is not refreshed by a worker (any more).
    chunk: Option<String>,
}

/// Refreshes the continuous aggregates over one chunk that was attached. The refresh is noted in a table, so that no crash loses
/// it. Returns `false` if none is due, or if another worker refreshes.
pub fn refresh_next() -> Result<bool> {
    // One worker at a time: TimescaleDB refuses two refreshes that overlap.
    if !tx(|_| Ok(Lock::Refresh.try_for_session()))? {
        return Ok(false);
    }
    let refreshed = refresh_locked();
    Lock::Refresh.release();
    refreshed
}

fn refresh_locked() -> Result<bool> {
    // Counted before it is tried: a refresh that fails again and again, or ends its backend, is left to the administrator.
    let due: Option<Due> = tx(|client| spi::fetch_kept(client, statement!("refresh_begin"), &[TRIES.into()]))?;
    let Some(Due { backfill, chunk }) = due else { return Ok(false) };
    let Some(chunk) = chunk else { return Ok(true) };
    ffi::show_activity(Some("refreshing continuous aggregates"));
    let args = || [backfill.into(), chunk.clone().into()];
    let calls: Vec<String> = tx(|client| spi::fetch(client, statement!("refresh_calls"), &args()))?;
    let refresh = || {
        calls.iter().for_each(|call| ffi::call(call));
        Ok(())
    };
    match ffi::survive(refresh) {
        Ok(()) => {
            let done = "UPDATE ingestion.backfill_chunks SET refresh_due = false
                         WHERE backfill = $1 AND chunk_from = $2::timestamptz";
            tx(|client| spi::execute_kept(client, done, &args()))?;
        }
        Err(_) if ffi::is_ending() => {}
        // The ticks are stored. A view that cannot be refreshed does not end the backfill.
        Err(failure) => {
            let (sqlstate, message) = failure.sqlstate_and_message();
            report::log(&format!("btc_ingest: a continuous aggregate was not refreshed: {message} ({sqlstate})"));
            ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
        }
    }
    Ok(true)
}
