//! What is slow: loads and listings that run and do not move.

use super::check::{Check, Hint};
use crate::pg::session::shared::{self, Phase};
use crate::pg::session::{ffi, guc};

/// How many times `btc_ingest.s3_read_timeout` a load or a listing may stand still before it is slow. It may be silent
/// for that long once, and then answer.
const SILENCES: i64 = 2;
/// Slow ones that are named.
const NAMED: usize = 5;
/// Microseconds per second.
const SECOND: i64 = 1_000_000;

/// Returns how long a load or a listing may stand still before it is slow, in microseconds.
pub fn patience() -> i64 {
    SILENCES * guc::s3().read_timeout.as_micros() as i64
}

/// Checks the loads and listings of this database.
pub fn check() -> Check {
    const NAME: &str = "loads and listings";
    let (now, running) = (ffi::now(), shared::loads());
    let patience = patience();
    let mut slow: Vec<(i64, i32, String)> = running
        .iter()
        .map(|load| (now - load.moved, load))
        .filter(|(quiet, _)| *quiet > patience)
        .map(|(quiet, load)| {
            let what = if load.phase == Phase::Listing { "the listing of" } else { "the load of" };
            let (uri, pid, seconds) = (load.uri.as_str(), load.pid, quiet / SECOND);
            (quiet, pid, format!("{what} {uri} by process {pid} has not moved for {seconds} s"))
        })
        .collect();
    if slow.is_empty() {
        return Check::good(NAME, format!("{} run", running.len()));
    }
    slow.sort_by(|a, b| b.cmp(a));
    let more = slow.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    slow.truncate(NAMED);
    let pids = slow.iter().map(|(_, pid, _)| pid.to_string()).collect::<Vec<_>>().join(", ");
    let named: Vec<String> = slow.into_iter().map(|(.., text)| text).collect();
    let sql =
        format!("SELECT pid, state, wait_event_type, wait_event, query FROM pg_stat_activity WHERE pid IN ({pids});");
    let hint = Hint::run(sql).then(
        "A slow store, or a lock. btc_ingest.s3_min_speed and btc_ingest.s3_read_timeout limit how long S3 may take, \
         and pg_cancel_backend(pid) ends a load by hand.",
    );
    Check::bad(NAME, format!("{}{more}", named.join("; ")), hint)
}
