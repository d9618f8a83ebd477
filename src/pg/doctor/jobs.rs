//! TimescaleDB's jobs that work on the ticks or sweep: whether they run and succeed, and whether those that
//! `ops.retention_jobs` wants exist.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use super::installation::Server;
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

const NAME: &str = "jobs";
/// What makes the chunks compressible.
const COMPRESSIBLE: &str = "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, \
     timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'event_time DESC, trade_id'); ";

/// What TimescaleDB knows of its jobs (`doctor_jobs.sql`).
#[derive(Deserialize)]
struct Jobs {
    /// TimescaleDB's schedulers that serve this database.
    schedulers: i64,
    jobs: Vec<Job>,
}

/// A job.
#[derive(Deserialize)]
struct Job {
    job: i64,
    /// Its procedure.
    what: String,
    scheduled: bool,
    /// Whether its last run failed. `None` before its first run.
    #[serde(deserialize_with = "spi::nullable")]
    failed: Option<bool>,
    /// Runs that have failed.
    failures: i64,
    /// By how many seconds it is late, beyond three of its intervals. `None` if the next run is unknown.
    #[serde(deserialize_with = "spi::nullable")]
    overdue_s: Option<f64>,
    /// The last error.
    #[serde(deserialize_with = "spi::nullable")]
    sqlstate: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    message: Option<String>,
}

/// A policy that `ops.retention_jobs` wants (`doctor_wanted.sql`).
#[derive(Deserialize)]
struct Wanted {
    job: String,
    #[serde(deserialize_with = "spi::nullable")]
    compress_after: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    drop_after: Option<String>,
}

/// Checks the jobs.
pub fn checks(server: &Server) -> Result<Vec<Check>> {
    // The extension's owner sees all jobs; only the owner of the tables reads them.
    let found: Jobs = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_jobs"), &[]))?;
    let wanted: Vec<Wanted> = as_reading_owner(|client| spi::fetch_kept(client, statement!("doctor_wanted"), &[]))?;
    let mut checks: Vec<Check> = wanted.iter().flat_map(|wanted| absent(wanted, &found, server)).collect();
    let scheduled = found.jobs.iter().filter(|job| job.scheduled);
    if found.schedulers == 0 && scheduled.clone().count() > 0 {
        let detail = format!("TimescaleDB's scheduler does not run, so {} jobs do not", scheduled.count());
        let fix = Hint::run("SELECT _timescaledb_functions.start_background_workers();");
        checks.push(Check::bad(NAME, detail, fix.then("It needs a free one of max_worker_processes.")));
        return Ok(checks);
    }
    checks.extend(scheduled.filter_map(|job| fault(job, server)));
    if checks.is_empty() {
        checks.push(Check::good(NAME, format!("{} jobs work on the ticks, and none fails", found.jobs.len())));
    }
    Ok(checks)
}

/// Returns what is wrong with a job.
fn fault(job: &Job, server: &Server) -> Option<Check> {
    let Job { job: id, what, failures, .. } = job;
    let again = Hint::run(format!("SELECT alter_job({id}, next_start => now());"));
    if job.failed == Some(true) {
        let (sqlstate, message) = (job.sqlstate.as_deref().unwrap_or("?"), job.message.as_deref().unwrap_or("unknown"));
        if is_reported_in_error(sqlstate, message) {
            let versions = server.versions();
            let detail = format!("job {id} ({what}) is reported as failed, but its work is committed");
            let remark =
                format!("{versions} report every run so ({sqlstate}, {message}). A newer TimescaleDB does not.");
            return Some(Check::known(NAME, detail, Hint::know(remark)));
        }
        let detail = format!("job {id} ({what}) fails, {failures} times so far: {message} ({sqlstate})");
        return Some(Check::bad(NAME, detail, again.then("Runs it again at once, after the cause is fixed.")));
    }
    let late = job.overdue_s.filter(|late| *late > 0.0)?;
    let detail = format!("job {id} ({what}) has missed three of its runs and {} s more", late as i64);
    Some(Check::bad(NAME, detail, again.then("If it stays so, max_worker_processes leaves no room for jobs.")))
}

/// Returns whether an error is the one that PostgreSQL 15.20 raises in every job of TimescaleDB up to 2.28.3, after the
/// job's work is committed.
fn is_reported_in_error(sqlstate: &str, message: &str) -> bool {
    sqlstate == "24000" && message.starts_with("cannot drop portal") && message.contains("being set up")
}

/// Returns which policies are wanted and do not exist.
fn absent(wanted: &Wanted, found: &Jobs, server: &Server) -> Vec<Check> {
    let kinds = [
        ("policy_retention", "drop", "add_retention_policy", &wanted.drop_after),
        ("policy_compression", "compress", "add_compression_policy", &wanted.compress_after),
    ];
    let missing =
        kinds.into_iter().filter(|(procedure, ..)| !found.jobs.iter().any(|job| job.what.ends_with(procedure)));
    let check = |(_, what, function, after): (&str, &str, &str, &Option<String>)| {
        let after = after.as_ref()?.replace('\'', "''");
        let detail =
            format!("ops.retention_jobs ({}) wants to {what} chunks after {after}, and no job does", wanted.job);
        let ready = if function == "add_compression_policy" { COMPRESSIBLE } else { "" };
        let fix = format!("{ready}SELECT {function}('market_data.btc_ticks', interval '{after}');");
        Some(if server.is_community() {
            Check::bad(NAME, detail, Hint::run(fix))
        } else {
            Check::known(NAME, detail, Hint::know(format!("On the Community edition: {fix}")))
        })
    };
    missing.filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::is_reported_in_error;

    #[test]
    fn only_the_one_error_is_taken_for_a_success() {
        assert!(is_reported_in_error("24000", "cannot drop portal \"\" while it is being set up"));
        assert!(!is_reported_in_error("24000", "cannot drop pinned portal \"x\""));
        assert!(!is_reported_in_error("53100", "cannot drop portal \"\" while it is being set up"));
    }
}
