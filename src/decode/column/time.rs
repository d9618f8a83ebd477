//! Times of any unit as microseconds since 1970.

use std::borrow::Cow;

use arrow::array::{Array, Int32Array, Int64Array};
use chrono::{DateTime, SecondsFormat};

use super::float::Floats;
use super::values::{Bad, IS_NULL, Values, cast, for_each, integer32, micros};
use crate::decode::damage::damaged;
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;
use crate::model::bucket::{BUCKET_US, END_TIME_US, MIN_TIME_US};
use crate::model::options::TimeUnit;
use crate::model::tick::NO_TIME;
use crate::model::time_range::{MAX_TIME_AHEAD, MIN_TIME, TimeRange};

const OUT_OF_RANGE: &str = "is out of PostgreSQL's range";
const JULIAN_DAY_OF_EPOCH: i128 = 2_440_588;
const DAY_US: i128 = 86_400_000_000;

/// Appends one time per row. Null becomes [`NO_TIME`] for the trade time, and makes a bad row for the event time. A
/// time outside `plausible` makes a bad row.
pub(in crate::decode) fn times(
    tick: Tick,
    column: &Column,
    plausible: TimeRange,
    array: &dyn Array,
    out: &mut Vec<i64>,
    bad: &mut Bad,
) -> Result<()> {
    out.reserve(array.len());
    let mut output = Output::new(tick, plausible, out, bad);
    match column.kind {
        Kind::Time { unit, signed } => match array.as_any().downcast_ref::<Int64Array>() {
            Some(array) => {
                let values = array.values();
                // An unsigned value with the first bit set is later than every valid time.
                let value = |row: usize| (signed || values[row] >= 0).then_some(values[row]);
                // One loop per unit, so that no loop tests the unit.
                match unit {
                    TimeUnit::Second => fill(array, &mut output, value, |raw| micros(raw, TimeUnit::Second)),
                    TimeUnit::Milli => fill(array, &mut output, value, |raw| micros(raw, TimeUnit::Milli)),
                    TimeUnit::Micro => fill(array, &mut output, value, |raw| micros(raw, TimeUnit::Micro)),
                    TimeUnit::Nano => fill(array, &mut output, value, |raw| micros(raw, TimeUnit::Nano)),
                }
            }
            None => {
                let values: &Int32Array = cast(array)?;
                let value = |row: usize| Some(integer32(values.value(row), signed) as i64);
                fill(array, &mut output, value, |raw| micros(raw, unit));
            }
        },
        Kind::FloatTime { unit } => {
            let floats = Floats::of(column, array)?;
            for_each(
                array,
                |row| floats.whole(row),
                |row, value| match value.transpose() {
                    Ok(value) => match value.flatten() {
                        Some(raw) => output.push(row, Some(raw), micros(raw, unit)),
                        None => output.push_null(row),
                    },
                    Err(problem) => output.refuse(row, problem),
                },
            );
        }
        Kind::Int96 => {
            let values = Values::fixed(array, 12)?;
            for_each(
                array,
                |row| int96(values.get(row)),
                |row, time| match time {
                    Some(time) => output.push(row, None, time),
                    None => output.push_null(row),
                },
            );
        }
        _ => return Err(damaged("a time has a type that is not read as a time")),
    }
    Ok(())
}

/// Says what is wrong with an event time of `raw` units. Returns `None` if it is plausible.
pub(in crate::decode) fn time_problem(plausible: TimeRange, raw: i64, unit: TimeUnit) -> Option<String> {
    let tick = Tick::EventTime;
    let allowed = Allowed::new(tick, plausible);
    let time = micros(raw, unit);
    let is_wanted = time.is_some_and(|time| allowed.wanted.contains(time));
    (!is_wanted).then(|| format!("{} {}", tick.name(), allowed.problem(Some(raw), time)))
}

/// Shows a time as text, unless it is too far away for chrono.
pub(super) fn shown(micros: i64) -> Option<String> {
    Some(DateTime::from_timestamp_micros(micros)?.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Converts an INT96 value, in which Impala once wrote times: nanoseconds of the day, then the Julian day.
pub(super) fn int96(bytes: &[u8]) -> Option<i64> {
    let (nanos, day) = bytes.split_first_chunk::<8>()?;
    let day = i32::from_le_bytes(*day.first_chunk::<4>()?);
    let nanos = i64::from_le_bytes(*nanos);
    let time = (i128::from(day) - JULIAN_DAY_OF_EPOCH) * DAY_US + i128::from(nanos.div_euclid(1_000));
    i64::try_from(time).ok()
}

#[inline]
fn fill(
    array: &dyn Array,
    output: &mut Output<'_>,
    value: impl Fn(usize) -> Option<i64>,
    time: impl Fn(i64) -> Option<i64>,
) {
    for_each(array, value, |row, value| match value {
        Some(raw) => output.push(row, raw, raw.and_then(&time)),
        None => output.push_null(row),
    });
}

/// The times that a tick column may have.
struct Allowed {
    /// The times that can be stored.
    possible: TimeRange,
    /// The possible times that are plausible as well.
    wanted: TimeRange,
}

impl Allowed {
    fn new(tick: Tick, plausible: TimeRange) -> Self {
        // The bucket of an event time must be in range, too; a trade time has no bucket.
        let first = if tick == Tick::EventTime { FIRST_EVENT_TIME } else { MIN_TIME_US };
        let possible = TimeRange { first, last: END_TIME_US - 1 };
        let wanted = TimeRange { first: first.max(plausible.first), last: possible.last.min(plausible.last) };
        Allowed { possible, wanted }
    }

    /// Says what is wrong with a time that is not wanted, and in which unit it would be plausible. `raw` is the number
    /// in the file, if it counts units.
    #[cold]
    fn problem(&self, raw: Option<i64>, time: Option<i64>) -> String {
        let shown = |time| shown(time).unwrap_or_else(|| format!("{time} microseconds from 1970"));
        let mut text = match time.filter(|time| self.possible.contains(*time)) {
            None => OUT_OF_RANGE.to_owned(),
            Some(time) if time < self.wanted.first => format!("is {}, before {MIN_TIME}", shown(time)),
            Some(time) => format!("is {}, later than {MAX_TIME_AHEAD} allows", shown(time)),
        };
        let mut units = TimeUnit::ALL.into_iter().filter_map(|unit| Some((unit, micros(raw?, unit)?)));
        if let Some((unit, time)) = units.find(|(_, time)| self.wanted.contains(*time)) {
            text.push_str(&format!("; in the unit \"{}\" it would be {}", unit.name(), shown(time)));
        }
        text
    }
}

/// The vector of a tick column's times, and what a time must be.
struct Output<'a> {
    tick: Tick,
    allowed: Allowed,
    out: &'a mut Vec<i64>,
    bad: &'a mut Bad,
}

impl<'a> Output<'a> {
    fn new(tick: Tick, plausible: TimeRange, out: &'a mut Vec<i64>, bad: &'a mut Bad) -> Self {
        Output { tick, allowed: Allowed::new(tick, plausible), out, bad }
    }

    /// Appends a time. `raw` is the number in the file, if it counts units.
    #[inline]
    fn push(&mut self, row: usize, raw: Option<i64>, time: Option<i64>) {
        match time {
            Some(time) if self.allowed.wanted.contains(time) => self.out.push(time),
            _ => self.refuse(row, self.allowed.problem(raw, time)),
        }
    }

    fn push_null(&mut self, row: usize) {
        if self.tick == Tick::EventTime { self.refuse(row, IS_NULL) } else { self.out.push(NO_TIME) }
    }

    #[cold]
    fn refuse(&mut self, row: usize, problem: impl Into<Cow<'static, str>>) {
        self.bad.push(row, self.tick, problem);
        self.out.push(0);
    }
}

/// The first time whose bucket PostgreSQL can hold.
const FIRST_EVENT_TIME: i64 = {
    let into_bucket = MIN_TIME_US.rem_euclid(BUCKET_US);
    if into_bucket == 0 { MIN_TIME_US } else { MIN_TIME_US - into_bucket + BUCKET_US }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bucket::bucket_of;

    #[test]
    fn int96_takes_wild_values_without_wrapping() {
        let bytes = |day: i32, nanos: i64| [nanos.to_le_bytes().as_slice(), &day.to_le_bytes()].concat();
        assert_eq!(int96(&bytes(2_440_588, 0)), Some(0));
        assert_eq!(int96(&bytes(2_440_587, 86_399_999_999_999)), Some(-1));
        assert_eq!(int96(&bytes(i32::MAX, i64::MAX)), None);
        assert_eq!(int96(&bytes(i32::MIN, i64::MIN)), None);
        assert_eq!(int96(&[0; 11]), None);
    }

    #[test]
    fn the_first_event_time_has_a_bucket_that_postgresql_holds() {
        assert!(bucket_of(FIRST_EVENT_TIME) >= MIN_TIME_US);
        assert!(bucket_of(FIRST_EVENT_TIME - 1) < MIN_TIME_US);
    }

    #[test]
    fn a_wild_time_is_named_with_the_unit_that_makes_sense() {
        let us = 1_723_118_400_000_000;
        let range = TimeRange { first: us - DAY_US as i64, last: us + DAY_US as i64 };
        let (mut out, mut bad) = (Vec::new(), Bad::default());
        let mut output = Output::new(Tick::EventTime, range, &mut out, &mut bad);
        for (row, (raw, unit)) in [
            (us, TimeUnit::Milli),
            (us / 1000, TimeUnit::Micro),
            (us * 1000, TimeUnit::Milli),
            (us / 1_000_000, TimeUnit::Nano),
            (range.last + 1, TimeUnit::Micro),
            (range.first - 1, TimeUnit::Micro),
            (range.last, TimeUnit::Micro),
        ]
        .into_iter()
        .enumerate()
        {
            output.push(row, Some(raw), micros(raw, unit));
        }
        let reasons: Vec<String> = bad.take().into_iter().map(|(_, reason)| reason).collect();
        let would = |unit| format!("; in the unit \"{unit}\" it would be 2024-08-08T12:00:00.000000Z");
        let late = "later than btc_ingest.max_time_ahead allows";
        assert_eq!(
            reasons,
            [
                format!("event_time is +56573-06-13T00:00:00.000000Z, {late}{}", would("us")),
                format!("event_time is 1970-01-20T22:38:38.400000Z, before btc_ingest.min_time{}", would("ms")),
                format!("event_time is out of PostgreSQL's range{}", would("ns")),
                format!("event_time is 1970-01-01T00:00:01.723118Z, before btc_ingest.min_time{}", would("s")),
                format!("event_time is 2024-08-09T12:00:00.000001Z, {late}"),
                "event_time is 2024-08-07T11:59:59.999999Z, before btc_ingest.min_time".to_owned(),
            ]
        );
        assert_eq!(out[6], range.last);
    }
}
