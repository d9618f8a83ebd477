//! `doctor()`: checks of an installation, each finding with the statement that fixes it.

mod check;
mod disk;
mod gaps;
mod hypertable;
mod installation;
mod last_error;
mod queue;
mod s3;
mod tables;
mod times;
mod workers;

use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::pg::session::ffi::{self, Failure};
pub use check::Check;
use check::LOG;
use installation::Server;

/// Runs all checks, the local ones first.
pub fn checks() -> Result<Vec<Check>> {
    let server = Server::read()?;
    let mut checks = installation::checks(&server);
    let tables = section("tables", || tables::checks(&server))?;
    // Tables that failed their own check are not read.
    let sound = tables.iter().all(|check| check.ok);
    checks.extend(tables);
    if sound {
        checks.extend(section("hypertable", hypertable::checks)?);
        checks.extend(section("indexes", hypertable::indexes)?);
    }
    checks.extend(workers::checks(&server));
    if server.is_preloaded("btc_ingest") {
        checks.extend(section("last error of a worker", || last_error::checks(sound))?);
    }
    if sound && !server.in_recovery {
        checks.extend(section("queue", queue::checks)?);
        checks.extend(section("times", times::checks)?);
        checks.extend(section("gaps", gaps::checks)?);
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
            Ok(vec![Check::bad(name, format!("{message} ({sqlstate})"), LOG)])
        }
    }
}
