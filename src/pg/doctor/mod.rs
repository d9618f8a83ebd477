//! `doctor()`: everything an installation can get wrong, each with the line that mends it.

mod disk;
mod hypertable;
mod installation;
mod last_error;
mod queue;
mod s3;
mod tables;
mod workers;

use crate::error::verdict::Verdict;
use crate::error::{Error, Result};
use crate::pg::session::ffi::{self, Failure};
use installation::Server;

/// One line of the report.
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The line that mends it, where something is to be mended or to be known.
    pub hint: Option<String>,
}

impl Check {
    /// As it should be.
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: None }
    }

    /// Nothing is wrong, but there is something to be known.
    fn known(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: true, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// To be mended, and how.
    fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name, ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// An error of ours, with its own advice.
    fn error(name: &'static str, detail: impl Into<String>, error: &Error) -> Self {
        Self::bad(name, detail, error.hint().unwrap_or(LOG))
    }
}

/// Where nothing better is known.
const LOG: &str = "The server's log says more.";

/// All checks, the local ones first.
pub fn checks() -> Result<Vec<Check>> {
    let server = Server::look()?;
    let mut checks = installation::checks(&server);
    let tables = section("tables", || tables::checks(&server))?;
    // Whoever cannot trust the tables does not ask them.
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
    if sound && !server.in_recovery() {
        checks.extend(section("queue", queue::checks)?);
    }
    checks.extend(section("free disk", disk::checks)?);
    checks.extend(s3::checks()?);
    Ok(checks)
}

/// A part of the report. What keeps it from being made is a finding as well, and must not keep the other parts back.
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
