//! Which times a tick may have, by `btc_ingest.min_time` and `btc_ingest.max_time_ahead`.

use chrono::{DateTime, NaiveDate, NaiveTime};

use super::bucket::{END_TIME_US, MIN_TIME_US};
use crate::error::{Error, Result};

/// The setting that holds the first plausible time.
pub const MIN_TIME: &str = "btc_ingest.min_time";
/// The setting that says how far ahead of the clock a time may be.
pub const MAX_TIME_AHEAD: &str = "btc_ingest.max_time_ahead";

/// The plausible times, in microseconds since 1970. Both ends belong to the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first plausible time.
    pub first: i64,
    /// The last plausible time.
    pub last: i64,
}

impl Default for TimeRange {
    /// Every time that the hypertable can hold is plausible.
    fn default() -> Self {
        TimeRange { first: MIN_TIME_US, last: END_TIME_US - 1 }
    }
}

impl TimeRange {
    /// Returns the range from `first` until `ahead` after `now`, all in microseconds.
    pub fn new(first: i64, now: i64, ahead: i64) -> Self {
        let all = TimeRange::default();
        TimeRange { first: first.max(all.first), last: now.saturating_add(ahead).min(all.last) }
    }

    /// Returns whether the time is plausible.
    #[inline]
    pub fn contains(self, time: i64) -> bool {
        (self.first..=self.last).contains(&time)
    }
}

/// Reads a value of `btc_ingest.min_time`: a date, or a time with its time zone. Returns microseconds since 1970. An
/// empty text is PostgreSQL's first time.
pub fn parse_min_time(text: &str) -> Result<i64> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(MIN_TIME_US);
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(NaiveTime::MIN).and_utc());
    let time = date.or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()));
    time.map(|time| time.timestamp_micros()).map_err(|_| Error::InvalidOption {
        key: MIN_TIME.into(),
        why: "must be a date such as 2009-01-03, or a time such as 2009-01-03T18:15:05Z".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_plausible() {
        let range = TimeRange::new(10, 100, 5);
        assert_eq!([9, 10, 105, 106].map(|time| range.contains(time)), [false, true, true, false]);
        assert_eq!(TimeRange::new(i64::MIN, i64::MAX - 1, i64::MAX), TimeRange::default());
    }

    #[test]
    fn a_minimum_is_a_date_or_a_time() {
        assert_eq!(parse_min_time("2009-01-03"), Ok(1_230_940_800_000_000));
        assert_eq!(parse_min_time(" 2009-01-03T01:00:00+01:00 "), Ok(1_230_940_800_000_000));
        assert_eq!(parse_min_time("1969-12-31"), Ok(-86_400_000_000));
        assert_eq!(parse_min_time(""), Ok(MIN_TIME_US));
        for bad in ["yesterday", "2009", "2009-01-03 00:00", "2009-13-01"] {
            assert!(parse_min_time(bad).is_err(), "{bad}");
        }
    }
}
