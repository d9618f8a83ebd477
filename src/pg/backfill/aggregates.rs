//! Continuous aggregates are refreshed over each chunk that a backfill has attached.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, guc, report, spi};

/// How often the refresh over one chunk is attempted.
const MOST_ATTEMPTS: i32 = 5;

/// A refresh that is due (`refresh_begin.sql`).
#[derive(Deserialize)]
struct Due {
    backfill: i64,
    /// The first bucket of the chunk, as PostgreSQL writes it. `None` if workers do not refresh over this
    /// chunk (any more).
    #[serde(deserialize_with = "spi::nullable")]
    chunk: Option<String>,
}

/// Refreshes the continuous aggregates over one chunk that was attached. A table notes the refreshes that are
/// due, so that a crash loses none. Returns `false` if none is due, or if another worker refreshes.
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
    // The attempt is counted before it starts. The administrator must see to a refresh that always fails or
    // ends its backend.
    let due: Option<Due> = tx(|client| spi::fetch_kept(client, statement!("refresh_begin"), &[MOST_ATTEMPTS.into()]))?;
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
