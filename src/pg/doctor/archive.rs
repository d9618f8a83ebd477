//! Whether the write-ahead log is archived. What is not archived fills the disk.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;

/// The state of the archiver (`doctor_archive.sql`).
#[derive(Deserialize)]
struct Archive {
    /// `archive_mode`.
    mode: String,
    /// Whether there is neither a command nor a library.
    no_command: bool,
    /// Whether the last attempt has failed.
    failing: bool,
    /// Attempts that have failed.
    failed: i64,
    #[serde(deserialize_with = "spi::nullable")]
    failed_wal: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    failed_at: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    archived_at: Option<String>,
    /// Files that wait to be archived.
    waiting: i64,
}

/// Checks the archiver.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "WAL archive";
    let found: Archive = Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_archive"), &[]))?;
    if found.mode == "off" {
        return Ok(vec![Check::good(NAME, "archive_mode = off")]);
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "never".to_owned());
    let waiting = format!("{} files wait, the last one was archived: {}", found.waiting, text(&found.archived_at));
    Ok(vec![if found.failing {
        let detail = format!(
            "{} attempts failed, the last one at {} with {}; {waiting}",
            found.failed,
            text(&found.failed_at),
            text(&found.failed_wal)
        );
        let remark =
            "The server's log says why archive_command or archive_library fails; the files stay until it works.";
        Check::bad(NAME, detail, Hint::know(remark))
    } else if found.no_command && found.waiting > 0 {
        let detail = format!("archive_mode = {}, but archive_command is empty; {waiting}", found.mode);
        Check::bad(NAME, detail, Hint::know("Set archive_command, and reload: the files stay until they are archived."))
    } else {
        Check::good(NAME, waiting)
    }])
}
