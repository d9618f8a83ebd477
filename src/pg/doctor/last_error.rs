//! The last thing that went wrong in a worker, outside of any object's own failure or with the disk.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::Check;
use crate::error::Result;
use crate::pg::session::target::Target;
use crate::pg::session::{ffi, shared, spi};

const NAME: &str = "last error of a worker";
/// LastError that is older has passed.
const RECENT_US: i64 = 3_600_000_000;

/// `sound`: the tables may be asked whether it has passed.
pub fn checks(sound: bool) -> Result<Vec<Check>> {
    let Some(trouble) = shared::last_error() else {
        return Ok(vec![Check::good(NAME, "none since the server was started")]);
    };
    let at = TimestampWithTimeZone::try_from(trouble.at).ok();
    let when = at.map(|at| at.to_string()).unwrap_or_default();
    let detail = format!("{when}: {} ({})", trouble.message.as_str(), trouble.sqlstate.as_str());
    if ffi::now() - trouble.at > RECENT_US {
        return Ok(vec![Check::good(NAME, detail)]);
    }
    if sound && at.map(loaded_since).transpose()? == Some(true) {
        return Ok(vec![Check::good(NAME, format!("{detail}; loads have succeeded since"))]);
    }
    Ok(vec![Check::bad(NAME, detail, "SELECT * FROM btc_ingest.failures; and the server's log say more.")])
}

fn loaded_since(at: TimestampWithTimeZone) -> Result<bool> {
    let sql = "SELECT to_json(EXISTS (SELECT FROM ingestion.load_history
                                       WHERE started_at > $1 AND outcome IN ('loaded', 'already loaded')))::text";
    Spi::connect_mut(|client| {
        let target = Target::check_catalogs(client)?;
        let _owner = target.become_owner();
        Ok(spi::json(client, sql, &[at.into()])? == true)
    })
}
