//! What follows a chunk that came as a whole: continuous aggregates are refreshed over it.

use std::time::Duration;

use crate::pg::worker::tx;
use crate::pg::{ffi, guc, report, spi};

/// How often a refresh is tried.
const TRIES: i32 = 5;

/// Refreshes the continuous aggregates over one chunk that was attached. A to-do in a table, so that no crash loses it.
/// `false`: none is due, or another worker is at it.
pub fn refresh_next() -> bool {
    if !locked() {
        return false;
    }
    // Counted before it is tried: what fails again and again, or with its backend, is left to a person.
    let sql = include_str!("../../../sql/queries/refresh_begin.sql");
    let due = tx(|client| spi::json_kept(client, sql, &[TRIES.into()]));
    let id = due["backfill"].as_i64().unwrap_or(0);
    if let Some(chunk) = due["chunk"].as_str() {
        ffi::show_activity(Some("refreshing continuous aggregates"));
        let calls = include_str!("../../../sql/queries/refresh_calls.sql");
        let calls = tx(|client| spi::json(client, calls, &[id.into(), chunk.to_owned().into()]));
        let refresh = || calls.as_array().into_iter().flatten().filter_map(|call| call.as_str()).for_each(ffi::call);
        match ffi::survive(refresh) {
            Ok(()) => {
                let done = "UPDATE ingestion.backfill_chunks SET refresh_due = false WHERE backfill = $1 AND chunk_from = $2::timestamptz";
                tx(|client| spi::execute_kept(client, done, &[id.into(), chunk.to_owned().into()]));
            }
            Err(_) if ffi::is_ending() => {}
            // The ticks are stored all the same: a view that cannot be refreshed is no reason to end the backfill.
            Err(failure) => {
                report::log(&format!("btc_ingest: a continuous aggregate was not refreshed: {failure:?}"));
                ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
            }
        }
    }
    unlock();
    !due.is_null()
}

/// One worker refreshes at a time: TimescaleDB refuses two refreshes that overlap.
fn locked() -> bool {
    let lock = "SELECT pg_try_advisory_lock(hashtextextended('btc_ingest.refresh', 0))::text";
    tx(|client| spi::json_kept(client, lock, &[])) == true
}

fn unlock() {
    let unlock = "SELECT pg_advisory_unlock(hashtextextended('btc_ingest.refresh', 0))";
    tx(|client| spi::execute_kept(client, unlock, &[]));
}
