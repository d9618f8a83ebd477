//! How old the last backup is, and whether the archive of the write-ahead log stands still: what is lost with the disk.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;

const NAME: &str = "backup";
/// Seconds. Archive and command may be slow; a quarter of an hour without any progress is a fault.
const STANDS_STILL: i64 = 15 * 60;
/// Seconds. A week between full backups, and a day to notice that one is missing.
const OLDEST: i64 = 8 * 24 * 3600;

/// Ages in seconds (`doctor_backup.sql`).
#[derive(Deserialize)]
struct Backup {
    archiving: bool,
    /// Whether pgBackRest archives.
    pgbackrest: bool,
    #[serde(deserialize_with = "spi::nullable")]
    backup: Option<i64>,
    #[serde(deserialize_with = "spi::nullable")]
    archived: Option<i64>,
    /// Age of the file that has waited the longest.
    #[serde(deserialize_with = "spi::nullable")]
    waiting: Option<i64>,
}

/// Checks the archive and the last backup. A server that archives nothing has no line: "WAL archive" says it.
pub fn checks() -> Result<Vec<Check>> {
    let found: Backup = Spi::connect_mut(|client| spi::fetch(client, statement!("doctor_backup"), &[]))?;
    if !found.archiving {
        return Ok(Vec::new());
    }
    let ago = |age: Option<i64>| age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", duration(age)));
    let detail = format!("last backup: {}; last archived segment: {}", ago(found.backup), ago(found.archived));
    let waiting = found.waiting.filter(|age| *age > STANDS_STILL);
    let progress = found.archived.is_some_and(|age| age <= STANDS_STILL);
    if let (Some(age), false) = (waiting, progress) {
        let detail = format!("the archive stands still: a segment has waited for {}; {detail}", duration(age));
        let remark = "What is not archived is lost with the disk, and fills it. The server's log says what \
                      archive_command does; it may also hang: pg_stat_activity shows the archiver.";
        return Ok(vec![Check::bad(NAME, detail, Hint::know(remark))]);
    }
    let old = found.backup.is_none_or(|age| age > OLDEST);
    Ok(vec![match (old, found.pgbackrest) {
        (false, _) => Check::good(NAME, detail),
        // Other ways to back up, such as snapshots of the disk, leave no trace in the server.
        (true, false) => Check::known(NAME, detail, Hint::know("Backups by snapshots of disks are not seen here.")),
        (true, true) => {
            let remark = "On the host, as root: btc_ingest-backup full. Its log is in /var/log/pgbackrest.";
            Check::bad(NAME, format!("no backup in the last {} days; {detail}", OLDEST / 86_400), Hint::know(remark))
        }
    }])
}

/// Words an age in its two largest units.
fn duration(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", seconds.max(0)),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
