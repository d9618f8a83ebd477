//! Compression policies while a backfill fills chunks: one that compressed such a chunk would make every later row of it
//! decompress a part again. What TimescaleDB is told needs more rights than a tables' owner has; what is noted does not.

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde_json::Value;

use super::Backfill;
use crate::error::Result;
use crate::pg::spi;
use crate::pg::target::Target;
use crate::pg::worker::tx_with_all_rights;

/// Stops the policies' jobs, and notes which they were.
pub fn pause(id: i64) {
    tx_with_all_rights(|client| {
        let target = Target::check(client)?;
        let jobs = spi::json(client, "SELECT btc_ingest.pause_compression()::text", &[])?;
        if jobs.as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let _owner = target.become_owner();
        note(client, id, jobs)
    })
}

/// Lets them run again, unless another backfill still needs them to be still: then they are its to resume. With all rights.
pub fn resume(client: &mut SpiClient<'_>, id: i64) -> Result<()> {
    let target = Target::check(client)?;
    let jobs = {
        let _owner = target.become_owner();
        let sql = "WITH was AS (SELECT state -> 'paused_jobs' AS jobs FROM ingestion.backfills WHERE id = $1 FOR UPDATE),
                        now AS (UPDATE ingestion.backfills SET state = state - 'paused_jobs' WHERE id = $1 AND state ? 'paused_jobs')
                   SELECT coalesce(jobs, '[]')::text FROM was";
        let jobs = spi::json(client, sql, &[id.into()])?;
        if jobs.as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let other = "SELECT coalesce(to_json(min(id)), 'null')::text FROM ingestion.backfills
                      WHERE status IN ('pending', 'listing', 'loading') AND id <> $1";
        if let Some(other) = spi::json(client, other, &[id.into()])?.as_i64() {
            return note(client, other, jobs);
        }
        jobs
    };
    spi::execute(client, "SELECT btc_ingest.resume_compression($1)", &[JsonB(jobs).into()]).map(drop)
}

/// Compresses one chunk that is due and that nobody fills any more. `false`: there is none.
pub fn compress_next(backfill: &Backfill) -> bool {
    let Some(jobs) = backfill.state.get("paused_jobs").cloned() else { return false };
    crate::pg::ffi::show_activity(Some("compressing finished chunks"));
    tx_with_all_rights(|client| {
        Target::check(client)?;
        let sql = "SELECT (btc_ingest.compress_finished($1) IS NOT NULL)::text";
        Ok(spi::json(client, sql, &[JsonB(jobs).into()])? == true)
    })
}

fn note(client: &mut SpiClient<'_>, id: i64, jobs: Value) -> Result<()> {
    let sql = "UPDATE ingestion.backfills
                  SET state = state || jsonb_build_object('paused_jobs', coalesce(state -> 'paused_jobs', '[]') || $2)
                WHERE id = $1";
    spi::execute(client, sql, &[id.into(), JsonB(jobs).into()]).map(drop)
}
