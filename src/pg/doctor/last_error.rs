//! The last error of a worker that concerns no single object, or for which an object is not to blame, such as
//! a full disk.

use pgrx::datum::TimestampWithTimeZone;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::{ffi, shared, spi};

const NAME: &str = "last error of a worker";
/// An error that is older, in microseconds, is no finding any more.
const RECENT_US: i64 = 3_600_000_000;

/// Checks that there is no recent error, or that loads have succeeded since. `sound` says whether the tables
/// can be asked.
pub fn checks(sound: bool) -> Result<Vec<Check>> {
    let Some(error) = shared::last_error() else {
        return Ok(vec![Check::good(NAME, "none since the server was started")]);
    };
    let at = TimestampWithTimeZone::try_from(error.at).ok();
    let when = at.map(|at| at.to_string()).unwrap_or_default();
    let detail = format!("{when}: {} ({})", error.message.as_str(), error.sqlstate.as_str());
    if ffi::now() - error.at > RECENT_US {
        return Ok(vec![Check::good(NAME, detail)]);
    }
    if sound && at.map(loaded_since).transpose()? == Some(true) {
        return Ok(vec![Check::good(NAME, format!("{detail}; loads have succeeded since"))]);
    }
    let hint = Hint::run("SELECT * FROM btc_ingest.failures;").then("The server's log says more.");
    Ok(vec![Check::bad(NAME, detail, hint)])
}

/// Returns whether a load that has succeeded started after this time.
fn loaded_since(at: TimestampWithTimeZone) -> Result<bool> {
    let sql = "SELECT to_json(EXISTS (SELECT FROM ingestion.load_history
                                       WHERE started_at > $1 AND outcome IN ('loaded', 'already loaded')))::text";
    as_reading_owner(|client| spi::fetch(client, sql, &[at.into()]))
}
