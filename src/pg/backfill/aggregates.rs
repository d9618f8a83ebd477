//! Continuous aggregates are refreshed over each chunk that a backfill has attached. The functions of an
//! aggregate run with the privileges of the role that refreshes: if the tables belong to a role that is no
//! superuser, a process of its own does it, whose session has that role.

use std::time::Duration;

use pgrx::pg_sys;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::ffi::Failure;
use crate::pg::session::locks::Lock;
use crate::pg::session::time::timestamp;
use crate::pg::session::tx::{tx, tx_with_target};
use crate::pg::session::{ffi, guc, processes, report, spi};

/// How often the refresh over one chunk is attempted.
const MOST_ATTEMPTS: i32 = 5;

/// A refresh that is due (`refresh_begin.sql`).
#[derive(Deserialize)]
struct Due {
    backfill: i64,
    /// The first bucket of the chunk, microseconds since 1970. `None` if workers do not refresh over this chunk (any
    /// more).
    #[serde(deserialize_with = "spi::nullable")]
    chunk: Option<i64>,
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
    let (due, target) = tx_with_target(|client, target| {
        let due: Option<Due> = spi::fetch_kept(client, statement!("refresh_begin"), &[MOST_ATTEMPTS.into()])?;
        Ok((due, *target))
    })?;
    let Some(Due { backfill, chunk }) = due else { return Ok(false) };
    let Some(chunk) = chunk else { return Ok(true) };
    ffi::show_activity(Some("refreshing continuous aggregates"));
    if !target.owner_is_superuser() {
        return refresh_in_another_process(target.owner, backfill, chunk).map(|()| true);
    }
    if !refresh(backfill, chunk)? {
        pause();
    }
    Ok(true)
}

fn pause() {
    ffi::idle(Duration::from_millis(guc::retry().backoff_ms as u64));
}

/// Lets a process whose session's role is the tables' owner refresh, and waits for its end. A refresh commits while it
/// runs, so no part of this process can take that role's privileges for it.
fn refresh_in_another_process(owner: pg_sys::Oid, backfill: i64, chunk: i64) -> Result<()> {
    let Some(process) = processes::start_refresh(owner, backfill, chunk) else {
        report::log(&format!("btc_ingest: no continuous aggregate was refreshed: {}", Error::NoWorker));
        pause();
        return Ok(());
    };
    // The row says how it went.
    let _ = process.wait_for_shutdown();
    let sql = "SELECT refresh_due::text FROM ingestion.backfill_chunks
                WHERE backfill = $1 AND chunk_from = $2";
    let due: Option<bool> = tx(|client| spi::fetch_kept(client, sql, &[backfill.into(), timestamp(chunk)?.into()]))?;
    if due == Some(true) && !ffi::is_ending() {
        pause();
    }
    Ok(())
}

/// Refreshes in a process whose session's role is the tables' owner.
pub fn refresh_as_owner(backfill: i64, chunk: i64) {
    ffi::show_activity(Some("refreshing continuous aggregates"));
    if let Err(failure) = ffi::survive(|| refresh(backfill, chunk)) {
        log(&failure);
    }
}

/// Refreshes over one chunk with the privileges of the session's role. Returns `false` after a failure, which is
/// logged: the ticks are stored, and a view that cannot be refreshed does not end the backfill.
fn refresh(backfill: i64, chunk: i64) -> Result<bool> {
    let chunk = timestamp(chunk)?;
    let args = || [backfill.into(), chunk.into()];
    let calls: Vec<String> = tx(|client| spi::fetch(client, statement!("refresh_calls"), &args()))?;
    let refresh = || {
        calls.iter().for_each(|call| ffi::run_at_top_level(call));
        Ok(())
    };
    match ffi::survive(refresh) {
        Ok(()) => {
            let done = "UPDATE ingestion.backfill_chunks SET refresh_due = false
                         WHERE backfill = $1 AND chunk_from = $2";
            tx(|client| spi::execute_kept(client, done, &args()))?;
            Ok(true)
        }
        Err(_) if ffi::is_ending() => Ok(true),
        Err(failure) => {
            log(&failure);
            Ok(false)
        }
    }
}

fn log(failure: &Failure) {
    let (sqlstate, message) = failure.sqlstate_and_message();
    report::log(&format!("btc_ingest: a continuous aggregate was not refreshed: {message} ({sqlstate})"));
}
