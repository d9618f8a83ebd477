//! Compression policies are paused while a backfill fills chunks: every row that is stored in a compressed
//! chunk makes TimescaleDB decompress a part of it. TimescaleDB's functions run with superuser privileges,
//! and the backfill's row is written with the privileges of the tables' owner.

use pgrx::JsonB;
use pgrx::spi::SpiClient;

use super::row::{Backfill, unfinished};
use crate::error::Result;
use crate::pg::session::target::Target;
use crate::pg::session::tx::tx_as_superuser;
use crate::pg::session::{ffi, spi};

/// Pauses the jobs of the policies, and notes them in the backfill's row.
pub fn pause(id: i64) -> Result<()> {
    tx_as_superuser(|client| {
        let target = Target::check(client)?;
        let jobs: Vec<i64> = spi::fetch(client, "SELECT btc_ingest_internal.pause_compression()::text", &[])?;
        if jobs.is_empty() {
            return Ok(());
        }
        let _owner = target.become_owner();
        note(client, id, jobs)
    })
}

/// Resumes the jobs that a backfill has paused. If another backfill still runs, the jobs are noted in its row
/// instead, and its end resumes them. Needs superuser privileges.
pub fn resume(client: &mut SpiClient<'_>, id: i64) -> Result<()> {
    let target = Target::check(client)?;
    let jobs: Vec<i64> = {
        let _owner = target.become_owner();
        let jobs: Vec<i64> = spi::fetch(client, statement!("backfill_paused_jobs"), &[id.into()])?;
        if jobs.is_empty() {
            return Ok(());
        }
        if let Some(other) = unfinished(client)?.into_iter().filter(|other| *other != id).min() {
            return note(client, other, jobs);
        }
        jobs
    };
    let sql = "SELECT btc_ingest_internal.resume_compression($1)";
    spi::execute(client, sql, &[JsonB(jobs.into()).into()]).map(drop)
}

/// Compresses one chunk that is due by its policy and that no backfill fills. Returns `false` if there is no
/// such chunk.
pub fn compress_next(backfill: &Backfill) -> Result<bool> {
    let Some(jobs) = backfill.state.paused_jobs.clone() else { return Ok(false) };
    ffi::show_activity(Some("compressing finished chunks"));
    tx_as_superuser(|client| {
        Target::check(client)?;
        let sql = "SELECT (btc_ingest_internal.compress_finished($1) IS NOT NULL)::text";
        spi::fetch(client, sql, &[JsonB(jobs.into()).into()])
    })
}

/// Adds jobs to those that a backfill's row notes as paused.
fn note(client: &mut SpiClient<'_>, id: i64, jobs: Vec<i64>) -> Result<()> {
    let sql = "UPDATE ingestion.backfills
                  SET state = state || jsonb_build_object('paused_jobs', coalesce(state -> 'paused_jobs', '[]') || $2)
                WHERE id = $1";
    spi::execute(client, sql, &[id.into(), JsonB(jobs.into()).into()]).map(drop)
}
