//! Times of any unit as microseconds since 1970.

use arrow::array::{Array, Int32Array, Int64Array};

use super::values::{Bad, IS_NULL, Values, cast, for_each, integer32, micros};
use crate::decode::damage::damaged;
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;
use crate::model::bucket::{BUCKET_US, END_TIME_US, MIN_TIME_US};
use crate::model::options::TimeUnit;
use crate::model::tick::NO_TIME;

const OUT_OF_RANGE: &str = "is out of PostgreSQL's range";
const JULIAN_DAY_OF_EPOCH: i128 = 2_440_588;
const DAY_US: i128 = 86_400_000_000;

/// Appends one time per row. Null becomes [`NO_TIME`] for the trade time, and makes a bad row for the event time.
pub(in crate::decode) fn times(
    tick: Tick,
    column: &Column,
    array: &dyn Array,
    out: &mut Vec<i64>,
    bad: &mut Bad,
) -> Result<()> {
    match column.kind {
        Kind::Time { unit, signed } => match array.as_any().downcast_ref::<Int64Array>() {
            Some(array) => {
                let values = array.values();
                // An unsigned value with the first bit set is later than every valid time.
                let value = |row: usize| (signed || values[row] >= 0).then_some(values[row]);
                // One loop per unit, so that no loop tests the unit.
                match unit {
                    TimeUnit::Second => fill(tick, array, out, bad, |row| micros(value(row)?, TimeUnit::Second)),
                    TimeUnit::Milli => fill(tick, array, out, bad, |row| micros(value(row)?, TimeUnit::Milli)),
                    TimeUnit::Micro => fill(tick, array, out, bad, |row| micros(value(row)?, TimeUnit::Micro)),
                    TimeUnit::Nano => fill(tick, array, out, bad, |row| micros(value(row)?, TimeUnit::Nano)),
                }
            }
            None => {
                let values: &Int32Array = cast(array)?;
                fill(tick, array, out, bad, |row| micros(integer32(values.value(row), signed) as i64, unit));
            }
        },
        Kind::Int96 => {
            let values = Values::fixed(array, 12)?;
            fill(tick, array, out, bad, |row| int96(values.get(row)));
        }
        _ => return Err(damaged("a time has a type that is not read as a time")),
    }
    Ok(())
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
fn fill(tick: Tick, array: &dyn Array, out: &mut Vec<i64>, bad: &mut Bad, time: impl Fn(usize) -> Option<i64>) {
    // The bucket of an event time must be in range, too; a trade time has no bucket.
    let is_event = tick == Tick::EventTime;
    let first = if is_event { FIRST_EVENT_TIME } else { MIN_TIME_US };
    out.reserve(array.len());
    for_each(array, time, |row, time| {
        out.push(match time {
            Some(Some(time)) if (first..END_TIME_US).contains(&time) => time,
            None if !is_event => NO_TIME,
            None => {
                bad.push(row, tick, IS_NULL);
                0
            }
            Some(_) => {
                bad.push(row, tick, OUT_OF_RANGE);
                0
            }
        });
    });
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
}
