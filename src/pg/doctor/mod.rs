//! `doctor()`: checks of an installation, each finding with the statement that fixes it.

mod archive;
mod backup;
mod check;
mod disk;
mod failures;
mod gaps;
mod gone;
mod holders;
mod hypertable;
mod installation;
mod jobs;
mod last_error;
mod migration;
mod outages;
mod queue;
mod registrations;
mod retention;
mod s3;
mod slow;
mod state;
mod tables;
mod times;
mod windows;
mod workers;

use pgrx::datum::Interval;

use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::pg::session::ffi::{self, Failure};
pub use check::Check;
use check::{Hint, LOG};
use installation::Server;

/// Runs all checks, the local ones first. Conflicts and rejected rows count that are not older than `since`.
pub fn checks(since: Option<Interval>) -> Result<Vec<Check>> {
    let server = Server::read()?;
    let mut checks = installation::checks(&server);
    let tables = section("tables", || tables::checks(&server))?;
    // Tables that failed their own check are not read.
    let sound = tables.iter().all(|check| check.ok);
    checks.extend(tables);
    checks.extend(section("migration", migration::checks)?);
    checks.extend(section("privileges", tables::privileges)?);
    if sound {
        checks.extend(section("hypertable", hypertable::checks)?);
        checks.extend(section("indexes", hypertable::indexes)?);
        checks.extend(section("triggers", tables::triggers)?);
    }
    checks.extend(workers::checks(&server));
    if server.is_preloaded("btc_ingest") {
        checks.extend(section("last error of a worker", || last_error::checks(sound))?);
        checks.push(slow::check());
    }
    checks.extend(section("locks of other sessions", || holders::checks(sound))?);
    if sound && !server.in_recovery {
        checks.extend(section("queue", queue::checks)?);
        checks.extend(section("outages", outages::checks)?);
        checks.extend(section("registrations", registrations::checks)?);
        checks.extend(section("failures", failures::checks)?);
        checks.extend(section("state", || state::checks(since))?);
        checks.extend(section("jobs", || jobs::checks(&server))?);
        checks.extend(section("retention", || retention::checks(&server))?);
        checks.extend(section("times of ticks", times::checks)?);
        checks.extend(section("WAL archive", archive::checks)?);
        checks.extend(section("backup", backup::checks)?);
        checks.extend(section("gaps", gaps::checks)?);
        checks.extend(section("loaded slices", gone::checks)?);
        checks.extend(section("windows", windows::checks)?);
    }
    checks.extend(section("free disk", disk::checks)?);
    checks.extend(s3::checks()?);
    Ok(checks)
}

/// Runs a part of the checks. An error is a finding of this part, and the other parts still run. Only a
/// cancelled statement ends the report.
fn section(name: &'static str, work: impl FnOnce() -> Result<Vec<Check>>) -> Result<Vec<Check>> {
    match ffi::attempt(|| Ok(work()?)) {
        Ok(checks) => Ok(checks),
        Err(failure @ Failure::Postgres { .. }) if failure.verdict() == Verdict::Cancelled => Err(Error::Cancelled),
        Err(Failure::Ours(error)) => Ok(vec![Check::error(name, error.to_string(), &error)]),
        Err(Failure::Postgres { sqlstate, message }) => {
            Ok(vec![Check::bad(name, format!("{message} ({sqlstate})"), Hint::know(LOG))])
        }
    }
}
