//! Compression policies are paused while a backfill fills chunks: every row that is stored in a compressed
//! chunk makes TimescaleDB decompress a part of it. TimescaleDB's functions run with the privileges of the
//! tables' owner, because they may call functions that belong to a job.

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::row::{Backfill, unfinished};
use crate::error::Result;
use crate::pg::session::locks::Lock;
use crate::pg::session::target::Target;
use crate::pg::session::tx::{tx, tx_with_target};
use crate::pg::session::{ffi, report, spi};

/// The job of a policy (`compression_jobs.sql`).
#[derive(Deserialize)]
struct Job {
    job: i64,
    scheduled: bool,
    /// Whether the tables' owner may alter it.
    own: bool,
}

/// Pauses the jobs of the policies, and notes them in the backfill's row. A job of another role goes on.
pub fn pause(id: i64) -> Result<()> {
    tx_with_target(|client, target| {
        let scheduled: Vec<Job> = jobs(client, target)?.into_iter().filter(|job| job.scheduled).collect();
        let (own, others): (Vec<Job>, Vec<Job>) = scheduled.into_iter().partition(|job| job.own);
        for Job { job, .. } in others {
            report::log(&format!(
                "btc_ingest backfill {id}: the compression policy of job {job} is not paused, because it does not \
                 belong to the tables' owner"
            ));
        }
        if own.is_empty() {
            return Ok(());
        }
        own.iter().try_for_each(|job| schedule(client, job.job, false))?;
        note(client, id, own.iter().map(|job| job.job).collect())
    })
}

/// Resumes the jobs that a backfill has paused. If another backfill still runs, the jobs are noted in its row
/// instead, and its end resumes them. The caller has the privileges of the tables' owner.
pub fn resume(client: &mut SpiClient<'_>, target: &Target, id: i64) -> Result<()> {
    let paused: Vec<i64> = spi::fetch(client, statement!("backfill_paused_jobs"), &[id.into()])?;
    if paused.is_empty() {
        return Ok(());
    }
    if let Some(other) = unfinished(client)?.into_iter().filter(|other| *other != id).min() {
        return note(client, other, paused);
    }
    let still = |job: &Job| job.own && !job.scheduled && paused.contains(&job.job);
    let jobs: Vec<Job> = jobs(client, target)?.into_iter().filter(still).collect();
    jobs.iter().try_for_each(|job| schedule(client, job.job, true))
}

/// Compresses one chunk that is due by its policy and that no backfill fills. Returns `false` if there is no
/// such chunk.
pub fn compress_next(backfill: &Backfill) -> Result<bool> {
    let Some(jobs) = backfill.state.paused_jobs.clone() else { return Ok(false) };
    ffi::show_activity(Some("compressing finished chunks"));
    tx(|client| {
        if !Lock::Compression.try_for_transaction() {
            return Ok(false);
        }
        let compress: Option<String> = spi::fetch(client, statement!("compression_next"), &[jobs.into()])?;
        match compress {
            Some(sql) => spi::execute(client, &sql, &[]).map(|_| true),
            None => Ok(false),
        }
    })
}

fn jobs(client: &mut SpiClient<'_>, target: &Target) -> Result<Vec<Job>> {
    spi::fetch(client, statement!("compression_jobs"), &[i64::from(target.owner.to_u32()).into()])
}

fn schedule(client: &mut SpiClient<'_>, job: i64, scheduled: bool) -> Result<()> {
    let sql: String = spi::fetch(client, statement!("compression_schedule"), &[job.into(), scheduled.into()])?;
    spi::execute(client, &sql, &[]).map(drop)
}

/// Adds jobs to those that a backfill's row notes as paused.
fn note(client: &mut SpiClient<'_>, id: i64, jobs: Vec<i64>) -> Result<()> {
    let sql = "UPDATE ingestion.backfills
                  SET state = state || jsonb_build_object('paused_jobs', coalesce(state -> 'paused_jobs', '[]') || $2)
                WHERE id = $1";
    spi::execute(client, sql, &[id.into(), JsonB(jobs.into()).into()]).map(drop)
}
