//! A watch, as its row of `ingestion.stream_offsets` describes it.

use std::fmt;
use std::time::Duration;

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::register::Counts;
use crate::error::Result;
use crate::model::bucket::POSTGRES_EPOCH_US;
use crate::model::cursors::Cursors;
use crate::model::pattern::KeyPattern;
use crate::model::watch::WatchOptions;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::{guc, spi};

/// A watched prefix (`discover_watches.sql`).
#[derive(Debug, Clone, Deserialize)]
pub struct Watch {
    /// The prefix as the administrator wrote it.
    pub prefix: String,
    /// The options as the administrator wrote them.
    pub options: Value,
    /// Why the last listing has failed.
    #[serde(deserialize_with = "spi::nullable")]
    pub problem: Option<Problem>,
    has_cursors: bool,
    /// When the last listing ended, in microseconds since 1970.
    #[serde(rename = "listed", deserialize_with = "spi::nullable")]
    listed_at: Option<i64>,
    /// When the last full listing ended, in microseconds since 1970.
    #[serde(rename = "full", deserialize_with = "spi::nullable")]
    full_at: Option<i64>,
}

/// Why a listing has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The error's SQLSTATE.
    pub sqlstate: String,
    /// The error's message.
    pub message: String,
}

/// What a complete listing has found.
#[derive(Debug)]
pub struct Summary {
    /// Whether the prefix was listed from its beginning.
    pub full: bool,
    /// How many seconds the listing took.
    pub seconds: f64,
    /// What became of the listed keys.
    pub counts: Counts,
    /// How far each group of keys was listed. Null if the next listing must be a full one.
    pub cursors: Value,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (sqlstate, message) = failure.sqlstate_and_message();
        Problem { sqlstate, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.sqlstate)
    }
}

impl Watch {
    /// Returns a watch that has no row and was never listed.
    pub fn new(prefix: &str, options: Value) -> Watch {
        Watch { prefix: prefix.to_owned(), options, problem: None, has_cursors: false, listed_at: None, full_at: None }
    }

    /// Reads all watches.
    pub fn all(client: &mut SpiClient<'_>) -> Result<Vec<Watch>> {
        spi::fetch_kept(client, statement!("discover_watches"), &[])
    }

    /// Parses and checks the options.
    pub fn parsed(&self) -> Result<WatchOptions> {
        WatchOptions::parse(&self.options)
    }

    /// Parses the prefix, and refuses it if `btc_ingest.allowed_prefixes` allows no object under it.
    pub fn pattern(&self) -> Result<KeyPattern> {
        let pattern: KeyPattern = self.prefix.parse()?;
        if !guc::allowed_prefixes()?.may_hold(pattern.bucket(), pattern.prefix()) {
            return Err(guc::not_allowed(pattern.bucket(), pattern.prefix()));
        }
        Ok(pattern)
    }

    /// Returns how long it takes until the next listing is due. `now` is in microseconds since 1970.
    pub fn until_due(&self, options: &WatchOptions, now: i64) -> Duration {
        remaining(self.listed_at, options.interval, now)
    }

    /// Returns whether the next listing must be a full one. `now` is in microseconds since 1970.
    pub fn is_full_due(&self, options: &WatchOptions, now: i64) -> bool {
        !self.has_cursors || remaining(self.full_at, options.full_interval, now).is_zero()
    }

    /// Reads how far each group of keys was listed.
    pub fn cursors(&self, client: &mut SpiClient<'_>) -> Result<Option<Cursors>> {
        let sql = "SELECT (state -> 'cursors')::text FROM ingestion.stream_offsets WHERE source = 'watch:' || $1";
        let stored: Value = spi::fetch_kept(client, sql, &[self.prefix.clone().into()])?;
        Ok(Cursors::from_json(&stored))
    }

    /// Records the result of a listing in the watch's row, without waiting for another session. Returns
    /// `false` if another session has locked the row, or if there is none.
    pub fn record(&self, client: &mut SpiClient<'_>, result: std::result::Result<&Summary, &Problem>) -> Result<bool> {
        let (last, changes, full) = match result {
            Ok(Summary { full, seconds, counts, cursors }) => {
                let last = json!({ "full": full, "seconds": seconds, "counts": counts });
                // If the cursors stay, the next listing meets the skipped objects again.
                let moves = *full || counts.skipped == 0;
                let changes = if moves { json!({ "cursors": cursors }) } else { json!({}) };
                (last, changes, *full)
            }
            Err(problem) => (json!({ "problem": problem }), json!({}), false),
        };
        let args = [self.prefix.clone().into(), JsonB(last).into(), JsonB(changes).into(), full.into()];
        let recorded: Option<bool> = spi::fetch_kept(client, statement!("discover_end"), &args)?;
        Ok(recorded.is_some())
    }
}

/// Returns the current time in microseconds since 1970.
pub fn now() -> i64 {
    ffi::now() + POSTGRES_EPOCH_US
}

/// Returns what is left of an interval that began at `since`. A clock that was set back does not make it longer.
fn remaining(since: Option<i64>, interval: Duration, now: i64) -> Duration {
    let Some(since) = since else { return Duration::ZERO };
    let passed = Duration::from_micros(now.saturating_sub(since).max(0) as u64);
    interval.saturating_sub(passed)
}
