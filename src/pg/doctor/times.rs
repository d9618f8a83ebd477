//! The times of the stored ticks: whether any lies outside the range that loads accept.

use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::model::bucket::{MIN_TIME_US, bucket_of};
use crate::model::time_range::{MAX_TIME_AHEAD, MIN_TIME};
use crate::pg::session::target::as_reading_owner;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, spi};

/// Ticks that are counted on each side.
const LOOK_AT: i64 = 1_000;

/// Stored ticks outside the plausible times (`doctor_times.sql`).
#[derive(Deserialize)]
struct Times {
    /// Ticks before the range.
    #[serde(deserialize_with = "spi::nullable")]
    early: Option<Outside>,
    /// Ticks after the range.
    #[serde(deserialize_with = "spi::nullable")]
    late: Option<Outside>,
}

/// Ticks on one side of the range.
#[derive(Deserialize)]
struct Outside {
    /// How many there are, at most [`LOOK_AT`].
    ticks: i64,
    /// The bucket of one that was found: the first for early ticks, the last for late ones.
    extreme: String,
    /// The border, as a bucket.
    border: String,
    /// A few of the objects that hold such ticks.
    #[serde(deserialize_with = "spi::nullable")]
    objects: Option<String>,
}

/// Looks for ticks with implausible times.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "times of ticks";
    let times = guc::times();
    let first = bucket_of(times.first).max(MIN_TIME_US);
    let args = [timestamp(first)?.into(), timestamp(bucket_of(times.last))?.into(), LOOK_AT.into()];
    let found: Times = as_reading_owner(|client| spi::fetch(client, statement!("doctor_times"), &args))?;
    let early = found.early.map(|early| {
        let detail = early.detail("earlier", MIN_TIME);
        Check::bad(NAME, detail, early.fix("older_than", "<"))
    });
    let late = found.late.map(|late| {
        let detail = late.detail("later", MAX_TIME_AHEAD);
        Check::bad(NAME, detail, late.fix("newer_than", ">"))
    });
    let mut checks: Vec<Check> = early.into_iter().chain(late).collect();
    if checks.is_empty() {
        checks.push(Check::good(NAME, format!("none is outside {MIN_TIME} and {MAX_TIME_AHEAD}")));
    }
    Ok(checks)
}

impl Outside {
    fn detail(&self, how: &str, setting: &str) -> String {
        let more = if self.ticks >= LOOK_AT { " or more" } else { "" };
        let objects = self.objects.as_deref().unwrap_or("objects that are not registered");
        format!(
            "{}{more} ticks are {how} than {setting} allows, as far as {}; from {objects}",
            self.ticks, self.extreme
        )
    }

    /// Returns how to remove the ticks and load them again. `argument` is that of `drop_chunks`.
    fn fix(&self, argument: &str, sign: &str) -> Hint {
        let border = &self.border;
        let fix = format!(
            "SELECT drop_chunks('market_data.btc_ticks', {argument} => timestamptz '{border}'); DELETE FROM \
             market_data.btc_ticks WHERE bucket_5m {sign} '{border}';"
        );
        Hint::run(fix).then(
            "This removes them. Then load their objects again, in the right unit: SELECT * FROM \
             btc_ingest.load_s3_slice(uri, force => true, options => '{\"time_unit\": \"us\"}');",
        )
    }
}
