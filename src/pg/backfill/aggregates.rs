//! What follows a chunk that came as a whole: continuous aggregates are told, and chunks that are due are compressed.

use super::Backfill;
use crate::pg::ffi;
use crate::pg::spi;
use crate::pg::worker::tx;

/// Refreshes the continuous aggregates over one chunk that was attached. A to-do in a table, so that no crash loses it.
/// `false`: none is due.
pub fn refresh_next(backfill: &Backfill) -> bool {
    let sql = "SELECT coalesce((SELECT to_json(chunk_from::text) FROM ingestion.backfill_chunks
                WHERE backfill = $1 AND refresh_due ORDER BY chunk_from LIMIT 1), 'null')::text";
    let due = tx(|client| spi::json_kept(client, sql, &[backfill.id.into()]));
    let Some(chunk) = due.as_str() else { return false };
    if !locked(backfill.id) {
        return false;
    }
    ffi::show_activity(Some("refreshing continuous aggregates"));
    ffi::call(&format!("CALL btc_ingest.refresh_aggregates({}, '{chunk}')", backfill.id));
    unlock(backfill.id);
    true
}

/// Compresses one chunk that is due and that nobody fills any more. `false`: there is none.
pub fn compress_next(backfill: &Backfill) -> bool {
    if backfill.state.get("paused_jobs").is_none() {
        return false;
    }
    ffi::show_activity(Some("compressing finished chunks"));
    let sql = "SELECT (btc_ingest.compress_finished($1) IS NOT NULL)::text";
    tx(|client| spi::json_kept(client, sql, &[backfill.id.into()])) == true
}

/// One worker refreshes at a time: TimescaleDB refuses two refreshes that overlap.
fn locked(id: i64) -> bool {
    let lock = "SELECT pg_try_advisory_lock(hashtextextended(format('btc_ingest.refresh:%s', $1::bigint), 0))::text";
    tx(|client| spi::json_kept(client, lock, &[id.into()])) == true
}

fn unlock(id: i64) {
    let unlock = "SELECT pg_advisory_unlock(hashtextextended(format('btc_ingest.refresh:%s', $1::bigint), 0))";
    tx(|client| spi::execute_kept(client, unlock, &[id.into()]));
}
