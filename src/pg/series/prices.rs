//! Prices as of given times.

use pgrx::Spi;
use pgrx::spi::SpiClient;

use super::read::{Tick, last_before, must_be_known, priced};
use crate::error::{Error, Result};
use crate::pg::session::ffi::{ResultRows, Value};

/// Times with at most this much between them are answered by one pass over the ticks. A look for one price takes about
/// as long as it takes to read so many ticks of a busy symbol.
const GAP: i64 = 300_000_000;

/// Adds a row for each time: the time, and time, id, price and age of the last trade at or before it. Times are in
/// microseconds since 2000; `tolerance`, in microseconds, is the greatest age.
pub fn prices_at(symbol: &str, mut times: Vec<i64>, tolerance: Option<i64>, rows: &mut ResultRows) -> Result<()> {
    if tolerance.is_some_and(|tolerance| tolerance < 0) {
        return Err(Error::InvalidArgument { what: "tolerance must not be negative".into() });
    }
    times.sort_unstable();
    Spi::connect(|client| {
        let mut found = false;
        for group in times.chunk_by(|one, next| next.saturating_sub(*one) <= GAP) {
            found |= answer(client, symbol, group, tolerance, rows)?;
        }
        if found { Ok(()) } else { must_be_known(client, symbol) }
    })
}

/// Answers for times that are close to one another, in their order. Returns whether there is any trade.
fn answer(
    client: &SpiClient<'_>,
    symbol: &str,
    times: &[i64],
    tolerance: Option<i64>,
    rows: &mut ResultRows,
) -> Result<bool> {
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Ok(false) };
    let earliest = tolerance.map_or(i64::MIN, |tolerance| first.saturating_sub(tolerance));
    let mut current = last_before(client, symbol, first, earliest)?;
    let mut left = times.iter().copied().peekable();
    if last > first {
        priced(client, symbol, first.saturating_add(1), last.saturating_add(1), |tick| {
            while let Some(time) = left.next_if(|time| *time < tick.time) {
                put(rows, time, current.as_ref(), tolerance);
            }
            if current.is_none_or(|held| (held.time, held.id) <= (tick.time, tick.id)) {
                current = Some(*tick);
            }
            Ok(())
        })?;
    }
    left.for_each(|time| put(rows, time, current.as_ref(), tolerance));
    Ok(current.is_some())
}

fn put(rows: &mut ResultRows, time: i64, tick: Option<&Tick>, tolerance: Option<i64>) {
    let age = |tick: &Tick| time.saturating_sub(tick.time);
    let tick = tick.filter(|tick| tolerance.is_none_or(|tolerance| age(tick) <= tolerance));
    let Some((tick, price)) = tick.and_then(|tick| Some((tick, tick.price.as_ref()?))) else {
        return rows.put(&[Value::Int8(time)]);
    };
    rows.put(&[
        Value::Int8(time),
        Value::Int8(tick.time),
        Value::Int8(tick.id),
        price.value(),
        Value::Interval(age(tick)),
    ]);
}
