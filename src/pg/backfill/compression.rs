//! Compression policies while a backfill fills chunks. A policy that compressed such a chunk would make every later row of it
//! decompress a part again. TimescaleDB's functions need superuser privileges here; the backfill's row is written as its owner.

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde_json::Value;

use super::row::Backfill;
use crate::error::Result;
use crate::pg::session::target::Target;
use crate::pg::session::tx::tx_as_superuser;
use crate::pg::session::{ffi, spi};

/// Pauses the policies' jobs, and notes which they were.
pub fn pause(id: i64) -> Result<()> {
    tx_as_superuser(|client| {
        let target = Target::check(client)?;
        let jobs: Vec<i64> = spi::fetch(client, "SELECT btc_ingest_internal.pause_compression()::text", &[])?;
        if jobs.is_empty() {
            return Ok(());
        }
        let _owner = target.become_owner();
        note(client, id, jobs.into())
    })
}

/// Resumes the jobs that a backfill has paused. If another backfill still runs, it is noted there that it resumes them at its end.
/// Needs superuser privileges.
pub fn resume(client: &mut SpiClient<'_>, id: i64) -> Result<()> {
    let target = Target::check(client)?;
    let jobs: Vec<i64> = {
        let _owner = target.become_owner();
        let jobs: Vec<i64> = spi::fetch(client, statement!("backfill_paused_jobs"), &[id.into()])?;
        if jobs.is_empty() {
            return Ok(());
        }
        let other = "SELECT to_json(min(id))::text FROM ingestion.backfills
                      WHERE status IN ('pending', 'listing', 'loading') AND id <> $1";
        if let Some(other) = spi::fetch::<Option<i64>>(client, other, &[id.into()])? {
            return note(client, other, jobs.into());
        }
        jobs
    };
    let sql = "SELECT btc_ingest_internal.resume_compression($1)";
    spi::execute(client, sql, &[JsonB(jobs.into()).into()]).map(drop)
}

/// Compresses one chunk that is due by its policy and that no backfill fills. Returns `false` if there is none.
pub fn compress_next(backfill: &Backfill) -> Result<bool> {
    let Some(jobs) = backfill.state.paused_jobs.clone() else { return Ok(false) };
    ffi::show_activity(Some("compressing finished chunks"));
    tx_as_superuser(|client| {
        Target::check(client)?;
        let sql = "SELECT (btc_ingest_internal.compress_finished($1) IS NOT NULL)::text";
        spi::fetch(client, sql, &[JsonB(jobs).into()])
    })
}

fn note(client: &mut SpiClient<'_>, id: i64, jobs: Value) -> Result<()> {
    let sql = "UPDATE ingestion.backfills
                  SET state = state || jsonb_build_object('paused_jobs', coalesce(state -> 'paused_jobs', '[]') || $2)
                WHERE id = $1";
    spi::execute(client, sql, &[id.into(), JsonB(jobs).into()]).map(drop)
}
