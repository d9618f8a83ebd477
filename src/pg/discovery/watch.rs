//! One watch as its row describes it.

use std::time::Duration;

use pgrx::JsonB;
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::register::Counts;
use crate::error::{Error, Result};
use crate::model::bucket::POSTGRES_EPOCH_US;
use crate::model::cursors::Cursors;
use crate::model::pattern::KeyPattern;
use crate::model::watch::WatchOptions;
use crate::pg::session::{ffi, guc, spi};

/// A watched prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// As it was written.
    pub prefix: String,
    /// As they were given.
    pub options: Value,
    /// SQLSTATE and message of the last listing, if it has failed.
    pub problem: Option<(String, String)>,
    has_cursors: bool,
    /// When the last listing, and the last one of everything, has ended. Microseconds since 1970.
    listed: Option<i64>,
    full: Option<i64>,
}

impl Watch {
    /// One that has no row yet, and may never have one.
    pub fn new(prefix: &str, options: Value) -> Watch {
        Watch { prefix: prefix.to_owned(), options, problem: None, has_cursors: false, listed: None, full: None }
    }

    /// All that there are.
    pub fn all(client: &mut SpiClient<'_>) -> Result<Vec<Watch>> {
        let found = spi::json_kept(client, statement!("discover_watches"), &[])?;
        Ok(found.as_array().into_iter().flatten().map(Watch::from_json).collect())
    }

    fn from_json(row: &Value) -> Watch {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let problem = &row["problem"];
        Watch {
            prefix: text(&row["prefix"]),
            options: row["options"].clone(),
            problem: problem.is_object().then(|| (text(&problem["sqlstate"]), text(&problem["message"]))),
            has_cursors: row["has_cursors"] == true,
            listed: row["listed"].as_i64(),
            full: row["full"].as_i64(),
        }
    }

    /// The options, checked.
    pub fn parsed(&self) -> Result<WatchOptions> {
        WatchOptions::parse(&self.options)
    }

    /// The pattern, if something under it may be read.
    pub fn pattern(&self) -> Result<KeyPattern> {
        let pattern: KeyPattern = self.prefix.parse()?;
        if !guc::allowed_prefixes()?.may_hold(pattern.bucket(), pattern.prefix()) {
            return Err(Error::UriNotAllowed { allowed: guc::allowed_prefixes_text() });
        }
        Ok(pattern)
    }

    /// How long it may still rest.
    pub fn rest(&self, options: &WatchOptions, now: i64) -> Duration {
        left(self.listed, options.interval, now)
    }

    /// Whether the next listing is one of everything.
    pub fn is_full_due(&self, options: &WatchOptions, now: i64) -> bool {
        !self.has_cursors || left(self.full, options.full_interval, now).is_zero()
    }

    /// How far it was listed.
    pub fn cursors(&self, client: &mut SpiClient<'_>) -> Result<Option<Cursors>> {
        let sql = "SELECT (state -> 'cursors')::text FROM ingestion.stream_offsets WHERE source = 'watch:' || $1";
        Ok(Cursors::from_json(&spi::json_kept(client, sql, &[self.prefix.clone().into()])?))
    }

    /// Writes what a listing came to. `false`: somebody holds the row, or it is gone.
    pub fn end(
        &self,
        client: &mut SpiClient<'_>,
        ended: &std::result::Result<Ended, (String, String)>,
    ) -> Result<bool> {
        let (last, changes, full) = match ended {
            Ok(ended) => {
                let last = json!({ "full": ended.full, "seconds": ended.seconds, "counts": ended.counts.to_json() });
                // A changed object that somebody held must be met again.
                let moves = ended.full || ended.counts.skipped == 0;
                let changes = if moves { json!({ "cursors": ended.cursors }) } else { json!({}) };
                (last, changes, ended.full)
            }
            Err((sqlstate, message)) => {
                (json!({ "problem": { "sqlstate": sqlstate, "message": message } }), json!({}), false)
            }
        };
        let args = [self.prefix.clone().into(), JsonB(last).into(), JsonB(changes).into(), full.into()];
        Ok(spi::json_kept(client, statement!("discover_end"), &args)? == true)
    }
}

/// What a listing came to that has found its end.
#[derive(Debug)]
pub struct Ended {
    /// Whether it was one of everything.
    pub full: bool,
    /// How long it took.
    pub seconds: f64,
    /// What was found.
    pub counts: Counts,
    /// How far each group was listed; null where that is not known.
    pub cursors: Value,
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    ffi::now() + POSTGRES_EPOCH_US
}

/// How long until an interval has passed since then. A clock that was set back does not make it longer.
fn left(since: Option<i64>, interval: Duration, now: i64) -> Duration {
    let Some(since) = since else { return Duration::ZERO };
    let passed = Duration::from_micros(now.saturating_sub(since).max(0) as u64);
    interval.saturating_sub(passed)
}
