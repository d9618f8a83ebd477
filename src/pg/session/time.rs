//! Times of the core as PostgreSQL's, and back. A time never travels as text: `DateStyle` and `TimeZone` of a session
//! would change it on its way.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use pgrx::datum::TimestampWithTimeZone;
use serde::{Deserialize, Deserializer};

use super::ffi;
use crate::error::{Error, Result};
use crate::model::bucket::POSTGRES_EPOCH_US;

/// Converts microseconds since 1970 to PostgreSQL's type.
pub fn timestamp(time_us: i64) -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(time_us.saturating_sub(POSTGRES_EPOCH_US))
}

/// Returns the current time of the clock, not that of the transaction's start.
pub fn now() -> Result<TimestampWithTimeZone> {
    from_postgres_epoch(ffi::now())
}

fn from_postgres_epoch(us: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(us)
        .map_err(|_| Error::Internal { why: format!("PostgreSQL has no time {us} microseconds from the year 2000") })
}

/// Converts PostgreSQL's type to microseconds since 1970. Returns `None` for an infinite time.
pub fn since_1970(time: TimestampWithTimeZone) -> Option<i64> {
    let us = i64::from(time);
    (us != i64::MIN && us != i64::MAX).then(|| us.saturating_add(POSTGRES_EPOCH_US))
}

/// Returns the date of a time in UTC, e.g. `2024-08-08`. The time is in microseconds since 1970.
pub fn date(time_us: i64) -> String {
    match DateTime::from_timestamp_micros(time_us) {
        Some(time) => time.format("%Y-%m-%d").to_string(),
        None => format!("{time_us} microseconds from the year 1970"),
    }
}

/// A time that a statement returns in its JSON, as `trunc((extract(epoch FROM t) - 946684800) * 1000000)`: every time
/// of PostgreSQL is there, the infinite ones as well. The order is that of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Time {
    /// Before all times: `-infinity`.
    Beginning,
    /// Microseconds since 2000.
    At(i64),
    /// After all times: `infinity`.
    End,
}

impl Time {
    /// Converts the time to PostgreSQL's type.
    pub fn timestamp(self) -> Result<TimestampWithTimeZone> {
        match self {
            Time::Beginning => Ok(TimestampWithTimeZone::negative_infinity()),
            Time::At(us) => from_postgres_epoch(us),
            Time::End => Ok(TimestampWithTimeZone::positive_infinity()),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(value: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            At(i64),
            End(String),
        }
        match Written::deserialize(value)? {
            Written::At(us) => Ok(Time::At(us)),
            Written::End(end) if end == "Infinity" => Ok(Time::End),
            Written::End(end) if end == "-Infinity" => Ok(Time::Beginning),
            Written::End(other) => Err(serde::de::Error::custom(format!("{other} is no time"))),
        }
    }
}

/// Shows the time in UTC.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Time::At(us) = *self else {
            return f.write_str(if *self == Time::End { "infinity" } else { "-infinity" });
        };
        match us.checked_add(POSTGRES_EPOCH_US).and_then(DateTime::from_timestamp_micros) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{us} microseconds from the year 2000"),
        }
    }
}
